"""What a run keeps when it is killed, interrupted, moved or fails, and that resuming ends like
an uninterrupted run.
"""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file

from runs import (  # noqa: F401, as fixtures
    ONE_THREAD,
    RECIPE,
    SMALL,
    differences,
    fake_scontrol,
    train,
    wave_dataset,
    whole_run,
)
from wavelit.data.datamodule import WellDataModule
from wavelit.errors import WavelitError
from wavelit.files.plain import read_json
from wavelit.training import run_folder
from wavelit.training.config import TrainConfig
from wavelit.training.module import EmulatorModule
from wavelit.training.run import build_model, fit, resume
from wavelit.training.run_folder import load_model

pytestmark = pytest.mark.long

# Trains as the test does, and kills itself with SIGKILL as the given step begins.
KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import runs
from wavelit.training.module import EmulatorModule
step = EmulatorModule.training_step
def training_step(self, batch, batch_idx):
    if self.global_step == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)
EmulatorModule.training_step = training_step
runs.train({data!r}, {folder!r})
"""


# Two of the moments take half a minute: ran well on c760d81.
@pytest.mark.parametrize(
    "killed_at", [*(pytest.param(n, marks=pytest.mark.slow) for n in (7, 14)), 23]
)
def test_a_killed_run_ends_like_an_uninterrupted_one(killed_at, dataset, run, tmp_path):
    folder = tmp_path / "killed"
    script = KILLED.format(
        tests=str(Path(__file__).parent), at=killed_at, data=str(dataset), folder=str(folder)
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not (folder / "weights").exists()
    resume(folder)
    checkpoints = [
        torch.load(path / "checkpoints" / "last.ckpt", weights_only=True) for path in (run, folder)
    ]
    assert checkpoints[0]["global_step"] == RECIPE.steps
    # Weights, averaged weights, optimiser state, random state.
    for key in (
        "state_dict",
        "current_model_state",
        "averaging_state",
        "optimizer_states",
        "random_state",
    ):
        assert key in checkpoints[0], key
    assert differences(*checkpoints) == []
    weights = [load_file(path / "weights" / "model.safetensors") for path in (run, folder)]
    assert differences(*weights) == []


def test_resuming_keeps_the_learning_curve_and_the_best_score(dataset, tmp_path):
    folder = tmp_path / "run"
    script = KILLED.format(
        tests=str(Path(__file__).parent), at=20, data=str(dataset), folder=str(folder)
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, check=False
    )
    before = (folder / "logs" / "metrics.csv").read_text().splitlines()
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]
    resume(folder)
    rows = list(csv.DictReader((folder / "logs" / "metrics.csv").open()))
    steps = [int(row["step"]) for row in rows if row["val_vrmse"]]
    assert steps == [8, 17, 23]
    assert len(before) > 1
    scores = {int(row["step"]) + 1: float(row["val_vrmse"]) for row in rows if row["val_vrmse"]}
    kept = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]
    assert kept == min(scores, key=scores.get)
    assert best in scores


def test_a_checkpoint_of_another_model_is_refused(run, dataset, tmp_path):
    folder = tmp_path / "other"
    data = WellDataModule(str(dataset), batch_size=4)
    steps = TrainConfig(steps=2, checkpoint_every=1)
    fit(folder, data, build_model(data, **{**SMALL, "embed_dim": 32}), steps, ONE_THREAD)
    (folder / "checkpoints" / "last.ckpt").write_bytes(
        (run / "checkpoints" / "last.ckpt").read_bytes()
    )
    kept = (folder / "checkpoints" / "last.ckpt").read_bytes()
    (folder / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(WavelitError, match="is trained to the end of its budget"):
        resume(folder)
    (folder / "checkpoints" / "last.ckpt").write_bytes(kept)
    (folder / "weights" / "model.safetensors").unlink()
    with pytest.raises(WavelitError, match="is of another model"):
        resume(folder)
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"PK\x03\x04 cut short")
    (folder / "checkpoints" / "previous.ckpt").unlink()
    with pytest.raises(WavelitError, match="cannot be read as a checkpoint"):
        resume(folder)


def test_a_diverging_run_keeps_its_last_checkpoint(dataset, tmp_path):
    data = WellDataModule(str(dataset), batch_size=4)
    recipe = TrainConfig(steps=40, lr=1e30, warmup=0.5, clip=1e30, checkpoint_every=1)
    with pytest.raises(WavelitError, match=r"at step \d+ on samples.*written before is kept"):
        fit(tmp_path / "run", data, build_model(data, **SMALL), recipe, ONE_THREAD)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize(
    "error", [WavelitError("loss is nan"), RuntimeError("out of memory"), SystemExit(1)]
)
def test_a_run_that_fails_early_takes_its_own_files_away_and_no_others(
    dataset, tmp_path, monkeypatch, error
):
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
        assert re.search(
            "interrupted at step 0: nothing is kept, as the first checkpoint", str(raised.value)
        )
    with pytest.raises(expected):
        fit(tmp_path / "new", data, build_model(data, **SMALL), TrainConfig(steps=1), ONE_THREAD)
    assert not (tmp_path / "new").exists()


def test_a_run_that_fails_at_its_end_keeps_its_weights(dataset, tmp_path, monkeypatch):
    data = WellDataModule(str(dataset), batch_size=4)
    write = run_folder.write_file

    def fail(path, text):
        write(path, text)
        if (path.parent / "weights").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(run_folder, "write_file", fail)
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


@pytest.mark.parametrize(
    ("at", "number"), [(4, signal.SIGINT), (8, signal.SIGINT), (17, signal.SIGTERM)]
)
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
    last = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in folders
    ]
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


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ({"SLURM_JOB_ID": "12"}, "requeue 12"),
        (
            {"SLURM_JOB_ID": "14", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "2"},
            "requeue 12_2",
        ),
        ({}, None),
    ],
)
def test_a_signal_of_slurm_puts_this_job_back_into_the_queue(
    job, expected, dataset, tmp_path, monkeypatch, capsys
):
    said, path = fake_scontrol(tmp_path)
    monkeypatch.setenv("PATH", path)
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    step = EmulatorModule.training_step
    # Without SLURM the signal is not the run's.
    received = []
    before = signal.signal(signal.SIGUSR1, lambda *_: received.append(1))

    def signalled(self, batch, batch_idx):
        if self.global_step == 3:
            os.kill(os.getpid(), signal.SIGUSR1)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(EmulatorModule, "training_step", signalled)
    try:
        if expected is None:
            train(str(dataset), str(tmp_path / "run"))
            assert received
            assert not said.exists()
        else:
            with pytest.raises(WavelitError, match="at step 4: continue from step 4 with"):
                train(str(dataset), str(tmp_path / "run"))
            assert said.read_text().splitlines() == [expected]
            assert "is back in its queue" in capsys.readouterr().out
    finally:
        signal.signal(signal.SIGUSR1, before)


# Trains with two reading processes and sends SIGTERM to all of its processes, as a scheduler does,
# when step 4 begins.
STOPPED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from runs import ONE_THREAD, SMALL
from wavelit import TrainConfig, WavelitError, WellDataModule, build_model, fit
from wavelit.training.module import EmulatorModule
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


@pytest.mark.long
def test_reading_processes_leave_signals_to_the_run(dataset, tmp_path):
    script = STOPPED.format(
        tests=str(Path(__file__).parent), data=str(dataset), folder=str(tmp_path / "run")
    )
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
    best = torch.load(tmp_path / "there" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["global_step"] == 4
    assert not (tmp_path / "here").exists()


def test_a_second_interrupt_stops_at_once(dataset, tmp_path, monkeypatch):
    def interrupted(self, batch, batch_idx):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second interrupt came too late")

    monkeypatch.setattr(EmulatorModule, "training_step", interrupted)
    with pytest.raises(WavelitError, match="interrupted at step 0: nothing is kept"):
        train(str(dataset), str(tmp_path / "run"))
