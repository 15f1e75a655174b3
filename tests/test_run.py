"""A run folder from training to judgement; what bad input gets."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from the_well.data import WellDataset

from runs import ONE_THREAD, RECIPE, SMALL, train, wave_dataset, whole_run  # noqa: F401, as fixtures
from wavelit.data.datamodule import WellDataModule
from wavelit.data.writing.write import write_dataset
from wavelit.errors import WavelitError
from wavelit.evaluation.evaluate_run import evaluate_run, record_rollout
from wavelit.files.plain import read_json
from wavelit.model.wavelit import WaveLiT
from wavelit.training.config import TrainConfig, TrainerConfig
from wavelit.training.run import build_model, fit, resume
from wavelit.training.run_folder import load_model
from wavelit.training.trainer import check_trainer
from waves import plane_waves, write_waves


def test_another_dataset_must_have_the_same_fields_and_boundaries(run, tmp_path):
    other = write_dataset(
        tmp_path / "other",
        {"depth": plane_waves(10, 12)},
        splits={"train": 6, "valid": 2, "test": 2},
        name="other",
        boundary_conditions=["periodic", "periodic"],
    )
    with pytest.raises(WavelitError, match="has the fields depth; the run was trained on height"):
        evaluate_run(run, data=str(other), device="cpu")
    walls = write_dataset(
        tmp_path / "walls",
        {"height": plane_waves(10, 12)},
        splits={"train": 6, "valid": 2, "test": 2},
        name="walls",
        boundary_conditions=["wall", "wall"],
    )
    with pytest.raises(WavelitError, match="has the boundaries"):
        evaluate_run(run, data=str(walls), device="cpu")


def test_the_average_is_what_is_kept(run):
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=False)
    kept = load_file(run / "weights" / "model.safetensors")
    for name, value in kept.items():
        torch.testing.assert_close(value, checkpoint["state_dict"][f"model.{name}"], rtol=0, atol=0)
    last = checkpoint["current_model_state"]["model.embed.weight"]
    assert not torch.equal(last, kept["embed.weight"])


def test_a_run_is_judged_from_its_folder_alone(run):
    evaluation, report = evaluate_run(run, device="cpu")
    content = read_json(run / "evaluation-valid.json")
    assert content["dataset"] == "plane_waves"
    assert set(content["scores"]) == {evaluation.model, "persistence", "linear stencil"}
    text = report.read_text()
    assert "plane_waves" in text
    assert "http://" not in text
    # A sum of waves has mean zero.
    words = re.sub(r"<[^>]*>|\s", " ", text).split()
    at = words.index("kept")
    assert words[at - 4 : at + 2] == ["fields", "whose", "mean", "is", "kept", "height"]
    best = load_model(run, "best")
    assert best.n_parameters == load_model(run).n_parameters


def test_a_rollout_is_written_in_the_wells_format(run):
    paths = record_rollout(run, trajectory=1, device="cpu")
    assert {path.suffix for path in paths} >= {".hdf5", ".png", ".gif"}
    with h5py.File(paths[0]) as file:
        assert file["t0_fields/height"].shape == (1, 8, 16, 16)
        assert file["t0_fields/truth_height"].shape == (1, 8, 16, 16)
    folder = paths[0].parent / "read"
    folder.mkdir()
    paths[0].rename(folder / paths[0].name)
    assert len(WellDataset(str(folder), n_steps_input=1, n_steps_output=1)) == 7
    with pytest.raises(WavelitError, match="trajectories 0 to 1, not 2"):
        record_rollout(run, trajectory=2, device="cpu")
    best = record_rollout(run, trajectory=1, weights="best", device="cpu")
    assert {path.stem for path in best} == {"rollout-valid-1-best", "rollout-valid-1-best-height"}


SPLITS = {"train": 2, "valid": 1, "test": 1}


PERIODIC = ["periodic", "periodic"]


@pytest.fixture(scope="module")
def placed(tmp_path_factory) -> Path:
    """A run on waves with times and positions of their own."""
    root = tmp_path_factory.mktemp("placed")
    folder = write_dataset(
        root / "data",
        {"height": plane_waves(4, 12)},
        splits=SPLITS,
        name="waves",
        boundary_conditions=PERIODIC,
        time=3.0 + 0.5 * np.arange(12),
        coordinates={"x": np.linspace(0, 2, 16), "y": np.linspace(-1, 1, 16)},
    )
    data = WellDataModule(str(folder), batch_size=4)
    fit(root / "run", data, build_model(data, **SMALL), TrainConfig(steps=1), ONE_THREAD)
    return root / "run"


def test_a_rollout_keeps_times_and_positions(placed):
    with h5py.File(record_rollout(placed, device="cpu")[0]) as file:
        assert np.allclose(file["dimensions/time"], 5.0 + 0.5 * np.arange(8))
        assert np.allclose(file["dimensions/y"], np.linspace(-1, 1, 16))


@pytest.mark.parametrize("lasts", [3, 0])
def test_a_rollout_ends_where_it_stops_being_finite(placed, monkeypatch, lasts):
    steps = 0

    def increment(self, fields, constants=None, scalars=None):
        nonlocal steps
        steps += 1
        return fields[:, -1] * (np.nan if steps > lasts else 0.0)

    monkeypatch.setattr(WaveLiT, "increment", increment)
    with pytest.warns(UserWarning, match=f"finite at step {lasts + 1} of 8"):
        paths = record_rollout(placed, device="cpu")
    files = {path.suffix: path for path in paths}
    assert {".png", ".gif"} <= files.keys()
    assert (".hdf5" in files) == (placed / "rollout-valid-0.hdf5").exists() == (lasts > 0)
    if lasts:
        with h5py.File(files[".hdf5"]) as file:
            assert np.allclose(file["dimensions/time"], 5.0 + 0.5 * np.arange(lasts))


@pytest.mark.usefixtures("undrawn")
def test_another_time_step_is_told(placed, tmp_path):
    waves = {"height": plane_waves(4, 12)}
    write_dataset(
        tmp_path / "other", waves, splits=SPLITS, name="waves", boundary_conditions=PERIODIC
    )
    with pytest.warns(UserWarning, match=r"has the time step 1; the model was trained with 0\.5"):
        evaluate_run(placed, data=str(tmp_path / "other"), device="cpu")


@pytest.mark.parametrize(("start", "step"), [(0, 0), (1.7e9, 60)])
def test_times_that_stand_still_are_counted(placed, start, step):
    """A file whose times do not increase, which the layout allows, or would not once they are
    written in float32.
    """
    path = next((placed.parent / "data" / "data" / "valid").glob("*.hdf5"))

    def put(times):
        with h5py.File(path, "r+") as file:
            before, attributes = file["dimensions/time"][()], dict(file["dimensions/time"].attrs)
            del file["dimensions/time"]
            file["dimensions/time"] = times
            file["dimensions/time"].attrs.update(attributes)
        return before

    before = put(start + step * np.arange(12.0))
    with pytest.warns(UserWarning, match=f"has the time step {step}"):
        files = record_rollout(placed, device="cpu")
    with h5py.File(files[0]) as file:
        assert file["dimensions/time"][()].tolist() == list(range(1, 9))
    put(before)


def test_a_scalar_without_a_logarithm_is_refused_on_other_data(tmp_path):
    waves = {"height": plane_waves(4, 12)}
    for name, values in (("data", [1.0, 100.0, 2.0, 3.0]), ("other", [0.0, 1.0, 0.0, 1.0])):
        write_dataset(
            tmp_path / name,
            waves,
            splits=SPLITS,
            name="waves",
            boundary_conditions=PERIODIC,
            scalars={"Re": np.array(values)},
        )
    data = WellDataModule(str(tmp_path / "data"), batch_size=4)
    fit(tmp_path / "run", data, build_model(data, **SMALL), TrainConfig(steps=1), ONE_THREAD)
    with pytest.raises(
        WavelitError, match="has scalar 'Re' 0, of which the model sees the logarithm"
    ):
        evaluate_run(tmp_path / "run", data=str(tmp_path / "other"), device="cpu")


def test_a_folder_holds_one_run(dataset, run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises(WavelitError, match="already holds a run"):
        train(str(dataset), str(run))
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}


def test_nothing_is_written_when_the_data_cannot_serve(dataset, tmp_path):
    data = WellDataModule(str(dataset), batch_size=10_000)
    model = build_model(WellDataModule(str(dataset)), **SMALL)
    with pytest.raises(WavelitError, match=r"cannot fill one step.*num_nodes"):
        fit(tmp_path / "run", data, model, TrainConfig(steps=1), ONE_THREAD)
    with pytest.raises(WavelitError, match="n_steps_output=3, not 1"):
        fit(tmp_path / "run", WellDataModule(str(dataset)), model, RECIPE, ONE_THREAD)
    for changes, message in (
        (
            {"boundary_conditions": (("wall", "wall"), ("periodic", "periodic"))},
            "has boundary_conditions",
        ),
        ({"n_fields": 2}, "has n_fields 2, .* 1"),
        ({"n_steps_input": 3}, "has n_steps_input 3, .* 4"),
    ):
        other = WaveLiT(dataclasses.replace(model.config, **changes))
        other.normalizer.mean += 1
        with pytest.raises(WavelitError, match=message):
            fit(
                tmp_path / "run",
                WellDataModule(str(dataset)),
                other,
                TrainConfig(steps=1),
                ONE_THREAD,
            )
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("undrawn")
def test_a_tilde_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    write_waves("~/waves")
    data = WellDataModule("~/waves", batch_size=4)
    fit("~/run", data, build_model(data, **SMALL), TrainConfig(steps=1), ONE_THREAD)
    evaluate_run("~/run", device="cpu")
    assert load_model("~/run").n_parameters == WaveLiT.from_pretrained("~/run").n_parameters
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_what_cannot_be_trained_is_refused(dataset, tmp_path):
    data = WellDataModule(str(dataset), batch_size=4)
    bare = WaveLiT.from_metadata(data.metadata, data.boundary_conditions, "nano", **SMALL)
    with pytest.raises(WavelitError, match="no statistics of the data"):
        fit(tmp_path / "run", data, bare, TrainConfig(steps=1), ONE_THREAD)
    with pytest.raises(WavelitError, match="unknown precision 'fp16'; known: 32-true"):
        fit(
            tmp_path / "run",
            data,
            build_model(data, **SMALL),
            TrainConfig(steps=1),
            TrainerConfig(precision="fp16"),
        )
    assert not (tmp_path / "run").exists()
    with pytest.raises(WavelitError, match="unknown schedule 'linear'; known: cosine, wsd"):
        TrainConfig(steps=1, schedule="linear")
    with pytest.raises(WavelitError, match="n_steps_input=2 of the model is not the data's 4"):
        build_model(data, n_steps_input=2)


def test_a_folder_without_a_run_is_named(tmp_path):
    for action in (resume, evaluate_run, load_model):
        with pytest.raises(WavelitError, match="is not a run folder"):
            action(tmp_path)


@pytest.mark.usefixtures("undrawn")
def test_training_learns_the_waves(dataset, tmp_path):
    data = WellDataModule(str(dataset), batch_size=4)
    fit(
        tmp_path / "run",
        data,
        build_model(data, **SMALL),
        TrainConfig(steps=150, lr=1e-2, validate_every=75),
        ONE_THREAD,
    )
    evaluation, _ = evaluate_run(tmp_path / "run", device="cpu")
    one_step = evaluation.rows()[0].scores
    assert one_step[evaluation.model][0] < 0.5 * one_step["persistence"][0]


@pytest.mark.parametrize("name", ["mps", "gpu"])
def test_apples_gpu_is_never_taken(name, monkeypatch):
    for package in ("pytorch_lightning", "lightning_fabric"):
        monkeypatch.setattr(
            f"{package}.accelerators.mps.MPSAccelerator.is_available", lambda *_: True
        )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert TrainerConfig().device == "cpu"
    with pytest.warns(UserWarning, match=r"no float64.*the CPU is used") as said:
        check_trainer(TrainerConfig())
    assert sum("the CPU is used" in str(each.message) for each in said) == 1
    with pytest.raises(WavelitError, match=f"'{name}' is Apple's here"):
        check_trainer(TrainerConfig(accelerator=name))


def test_a_process_that_keeps_a_loader_ends(dataset):
    script = f"""
from wavelit import WellDataModule
loader = WellDataModule({str(dataset)!r}, n_workers=1).val_dataloader()
print(len(next(iter(loader)).fields))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout.decode().strip()) == (0, "4")
