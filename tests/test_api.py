"""The calls at the top of the package: their examples run, and old places are named."""

import doctest
import importlib
import os
import subprocess
import sys

import fsspec
import numpy as np
import pytest
import torch

import wavelit
from wavelit.errors import WavelitError
from wavelit.moved import MOVED

# The order matters: what one writes, the next reads.
CALLS = ("write_dataset", "fit", "load", "evaluate", "rollout")


@pytest.mark.long
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"wavelit": wavelit, "np": np, "torch": torch}
    runner = doctest.DocTestRunner(
        verbose=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    for name in CALLS:
        (example,) = doctest.DocTestFinder(recurse=False).find(
            getattr(wavelit, name), name, globs=names
        )
        assert example.examples, f"{name} has no example"
        runner.run(example)
    assert not runner.failures, capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(MOVED))
def test_old_places_name_the_new_ones(name):
    with pytest.raises(ModuleNotFoundError, match="now"):
        importlib.import_module(name)


def test_new_places_are_there():
    for text in MOVED.values():
        for word in text.replace(",", " ").replace(";", " ").split():
            if word.startswith("wavelit."):
                package, _, last = word.rpartition(".")
                home = importlib.import_module(package)
                assert hasattr(home, last) or importlib.import_module(word)


def imported(code: str, *names: str) -> list[str]:
    """Modules of these names, or below them, that some code imports."""
    code = f"import sys; {code}; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [m for m in done.stdout.split() if any(f"{m}.".startswith(f"{n}.") for n in names)]


TRAINERS = ("pytorch_lightning", "lightning_fabric", "torchmetrics", "torch._dynamo", "matplotlib")


@pytest.mark.long
def test_a_model_knows_neither_trainer_nor_reader():
    """The network is imported without Lightning, The Well, the data and the training."""
    code = "import wavelit.model.wavelit, wavelit.model.pretrained"
    rooms = ("wavelit.data", "wavelit.training", "wavelit.evaluation")
    assert imported(code, *TRAINERS, "the_well", "h5py", *rooms) == []


@pytest.mark.long
def test_a_trained_model_predicts_without_the_trainer(tmp_path):
    """Whoever loads and rolls out a model does not wait for what trains one."""
    code = """
import torch, wavelit
for model in (wavelit.load("shear_flow"), wavelit.load("joint-1M")["shear_flow"]):
    scalars = torch.zeros(1, model.config.n_scalars)
    fields = torch.zeros(1, 4, model.config.n_fields, 32, 64)
    wavelit.rollout(model, fields, 2, scalars=scalars)
wavelit.check_dataset, wavelit.load_model, wavelit.write_dataset
"""
    assert imported(f"exec({code!r})", *TRAINERS) == []


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, wavelit; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"


def test_every_name_at_the_top_is_there():
    for name in wavelit.__all__:
        assert getattr(wavelit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = wavelit.nothing


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wavelit.load("no_such_model"), "unknown model"),
        (lambda: wavelit.load("shear_flow", weights="best"), "no run folder"),
        (lambda: wavelit.evaluate(wavelit.persistence), "scored on data"),
        (lambda: wavelit.fit("run", "data", steps=1, minutes=1), "one budget"),
        (lambda: wavelit.fit("run", "data", train=wavelit.TrainConfig(steps=1), lr=1.0), "lr"),
        (lambda: wavelit.fit("run", "data", lear=1.0), "unknown entry"),
        (lambda: wavelit.fit("run", "data", "huge"), "preset 'huge'"),
        (lambda: wavelit.fit("run", "data", []), "preset"),
        (lambda: wavelit.fit("run", "data", train=3), "train"),
        (lambda: wavelit.fit("run", "data", trainer="cpu"), "trainer"),
        (lambda: wavelit.fit("run", "data", seed=-1), "seed"),
        (lambda: wavelit.fit("run", 3, steps=1), "data"),
        (lambda: wavelit.fit(3, "data", steps=1), "folder"),
        (lambda: wavelit.load(3), "name"),
        (lambda: wavelit.evaluate(3, "data"), "emulator|model"),
        (lambda: wavelit.fit("run", "a.yaml", seed=3), "says how to train"),
    ],
)
def test_wrong_calls_are_named(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WavelitError, match=message):
        call()
    assert not os.path.exists("run")


def test_a_configuration_trains_as_the_command_does(tmp_path, monkeypatch):
    from wavelit.cli.program import main

    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(6, 12, 16))
    splits = {"train": 4, "valid": 1, "test": 1}
    wavelit.write_dataset(
        "data", {"u": x}, splits=splits, name="toy", boundary_conditions=["periodic"]
    )
    (tmp_path / "toy.yaml").write_text(
        "data: {path: data, batch_size: 2}\n"
        "model: {preset: nano, embed_dim: 16, num_heads: 2}\n"
        "train: {steps: 4, validate_every: 2}\nseed: 5\n"
    )
    model = wavelit.fit("called", "toy.yaml")
    assert main(["train", "--config", "toy.yaml", "--run", "commanded"]) == 0
    other = wavelit.load("commanded")
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    for text, message in [
        ("data: {}\ntrain: {steps: 1}", "path is missing"),
        ("data: {path: x, seed: 1}\ntrain: {steps: 1}", "unknown entry 'seed'"),
        ("dataset: {path: x}", "unknown entry 'dataset'"),
        ("data: {path: x}\ntrain: [1]", "mapping"),
        ("data: {path: x}\ntrain: {steps: 1}\nseed: no", "seed"),
    ]:
        (tmp_path / "wrong.yaml").write_text(text + "\n")
        with pytest.raises(WavelitError, match=message):
            wavelit.fit("other", "wrong.yaml")


@pytest.mark.usefixtures("undrawn")
def test_an_address_stays_one(tmp_path, monkeypatch):
    """Its double slash is no folder's."""
    monkeypatch.chdir(tmp_path)
    u = np.random.default_rng(0).normal(size=(6, 12, 16))
    splits = {"train": 4, "valid": 1, "test": 1}
    folder = wavelit.write_dataset(
        tmp_path / "toy", {"u": u}, splits=splits, name="toy", boundary_conditions=["periodic"]
    )
    address = "memory://an_address/toy"
    fsspec.filesystem("memory").put(str(folder), address, recursive=True)
    model = wavelit.fit("run", address, steps=2)
    for scores in (wavelit.evaluate(model, address), wavelit.evaluate("run", address)):
        assert scores.dataset == "toy"
