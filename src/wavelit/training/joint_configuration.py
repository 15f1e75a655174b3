"""A configuration of `wavelit train` that names several datasets (configs/joint has examples), and
a joint training from it or from Python.

    data: {paths: [datasets/a, datasets/b], batch_size: 4}

or, where systems differ,

    systems:
      - {path: datasets/a, name: first, share: 0.5}
      - {path: datasets/b, mask_field: mask}
      - {path: datasets/c, symmetries: "shift, flip:x", model: {divergence_free: true}}

What stands in `data`, `train` and `model` holds for every system, and what stands in its own entry
before that.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Mapping
from typing import Any, cast

from wavelit.checks.arguments import require_instance, require_path, require_whole, shown
from wavelit.checks.settings import from_mapping, require_mapping
from wavelit.data.datamodule import WellDataModule
from wavelit.data.joint import JointDataModule, by_own_name, of_system
from wavelit.errors import WavelitError, printable
from wavelit.files.plain import read_yaml
from wavelit.model.config import WaveLiTConfig
from wavelit.model.foundation import JointWaveLiT
from wavelit.training.config import TrainConfig, TrainerConfig
from wavelit.training.configuration import recipe_of
from wavelit.training.fine_tune import made_ready, rank_of, with_histories
from wavelit.training.joint import JointTrainConfig
from wavelit.training.joint_run import JOINT_ENTRIES, build_joint, fit_joint
from wavelit.training.run import Added

__all__ = ["PRESET", "JointConfiguration", "fit_several", "joint_configuration", "names_several"]

# Of a joint model that names none.
PRESET = "joint-1M"


@dataclasses.dataclass(frozen=True)
class JointConfiguration:
    """What a file of settings asks for.

    Args:
        data: The datasets.
        preset: The model's preset.
        changes: Entries of the joint model's and the systems' configurations to change.
        by_system: By a system's name entries of its configuration alone.
        train: Budget and recipe.
        trainer: Device, precision, threads.
        seed: Seed of the weights, the data order, the noise and the unroll lengths.
    """

    data: JointDataModule
    preset: str
    changes: dict[str, Any]
    by_system: dict[str, dict[str, Any]]
    train: JointTrainConfig
    trainer: TrainerConfig
    seed: int

    def build(self) -> JointWaveLiT:
        """The model, with the statistics of each dataset measured."""
        return build_joint(self.data, self.preset, self.seed, self.by_system, **self.changes)


def names_several(data: Any) -> bool:
    """Whether a file of settings names several datasets; nothing else does."""
    if not isinstance(data, str | os.PathLike) or not os.fspath(data).endswith((".yaml", ".yml")):
        return False
    path = os.path.expanduser(data)
    content = read_yaml(path) if os.path.isfile(path) else None
    return asks_for_several(content)


def asks_for_several(content: Any) -> bool:
    """Whether settings name several datasets."""
    if not isinstance(content, Mapping):
        return False
    data = content.get("data")
    return "systems" in content or bool(isinstance(data, Mapping) and data.get("paths"))


def joint_configuration(content: Any, where: str) -> JointConfiguration:
    """Settings of the groups data, systems, model, train and trainer, and a seed, as objects.

    Args:
        content: What was read.
        where: The file, for errors.

    Raises:
        WavelitError: An unknown entry or one of another type, no dataset, or one that cannot be
            read.
    """
    settings: dict[str, Any] = {"data": {}, "systems": None, "model": {}, "train": {}}
    settings |= {"trainer": {}, "seed": 0}
    require_mapping(where, content, settings)
    settings |= content
    train = from_mapping(JointTrainConfig, settings["train"], f"{where}, train")
    trainer = from_mapping(TrainerConfig, settings["trainer"], f"{where}, trainer")
    known = {field.name for field in dataclasses.fields(WaveLiTConfig)}
    require_mapping(f"{where}, model", settings["model"], {"preset", *JOINT_ENTRIES, *known})
    seed = require_whole("seed", settings["seed"], 0, 2**63 - 1)
    data, own = _data(settings["data"], settings["systems"], where, train.target_frames, seed)
    symmetries = {**(train.system_symmetries or {}), **own["symmetries"]}
    train = dataclasses.replace(train, system_symmetries=symmetries or None)
    changes, by_system = dict(settings["model"]), own["model"]
    for name, entries in by_system.items():
        require_mapping(f"{where}, systems, {printable(name, 60)}, model", entries, known)
    preset = changes.pop("preset", PRESET)
    return JointConfiguration(data, preset, changes, by_system, train, trainer, seed)


def _data(
    shared: Any, systems: Any, where: str, n_steps_output: int, seed: int
) -> tuple[JointDataModule, dict[str, dict[str, Any]]]:
    """The datasets, and the symmetries and model entries of those that have some of their own."""
    options = set(inspect.signature(WellDataModule).parameters) - {"seed", "n_steps_output"}
    require_mapping(f"{where}, data", shared, {"paths", *options - {"path"}})
    shared = dict(shared)
    paths = shared.pop("paths", [])
    if not isinstance(paths, list | tuple):
        raise WavelitError(f"{where}, data: paths must be a list of folders, not {shown(paths)}")
    if not isinstance(systems, list | tuple | type(None)):
        raise WavelitError(f"{where}: systems must be a list of datasets, not {shown(systems)}")
    entries: list[Any] = [{"path": path} for path in paths] + list(systems or [])
    opened: list[WellDataModule] = []
    names: list[str | None] = []
    apart: dict[str, list[Any]] = {"share": [], "symmetries": [], "model": []}
    for entry in entries:
        require_mapping(f"{where}, systems", entry, {"name", *apart, *options})
        if not isinstance(entry.get("path"), str):
            raise WavelitError(f"{where}, systems: {shown(entry)} has no path; name its folder")
        entry = {**shared, **entry}
        names.append(entry.pop("name", None))
        for key, values in apart.items():
            values.append(entry.pop(key, None))
        with of_system(names[-1] or entry["path"]):
            opened.append(WellDataModule(**entry, n_steps_output=n_steps_output))
    if not opened:
        raise WavelitError(f"{where} names no dataset: list their folders under data, paths")
    named = by_own_name(opened, names)
    own = {
        key: {name: value for name, value in zip(named, values, strict=True) if value is not None}
        for key, values in apart.items()
    }
    return JointDataModule(named, own["share"], seed), own


def fit_several(
    folder: str | os.PathLike[str],
    data: Any,
    model: Any,
    train: TrainConfig | None,
    trainer: TrainerConfig | None,
    seed: int,
    recipe: Mapping[str, Any],
    added: Added | None = None,
    overwrite: bool = False,
) -> JointWaveLiT:
    """`wavelit.fit` for several datasets.

    Args:
        folder: Created; must not hold a run.
        data: Folders, folders by name, a `JointDataModule`, or a file of settings that names
            several.
        model: A joint model, or a preset; "nano", which `fit` has by default, means joint-1M. Of
            a trained model is kept by name what fits the data (`wavelit.training.fine_tune`).
        train: Budget and recipe.
        trainer: Device, precision, threads.
        seed: Seed of the weights, the data order, the noise and the unroll lengths.
        recipe: Entries of `JointTrainConfig` in place of `train`.
        added: More of Lightning's.
        overwrite: Whether a run that the folder holds is removed.

    Raises:
        WavelitError: As for `fit_joint`, or a model that is not joint.
    """
    path = require_path("folder", folder)
    if isinstance(data, str | os.PathLike):
        given = trainer is not None and trainer != TrainerConfig()
        if train is not None or given or recipe or model != "nano" or seed:
            raise WavelitError(f"{os.fspath(data)} says how to train: give it and the folder alone")
        asked = joint_configuration(read_yaml(os.path.expanduser(data)), os.fspath(data))
        built = asked.build()
        return fit_joint(
            path, asked.data, built, asked.train, asked.trainer, asked.seed, added, overwrite
        )
    require_whole("seed", seed, 0, 2**63 - 1)
    if trainer is not None:
        require_instance("trainer", trainer, TrainerConfig, "give a TrainerConfig")
    trained = isinstance(model, JointWaveLiT) and model.trained
    train = _recipe(train, recipe)
    if not isinstance(data, JointDataModule):
        each = list(data.values()) if isinstance(data, Mapping) else data
        opened = [isinstance(one, WellDataModule) for one in each]
        options: dict[str, Any] = {} if all(opened) else {"n_steps_output": train.target_frames}
        data = JointDataModule(data, seed=seed, **options)
        if trained and not any(opened):
            data = with_histories(model, data)
    if trained:
        model = made_ready(model, data, rank=rank_of(train, model), seed=seed)
    if isinstance(model, str):
        model = build_joint(data, PRESET if model == "nano" else model, seed)
    if not isinstance(model, JointWaveLiT):
        raise WavelitError(
            f"several datasets need a joint model, not {shown(model)}: name a preset such as "
            f"{PRESET}, or give a JointWaveLiT"
        )
    return fit_joint(path, data, model, train, trainer, seed, added, overwrite)


def _recipe(train: TrainConfig | None, recipe: Mapping[str, Any]) -> JointTrainConfig:
    """As `recipe_of`; a recipe of a single system's is taken too."""
    if train is not None and not recipe and not isinstance(train, JointTrainConfig):
        due = "give a JointTrainConfig, or its entries by name"
        require_instance("train", train, TrainConfig, due)
        return JointTrainConfig(**dataclasses.asdict(train))
    return recipe_of(cast("JointTrainConfig | None", train), recipe, JointTrainConfig)
