"""A model written as a program of PyTorch or ONNX: it gives what the model gives, at any batch, and
tracing leaves the model as it was.
"""

import json

import onnxruntime
import pytest
import torch

import wavelit
from wavelit.cli.program import main
from wavelit.errors import WavelitError
from wavelit.model import export as exporting
from wavelit.model.config import WaveLiTConfig
from wavelit.model.export import export_model
from wavelit.model.wavelit import WaveLiT

TINY = {"embed_dim": 16, "num_heads": 2, "depth": 1, "num_exchanges": 1, "num_scales": 1}
WALLS = (("wall", "open"), ("periodic", "periodic"))


def perturbed(preset: str = "nano", **entries) -> WaveLiT:
    """A model that has left its start, where most of it is zero."""
    torch.manual_seed(0)
    facts = {"n_fields": 3, "n_constant_fields": 1, "n_scalars": 2, "boundary_conditions": WALLS}
    model = WaveLiT(WaveLiTConfig.preset(preset, **{**facts, **entries}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        model.normalizer.scalar_log.copy_(torch.tensor([True, False]))
    return model


def inputs(batch: int, grid: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {
        "fields": torch.randn(batch, 4, 3, *grid),
        "constants": torch.randn(batch, 1, *grid),
        "scalars": torch.rand(batch, 2) + 0.5,
    }


def onnx_answer(path, given: dict[str, torch.Tensor]) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path)
    (answer,) = session.run(["next_state"], {name: x.numpy() for name, x in given.items()})
    return torch.from_numpy(answer)


@pytest.mark.long
def test_a_program_of_pytorch_gives_the_same(tmp_path):
    model = perturbed(**TINY).train()
    path, difference = export_model(model, tmp_path / "m.pt2", (32, 24))
    assert difference < 1e-5
    assert model.training
    files = {"wavelit.json": ""}
    program = torch.export.load(path, extra_files=files).module()
    model.eval()
    for batch in (1, 5):
        given = inputs(batch, (32, 24))
        with torch.no_grad():
            torch.testing.assert_close(program(**given), model(**given), atol=1e-5, rtol=1e-5)
    assert json.loads(files["wavelit.json"])["resolution"] == [32, 24]


@pytest.mark.parametrize(
    "mixers",
    [
        # Twenty seconds by itself: ran well on f95381f.
        pytest.param("attention", marks=pytest.mark.slow),
        pytest.param("conv:3", marks=pytest.mark.slow),
        pytest.param("long_conv", marks=pytest.mark.slow),
    ],
)
def test_onnx_gives_the_same(mixers, tmp_path):
    model = perturbed(**TINY, mixers=mixers).eval()
    path, difference = export_model(model, tmp_path / "m.onnx", (32, 24))
    assert difference < 1e-5
    for batch in (1, 5):
        given = inputs(batch, (32, 24))
        with torch.no_grad():
            due = model(**given)
        torch.testing.assert_close(onnx_answer(path, given), due, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["nano", "1M"])
@pytest.mark.parametrize("suffix", ["pt2", "onnx"])
def test_presets_are_exported_whole(preset, suffix, tmp_path):
    _, difference = export_model(perturbed(preset), tmp_path / f"m.{suffix}", (64, 64))
    assert difference < 1e-5


@pytest.mark.slow
def test_a_system_of_a_joint_model_is_exported(tmp_path):
    exported = wavelit.export("joint-1M", tmp_path / "m.onnx", (128, 32), system="rayleigh_benard")
    assert exported.difference < 1e-5


@pytest.mark.long
def test_tracing_leaves_the_tables_of_a_fresh_model_whole():
    model, given = perturbed("nano-0.1", **TINY).eval(), inputs(2, (8, 32))
    torch.export.export(model, (), given)
    with torch.no_grad():
        assert torch.isfinite(model(**given)).all()


@pytest.mark.long
def test_the_command_writes_and_says_how_far_it_is_off(tmp_path, capsys):
    perturbed(**TINY).save_pretrained(tmp_path / "model")
    words = ["export", str(tmp_path / "model"), str(tmp_path / "m.pt2")]
    assert main(words) == 2
    assert "the points along each axis are not known" in capsys.readouterr().err
    assert main([*words, "--resolution", "32", "24"]) == 0
    assert "at most 0.0e+00 standard deviations" in capsys.readouterr().out


def test_a_program_that_differs_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_program", lambda model, inputs: None)
    monkeypatch.setattr(
        exporting, "_write_pt2", lambda *_: lambda inputs: inputs["fields"][:, -1] + 1
    )
    path = tmp_path / "m.pt2"
    with pytest.raises(WavelitError, match="differs from WaveLiT by"):
        export_model(perturbed(**TINY), path, (32, 24))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "grid", "told"),
    [
        ("m.txt", (32, 24), r"the suffix says the format, \.pt2 or \.onnx"),
        ("m", (32, 24), "the suffix says the format"),
        ("m.pt2", (16,), "the points along 2 axes"),
        ("m.pt2", (16, 0), "resolution"),
        ("m.pt2", 16, "the points along 2 axes"),
        ("m.pt2", (10**9, 10**9), "more than the 16777216"),
        ("m.pt2", (16, 23), "axis 1 is periodic with 23 points"),
    ],
)
def test_what_cannot_be_is_one_line(name, grid, told, tmp_path):
    with pytest.raises(WavelitError, match=told) as caught:
        export_model(perturbed(**TINY), tmp_path / name, grid)
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    monkeypatch.setattr(exporting, "_program", lambda model, inputs: None)
    with pytest.raises(WavelitError, match=r"pip install 'wavelit\[export\]'"):
        export_model(perturbed(**TINY), tmp_path / "m.onnx", (32, 24))


def test_a_joint_model_needs_a_system(tmp_path):
    with pytest.raises(WavelitError, match="name one, system="):
        wavelit.export("joint-1M", tmp_path / "m.pt2", (64, 64))
    with pytest.raises(WavelitError, match="the model is no joint one: leave system out"):
        wavelit.export(perturbed(**TINY), tmp_path / "m.pt2", (32, 24), system="x")
