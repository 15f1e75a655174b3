"""Several processes of one training: ranks of other tools, a rank that dies, tasks of SLURM."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runs import SMALL, fake_scontrol, run_script, same_weights, wave_dataset, whole_run  # noqa: F401, as fixtures

pytestmark = pytest.mark.long


def test_a_rank_left_in_the_environment_is_no_rank(dataset, run, tmp_path):
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import runs\n"
    done = run_script(
        script + f"runs.train({str(dataset)!r}, {str(tmp_path / 'run')!r})",
        LOCAL_RANK="1",
        RANK="3",
    )
    assert done.returncode == 0, done.stderr.decode()
    assert same_weights(tmp_path / "run", run)
    assert (tmp_path / "run" / "logs" / "metrics.csv").exists()


# Two processes on this machine; one of them behaves as told at step 2.
PAIR = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from runs import SMALL
from wavelit.cli.program import main
from wavelit.training.module import EmulatorModule
step = EmulatorModule.training_step
def training_step(self, batch, batch_idx):
    if {kill} and self.global_step == 2 and self.global_rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if {signal!r} and self.global_step == 2 and self.global_rank == {of}:
        os.kill(os.getpid(), getattr(signal, {signal!r}))
    loss = step(self, batch, batch_idx)
    print("loss", self.global_step, loss.item(), flush=True)
    return loss
EmulatorModule.training_step = training_step
small = [word for name, value in SMALL.items() for word in ("--model." + name, str(value))]
sys.exit(main(["train", "--data.path", {data!r}, "--run", {folder!r},
               "--trainer.accelerator", "cpu", "--trainer.devices", "2", "--train.steps", "6",
               "--train.validate_every", "3", "--resume", "auto", *small]))
"""


def pair(
    tmp_path: Path, dataset: Path, kill: bool = False, signal: str = "", of: int = 0
) -> list[str]:
    script = tmp_path / "pair.py"
    script.write_text(
        PAIR.format(
            tests=str(Path(__file__).parent),
            kill=kill,
            signal=signal,
            of=of,
            data=str(dataset),
            folder=str(tmp_path / "run"),
        )
    )
    return [sys.executable, str(script)]


# Twenty seconds by itself: ran well on f95381f.
@pytest.mark.slow
def test_a_rank_that_dies_ends_the_job_and_is_named(dataset, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = pair(tmp_path, dataset, kill=True)
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("wavelit: error:")]
    assert lines == [
        (
            "wavelit: error: the process of rank 1 was ended by SIGKILL: the training stops; go on "
            "with --resume"
        )
    ]
    assert "trained" not in done.stdout


# A minute by itself: ran well on f9b0cfc.
@pytest.mark.slow
def test_two_processes_stop_at_the_same_step_and_the_same_command_goes_on(dataset, tmp_path):
    ended = []
    for stop in (False, True):
        place = tmp_path / str(stop)
        place.mkdir()
        command = pair(place, dataset, signal="SIGTERM" if stop else "")
        for start in range(2):
            done = subprocess.run(
                command,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            if stop and start == 0:
                assert done.returncode == 2, done.stderr
                assert "interrupted at step 5: continue from step 5 with" in done.stderr
            else:
                assert done.returncode == 0, done.stderr
                assert done.stdout.count("trained:") == 1
            assert ("going on with" in done.stdout) == (stop and start == 1)
        ended.append(place / "run")
    assert same_weights(*ended)


def run_two_tasks(command: list[str], **more: str) -> list[tuple[int, str, str]]:
    """What two tasks of a job end with and say. Emulated: the variables that `srun -n 2` sets, for
    two processes on this machine.
    """
    common = {
        "NTASKS": 2,
        "NTASKS_PER_NODE": 2,
        "JOB_NAME": "job",
        "JOB_ID": 1,
        "NODEID": 0,
        "NNODES": 1,
        "NODELIST": "localhost",
    }
    tasks = []
    for rank in (0, 1):
        slurm = {
            f"SLURM_{name}": str(value)
            for name, value in {**common, "PROCID": rank, "LOCALID": rank}.items()
        }
        environment = {
            **os.environ,
            **slurm,
            "OMP_NUM_THREADS": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "29817",
            **more,
        }
        tasks.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    said = [task.communicate(timeout=120) for task in tasks]
    return [(task.returncode, *each) for task, each in zip(tasks, said, strict=True)]


# Up to a minute by itself: ran well on 0610d9e.
@pytest.mark.slow
def test_two_tasks_of_slurm_are_one_training(dataset, tmp_path):
    said = run_two_tasks(pair(tmp_path, dataset))
    assert [code for code, *_ in said] == [0, 0], said
    assert [out.count("trained:") for _, out, _ in said] == [1, 0]
    facts = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert facts["samples"] == 6 * 4 * 2
    # The loss in the logs is the mean over both.
    losses = [
        {
            int(step): float(loss)
            for step, loss in re.findall(r"^loss (\d+) (\S+)$", out, re.MULTILINE)
        }
        for _, out, _ in said
    ]
    rows = list(csv.DictReader((tmp_path / "run" / "logs" / "metrics.csv").open()))
    logged = {int(row["step"]): float(row["train_loss"]) for row in rows if row["train_loss"]}
    assert logged.keys() == {2, 5}
    for step, loss in logged.items():
        assert loss == pytest.approx((losses[0][step] + losses[1][step]) / 2, rel=1e-6)
        assert losses[0][step] != losses[1][step]


# A minute by itself: ran well on the commit after e13bea1.
@pytest.mark.slow
def test_two_tasks_of_slurm_are_put_back_into_the_queue_and_go_on(dataset, tmp_path):
    """The second task alone gets SIGUSR1: both end the same step, one of them requeues this task of
    the array, and the same command goes on to the weights of a run that was let be.
    """
    said, path = fake_scontrol(tmp_path)
    array = {"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "2", "PATH": path}
    places = [tmp_path / name for name in ("whole", "queued")]
    for place in places:
        place.mkdir()
    assert [code for code, *_ in run_two_tasks(pair(places[0], dataset), **array)] == [0, 0]
    assert not said.exists()
    command = pair(places[1], dataset, signal="SIGUSR1", of=1)
    first, second = run_two_tasks(command, **array), run_two_tasks(command, **array)
    assert [code for code, *_ in first] == [2, 2], first
    assert said.read_text().splitlines() == ["requeue 12_2"]
    assert [out.count("back in its queue") for _, out, _ in first] == [1, 0]
    assert [code for code, *_ in second] == [0, 0], second
    assert [out.count("going on with") for _, out, _ in second] == [1, 0]
    assert [out.count("trained:") for _, out, _ in second] == [1, 0]
    assert same_weights(*(place / "run" for place in places))
    rows = list(csv.DictReader((places[1] / "run" / "logs" / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows if row["train_loss"]] == [2, 5]
