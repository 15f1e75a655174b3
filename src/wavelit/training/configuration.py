"""A configuration of `wavelit train` (configs/ has examples) as the objects that it stands for."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Mapping
from typing import Any, TypeVar

from wavelit.checks.arguments import require_whole
from wavelit.checks.settings import from_mapping, require_mapping
from wavelit.data.datamodule import WellDataModule
from wavelit.errors import WavelitError
from wavelit.files.plain import read_yaml
from wavelit.model.config import WaveLiTConfig
from wavelit.training.config import TrainConfig, TrainerConfig

__all__ = ["MINUTES", "Configuration", "read_configuration", "recipe_of"]

# Of a training that names no budget, and of the demo.
MINUTES = 5.0


@dataclasses.dataclass(frozen=True)
class Configuration:
    """What a file of settings asks for.

    Args:
        data: The dataset.
        preset: The model's preset.
        changes: Entries of `WaveLiTConfig` to change.
        train: Budget and recipe.
        trainer: Device, precision, threads.
        seed: Seed of the weights, the data order, the noise and the unroll lengths.
    """

    data: WellDataModule
    preset: str
    changes: dict[str, Any]
    train: TrainConfig
    trainer: TrainerConfig
    seed: int


def read_configuration(path: str | os.PathLike[str]) -> Configuration:
    """Read a YAML file of the groups data, model, train and trainer, and of a seed.

    Raises:
        WavelitError: It is not plain YAML, or has an unknown entry or one of another type.
        OSError: It cannot be opened.
    """
    where, content = os.fspath(path), read_yaml(os.path.expanduser(path))
    settings: dict[str, Any] = {"data": {}, "model": {}, "train": {}, "trainer": {}, "seed": 0}
    require_mapping(where, content, settings)
    settings |= content
    train = from_mapping(TrainConfig, settings["train"], f"{where}, train")
    trainer = from_mapping(TrainerConfig, settings["trainer"], f"{where}, trainer")
    decided = {"seed", "n_steps_output"}
    data_entries = set(inspect.signature(WellDataModule).parameters) - decided
    require_mapping(f"{where}, data", settings["data"], data_entries)
    if "path" not in settings["data"]:
        raise WavelitError(f"{where}, data: the entry path is missing; name the dataset's folder")
    model_entries = {"preset", *(field.name for field in dataclasses.fields(WaveLiTConfig))}
    require_mapping(f"{where}, model", settings["model"], model_entries)
    seed = require_whole("seed", settings["seed"], 0, 2**63 - 1)
    data = WellDataModule(**settings["data"], n_steps_output=train.target_frames, seed=seed)
    changes = dict(settings["model"])
    return Configuration(data, changes.pop("preset", "nano"), changes, train, trainer, seed)


Recipe = TypeVar("Recipe", bound=TrainConfig)


def recipe_of(
    train: Recipe | None,
    entries: Mapping[str, Any],
    kind: type[Recipe] = TrainConfig,  # type: ignore[assignment]
) -> Recipe:
    """A recipe from single entries, of five minutes unless they name a budget.

    Args:
        train: A whole recipe, in place of entries.
        entries: Of `kind`.
        kind: The recipe's class.

    Raises:
        WavelitError: A whole recipe is given as well, or an entry is unknown or does not fit.
    """
    if train is not None and entries:
        raise WavelitError(f"give {', '.join(entries)} to the {kind.__name__}, or leave train out")
    if train is not None:
        return train
    _require_recipe(entries, kind)
    if not entries.keys() & {"steps", "samples", "minutes"}:
        entries = {"minutes": MINUTES, **entries}
    return from_mapping(kind, entries, "train")


def _require_recipe(entries: Mapping[str, Any], kind: type[TrainConfig]) -> None:
    """Say where settings belong that are of the data, the network, the device or a joint model."""
    homes: dict[str, Any] = {
        "wavelit.WellDataModule": inspect.signature(WellDataModule).parameters,
        "wavelit.build_model": inspect.signature(WaveLiTConfig).parameters,
        "wavelit.TrainerConfig": inspect.signature(TrainerConfig).parameters,
        "a joint model that is fine-tuned": ("trunk", "trunk_lr"),
    }
    own = {field.name for field in dataclasses.fields(kind)}
    for name in entries.keys() - own:
        if place := next((where for where, names in homes.items() if name in names), None):
            raise WavelitError(f"{name} is not of the recipe: give it to {place}")
