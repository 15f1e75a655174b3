"""Checkpoints of a run, and what is read from them.

last.ckpt      to resume from: early, then every so many steps, and on an interrupt
previous.ckpt  the one before it, should last.ckpt be unreadable
best.ckpt      the smallest validation VRMSE so far, of rollouts where they are validated

Reading one executes nothing: it is a ZIP archive of tensors and plain values, whose checksums are
compared first. It needs no Lightning.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from wavelit.errors import WavelitError, one_line

__all__ = [
    "BEST",
    "LAST",
    "PREVIOUS",
    "load_checkpoint",
    "model_weights",
    "newest_checkpoint",
    "require_same_model",
]

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
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
# What those of older versions lack.
LATER: dict[str, Any] = {"stability": dict}


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
    later = {name: kind for name, kind in LATER.items() if name in state}
    for name, kind in {**ENTRIES, **later, **(TO_RESUME if to_resume else {})}.items():
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
