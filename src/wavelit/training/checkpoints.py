"""Checkpoints of a run: which are written, how, and what is read from them.

last.ckpt      to resume from: early, then every so many steps, and on an interrupt
previous.ckpt  the one before it, should last.ckpt be unreadable
best.ckpt      the smallest validation VRMSE so far, of rollouts where they are validated

Reading one executes nothing: it is a ZIP archive of tensors and plain values, whose checksums are
compared first.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from wavelit.errors import WavelitError, one_line, printable
from wavelit.files.atomic import atomic_path, flush
from wavelit.training.module import TrainingModule
from wavelit.training.ranks import is_first

__all__ = [
    "BEST",
    "LAST",
    "PREVIOUS",
    "CheckpointFiles",
    "checkpoint_callbacks",
    "load_checkpoint",
    "model_weights",
    "newest_checkpoint",
    "require_same_model",
]

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
# The first checkpoints of a run: whatever kills it then costs little, and the same command need not
# start anew.
EARLY = (1, 4, 16, 64, 256)
# Steps from one question of several processes, whether one was told to stop, to the next.
ASK_EVERY = 5
# Where a checkpoint callback's state names files.
PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")
# What a run's checkpoint holds at least.
ENTRIES: dict[str, Any] = {"state_dict": dict, "global_step": int}
# What resuming takes from it besides.
TO_RESUME: dict[str, Any] = {
    "epoch": int,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "pytorch-lightning_version": str,
    "random_state": dict,
    "train_seconds": (int, float),
}


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


def load_checkpoint(path: Path, to_resume: bool = False) -> dict[str, Any]:
    """What a run's checkpoint holds, `state_dict` and `global_step` among it, on the CPU; nothing
    in it is executed.

    Args:
        path: The file.
        to_resume: Whether it must hold all that resuming takes.

    Raises:
        WavelitError: It cannot be read, is damaged, or is not one of a run.
    """
    try:
        _require_whole(path)
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:
        raise WavelitError(f"{path} cannot be read as a checkpoint: {one_line(error)}") from error
    if not isinstance(state, dict):
        raise WavelitError(
            f"{path} is not a checkpoint of a run: it holds a {type(state).__name__}"
        )
    for name, kind in {**ENTRIES, **(TO_RESUME if to_resume else {})}.items():
        if not isinstance(state.get(name), kind):
            raise WavelitError(
                f"{path} is not a checkpoint of a run: it has no '{name}' that serves"
            )
    if not all(isinstance(value, torch.Tensor) for value in state["state_dict"].values()):
        raise WavelitError(
            f"{path} is not a checkpoint of a run: its 'state_dict' holds more than tensors"
        )
    return state


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint of a run to resume from, and what it holds; None if there is none yet.

    It is last.ckpt, or where that cannot be read the one before, with a warning.

    Raises:
        WavelitError: There are some, of which none can be read.
    """
    paths = [path for path in (folder / LAST, folder / PREVIOUS) if path.exists()]
    first: WavelitError | None = None
    for path in paths:
        try:
            state = load_checkpoint(path, to_resume=True)
        except WavelitError as error:
            first = first or error
            continue
        if first is not None:
            warnings.warn(
                f"{first}; going on from the one before, of step {state['global_step']}",
                stacklevel=2,
            )
        return path, state
    if first is not None:
        raise first
    return None


def model_weights(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The emulator's own weights in what a checkpoint holds, without the training module's
    prefix.
    """
    return {
        k.removeprefix("model."): v
        for k, v in state["state_dict"].items()
        if k.startswith("model.")
    }


def require_same_model(path: Path, state: dict[str, Any], module: torch.nn.Module) -> None:
    """Refuse weights whose names or shapes are not the module's.

    Raises:
        WavelitError: Names the checkpoint and the first difference.
    """
    ours = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in state.items()}
    for name in ours.keys() | theirs.keys():
        if ours.get(name) != theirs.get(name):
            raise WavelitError(
                f"{path} is of another model: {name} has shape {theirs.get(name)} there and "
                f"{ours.get(name)} here"
            )


def _require_whole(path: Path) -> None:
    """Compare the checksums of a checkpoint's archive, which torch does not, before anything in
    it is looked at.
    """
    if not path.is_file():
        raise ValueError("it is not a plain file")
    with zipfile.ZipFile(path) as archive:
        # What is compressed may be as large as it likes; what torch writes is stored.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it holds compressed entries, which no checkpoint of a run does")
        try:
            damaged = archive.testzip()
        except (zlib.error, NotImplementedError) as error:
            raise ValueError(str(error)) from error
    if damaged is not None:
        raise ValueError(f"its entry '{damaged}' is damaged")
