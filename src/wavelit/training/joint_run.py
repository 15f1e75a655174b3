"""Joint runs: train a model on several datasets into a new folder, or continue one that was
interrupted.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.strategies import DDPStrategy

from wavelit.checks.arguments import require_name
from wavelit.checks.settings import from_mapping, require_mapping
from wavelit.data.datamodule import WellDataModule
from wavelit.data.joint import JointDataModule, of_system
from wavelit.data.sampling import StepBatchSampler
from wavelit.data.signature import signature_of
from wavelit.errors import WavelitError, printable
from wavelit.files.atomic import named
from wavelit.files.owner import owned
from wavelit.model.config import WaveLiTConfig, narrowest_mixers
from wavelit.model.foundation import JointWaveLiT
from wavelit.model.joint_config import BASE, JOINT_PRESETS, JointConfig, SystemConfig
from wavelit.model.vocabulary import number_of
from wavelit.model.wavelit import configuration_of
from wavelit.training.checkpoint_files import model_weights, require_same_model
from wavelit.training.config import BUDGETS, TrainerConfig
from wavelit.training.data_scales import calibrate
from wavelit.training.joint import JointModule, JointTrainConfig
from wavelit.training.joint_folder import (
    is_trained,
    load_joint_data,
    load_joint_settings,
    read_joint_config,
    require_same_systems,
    write_joint_folder,
)
from wavelit.training.prepare import validate_run
from wavelit.training.run import Added, new_run, run_module
from wavelit.training.run_folder import MOVED, require_there
from wavelit.training.run_state import checkpoint_to_resume, clear, extend, require_free
from wavelit.training.symmetries import symmetries_of
from wavelit.training.trainer import check_trainer

__all__ = ["build_joint", "fit_joint", "resume_joint"]

# What the data decide.
OF_THE_DATA = ("n_fields", "n_constant_fields", "n_scalars", "spatial", "boundary_conditions")
# What determines a joint model beside its systems.
JOINT_ENTRIES = ("adapters", "trunk", "system_embedding", "rank", "own")


def build_joint(
    data: JointDataModule,
    preset: str = "joint-1M",
    seed: int = 0,
    by_system: Mapping[str, Mapping[str, Any]] | None = None,
    **changes: Any,
) -> JointWaveLiT:
    """A joint model for the datasets, with the statistics of each measured.

    Args:
        data: The datasets.
        preset: A key of `wavelit.model.joint_config.JOINT_PRESETS`.
        seed: Seed of the initial weights.
        by_system: By a system's name entries of `WaveLiTConfig` to change for it alone, such as
            {"shear_flow": {"divergence_free": True}}.
        changes: Entries of `JointConfig` and of `WaveLiTConfig` to change.

    Raises:
        WavelitError: An unknown preset or entry, one that does not fit a dataset, or systems that
            cannot share a trunk; it names the system.
    """
    require_name("preset", preset, JOINT_PRESETS)
    entries = {**JOINT_PRESETS[preset], **changes}
    joint = {name: entries.pop(name) for name in JOINT_ENTRIES if name in entries}
    if joint.get("trunk") == "private" and "own" not in changes:
        # Of a private trunk everything is a system's own.
        joint.pop("own", None)
    own = dict(by_system or {})
    for name, changed in own.items():
        require_name("system of by_system", name, data.systems)
        require_mapping(f"by_system, {printable(name, 60)}", changed)
    configs = {}
    for name, system in data.systems.items():
        with of_system(name):
            configs[name] = _configuration(system, {**entries, **own.get(name, {})})
    given = any("mixers" in each for each in (entries, *own.values()))
    if not given and len({config.spatial for config in configs.values()}) == 1:
        # The preset's came out narrower for small grids, and a trunk has one.
        mixers = narrowest_mixers([*configs.values()])
        configs = {k: dataclasses.replace(each, mixers=mixers) for k, each in configs.items()}
    systems = {
        name: SystemConfig(config, signature_of(data.systems[name]))
        for name, config in configs.items()
    }
    model = JointWaveLiT(JointConfig(systems, seed=seed, **joint))
    for name, system in data.systems.items():
        with of_system(name):
            model[name].normalizer.set_statistics(system.statistics)
            calibrate(model[name], system, number_of(seed, "calibration", name))
    return model


def _configuration(data: WellDataModule, changes: dict[str, Any]) -> WaveLiTConfig:
    if told := [name for name in changes if name in OF_THE_DATA]:
        raise WavelitError(f"{told[0]} of the model is that of the data: leave it out")
    if changes.get("n_steps_input", data.n_steps_input) != data.n_steps_input:
        raise WavelitError(
            f"n_steps_input={changes['n_steps_input']} of the model is not the data's "
            f"{data.n_steps_input}: give it to the data"
        )
    return configuration_of(
        data.metadata,
        data.boundary_conditions,
        BASE,
        **{
            "n_steps_input": data.n_steps_input,
            "n_constant_fields": len(data.constant_field_names),
            "n_scalars": len(data.scalar_names),
            **changes,
        },
    )


def fit_joint(
    folder: str | os.PathLike[str],
    data: JointDataModule,
    model: JointWaveLiT,
    train: JointTrainConfig,
    trainer: TrainerConfig | None = None,
    seed: int = 0,
    added: Added | None = None,
    overwrite: bool = False,
) -> JointWaveLiT:
    """Train a joint model into a new run folder; sets the process's threads and the global seeds.

    Args:
        folder: Created; must not hold a run.
        data: The datasets, with at least as many target frames as the pushforward is long.
        model: From `build_joint`, for these data.
        train: Budget and recipe; a budget in samples counts the windows of all systems.
        trainer: Device, precision, threads.
        seed: Seed of the data order, the noise and the unroll lengths.
        added: More of Lightning's, which is not recorded.
        overwrite: Whether a run that the folder holds is removed.

    Returns:
        The trained model, averaged weights, in evaluation mode; also in `folder`/weights.

    Raises:
        WavelitError: The folder holds a run; a split is too short; too few target frames; the model
            has other systems or another layout than the data; a loss is not finite.
    """
    folder, trainer = Path(os.path.expanduser(folder)), trainer or TrainerConfig()
    # Further devices and machines run the same call: the first of them writes.
    added = _with_strategy(added, data, trainer)
    first = check_trainer(trainer, added.strategy) == 0
    if first:
        require_free(folder, overwrite)
    if train.trunk != "free" and not model.trained:
        raise WavelitError(
            f"trunk {train.trunk} is for a trained model, whose trunk is worth keeping: give one, "
            "--from MODEL in `wavelit train`, or leave it out"
        )
    if list(model) != list(data.systems):
        raise WavelitError(
            f"the model has the systems {', '.join(model)}, the data {', '.join(data.systems)}: "
            "use `wavelit.training.joint_run.build_joint`"
        )
    for name in train.system_symmetries or {}:
        require_name("system of system_symmetries", name, data.systems)
    data.seed = seed
    for name, system in data.systems.items():
        system.seed = number_of(seed, "batches", name)
        with of_system(name):
            validate_run(system, model[name], train.of_system(name), trainer)
            # Errors in the data come before anything is written.
            StepBatchSampler(len(system.train_dataset), system.batch_size, system.seed)
            system.windows("valid")
    data.__dict__.pop("train_sampler", None)
    with new_run(folder, first, overwrite):
        if first:
            write_joint_folder(folder, data, model, train, trainer, seed)
        return _run(folder, data, model, train, trainer, seed, None, added)


def resume_joint(
    folder: str | os.PathLike[str],
    added: Added | None = None,
    budget: Mapping[str, Any] | None = None,
) -> JointWaveLiT:
    """Continue an interrupted joint run from its last checkpoint; the rest is as if it had never
    stopped.

    Args:
        folder: The run.
        added: More of Lightning's.
        budget: As for `wavelit.training.run.resume`; samples are windows of all systems.

    Raises:
        WavelitError: No joint run or checkpoint there, or one of another model, other data than the
            run's, another process that trains there, or a budget that is spent.
    """
    folder = Path(os.path.expanduser(folder))
    if budget is not None:
        require_mapping("budget", budget, BUDGETS)
    settings = load_joint_settings(folder)
    where = str(folder / "config.yaml")
    recipe = {**JointTrainConfig.LATER, **settings["train"]}
    train = from_mapping(JointTrainConfig, recipe, f"{where}, train")
    trainer = from_mapping(TrainerConfig, settings["trainer"], f"{where}, trainer")
    config, data = read_joint_config(folder), load_joint_data(folder)
    for system in data.systems.values():
        require_there(folder, system.path, MOVED)
    added = _with_strategy(added, data, trainer)
    first = check_trainer(trainer, added.strategy) == 0
    with named(folder), owned(folder, "training") if first else nullcontext():
        if first:
            clear(folder, anew=False)
        trained = is_trained(folder)
        path, state = found = checkpoint_to_resume(folder, trained, budget)
        with torch.device("meta"):
            require_same_model(path, model_weights(state), JointWaveLiT(config))
        require_same_systems(folder, data)
        model = JointWaveLiT(config)
        if budget is not None:
            batch_size = data.batch_size * trainer.n_processes
            train = extend(folder, settings, train, budget, state, batch_size, trained)
        return _run(folder, data, model, train, trainer, settings["seed"], found, added)


def _run(
    folder: Path,
    data: JointDataModule,
    model: JointWaveLiT,
    train: JointTrainConfig,
    trainer: TrainerConfig,
    seed: int,
    resumed: tuple[Path, dict[str, Any]] | None,
    added: Added,
) -> JointWaveLiT:
    names = {name: system.field_names for name, system in data.systems.items()}
    moves = {
        name: symmetries_of(train.of_system(name).symmetries, system)
        for name, system in data.systems.items()
    }
    batch_size = data.batch_size * trainer.n_processes
    module = JointModule(model, train, seed, batch_size, names, moves)
    try:
        run_module(folder, data, module, trainer, resumed, added)
    finally:
        # Frozen for this run alone.
        model.require_gradients()
    model.mark_trained()
    return model.eval()


def _with_strategy(added: Added | None, data: JointDataModule, trainer: TrainerConfig) -> Added:
    """Steps without some system leave its own weights without a gradient, of which several
    processes must be told.
    """
    added = added or Added()
    partial = min(data.shares.values()) < 1
    if added.strategy is None and partial and trainer.n_processes > 1:
        return dataclasses.replace(added, strategy=DDPStrategy(find_unused_parameters=True))
    return added
