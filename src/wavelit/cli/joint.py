"""`wavelit train` on several datasets: options over those of a file."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wavelit.errors import WavelitError, printable
from wavelit.files.plain import load_yaml, read_yaml

__all__ = ["names_several", "train_joint"]

# What words before any option are called.
BEFORE = ""


def names_several(words: Sequence[str]) -> bool:
    """Whether a command line names several datasets, itself or in a file."""
    from wavelit.training.joint_configuration import names_several

    options = _options(words)
    return any(
        name == "data.paths"
        or (name == BEFORE and len(values) > 1)
        or (name == "config" and bool(values) and names_several(values[-1]))
        for name, values in options
    )


def train_joint(words: Sequence[str]) -> Path:
    """Train as the command line says; the run's folder."""
    from wavelit.training.config import BUDGETS
    from wavelit.training.joint_configuration import joint_configuration
    from wavelit.training.joint_run import build_joint, fit_joint
    from wavelit.training.ranks import is_first

    content: dict[str, Any] = {}
    typed: set[str] = set()
    where, run, overwrite = "the command line", None, False
    homes = _homes()
    for name, values in _options(words):
        group, _, entry = name.partition(".")
        if name == "config":
            where = _one(name, values)
            content = _over(content, read_yaml(where), where)
        elif name == "run":
            run = _one(name, values)
        elif name == "overwrite" and not values:
            overwrite = True
        elif name in (BEFORE, "data.paths"):
            content = _over(content, {"data": {"paths": list(values)}}, where)
        elif name == "seed":
            content = _over(content, {name: load_yaml(_one(name, values), name)}, where)
        elif name in homes or (entry and group in homes.values()):
            value = load_yaml(_one(name, values), name)
            content = _over(content, {homes.get(name, group): {entry or name: value}}, where)
            typed.add(entry or name)
        else:
            raise WavelitError(
                f"unknown option --{printable(name, 60)} of a joint training: it has --config, "
                f"--run, --seed, --overwrite and those of {', '.join(sorted(set(homes.values())))}"
            )
    if not typed.isdisjoint(BUDGETS) and isinstance(content["train"], dict):
        # A budget that is typed goes before that of a file.
        kept = content["train"].items()
        content["train"] = {k: v for k, v in kept if k in typed or k not in BUDGETS}
    asked = joint_configuration(content, where)
    folder = Path(run or Path("runs") / f"joint-{len(asked.data.systems)}-{asked.preset}")
    model = build_joint(asked.data, asked.preset, asked.seed, **asked.changes)
    if is_first():
        print(model.describe(), flush=True)
    fit_joint(
        folder,
        asked.data,
        model,
        asked.train,
        asked.trainer,
        asked.seed,
        overwrite=overwrite,
    )
    return folder


def _homes() -> dict[str, str]:
    """Groups of the options that stand in one group alone, which may be left out of their names."""
    from wavelit.data.datamodule import WellDataModule
    from wavelit.model.config import WaveLiTConfig
    from wavelit.training.config import TrainerConfig
    from wavelit.training.joint import JointTrainConfig
    from wavelit.training.joint_run import JOINT_ENTRIES

    groups = {
        "data": list(inspect.signature(WellDataModule).parameters),
        "model": ["preset", *JOINT_ENTRIES, *inspect.signature(WaveLiTConfig).parameters],
        "train": list(inspect.signature(JointTrainConfig).parameters),
        "trainer": list(inspect.signature(TrainerConfig).parameters),
    }
    homes: dict[str, list[str]] = {}
    for group, names in groups.items():
        for name in names:
            homes.setdefault(name, []).append(group)
    return {name: found[0] for name, found in homes.items() if len(found) == 1 and name != "path"}


def _options(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Options without their dashes, each with the words that follow it; words before any are
    datasets.
    """
    found: list[tuple[str, list[str]]] = []
    paths: list[str] = []
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            found.append((name, [value] if equals else []))
        else:
            (found[-1][1] if found else paths).append(word)
    return [(BEFORE, paths), *found] if paths else found


def _one(name: str, values: Sequence[str]) -> str:
    if len(values) != 1:
        raise WavelitError(f"--{printable(name, 60)} takes one value, not {len(values)}")
    return values[0]


def _over(content: dict[str, Any], more: Any, where: str) -> dict[str, Any]:
    """Settings with those of `more` in their place, group by group."""
    if not isinstance(more, dict):
        raise WavelitError(f"{where}: groups of options are due, such as data: and train:")
    merged = dict(content)
    for name, value in more.items():
        before = merged.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            value = {**before, **value}
        merged[name] = value
    return merged
