"""`wavelit train` on several datasets, or from a joint model: options over those of a file."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wavelit.cli.output import print_lines
from wavelit.cli.words import BEFORE, FLAGS, as_list, option_groups, takes_names
from wavelit.errors import WavelitError, printable
from wavelit.files.plain import load_yaml, read_yaml

__all__ = ["JOINT_ALONE", "names_several", "train_joint"]

# Options of fine-tuning that a model of one system has not.
JOINT_ALONE = ("--system", "--trunk", "--trunk_lr", "--rank", "--train.trunk", "--train.trunk_lr")


def names_several(words: Sequence[str]) -> bool:
    """Whether a command line names several datasets, itself or in a file, or a joint model to
    start from.
    """
    from wavelit.model.pretrained import holds_joint
    from wavelit.training.joint_configuration import names_several
    from wavelit.training.joint_folder import is_joint

    return any(
        name == "data.paths"
        or (name == "from" and bool(values) and (is_joint(values[0]) or holds_joint(values[0])))
        or (name == BEFORE and len(values) > 1)
        or (name == "config" and bool(values) and names_several(values[0]))
        for name, values in _datasets_apart(words)
    )


def train_joint(words: Sequence[str]) -> Path:
    """Train as the command line says; the run's folder."""
    from wavelit.checks.arguments import require_path
    from wavelit.training.joint_configuration import joint_configuration
    from wavelit.training.joint_run import fit_joint
    from wavelit.training.rank_zero import is_first

    told = _told(_datasets_apart(words))
    if told.tuned:
        asked, model, kind = _fine_tuning(told.content, told.where, told.single)
    else:
        asked = joint_configuration(told.content, told.where)
        model = asked.build()
        kind = f"joint-{len(asked.data.systems)}-{asked.preset}"
    folder = require_path("run", told.single.get("run") or f"runs/{kind}")
    if is_first():
        trunk = sum(parameter.numel() for parameter in model.trunk_parameters())
        alone = (
            f"{model.n_parameters:,} parameters, of which {trunk:,} are the trunk's, which is "
            f"{asked.train.trunk}"
        )
        print_lines(model.describe() if len(model) > 1 else alone)
    fit_joint(
        folder,
        asked.data,
        model,
        asked.train,
        asked.trainer,
        asked.seed,
        overwrite=told.overwrite,
    )
    return folder


@dataclasses.dataclass
class _Told:
    """What a command line says: settings by group, over those of its files; where they stand, for
    messages; options that stand alone.
    """

    tuned: bool
    content: dict[str, Any] = dataclasses.field(default_factory=dict)
    where: str = "the command line"
    single: dict[str, str] = dataclasses.field(default_factory=dict)
    overwrite: bool = False


def _told(options: Sequence[tuple[str, list[str]]]) -> _Told:
    """The options of a joint training, or of one that starts from a joint model."""
    told = _Told(tuned=any(name == "from" for name, _ in options))
    homes = _homes() | {"trunk": "train" if told.tuned else "model"}
    typed: set[str] = set()
    paths: list[str] = []
    for name, values in options:
        group, _, entry = name.partition(".")
        if name == "config":
            told.where = _one(name, values)
            told.content = _over(told.content, read_yaml(told.where), told.where)
        elif name in ("run", "from") or (told.tuned and name in ("system", "rank")):
            told.single[name] = _one(name, values)
        elif name == "overwrite" and not values:
            told.overwrite = True
        elif name in (BEFORE, "data.paths"):
            paths += values
        elif told.tuned and name == "data.path":
            paths.append(_one(name, values))
        elif name == "seed":
            seed = load_yaml(_one(name, values), name)
            told.content = _over(told.content, {name: seed}, told.where)
        elif name == "keep_statistics":
            raise WavelitError(
                "--keep_statistics is of models of one system: a joint model takes the statistics "
                "of the new data"
            )
        elif name in homes or (entry and group in homes.values()):
            several = values and takes_names(name)
            value = load_yaml(as_list(values) if several else _one(name, values), name)
            more = {homes.get(name, group): {entry or name: value}}
            told.content = _over(told.content, more, told.where)
            typed.add(entry or name)
        else:
            raise WavelitError(
                f"unknown option --{printable(name, 60)} of a joint training: it has --config, "
                f"--run, --seed, --overwrite and those of {', '.join(sorted(set(homes.values())))}"
            )
    _prefer_typed(told, typed, paths)
    return told


def _prefer_typed(told: _Told, typed: set[str], paths: list[str]) -> None:
    """Datasets and a budget that are typed go before those of a file."""
    from wavelit.checks.settings import require_mapping
    from wavelit.training.config import BUDGETS

    if paths:
        data = told.content.get("data") or {}
        require_mapping(f"{told.where}, data", data)
        others = {name: value for name, value in data.items() if name != "path"}
        told.content["data"] = {**others, "paths": paths}
    if not typed.isdisjoint(BUDGETS) and isinstance(told.content["train"], dict):
        kept = told.content["train"].items()
        told.content["train"] = {k: v for k, v in kept if k in typed or k not in BUDGETS}


def _fine_tuning(
    content: dict[str, Any], where: str, single: dict[str, str]
) -> tuple[Any, Any, str]:
    """What is asked for, the model made ready for it, and a name for the run."""
    from wavelit.api import load
    from wavelit.checks.arguments import listed
    from wavelit.evaluation.pictures import file_part
    from wavelit.model.foundation import JointWaveLiT, SystemEmulator
    from wavelit.training.fine_tune import as_joint, made_ready, rank_of, with_histories
    from wavelit.training.joint_configuration import joint_configuration

    source, start = single["from"], single.get("system")
    if content.get("model"):
        raise WavelitError(
            f"the architecture is that of {source}: leave --model.* out, or train anew"
        )
    found = load(source)
    if not isinstance(found, JointWaveLiT | SystemEmulator):
        raise WavelitError(
            f"several datasets start from a joint model, such as --from joint-1M; {source} is of "
            "one system"
        )
    model = as_joint(found)
    content = _over({"data": {}}, content, where)
    data = content["data"]
    if isinstance(data, dict) and "path" in data:
        # A file for a model of one system names a dataset so.
        rest = {name: value for name, value in data.items() if name != "path"}
        content["data"] = {**rest, "paths": [data["path"], *rest.get("paths", [])]}
    asked = joint_configuration(content, where)
    if asked.by_system:
        raise WavelitError(
            f"the architecture is that of {source}: leave model out of "
            f"{listed(asked.by_system)} in {where}, or train anew"
        )
    told = [content["data"], *(content.get("systems") or ())]
    if not any("n_steps_input" in each for each in told):
        opened = with_histories(model, asked.data, start)
        asked = dataclasses.replace(asked, data=opened)
    rank = single.get("rank")
    model = made_ready(
        model,
        asked.data,
        start,
        rank=rank_of(asked.train, model) if rank is None else load_yaml(rank, "rank"),
        seed=asked.seed,
    )
    names = list(asked.data.systems)
    begun = names[0] if len(names) == 1 else f"joint-{len(names)}"
    return asked, model, file_part(f"{begun}-from-{Path(source).name}")


def _datasets_apart(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Options of a command line, of which those with one value leave what follows it to the
    datasets, which stand under `BEFORE` at the end.
    """
    found: list[tuple[str, list[str]]] = []
    paths: list[str] = []
    for name, values in option_groups(words, FLAGS):
        several = name == "data.paths" or takes_names(name)
        n = 0 if name == BEFORE else len(values) if several else 1
        paths += values[n:]
        if name != BEFORE:
            found.append((name, values[:n]))
    return [*found, (BEFORE, paths)] if paths else found


def _homes() -> dict[str, str]:
    """Groups of the options that stand in one group alone, which may be left out of their names."""
    from wavelit.data.datamodule import WellDataModule
    from wavelit.model.config import WaveLiTConfig
    from wavelit.training.config import TrainerConfig
    from wavelit.training.joint import JointTrainConfig
    from wavelit.training.joint_run import JOINT_ENTRIES

    own = list(inspect.signature(WaveLiTConfig).parameters)
    groups = {
        "data": list(inspect.signature(WellDataModule).parameters),
        # What stands before is of the data.
        "model": ["preset", *JOINT_ENTRIES, *own[own.index("wavelet") :]],
        "train": list(inspect.signature(JointTrainConfig).parameters),
        "trainer": list(inspect.signature(TrainerConfig).parameters),
    }
    homes: dict[str, list[str]] = {}
    for group, names in groups.items():
        for name in names:
            homes.setdefault(name, []).append(group)
    return {name: found[0] for name, found in homes.items() if len(found) == 1 and name != "path"}


def _one(name: str, values: Sequence[str]) -> str:
    if len(values) != 1:
        raise WavelitError(f"--{printable(name, 60)} takes one value, not {len(values)}")
    return values[0]


def _over(content: dict[str, Any], more: Any, where: str) -> dict[str, Any]:
    """Settings with those of `more` in their place, group by group."""
    from wavelit.checks.settings import require_mapping

    if not isinstance(more, dict):
        raise WavelitError(f"{where}: groups of options are due, such as data: and train:")
    merged = dict(content)
    for name, value in more.items():
        before = merged.get(name)
        if isinstance(before, dict) and value is not None:
            require_mapping(f"{where}, {name}", value)
            value = {**before, **value}
        elif isinstance(value, dict) and before is not None:
            require_mapping(f"{where}, {name}", before)
        merged[name] = value
    return merged
