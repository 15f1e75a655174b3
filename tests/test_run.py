"""A run folder from training to judgement; kill -9 and resume; what bad input gets."""

import csv
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file
from the_well.data import WellDataset

from wavelit import run as run_module
from wavelit.data.well import WellDataModule
from wavelit.data.write import write_dataset
from wavelit.errors import WavelitError
from wavelit.judge import judge, record_rollout
from wavelit.model import WaveLiT
from wavelit.run import TrainerConfig, build_model, fit, load_model, read_json, resume
from wavelit.train import EmulatorModule, TrainConfig
from waves import plane_waves, write_waves

SMALL = {"embed_dim": 16, "num_heads": 2, "depth": 2, "levels": 1, "num_scales": 2}
RECIPE = TrainConfig(
    steps=24, validate_every=9, checkpoint_every=6, noise=0.1, pushforward=3, pushforward_from=0.3
)
ONE_THREAD = TrainerConfig(accelerator="cpu", threads=1)

# Trains as the test does, and kills itself with SIGKILL as the given step begins.
KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import test_run
from wavelit.train import EmulatorModule
step = EmulatorModule.training_step
def training_step(self, batch, batch_idx):
    if self.global_step == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)
EmulatorModule.training_step = training_step
test_run.train({data!r}, {folder!r})
"""


def train(dataset: str, folder: str) -> WaveLiT:
    torch.manual_seed(123)
    data = WellDataModule(dataset, n_steps_output=3, batch_size=4)
    return fit(folder, data, build_model(data, **SMALL), RECIPE, ONE_THREAD)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return write_waves(tmp_path_factory.mktemp("waves") / "plane_waves")


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(str(dataset), str(folder))
    return folder


def differences(a, b, path: str = "") -> list[str]:
    """Where two checkpoints differ, folders and times aside."""
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [f"{path}: keys {a.keys() ^ b.keys()}"]
        skipped = {"callbacks", "train_seconds", "loops"}
        return [d for key in a if key not in skipped for d in differences(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return [f"{path}: length"]
        return [
            d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{path}/{i}")
        ]
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [path]
    if hasattr(a, "shape"):
        return [] if (a == b).all() else [path]
    return [] if a == b else [path]


@pytest.mark.parametrize("killed_at", [7, 14, 23])
def test_a_killed_run_ends_like_an_uninterrupted_one(killed_at, dataset, run, tmp_path):
    folder = tmp_path / "killed"
    script = KILLED.format(
        tests=str(Path(__file__).parent), at=killed_at, data=str(dataset), folder=str(folder)
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not (folder / "weights").exists()
    resume(folder)
    checkpoints = [
        torch.load(path / "checkpoints" / "last.ckpt", weights_only=False) for path in (run, folder)
    ]
    assert checkpoints[0]["global_step"] == RECIPE.steps
    # Weights, averaged weights, optimiser state, random state.
    for key in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "random_state"):
        assert key in checkpoints[0], key
    assert differences(*checkpoints) == []
    weights = [load_file(path / "weights" / "model.safetensors") for path in (run, folder)]
    assert differences(*weights) == []


def test_resuming_keeps_the_learning_curve_and_the_best_score(dataset, tmp_path):
    folder = tmp_path / "run"
    script = KILLED.format(tests=str(Path(__file__).parent), at=20, data=str(dataset), folder=str(folder))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False)
    before = (folder / "logs" / "metrics.csv").read_text().splitlines()
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=False)["global_step"]
    resume(folder)
    rows = list(csv.DictReader((folder / "logs" / "metrics.csv").open()))
    steps = [int(row["step"]) for row in rows if row["val_vrmse"]]
    assert steps == [8, 17, 23]
    assert len(before) > 1
    scores = {int(row["step"]) + 1: float(row["val_vrmse"]) for row in rows if row["val_vrmse"]}
    kept = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=False)["global_step"]
    assert kept == min(scores, key=scores.get)
    assert best in scores


def test_another_dataset_must_have_the_same_fields_and_boundaries(run, tmp_path):
    other = write_dataset(
        tmp_path / "other",
        {"depth": plane_waves(10, 12)},
        splits={"train": 6, "valid": 2, "test": 2},
        name="other",
        boundary_conditions=["periodic", "periodic"],
    )
    with pytest.raises(WavelitError, match="has the fields depth; the run was trained on height"):
        judge(run, data=str(other), device="cpu")
    walls = write_dataset(
        tmp_path / "walls",
        {"height": plane_waves(10, 12)},
        splits={"train": 6, "valid": 2, "test": 2},
        name="walls",
        boundary_conditions=["wall", "wall"],
    )
    with pytest.raises(WavelitError, match="has the boundaries"):
        judge(run, data=str(walls), device="cpu")


def test_the_average_is_what_is_kept(run):
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=False)
    kept = load_file(run / "weights" / "model.safetensors")
    for name, value in kept.items():
        torch.testing.assert_close(value, checkpoint["state_dict"][f"model.{name}"], rtol=0, atol=0)
    last = checkpoint["current_model_state"]["model.embed.weight"]
    assert not torch.equal(last, kept["embed.weight"])


def test_a_run_is_judged_from_its_folder_alone(run):
    evaluation, report = judge(run, device="cpu")
    content = read_json(run / "evaluation-valid.json")
    assert content["dataset"] == "plane_waves"
    assert set(content["scores"]) == {evaluation.model, "persistence"}
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
    assert {path.stem for path in best} == {"rollout-valid-1-best"}


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


def test_another_time_step_is_told(placed, tmp_path):
    waves = {"height": plane_waves(4, 12)}
    write_dataset(tmp_path / "other", waves, splits=SPLITS, name="waves", boundary_conditions=PERIODIC)
    with pytest.warns(UserWarning, match=r"has the time step 1; the run was trained with 0\.5"):
        judge(placed, data=str(tmp_path / "other"), device="cpu")


@pytest.mark.parametrize(("start", "step"), [(0, 0), (1.7e9, 60)])
def test_times_that_stand_still_are_counted(placed, start, step):
    """A file whose times do not increase, which the layout allows, or would not once they are written in float32."""
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
    with pytest.raises(WavelitError, match="has scalar 'Re' 0, of which the run's model sees the logarithm"):
        judge(tmp_path / "run", data=str(tmp_path / "other"), device="cpu")


def test_a_folder_holds_one_run(dataset, run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises(WavelitError, match="already holds a run"):
        train(str(dataset), str(run))
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}


def test_a_checkpoint_of_another_model_is_refused(run, dataset, tmp_path):
    folder = tmp_path / "other"
    data = WellDataModule(str(dataset), batch_size=4)
    steps = TrainConfig(steps=2, checkpoint_every=1)
    fit(folder, data, build_model(data, **{**SMALL, "embed_dim": 32}), steps, ONE_THREAD)
    (folder / "checkpoints" / "last.ckpt").write_bytes((run / "checkpoints" / "last.ckpt").read_bytes())
    # Also where no checkpoint is: a run of fewer steps than `checkpoint_every` writes none.
    kept = (folder / "checkpoints" / "last.ckpt").read_bytes()
    (folder / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(WavelitError, match="is trained to the end of its budget"):
        resume(folder)
    (folder / "checkpoints" / "last.ckpt").write_bytes(kept)
    (folder / "weights" / "model.safetensors").unlink()
    with pytest.raises(WavelitError, match="is of another model"):
        resume(folder)
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(WavelitError, match="cannot be read as a checkpoint"):
        resume(folder)


def test_nothing_is_written_when_the_data_cannot_serve(dataset, tmp_path):
    data = WellDataModule(str(dataset), batch_size=10_000)
    model = build_model(WellDataModule(str(dataset)), **SMALL)
    with pytest.raises(WavelitError, match="cannot fill one step"):
        fit(tmp_path / "run", data, model, TrainConfig(steps=1), ONE_THREAD)
    with pytest.raises(WavelitError, match="n_steps_output=3, not 1"):
        fit(tmp_path / "run", WellDataModule(str(dataset)), model, RECIPE, ONE_THREAD)
    for changes, message in (
        ({"boundary_conditions": (("wall", "wall"), ("periodic", "periodic"))}, "has boundary_conditions"),
        ({"n_fields": 2}, "has n_fields 2, .* 1"),
        ({"n_steps_input": 3}, "has n_steps_input 3, .* 4"),
    ):
        other = WaveLiT(dataclasses.replace(model.config, **changes))
        other.normalizer.mean += 1
        with pytest.raises(WavelitError, match=message):
            fit(tmp_path / "run", WellDataModule(str(dataset)), other, TrainConfig(steps=1), ONE_THREAD)
    assert not (tmp_path / "run").exists()


def test_a_diverging_run_keeps_its_last_checkpoint(dataset, tmp_path):
    data = WellDataModule(str(dataset), batch_size=4)
    recipe = TrainConfig(steps=40, lr=1e30, warmup=0.5, clip=1e30, checkpoint_every=1)
    with pytest.raises(WavelitError, match=r"at step \d+ on samples.*written before is kept"):
        fit(tmp_path / "run", data, build_model(data, **SMALL), recipe, ONE_THREAD)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize("error", [WavelitError("loss is nan"), RuntimeError("out of memory"), SystemExit(1)])
def test_a_run_that_fails_early_takes_its_own_files_away_and_no_others(dataset, tmp_path, monkeypatch, error):
    data = WellDataModule(str(dataset), batch_size=4)
    folder = tmp_path / "mine"
    (folder / "logs").mkdir(parents=True)
    for name in ("thesis.txt", "logs/letter.txt"):
        (folder / name).write_text("years of work")

    def fail(trainer, *_, **__):
        for made in ("checkpoints", "weights"):
            (Path(trainer.loggers[0].save_dir) / made).mkdir()
            (Path(trainer.loggers[0].save_dir) / made / "best.ckpt").write_text("")
        raise error

    monkeypatch.setattr(pl.Trainer, "fit", fail)
    expected = WavelitError if isinstance(error, SystemExit) else type(error)
    with pytest.raises(expected) as raised:
        fit(folder, data, build_model(data, **SMALL), TrainConfig(steps=1), ONE_THREAD)
    assert {path.name for path in folder.iterdir()} == {"thesis.txt", "logs"}
    assert (folder / "logs" / "letter.txt").exists()
    if isinstance(error, SystemExit):
        assert re.search("interrupted at step 0: nothing is kept.* is of step 500", str(raised.value))
    with pytest.raises(expected):
        fit(tmp_path / "new", data, build_model(data, **SMALL), TrainConfig(steps=1), ONE_THREAD)
    assert not (tmp_path / "new").exists()


def test_a_run_that_fails_at_its_end_keeps_its_weights(dataset, tmp_path, monkeypatch):
    data = WellDataModule(str(dataset), batch_size=4)
    write = run_module._write

    def fail(path, text):
        write(path, text)
        if (path.parent / "weights").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "_write", fail)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "run", data, build_model(data, **SMALL), TrainConfig(steps=1), ONE_THREAD)
    assert load_model(tmp_path / "run").n_parameters > 0


def test_an_interrupt_says_where_the_run_goes_on(dataset, tmp_path, monkeypatch):
    data = WellDataModule(str(dataset), batch_size=4)
    model = build_model(data, **SMALL)
    step = EmulatorModule.training_step

    def interrupted(self, batch, batch_idx):
        if self.global_step == 5:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(EmulatorModule, "training_step", interrupted)
    with pytest.raises(WavelitError, match="at step 5: continue from step 4 with"):
        fit(tmp_path / "run", data, model, TrainConfig(steps=8, checkpoint_every=2), ONE_THREAD)
    monkeypatch.setattr(EmulatorModule, "training_step", step)
    resume(tmp_path / "run")


@pytest.mark.parametrize(("at", "number"), [(4, signal.SIGINT), (8, signal.SIGINT), (17, signal.SIGTERM)])
def test_an_interrupted_run_keeps_the_step_and_ends_like_an_uninterrupted_one(
    at, number, dataset, run, tmp_path, monkeypatch, capsys
):
    step = EmulatorModule.training_step

    def interrupted(self, batch, batch_idx):
        if self.global_step == at:
            os.kill(os.getpid(), number)
        return step(self, batch, batch_idx)

    before = signal.getsignal(number)
    monkeypatch.setattr(EmulatorModule, "training_step", interrupted)
    with pytest.raises(WavelitError, match=f"at step {at + 1}: continue from step {at + 1} with"):
        train(str(dataset), str(tmp_path / "run"))
    assert "stopping after this step" in capsys.readouterr().err
    assert signal.getsignal(number) == before
    monkeypatch.setattr(EmulatorModule, "training_step", step)
    resume(tmp_path / "run")
    folders = (run, tmp_path / "run")
    last = [torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False) for folder in folders]
    assert differences(*last) == []
    weights = [load_file(folder / "weights" / "model.safetensors") for folder in folders]
    assert differences(*weights) == []
    curves = [
        [
            (row["step"], row["val_vrmse"])
            for row in csv.DictReader((folder / "logs" / "metrics.csv").open())
            if row["val_vrmse"]
        ]
        for folder in folders
    ]
    assert curves[0] == curves[1]


# Trains with two reading processes and sends SIGTERM to all of its processes, as a scheduler does, when step 4 begins.
STOPPED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from test_run import ONE_THREAD, SMALL
from wavelit import TrainConfig, WavelitError, WellDataModule, build_model, fit
from wavelit.train import EmulatorModule
step = EmulatorModule.training_step
def training_step(self, batch, batch_idx):
    if self.global_step == 4:
        os.killpg(0, signal.SIGTERM)
    return step(self, batch, batch_idx)
EmulatorModule.training_step = training_step
data = WellDataModule({data!r}, batch_size=4, n_workers=2)
try:
    fit({folder!r}, data, build_model(data, **SMALL), TrainConfig(steps=500), ONE_THREAD)
except WavelitError as error:
    print(error)
"""


def test_reading_processes_leave_signals_to_the_run(dataset, tmp_path):
    script = STOPPED.format(tests=str(Path(__file__).parent), data=str(dataset), folder=str(tmp_path / "run"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        check=False,
        start_new_session=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert "interrupted at step 5: continue from step 5" in done.stdout.decode()


def test_a_run_that_stops_after_its_last_checkpoint_keeps_the_average(run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "weights")
    resume(folder)
    weights = [load_file(path / "weights" / "model.safetensors") for path in (run, folder)]
    assert differences(*weights) == []
    facts = [read_json(path / "environment.json") for path in (run, folder)]
    assert [facts[0][name] for name in ("steps", "samples")] == [
        facts[1][name] for name in ("steps", "samples")
    ]


def test_a_moved_run_remembers_its_best_score(dataset, tmp_path, monkeypatch):
    """Scores that rise after the interrupt: the checkpoint of before must stay."""
    step = EmulatorModule.training_step

    def interrupted(self, batch, batch_idx):
        if self.global_step == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, batch_idx)

    def score(self):
        self.vrmse.reset()
        self.log("val_vrmse", torch.tensor(0.1 if self.global_step <= 4 else 0.9))

    data = WellDataModule(str(dataset), batch_size=4)
    recipe = TrainConfig(steps=12, validate_every=4, checkpoint_every=4)
    monkeypatch.setattr(EmulatorModule, "on_validation_epoch_end", score)
    monkeypatch.setattr(EmulatorModule, "training_step", interrupted)
    with pytest.raises(WavelitError, match="interrupted"):
        fit(tmp_path / "here", data, build_model(data, **SMALL), recipe, ONE_THREAD)
    monkeypatch.setattr(EmulatorModule, "training_step", step)
    shutil.move(tmp_path / "here", tmp_path / "there")
    resume(tmp_path / "there")
    best = torch.load(tmp_path / "there" / "checkpoints" / "best.ckpt", weights_only=False)
    assert best["global_step"] == 4
    assert not (tmp_path / "here").exists()


def test_a_tilde_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    write_waves("~/waves")
    data = WellDataModule("~/waves", batch_size=4)
    fit("~/run", data, build_model(data, **SMALL), TrainConfig(steps=1), ONE_THREAD)
    judge("~/run", device="cpu")
    assert load_model("~/run").n_parameters == WaveLiT.from_pretrained("~/run").n_parameters
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_second_interrupt_stops_at_once(dataset, tmp_path, monkeypatch):
    def interrupted(self, batch, batch_idx):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second interrupt came too late")

    monkeypatch.setattr(EmulatorModule, "training_step", interrupted)
    with pytest.raises(WavelitError, match="interrupted at step 0: nothing is kept"):
        train(str(dataset), str(tmp_path / "run"))


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
    for action in (resume, judge, load_model):
        with pytest.raises(WavelitError, match="is not a run folder"):
            action(tmp_path)


def test_training_learns_the_waves(dataset, tmp_path):
    data = WellDataModule(str(dataset), batch_size=4)
    fit(
        tmp_path / "run",
        data,
        build_model(data, **SMALL),
        TrainConfig(steps=150, lr=1e-2, validate_every=75),
        ONE_THREAD,
    )
    evaluation, _ = judge(tmp_path / "run", device="cpu")
    one_step = evaluation.rows()[0].scores
    assert one_step[evaluation.model][0] < 0.5 * one_step["persistence"][0]


@pytest.mark.parametrize("name", ["mps", "gpu"])
def test_apples_gpu_is_never_taken(name, monkeypatch):
    for package in ("pytorch_lightning", "lightning_fabric"):
        monkeypatch.setattr(f"{package}.accelerators.mps.MPSAccelerator.is_available", lambda *_: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert TrainerConfig().device == "cpu"
    with pytest.raises(WavelitError, match=f"'{name}' is Apple's here"):
        TrainerConfig(accelerator=name).check()


def test_a_process_that_keeps_a_loader_ends(dataset):
    script = f"""
from wavelit import WellDataModule
loader = WellDataModule({str(dataset)!r}, n_workers=2).val_dataloader()
print(len(next(iter(loader)).fields))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stdout.decode().strip()) == (0, "4")
