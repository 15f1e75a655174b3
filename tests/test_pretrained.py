"""The models in the package: that they load and run, that their cards say what was measured,
that one call rolls one out.
"""

import dataclasses
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import wavelit
from wavelit import WaveLiT, WavelitError
from wavelit.benchmarks.protocol import THE_EIGHT
from wavelit.cli.program import main
from wavelit.data.datamodule import WellDataModule
from wavelit.data.pocketwell import SYSTEMS, generate
from wavelit.evaluation.evaluate_run import record_pretrained_rollout
from wavelit.model.config import WaveLiTConfig
from wavelit.model.joint_config import JOINT_PRESETS
from wavelit.model.pretrained import (
    FOLDER,
    PREFIX,
    holds_joint,
    joint_models,
    pretrained,
    resolve,
)

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "accuracy2" / "5min" / "WaveLiT_0.2"
QUICK = "acoustic_scattering_maze"


@pytest.mark.parametrize("name", pretrained())
def test_a_model_predicts_and_its_card_tells_what_was_measured(name, load_script):
    system = name.removeprefix(PREFIX)
    model = WaveLiT.from_pretrained(name)
    c, k, p = model.config.n_fields, model.config.n_constant_fields, model.config.n_scalars
    shape = SYSTEMS[system].shapes["small"]
    mean, std = (x.view(1, 1, -1, 1, 1) for x in (model.normalizer.mean, model.normalizer.std))
    generator = torch.Generator().manual_seed(0)
    fields = mean + std * torch.randn(1, 4, c, *shape, generator=generator)
    scalars = model.normalizer.scalar_mean[None]
    scalars = torch.where(model.normalizer.scalar_log, scalars.exp(), scalars)
    with torch.no_grad():
        following = model(fields, torch.ones(1, k, *shape) if k else None, scalars if p else None)
    assert following.shape == (1, c, *shape)
    assert following.isfinite().all()
    assert not torch.equal(following, fields[:, -1])
    cards = load_script("pretrained")
    result = json.loads((RESULTS / f"{system}-0.json").read_text())
    assert (FOLDER / name / "README.md").read_text() == cards.card(result)
    assert model.n_parameters == result["parameters"]


def test_each_of_the_eight_has_one_and_all_have_one_together(load_script):
    assert pretrained() == sorted(PREFIX + system for system in THE_EIGHT)
    assert joint_models() == ["pocketwell/joint-1M"]
    joint = wavelit.load("joint-1M")
    assert list(joint) == sorted(THE_EIGHT)
    preset = JOINT_PRESETS["joint-1M"]
    assert joint.config.own == preset["own"]
    assert {model.config.embed_dim for model in joint.values()} == {preset["embed_dim"]}
    assert holds_joint("joint-1M")
    assert not holds_joint("shear_flow")
    assert joint["shear_flow"].predict(
        {name: np.zeros((4, 16, 32)) for name in ("tracer", "pressure")}
        | {"velocity": np.zeros((4, 16, 32, 2))},
        {"Reynolds": 1000.0, "Schmidt": 0.5},
    )["tracer"].shape == (1, 16, 32)
    cards = load_script("pretrained")
    result = json.loads((ROOT / cards.JOINT_RESULT).read_text())
    card = (FOLDER / "pocketwell" / "joint-1M" / "README.md").read_text()
    assert card == cards.joint_card(result)


def test_a_run_folder_is_a_name_too_and_a_folder_that_is_not_there_is_told(tmp_path, monkeypatch):
    WaveLiT.from_pretrained(PREFIX + QUICK).save_pretrained(tmp_path / "run" / "weights")
    for folder in (tmp_path / "run", str(tmp_path / "run"), tmp_path / "run" / "weights"):
        assert WaveLiT.from_pretrained(folder).n_parameters > 0
    (tmp_path / "unfinished").mkdir()
    with pytest.raises(WavelitError, match="unfinished holds no model"):
        WaveLiT.from_pretrained(tmp_path / "unfinished")
    monkeypatch.chdir(tmp_path)
    for name in (
        "runs/typo/weights",
        "run/typo",
        "./typo",
        "",
        tmp_path / "typo",
        QUICK,
        PREFIX + "typo",
    ):
        with pytest.raises(
            WavelitError, match=f"unknown model '.*': no such folder, .*{PREFIX}{QUICK}"
        ):
            WaveLiT.from_pretrained(name)
    assert resolve("owner/name") == "owner/name"
    # Where runs go by default; the hub is not asked.
    with pytest.raises(WavelitError, match="unknown model 'runs/none': no such folder"):
        resolve("runs/none")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The folder of a trajectory that was simulated and rolled out, and the files of the
    rollout.
    """
    folder = tmp_path_factory.mktemp("recorded")
    return folder, record_pretrained_rollout(QUICK, folder, device="cpu")


def test_one_call_simulates_and_rolls_out(recorded):
    folder, paths = recorded
    assert {path.suffix for path in paths} >= {".hdf5", ".png", ".gif"}
    # The trajectory is the first of the validation split.
    whole = WellDataModule(str(folder / QUICK)).rollout_dataset("valid")[0]
    assert whole["input_fields"].shape[1:3] == SYSTEMS[QUICK].shapes["small"]
    before = [path.stat().st_mtime_ns for path in (folder / QUICK).glob("data/*/*.hdf5")]
    record_pretrained_rollout(QUICK, folder, device="cpu")
    assert before == [path.stat().st_mtime_ns for path in (folder / QUICK).glob("data/*/*.hdf5")]


def test_the_model_does_on_its_trajectory_what_the_card_says(recorded):
    from wavelit.evaluation.evaluate import evaluate

    folder, _ = recorded
    data = WellDataModule(str(folder / QUICK))
    scores = evaluate(WaveLiT.from_pretrained(PREFIX + QUICK), data, "valid").scores
    assert scores["model"].one_step.mean() < 0.2 * scores["persistence"].one_step.mean()
    assert (
        scores["model"].rollout[:, :20].mean() < 0.5 * scores["persistence"].rollout[:, :20].mean()
    )


def test_one_trajectory_is_the_datasets_own(tmp_path):
    from wavelit.data.pocketwell import generate_one

    whole = generate(QUICK, "tiny", root=tmp_path, processes=1, progress=False)
    alone = generate_one(QUICK, tmp_path / "alone", "tiny")
    ours, theirs = (
        WellDataModule(str(p)).rollout_dataset("valid")[0]["output_fields"] for p in (alone, whole)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_what_is_not_there_is_named(capsys, tmp_path):
    with pytest.raises(WavelitError, match=f"the package has .*{PREFIX}{QUICK}"):
        WaveLiT.from_pretrained(PREFIX + "mhd")
    assert main(["rollout", "--pretrained", "mhd", "--output", str(tmp_path)]) == 2
    assert main(["rollout"]) == 2
    assert "not both" in capsys.readouterr().err


@pytest.mark.parametrize("spoilt", ["missing", "unknown", "cut short", "gone"])
def test_weights_that_do_not_fit_are_refused(spoilt, tmp_path):
    model = WaveLiT(WaveLiTConfig.preset("nano", n_fields=1))
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    if spoilt == "missing":
        del weights["normalizer.mean"]
    weights["elsewhere" if spoilt == "unknown" else "normalizer.std"] = torch.ones(1)
    save_file(weights, path)
    if spoilt == "cut short":
        path.write_bytes(path.read_bytes()[:100])
    if spoilt == "gone":
        path.unlink()
    with pytest.raises(WavelitError, match="cannot be"):
        WaveLiT.from_pretrained(tmp_path)


def test_each_names_what_it_takes(load_script):
    """The weights and the architecture are those of before; names are those of its system."""
    for name in pretrained():
        model, spec = WaveLiT.from_pretrained(name), SYSTEMS[name.removeprefix(PREFIX)]
        signature, config = model.signature, model.config
        assert signature.dataset == spec.name
        signature.require_counts(config.n_fields, config.n_constant_fields, config.n_scalars)
        assert signature.boundary_conditions == config.boundary_conditions
        assert set(signature.scalar_names) == set(spec.parameters[0])
        assert signature.axes == tuple(spec.coordinates(spec.shapes["small"]))
        # What values they had, by which far ones are told.
        assert all(each.ranges for each in (*signature.fields, *signature.constants))
    quick = WaveLiT.from_pretrained(PREFIX + QUICK).signature
    plain = {
        kind: tuple(dataclasses.replace(each, ranges=None) for each in getattr(quick, kind))
        for kind in ("fields", "constants")
    }
    assert load_script("pretrained").signature(QUICK) == dataclasses.replace(quick, **plain)


def test_scalars_go_by_name_and_far_ones_are_told():
    model = WaveLiT.from_pretrained(PREFIX + "shear_flow")
    rng = np.random.default_rng(0)
    u = {name: rng.normal(size=(4, 16, 32)) for name in ("tracer", "pressure")}
    u["velocity"] = rng.normal(size=(4, 16, 32, 2))
    right = model.predict(u, {"Reynolds": 1000.0, "Schmidt": 0.5})
    other = model.predict(dict(reversed(u.items())), {"Schmidt": 0.5, "Reynolds": 1000.0})
    assert np.array_equal(right["tracer"], other["tracer"])
    with pytest.warns(UserWarning, match="far from the 1000 to 2000"):
        model.predict(u, {"Reynolds": 1e5, "Schmidt": 0.5})


def test_far_fields_are_told():
    model = WaveLiT.from_pretrained(PREFIX + "shear_flow")
    u = {name: np.zeros((4, 16, 32)) for name in ("tracer", "pressure")}
    u["velocity"] = np.zeros((4, 16, 32, 2))
    scalars = {"Reynolds": 1000.0, "Schmidt": 0.5}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(u, scalars)
    with pytest.warns(UserWarning, match="tracer"):
        model.predict({**u, "tracer": u["tracer"] + 1e8}, scalars)
