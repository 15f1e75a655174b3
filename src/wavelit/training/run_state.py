"""How far a run is: whether its folder is free, holds results, has ended; and a folder that is
cleared, given back, or given another budget.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from wavelit.errors import WavelitError
from wavelit.files.atomic import sweep
from wavelit.model.pretrained import WEIGHTS, is_complete
from wavelit.model.wavelit import WaveLiT
from wavelit.training.checkpoint_files import LAST, PREVIOUS, newest_checkpoint
from wavelit.training.config import TrainConfig
from wavelit.training.networks import network_name
from wavelit.training.rank_zero import is_first
from wavelit.training.run_folder import (
    WRITTEN,
    load_settings,
    own_weights,
    read_environment,
    write_file,
)

__all__ = [
    "checkpoint_to_resume",
    "clear",
    "extend",
    "goes_on",
    "is_trained",
    "overwrite_run",
    "remove_run",
    "require_free",
]

Recipe = TypeVar("Recipe", bound=TrainConfig)

# What evaluations leave beside a run: of its model, and gone with it.
JUDGED = ("evaluation-*.json", "report-*.html", "rollout-*")


def require_free(folder: Path, overwrite: bool = False) -> None:
    """Refuse a folder that holds a run which can be continued or used.

    Args:
        folder: The folder.
        overwrite: Whether a run may be there, and nothing else under its names.

    Raises:
        WavelitError: It does, or it is a file.
    """
    if folder.is_file():
        raise WavelitError(f"{folder} is a file: choose another run folder")
    if not (folder / "config.yaml").exists():
        return
    if _has_results(folder) and not overwrite:
        raise WavelitError(
            f"{folder} already holds a run: continue it with --resume {folder}, choose another "
            "folder, or replace it with --overwrite (overwrite=True)"
        )
    # These three are written before config.yaml, which a failing disk may then have cut: the run
    # begins anew.
    if all((folder / name).exists() for name in ("model.json", "fields.json", "environment.json")):
        return
    try:
        load_settings(folder)
    except WavelitError as error:
        raise WavelitError(
            f"{folder} holds a config.yaml of something else: choose another folder"
        ) from error


def overwrite_run(folder: Path) -> None:
    """Remove a run and what evaluations wrote of it; other files in the folder stay."""
    # Without its settings the rest is no run, wherever this stops.
    (folder / "config.yaml").unlink(missing_ok=True)
    _remove(folder, WRITTEN)
    for pattern in JUDGED:
        for path in folder.glob(pattern):
            if path.is_file():
                path.unlink()


def remove_run(folder: Path, found: set[str] | None) -> None:
    """Take a run's files out of its folder, all but those that were found there, and the folder if
    there was none.

    A run that has something worth keeping stays as it is.
    """
    if _has_results(folder):
        return
    _remove(folder, WRITTEN.difference(found or ()))
    if found is None and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _remove(folder: Path, names: Collection[str]) -> None:
    for name in names:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _has_results(folder: Path) -> bool:
    """Whether a run has something worth keeping: weights, or a checkpoint.

    A single checkpoint that cannot be read is none: it is the first, and `wavelit train --resume`
    could do nothing with it.
    """
    checkpoints = folder / "checkpoints"
    if (folder / "weights" / WEIGHTS).exists():
        return True
    try:
        return newest_checkpoint(checkpoints) is not None
    except WavelitError:
        return all((checkpoints / name).exists() for name in (LAST, PREVIOUS))


def clear(folder: Path, anew: bool) -> None:
    """Remove what a killed process left under temporary names; its owner alone may.

    If the run is to begin anew, its curves and checkpoints go too: they would mix with those of the
    next.
    """
    for pattern in ("checkpoints/.*.tmp", *(f".{name}.*.tmp" for name in WRITTEN)):
        sweep(folder, pattern)
    if not anew or not (folder / "config.yaml").exists():
        return
    for pattern in (
        "logs/metrics.csv",
        "logs/hparams.yaml",
        "logs/events.out.tfevents.*",
        "checkpoints/*.ckpt",
    ):
        sweep(folder, pattern)


def is_trained(folder: Path) -> bool:
    """Whether a run has ended and its weights are there, undamaged."""
    if not is_complete(folder / "weights"):
        return False
    if goes_on(folder):
        return False
    try:
        if network_name(folder) is None:
            WaveLiT.from_pretrained(folder / "weights")
        else:
            own_weights(folder, None)
    except WavelitError:
        return False
    return True


def goes_on(folder: Path) -> bool:
    """Whether a run was extended and has not come to its new end."""
    environment = read_environment(folder)
    # Where it cannot be read, what is left of the training is done again.
    return environment is None or ("extended_from" in environment and "steps" not in environment)


def checkpoint_to_resume(
    folder: Path, trained: bool, budget: Mapping[str, Any] | None
) -> tuple[Path, dict[str, Any]]:
    """The checkpoint that a run goes on from, and what it holds.

    Args:
        folder: The run.
        trained: Whether it has reached the end of its budget.
        budget: Another one, or None.

    Raises:
        WavelitError: The budget is spent and there is no other, or there is no checkpoint yet.
    """
    if budget is None and trained:
        raise WavelitError(
            f"{folder} is trained to the end of its budget: score it with `wavelit evaluate "
            f"{folder}`, or extend it with --train.steps N (steps=N)"
        )
    found = newest_checkpoint(folder / "checkpoints")
    if found is None:
        raise WavelitError(
            f"{folder} has no checkpoint yet: start it again by the command that began it"
        )
    return found


def extend(
    folder: Path,
    settings: dict[str, Any],
    train: Recipe,
    budget: Mapping[str, Any],
    state: dict[str, Any],
    batch_size: float,
    trained: bool,
) -> Recipe:
    """Give a run a larger budget, said in a line.

    Args:
        folder: The run.
        settings: What its config.yaml holds.
        train: Its recipe.
        budget: One of steps, samples and minutes, of the whole run.
        state: What its last checkpoint holds.
        batch_size: Samples of a step, over all devices.
        trained: Whether it has ended.

    Raises:
        WavelitError: The budget is none, or spent.
    """
    step = int(state["global_step"])
    done = {
        "steps": step,
        "samples": round(step * batch_size),
        "minutes": state["train_seconds"] / 60,
    }
    before = {name: getattr(train, name) for name in done}
    recipe = dataclasses.replace(train, **{**dict.fromkeys(done), **budget})
    (name,) = (name for name in done if getattr(recipe, name) is not None)
    asked = getattr(recipe, name)
    if asked <= done[name] or (before[name] is not None and asked <= before[name]):
        had = max(done[name], before[name] or 0)
        raise WavelitError(
            f"{folder} has had {had:.6g} {name}: extend it to more, {asked:.6g} were asked for"
        )
    (own,) = (name for name in done if before[name] is not None)
    ended = own != name or done[own] >= before[own] or trained
    restart = done[name] if ended else train.restart_at * before[own]
    recipe = dataclasses.replace(recipe, restart_at=restart / asked)
    if is_first():
        _write_budget(folder, settings, recipe, done)
        how = (
            f"its schedule was at its end, so the learning rate rises again to {recipe.lr:g} and "
            "falls as before"
            if ended
            else "its schedule goes on over the larger budget"
        )
        print(f"extended from step {step} to {asked:.6g} {name}: {how}", flush=True)
    return recipe


def _write_budget(folder: Path, settings: dict[str, Any], train: Any, done: dict[str, Any]) -> None:
    """Give a run another budget: in config.yaml, after what it came to has been moved out of the
    way in environment.json, by which it is no longer at its end.

    Args:
        folder: The run.
        settings: What config.yaml holds.
        train: Its recipe with the new budget.
        done: What it has come to so far.
    """
    environment = read_environment(folder) or {}
    for name in ("steps", "samples", "train_seconds"):
        environment.pop(name, None)
    earlier = environment.get("extended_from")
    environment["extended_from"] = [*(earlier if isinstance(earlier, list) else []), done]
    write_file(folder / "environment.json", json.dumps(environment, indent=2))
    settings = settings | {"train": dataclasses.asdict(train)}
    write_file(folder / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
