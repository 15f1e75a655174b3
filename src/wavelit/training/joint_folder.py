"""A joint run's folder: that of a run (`wavelit.training.run_folder`), with several systems in it.

config.yaml has a list `systems` in place of `data`, model.json the joint configuration with every
system's signature, and fields.json the data of each system by its name. The rest is as in any run.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
import yaml

from wavelit.checks.arguments import listed, require_name, shown
from wavelit.errors import WavelitError
from wavelit.files.plain import read_json, read_yaml
from wavelit.model.foundation import JointWaveLiT, SystemEmulator
from wavelit.model.joint_config import JointConfig
from wavelit.model.pretrained import is_complete, require_finite
from wavelit.training.checkpoint_files import (
    BEST,
    load_checkpoint,
    model_weights,
    require_same_model,
)
from wavelit.training.run_folder import (
    DATA_ENTRIES,
    Weights,
    environment_of,
    facts_of,
    load_settings,
    require_facts,
    settings_of,
    write_file,
)
from wavelit.training.run_state import goes_on

if TYPE_CHECKING:
    from wavelit.data.datamodule import WellDataModule
    from wavelit.data.joint import JointDataModule

__all__ = [
    "chosen_system",
    "is_joint",
    "is_trained",
    "load_joint",
    "load_joint_data",
    "load_joint_settings",
    "load_system",
    "read_joint_config",
    "require_same_systems",
    "settings_alone",
    "systems_of",
    "write_joint_folder",
]

# Entries of config.yaml.
ENTRIES: dict[str, type] = {"systems": list, "train": dict, "trainer": dict, "seed": int}


def is_joint(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a joint run."""
    path = Path(os.path.expanduser(folder)) / "config.yaml"
    if not path.is_file():
        return False
    settings = read_yaml(path)
    return isinstance(settings, dict) and "systems" in settings


def chosen_system(folder: str | os.PathLike[str], system: str | None = None) -> str | None:
    """The system of a joint run that is meant: the one named, or the only one; None of any other
    run.

    Raises:
        WavelitError: The run has several systems, of which none is named.
    """
    names = [] if system is not None else systems_of(folder)
    if len(names) > 1:
        raise WavelitError(
            f"{folder} is a joint run of {listed(names)}: name one of them, --system NAME (system=)"
        )
    return names[0] if names else system


def systems_of(folder: str | os.PathLike[str]) -> list[str]:
    """Names of a joint run's systems; none of any other folder."""
    if not is_joint(folder):
        return []
    path = Path(os.path.expanduser(folder))
    return [entry["name"] for entry in load_joint_settings(path)["systems"]]


def settings_alone(folder: Path, system: str | None = None) -> dict[str, Any]:
    """The settings of a run, of a joint one as they are for a system, under the same names.

    Args:
        folder: The run.
        system: Of a joint run, which one; its only one needs no name.

    Raises:
        WavelitError: As for `chosen_system`.
    """
    chosen = chosen_system(folder, system)
    if chosen is None:
        return load_settings(folder)
    settings = load_joint_settings(folder)
    own = next(each for each in settings.pop("systems") if each["name"] == chosen)
    data = {name: value for name, value in own.items() if name not in ("name", "share")}
    return {"data": data, **settings}


def write_joint_folder(
    folder: Path, data: JointDataModule, model: JointWaveLiT, train: Any, trainer: Any, seed: int
) -> None:
    """Write what is known before the training begins; config.yaml last, as it makes the folder a
    run's.
    """
    settings = {
        "systems": [
            {
                "name": name,
                "share": data.shares[name],
                **settings_of(system),
            }
            for name, system in data.systems.items()
        ],
        "train": dataclasses.asdict(train),
        "trainer": dataclasses.asdict(trainer),
        "seed": seed,
    }
    text = yaml.safe_dump(settings, sort_keys=False)
    write_file(folder / "model.json", json.dumps(model.config.to_dict(), indent=2))
    facts = {name: facts_of(system) for name, system in data.systems.items()}
    write_file(folder / "fields.json", json.dumps(facts, indent=2))
    environment = environment_of(model) | {"shared parameters": model.n_shared}
    write_file(folder / "environment.json", json.dumps(environment, indent=2))
    write_file(folder / "config.yaml", text)


def load_joint_settings(folder: Path) -> dict[str, Any]:
    """The settings of a joint run: systems, train, trainer and seed.

    Raises:
        WavelitError: The folder holds no run, one of a single system, or a damaged config.yaml.
    """
    path = folder / "config.yaml"
    if not path.exists():
        raise WavelitError(
            f"{folder} is not a run folder: it has no config.yaml; train one with `wavelit train`"
        )
    settings = read_yaml(path)
    if isinstance(settings, dict) and "systems" not in settings and "data" in settings:
        raise WavelitError(f"{folder} is the run of one system, not a joint one: name no system")
    if not isinstance(settings, dict) or settings.keys() != ENTRIES.keys():
        raise WavelitError(
            f"{path}: the entries {', '.join(ENTRIES)} are due; it is damaged: train anew"
        )
    for name, kind in ENTRIES.items():
        if not isinstance(settings[name], kind) or isinstance(settings[name], bool):
            raise WavelitError(
                f"{path}: entry '{name}' is {shown(settings[name])}; it is damaged: train anew"
            )
    known = {"name", "share", *DATA_ENTRIES}
    for system in settings["systems"]:
        texts = isinstance(system, dict) and all(
            isinstance(system.get(entry), str) for entry in ("name", "path")
        )
        if not texts or not set(system) <= known:
            raise WavelitError(f"{path}: a system is {shown(system)}; it is damaged: train anew")
    return settings


def read_joint_config(folder: Path) -> JointConfig:
    """The configuration of a joint run's model."""
    path = folder / "model.json"
    return JointConfig.from_dict(read_json(path), str(path))


def load_joint_data(folder: str | os.PathLike[str]) -> JointDataModule:
    """The datasets that a joint run was trained on."""
    from wavelit.data.datamodule import WellDataModule
    from wavelit.data.joint import JointDataModule, of_system

    settings = load_joint_settings(Path(os.path.expanduser(folder)))
    systems, shares = {}, {}
    for entry in settings["systems"]:
        options = {key: value for key, value in entry.items() if key not in ("name", "share")}
        with of_system(entry["name"]):
            systems[entry["name"]] = WellDataModule(**options)
        shares[entry["name"]] = entry.get("share", 1.0)
    return JointDataModule(systems, shares, settings["seed"])


def load_joint(folder: str | os.PathLike[str], weights: Weights = "final") -> JointWaveLiT:
    """The model of a joint run in evaluation mode: its final averaged weights, or those of the best
    validation.

    Raises:
        WavelitError: Training has not ended, no validation took place, or the weights are damaged
            or not finite.
    """
    folder = Path(os.path.expanduser(folder))
    require_name("weights", weights, get_args(Weights))
    load_joint_settings(folder)
    if weights == "final":
        if not is_complete(folder / "weights"):
            raise WavelitError(
                f"{folder} has no weights yet: continue it with `wavelit train --resume {folder}`"
            )
        return JointWaveLiT.from_pretrained(folder / "weights")
    checkpoint = folder / "checkpoints" / BEST
    if not checkpoint.exists():
        raise WavelitError(f"{folder} has no best checkpoint: no validation took place")
    config, state = read_joint_config(folder), model_weights(load_checkpoint(checkpoint))
    with torch.device("meta"):
        require_same_model(checkpoint, state, JointWaveLiT(config))
    require_finite(checkpoint, state)
    model = JointWaveLiT(config)
    model.load_state_dict(state)
    model.mark_trained()
    return model.eval()


def load_system(
    folder: Path, system: str, weights: Weights = "final"
) -> tuple[SystemEmulator, WellDataModule]:
    """One system of a joint run: its emulator and its data.

    Raises:
        WavelitError: As for `load_joint`, or the run has no system of that name.
    """
    entries = load_joint_settings(folder)["systems"]
    names = [entry["name"] for entry in entries]
    if system not in names:
        raise WavelitError(
            f"{folder} has no system {shown(system)}: it has {listed(names)}; name one of them"
        )
    return load_joint(folder, weights)[system], load_joint_data(folder).systems[system]


def is_trained(folder: Path) -> bool:
    """Whether a joint run has ended and its weights are there, undamaged."""
    if not is_complete(folder / "weights") or goes_on(folder):
        return False
    try:
        JointWaveLiT.from_pretrained(folder / "weights")
    except WavelitError:
        return False
    return True


def require_same_systems(folder: Path, data: JointDataModule) -> None:
    """Refuse to continue a joint run on other data than it began with.

    Raises:
        WavelitError: Names the system and the first difference.
    """
    from wavelit.data.joint import of_system

    facts = read_json(folder / "fields.json")
    for name, system in data.systems.items():
        with of_system(name):
            require_facts(folder, system, facts.get(name, {}) if isinstance(facts, dict) else {})
