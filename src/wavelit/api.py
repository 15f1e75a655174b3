"""One call for each thing: train, continue, load, score, export.

They take names and folders where the functions that they call take objects. `wavelit.rollout` and
`wavelit.write_dataset` stand in `wavelit.evaluation.rollout` and `wavelit.data.writing.write`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import Strategy
from torch import nn

from wavelit.checks.arguments import (
    listed,
    require_device,
    require_instance,
    require_name,
    require_path,
    require_whole,
    shown,
)
from wavelit.data.datamodule import WellDataModule
from wavelit.data.format.folder import address
from wavelit.data.joint import JointDataModule
from wavelit.errors import WavelitError
from wavelit.evaluation.evaluate import Evaluation
from wavelit.evaluation.evaluate import evaluate as score
from wavelit.evaluation.evaluate_run import evaluate_run
from wavelit.evaluation.opened_run import trained_on
from wavelit.evaluation.read_as import read_as, require_names, require_seen, warn_of_spacing
from wavelit.evaluation.rollout import Emulator
from wavelit.evaluation.watch import RolloutPictures
from wavelit.loading import alone, load
from wavelit.model.config import PRESETS
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.export import Exported, export_model
from wavelit.model.foundation import JointWaveLiT, SystemEmulator
from wavelit.model.pretrained import holds_model, shipped
from wavelit.training.config import TrainConfig, TrainerConfig
from wavelit.training.configuration import read_configuration, recipe_of
from wavelit.training.extras import history_of, lightning_extras, with_nodes
from wavelit.training.fine_tune import as_joint
from wavelit.training.joint_configuration import fit_several, names_several
from wavelit.training.joint_folder import is_joint
from wavelit.training.joint_run import resume_joint
from wavelit.training.run import Added, build_model
from wavelit.training.run import fit as train_run
from wavelit.training.run import resume as resume_run
from wavelit.training.run_folder import Weights

__all__ = ["evaluate", "export", "fit", "load", "resume"]


def fit(
    folder: str | os.PathLike[str],
    data: Any,
    model: nn.Module | str = "nano",
    train: TrainConfig | None = None,
    trainer: TrainerConfig | None = None,
    seed: int = 0,
    keep_statistics: bool = False,
    *,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
    logger: Logger | Sequence[Logger] = (),
    strategy: Strategy | str | None = None,
    num_nodes: int | None = None,
    **recipe: Any,
) -> Any:
    """Train a model into a new run folder; sets the process's threads and the global seeds.

    >>> model = wavelit.fit("runs/waves", "datasets/waves", steps=20)
    before any step: validation VRMSE ...
    step 20 100% ... s train loss ... validation VRMSE ...
    >>> model.n_parameters
    196917

    Args:
        folder: Created; must not hold a run.
        data: The dataset folder, a configuration as `wavelit train --config` takes it (.yaml), or
            a data module with at least as many target frames as the pushforward is long.
            Or several: a list of folders, folders by name, or a `JointDataModule`, for a joint
            model.
        model: A preset or a model from `wavelit.build_model`; for several datasets joint-1M, if it
            is left out. Or a trained one, of which is kept by name what fits the data; it stays as
            it is, and a copy is trained. A trained joint model or one of its systems is taken for
            one dataset too (`wavelit.training.fine_tune`). Or any network of torch: see
            `wavelit.wrap`.
        train: Budget and recipe; five minutes if neither this nor a `recipe` says otherwise.
        trainer: Device, precision, threads.
        seed: Seed of the weights, the data order, the noise and the unroll lengths; a data module
            takes it in place of its own.
        keep_statistics: Whether a model with statistics of other data keeps them and its
            calibration; else it takes those of these data, and a warning says so.
        overwrite: Whether a run that the folder holds is removed, with all that was written of it.
        callbacks: Lightning's, called before those of the run.
        logger: Lightning's, beside the run's CSV file and TensorBoard.
        strategy: Lightning's, by name or as an object; an object is not recorded.
        num_nodes: Machines, as for Lightning.
        **recipe: Entries of `TrainConfig` in place of `train`, such as minutes=5 or steps=1000.

    Returns:
        The trained model, averaged weights, in evaluation mode; also in `folder`/weights. Of
        several datasets a `JointWaveLiT`, of one its emulator.

    Raises:
        WavelitError: The folder holds a run; a split is too short; too few target frames; the model
            has no statistics, or does not fit the data; a network fails on a batch or does not
            return one real tensor; the loss is not finite.
    """
    several = isinstance(data, list | tuple | Mapping | JointDataModule) or names_several(data)
    if isinstance(model, SystemEmulator) and model.trained:
        model = as_joint(model)
    tuned = isinstance(model, JointWaveLiT) and model.trained and not several
    if several or (tuned and not _is_configuration(data)):
        if keep_statistics:
            raise WavelitError("keep_statistics is for a model that is not joint: leave it out")
        if isinstance(trainer, TrainerConfig | None):
            trainer = with_nodes(trainer or TrainerConfig(), strategy, num_nodes)
        added = Added(**lightning_extras(callbacks, logger, strategy))
        given = [data] if tuned else data
        joint = fit_several(folder, given, model, train, trainer, seed, recipe, added, overwrite)
        return next(joint.values()) if tuned else joint
    if train is not None:
        require_instance("train", train, TrainConfig, "give a TrainConfig, or its entries by name")
    if trainer is not None:
        require_instance("trainer", trainer, TrainerConfig, "give a TrainerConfig")
    if isinstance(model, JointWaveLiT | SystemEmulator) and not model.trained:
        raise WavelitError(
            "a new joint model is trained on datasets by name, also on one: give {name: folder}, "
            "and the whole model"
        )
    if not isinstance(model, nn.Module):
        if isinstance(model, str) and model not in PRESETS and shipped(model):
            raise WavelitError(
                f"{shown(model)} is a trained model, not a preset: give wavelit.load({model!r})"
            )
        require_name("preset", model, PRESETS)
        if keep_statistics:
            raise WavelitError("keep_statistics is for a trained model: a preset has no statistics")
    require_whole("seed", seed, 0, 2**63 - 1)
    if _is_configuration(data):
        if train is not None or trainer is not None or recipe or model != "nano" or seed:
            raise WavelitError(f"{os.fspath(data)} says how to train: give it and the folder alone")
        asked = read_configuration(data)
        data, train, trainer, seed = asked.data, asked.train, asked.trainer, asked.seed
        model = build_model(data, asked.preset, seed, **asked.changes)
    train = recipe_of(train, recipe)
    path = require_path("folder", folder)
    extras = lightning_extras(callbacks, logger, strategy)
    trainer = with_nodes(trainer or TrainerConfig(), strategy, num_nodes)
    if not isinstance(data, WellDataModule):
        known: dict[str, Any] = {"n_steps_output": train.target_frames, "seed": seed}
        if (history := history_of(model)) is not None:
            known["n_steps_input"] = history
        data = WellDataModule(address(data, "data"), **known)
    if not isinstance(model, nn.Module):
        model = build_model(data, model, seed)
    return train_run(
        path,
        data,
        model,
        train,
        trainer,
        seed,
        keep_statistics,
        [*extras.pop("callbacks"), RolloutPictures()],
        overwrite=overwrite,
        **extras,
    )


def _is_configuration(data: Any) -> bool:
    return isinstance(data, str | os.PathLike) and os.fspath(data).endswith((".yaml", ".yml"))


def resume(
    folder: str | os.PathLike[str],
    model: nn.Module | None = None,
    *,
    steps: int | None = None,
    samples: int | None = None,
    minutes: float | None = None,
    callbacks: Sequence[Callback] = (),
    logger: Logger | Sequence[Logger] = (),
    strategy: Strategy | None = None,
) -> Any:
    """Continue an interrupted run from its last checkpoint, to the same weights bit for bit; or
    extend one.

    Args:
        folder: The run.
        model: The network, of a run of a network of one's own; else None.
        steps: A larger budget for the whole run, in steps; also of a run that has ended, whose
            learning rate then goes through its schedule again, warm-up first.
        samples: Likewise, in training windows.
        minutes: Likewise, in minutes of training.
        callbacks: Lightning's, as they were given to `fit`.
        logger: Likewise.
        strategy: Likewise, if it was an object; a name is in the run folder.

    Returns:
        The trained model, averaged weights, in evaluation mode.

    Raises:
        WavelitError: No run or checkpoint there, or one of another model, other data than the
            run's, another process that trains there, no network, or a budget that is spent.
    """
    given = {"steps": steps, "samples": samples, "minutes": minutes}
    budget = {name: value for name, value in given.items() if value is not None}
    if len(budget) > 1:
        raise WavelitError(f"name one budget; came {' and '.join(budget)}")
    if isinstance(strategy, str):
        raise WavelitError("the name of a strategy is in the run folder: give an object, or none")
    extras = lightning_extras(callbacks, logger, strategy)
    path = require_path("folder", folder)
    if is_joint(path):
        if model is not None:
            raise WavelitError(f"{path} is a joint run, which its folder holds: leave model out")
        return alone(resume_joint(path, Added(**extras), budget or None))
    return resume_run(
        path,
        [*extras.pop("callbacks"), RolloutPictures()],
        model=model,
        budget=budget or None,
        **extras,
    )


def evaluate(
    emulator: Emulator | str | os.PathLike[str] | None = None,
    data: WellDataModule | str | os.PathLike[str] | None = None,
    split: str = "valid",
    *,
    model: nn.Module | Any = None,
    weights: Weights = "final",
    device: str | None = None,
    starts: int | None = None,
    stencil: bool | None = None,
    field: str | Sequence[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    system: str | None = None,
) -> Evaluation:
    """Scores on a split, one step ahead and in rollouts, with persistence beside them.

    Of a run folder this is `wavelit evaluate`: scores and report are written into it. A linear
    stencil stands beside persistence, and printed scores say in a sentence how the model does.

    >>> scores = wavelit.evaluate("runs/waves")
    >>> scores = wavelit.evaluate(wavelit.load("runs/waves"), "datasets/waves")
    >>> sorted(scores.scores)
    ['model', 'persistence']

    Args:
        emulator: A run folder, a model that comes with the package or that `save_pretrained` wrote,
            or any emulator: a network, or a function of (fields, constants, scalars) that returns
            the next state in physical units.
        data: A dataset folder or data module; of a run, its own if absent.
        split: "valid" or "test".
        model: The network, of a run of a network of one's own; without a run the same as
            `emulator`.
        weights: Of a run, the final averaged weights or those of the best validation.
        device: Where to run. If absent a GPU if there is one, for a run; a network is run where it
            is, a function on the CPU. A network that is elsewhere stays there; its copy is moved.
        starts: Rollouts of each record, evenly spaced; if absent one, or several where the split is
            cut in time from longer records.
        stencil: Whether a linear stencil stands beside an emulator; beside a run it always does.
        field: Of a run, the fields whose pictures are in the report; the first if absent.
        out: Of a run, where scores and report go; the run folder if absent.
        system: Of a joint run or model of several systems, which one.

    Raises:
        WavelitError: An emulator without data, a run without weights, or data that do not fit.
    """
    if emulator is None:
        emulator, model = model, None
    if isinstance(emulator, str | os.PathLike) and holds_model(emulator):
        emulator = load(emulator)
    if isinstance(emulator, str | os.PathLike):
        if stencil is False:
            raise WavelitError("stencil: a run is scored beside one; leave it out")
        return evaluate_run(
            emulator,
            split,
            weights,
            data if data is None or isinstance(data, WellDataModule) else address(data, "data"),
            device,
            field=field,
            starts=starts,
            out=out,
            model=model,
            system=system,
        )[0]
    if field is not None or out is not None or weights != "final":
        raise WavelitError("field, out and weights are for run folders: an emulator has no report")
    if model is not None:
        raise WavelitError("two emulators are given: model= is for the network of a run folder")
    if data is None:
        raise WavelitError("an emulator is scored on data: name a dataset folder, data= (--data)")
    scored = _of_system(emulator, system)
    signature = scored.signature if isinstance(scored, IncrementEmulator) else None
    if not isinstance(data, WellDataModule):
        path = address(data, "data")
        if signature is None:
            data = WellDataModule(path, n_steps_input=history_of(scored) or 4)
        else:
            data = read_as(signature, path)
    if signature is not None:
        require_names(signature, data)
        judged = data.dataset(require_name("split", split, ("train", "valid", "test")))
        require_seen(scored, data, judged)
        warn_of_spacing(signature, judged)
    if isinstance(scored, nn.Module):
        home = next((str(each.device) for each in scored.parameters()), "cpu")
        device = home if device is None else require_device(device)
        if torch.device(device) != torch.device(home):
            scored = copy.deepcopy(scored).to(device)
    return score(scored, data, split, device=device or "cpu", starts=starts, stencil=bool(stencil))


def export(
    emulator: IncrementEmulator | str | os.PathLike[str],
    path: str | os.PathLike[str],
    resolution: Sequence[int] | None = None,
    *,
    weights: Weights = "final",
    system: str | None = None,
) -> Exported:
    """Write one step of a trained model as a file that needs no wavelit (`wavelit.model.export`).

    >>> wavelit.export("shear_flow", "shear_flow.pt2", (64, 128)).difference
    0.0

    Args:
        emulator: A trained model, or what `load` takes.
        path: The file, .pt2 for PyTorch or .onnx for others.
        resolution: Points along each axis; of a run that of its data if absent.
        weights: Of a run, the final averaged weights or those of the best validation.
        system: Of a joint model of several systems, which one.

    Raises:
        WavelitError: As for `load` and `wavelit.model.export.export_model`, or no resolution where
            it is not known.
    """
    model: Any = emulator
    if isinstance(emulator, str | os.PathLike):
        model = load(emulator, weights)
    elif weights != "final":
        raise WavelitError(f"{weights} weights are those of a run folder, not of a model")
    model = _of_system(model, system)
    require_instance(
        "emulator", model, IncrementEmulator, "name a run folder or give a trained model"
    )
    if resolution is None and isinstance(emulator, str | os.PathLike):
        folder = Path(os.path.expanduser(emulator))
        if (folder / "fields.json").exists():
            resolution = trained_on(folder, system).get("resolution")
    if resolution is None:
        raise WavelitError(
            "the points along each axis are not known: give them, resolution= (--resolution)"
        )
    return export_model(model, path, resolution)


def _of_system(model: Any, system: str | None) -> Any:
    """An emulator; of a joint model that of the system.

    Raises:
        WavelitError: None is named, or it is not of the model.
    """
    if isinstance(model, JointWaveLiT):
        if system is None:
            raise WavelitError(
                f"a joint model of {listed(list(model))}: name one, system= (--system)"
            )
        return model[system]
    if system not in (None, model.name if isinstance(model, SystemEmulator) else None):
        its = f"{model.name} alone" if isinstance(model, SystemEmulator) else "no joint one"
        raise WavelitError(f"system {shown(system)}: the model is {its}: leave system out")
    return model
