"""Checkpoints of a run: which are written, and what is read from them."""

from __future__ import annotations

import pickle
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from wavelit.errors import WavelitError, one_line

__all__ = ["checkpoint_callbacks", "load_checkpoint", "require_same_model"]


# Where a checkpoint callback's state names files.
PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


def checkpoint_callbacks(folder: Path, every: int) -> list[Callback]:
    """Write last.ckpt every so many steps and on an interrupt, and best.ckpt after every validation with the smallest VRMSE so far."""
    shared: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False}
    return [
        _StopAfterStep(folder / "last.ckpt"),
        _Checkpoint(filename="last", every_n_train_steps=every, **shared),
        _BestCheckpoint(filename="best", monitor="val_vrmse", **shared),
    ]


class _Checkpoint(ModelCheckpoint):
    """On resume a run's folder may have been moved, of which Lightning makes a new start: the best score would be forgotten."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        moved = {name: here(state_dict.get(name, "")) for name in PATHS}
        scores = {here(path): score for path, score in state_dict.get("best_k_models", {}).items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": scores, "dirpath": self.dirpath})


class _BestCheckpoint(_Checkpoint):
    """On resume the best score so far is the one in best.ckpt: last.ckpt may have been written before that validation."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        path = Path(str(self.dirpath)) / "best.ckpt"
        if path.exists():
            state_dict = load_checkpoint(path)["callbacks"].get(self.state_key, state_dict)
        super().load_state_dict(state_dict)


class _StopAfterStep(Callback):
    """The first interrupt or SIGTERM lets the step end and writes the checkpoint; a second one stops at once.

    On several devices it stops at once, as they would not all end the same step; where the signal is ignored, it still is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked = self.written = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size > 1 or threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._ask)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self.asked:
            trainer.save_checkpoint(self.path)
            self.written = True

    def on_train_batch_start(self, *_: Any) -> None:
        # Not before: a validation that is due after the step would be left out, as resuming takes it for done.
        if self.written:
            raise KeyboardInterrupt

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._restore()

    def _ask(self, *_: Any) -> None:
        self.asked = True
        self._restore()
        print("stopping after this step; interrupt again to stop at once", file=sys.stderr, flush=True)

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        self._handlers = {}


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What a run's checkpoint holds, `state_dict` and `global_step` among it, on the CPU.

    Raises:
        WavelitError: It cannot be read, or is not one of a run.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise WavelitError(f"{path} cannot be read as a checkpoint: {one_line(error)}") from error
    if not isinstance(state, dict) or not {"state_dict", "global_step"} <= state.keys():
        raise WavelitError(f"{path} is not a checkpoint of a run: it has no state_dict or global_step")
    return state


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
                f"{path} is of another model: {name} has shape {theirs.get(name)} there and {ours.get(name)} here"
            )
