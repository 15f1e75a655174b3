"""Checkpoints of a run (`wavelit.training.checkpoint_files`) as Lightning writes and reads them:
when, and whole or not at all.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from wavelit.errors import WavelitError, one_line, printable
from wavelit.files.atomic import atomic_path, flush
from wavelit.training.checkpoint_files import BEST, LAST, PREVIOUS, load_checkpoint
from wavelit.training.module import TrainingModule
from wavelit.training.rank_zero import is_first

__all__ = [
    "CheckpointFiles",
    "checkpoint_callbacks",
]

# The first checkpoints of a run: whatever kills it then costs little, and the same command need not
# start anew.
EARLY = (1, 4, 16, 64, 256)
# Steps from one question of several processes, whether one was told to stop, to the next.
ASK_EVERY = 5
# Where a checkpoint callback's state names files.
PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


class CheckpointFiles(TorchCheckpointIO):
    """Lightning's way to write and read a checkpoint: whole or absent beside its target, and read
    without executing anything.

    Lightning's own writes to the system's temporary folder and copies from there, which a kill or a
    full disk cuts short.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any | None = None,
    ) -> None:
        target, buffer = Path(path), io.BytesIO()
        # By way of memory: torch's own writer hides why a disk refuses.
        torch.save(checkpoint, buffer)
        with atomic_path(target) as scratch:
            scratch.write_bytes(buffer.getbuffer())
            if target.name == LAST and target.exists():
                # On the disk before the one that it follows gives up its name.
                flush(scratch)
                os.replace(target, target.with_name(PREVIOUS))

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = "cpu",
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        state = load_checkpoint(Path(path))
        # The last batch of a run is none of a run that was extended.
        _forget_last_batch(state.get("loops"))
        return state


def checkpoint_callbacks(folder: Path, every: int, monitor: str = "val_vrmse") -> list[Callback]:
    """Write last.ckpt early, every so many steps and on an interrupt, and best.ckpt after every
    validation with the smallest score of that name so far.
    """
    shared: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False}
    return [
        _SaveEarly(folder / LAST, every),
        _StopAfterStep(folder / LAST),
        _Checkpoint(filename="last", every_n_train_steps=every, **shared),
        _BestCheckpoint(filename="best", monitor=monitor, **shared),
    ]


class _Checkpoint(ModelCheckpoint):
    """On resume a run's folder may have been moved, of which Lightning makes a new start: the
    best score would be forgotten.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        moved = {name: here(state_dict.get(name, "")) for name in PATHS}
        scores = {here(path): score for path, score in state_dict.get("best_k_models", {}).items()}
        super().load_state_dict(
            {**state_dict, **moved, "best_k_models": scores, "dirpath": self.dirpath}
        )


class _BestCheckpoint(_Checkpoint):
    """On resume the best score so far is the one in best.ckpt: last.ckpt may have been written
    before that validation.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        path = Path(str(self.dirpath)) / BEST
        if path.exists():
            try:
                callbacks = load_checkpoint(path).get("callbacks")
            except WavelitError as error:
                warnings.warn(
                    f"{error}; the run goes on without it, and the next validation writes it anew",
                    stacklevel=2,
                )
                # No score of a file that cannot be read.
                state_dict = {**state_dict, "best_model_score": None, "best_k_models": {}}
                state_dict |= {
                    "best_model_path": "",
                    "kth_best_model_path": "",
                    "current_score": None,
                }
            else:
                kept = callbacks.get(self.state_key) if isinstance(callbacks, dict) else None
                state_dict = kept if isinstance(kept, dict) else state_dict
        super().load_state_dict(state_dict)


def _budget_spent(module: pl.LightningModule) -> bool:
    return isinstance(module, TrainingModule) and module.budget_spent()


def _step_ends(module: pl.LightningModule, batch_idx: int) -> bool:
    """Whether nothing of a step is lost where a run ends here: gradients are in no checkpoint."""
    return not isinstance(module, TrainingModule) or module.step_ends(batch_idx)


def _forget_last_batch(loops: Any) -> None:
    for name, value in loops.items() if isinstance(loops, dict) else ():
        if name == "is_last_batch":
            loops[name] = False
        _forget_last_batch(value)


class _SaveEarly(Callback):
    """Write the first checkpoints before the first that is due, `every` steps on, and one at the
    end, from which a run can be extended.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every
        self.steps = [step for step in EARLY if step < every]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any
    ) -> None:
        if not _step_ends(pl_module, rest[-1]):
            return
        step = trainer.global_step
        # What is due after `every` steps is written by Lightning.
        if step in self.steps or (step % self.every and _budget_spent(pl_module)):
            trainer.save_checkpoint(self.path)


class _StopAfterStep(Callback):
    """The first interrupt or SIGTERM lets the step end and writes the checkpoint; a second one
    stops at once. Where the signal is ignored, it still is.

    Several processes ask one another every few steps whether one was told to stop, and end the
    same step. In a job of SLURM, SIGUSR1 does the same and puts the job back into its queue: its
    command goes on if it has `--resume auto`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked = self.written = self.requeue = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        queued = [signal.SIGUSR1] if slurm_job() else []
        for number in (signal.SIGINT, signal.SIGTERM, *queued):
            if signal.getsignal(number) != signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._ask)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any
    ) -> None:
        if _step_ends(pl_module, rest[-1]) and self._any(trainer, self.asked, ASK_EVERY):
            trainer.save_checkpoint(self.path)
            self.written = True
            if self._any(trainer, self.requeue) and is_first():
                _requeue(slurm_job())

    def _any(self, trainer: pl.Trainer, asked: bool, every: int = 1) -> bool:
        """Whether a process was asked; of several, only after every so many steps."""
        if trainer.world_size == 1:
            return asked
        if trainer.global_step % every:
            return False
        return trainer.strategy.reduce_boolean_decision(asked, all=False)

    def on_train_batch_start(self, *_: Any) -> None:
        # Not before: a validation that is due after the step would be left out, as resuming takes
        # it for done.
        if self.written:
            raise KeyboardInterrupt

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._restore()

    def _ask(self, number: int, *_: Any) -> None:
        self.asked, self.requeue = True, number == signal.SIGUSR1
        self._restore()
        if is_first():
            print(
                "stopping after this step; interrupt again to stop at once",
                file=sys.stderr,
                flush=True,
            )

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        self._handlers = {}


def slurm_job() -> str:
    """The job of SLURM that this process is of, of an array its own task; empty if none."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")


def _requeue(job: str) -> None:
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, check=False, timeout=60
        )
        said = printable(done.stderr.strip() or "no reason given") if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        said = one_line(error)
    if said:
        warnings.warn(
            f"job {printable(job, 60)} was not put back into its queue: {said}", stacklevel=2
        )
    else:
        print(f"job {printable(job, 60)} is back in its queue", flush=True)
