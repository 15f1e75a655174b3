"""The folder that a pull request to The Well needs: its model on The Well's own base class."""

import importlib.util
import sys
import types
from pathlib import Path

import pytest
import the_well
import torch
import yaml

ENTRY = Path("examples/the_well_entry/the_well/benchmark")


@pytest.fixture
def entry(monkeypatch):
    """The model's module; of the benchmark's packages, whose requirements are not installed here,
    the base class alone.
    """
    for name in ("the_well.benchmark", "the_well.benchmark.models"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    base = Path(the_well.__file__).parent / "benchmark" / "models" / "common.py"
    monkeypatch.setitem(sys.modules, "the_well.benchmark.models.common", _module("common", base))
    return _module("entry", ENTRY / "models" / "wavelit" / "__init__.py")


def _module(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("grid", "n_constants"), [((32, 28), 2), ((16, 28, 28), 0)])
def test_it_steps_on_stacked_frames(entry, grid, n_constants):
    torch.manual_seed(0)
    sides = [["periodic", "periodic"], *[["wall", "open"]] * (len(grid) - 1)]
    model = entry.WaveLiT(
        4 * 3 + n_constants, 3, len(grid), grid, preset="nano", boundary_conditions=sides
    )
    x = torch.randn(2, 12 + n_constants, *grid)
    model.eval()
    torch.testing.assert_close(model(x), x[:, 9:12], msg="no change before training")
    assert not model.calibrated
    model.train()
    target = x[:, 9:12] + 0.1 * torch.randn(2, 3, *grid)
    (model(x) - target).square().mean().backward()
    assert model.calibrated
    torch.testing.assert_close(
        model.network.normalizer.delta_std,
        (x[:, 9:12] - x[:, 6:9]).square().mean((0, *range(2, x.ndim))).sqrt(),
    )
    assert model.network.head.weight.grad.abs().max() > 0


def test_what_was_calibrated_travels_with_the_weights(entry, tmp_path):
    torch.manual_seed(0)
    model = entry.WaveLiT(8, 2, 2, (28, 28), preset="nano")
    model.train()(torch.randn(2, 8, 28, 28))
    model.save_pretrained(tmp_path)
    again = entry.WaveLiT.from_pretrained(tmp_path)
    x = torch.randn(1, 8, 28, 28)
    assert again.calibrated
    torch.testing.assert_close(again.eval()(x), model.eval()(x))
    assert not (again.network.input_scale == 1).all()


def test_configurations_name_the_model(entry):
    model = yaml.safe_load((ENTRY / "configs/model/wavelit.yaml").read_text())
    target = model.pop("_target_").rsplit(".", 1)
    assert target == ["the_well.benchmark.models.wavelit", "WaveLiT"]
    assert issubclass(entry.WaveLiT, torch.nn.Module)
    entry.WaveLiT(8, 2, 2, (16, 16), **{**model, "preset": "nano"})
    experiment = yaml.safe_load((ENTRY / "configs/experiment/wavelit.yaml").read_text())
    assert {"/model": "wavelit"} in experiment["defaults"]
