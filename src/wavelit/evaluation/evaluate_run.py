"""A run folder's judgement: scores on a split, a report, and rollouts as files. The run folder is
all it needs; what is written goes into it, or into another folder.

evaluation-<split>.json            scores of the model, persistence and a linear stencil
report-<split>.html                tables, learning curve, rollouts to play beside the truth
figures/<split>-0-<field>.*        the report's still picture and animation of that field
rollout-<split>-<n>.hdf5           trajectory n in The Well's format
rollout-<split>-<n>-<field>.*      PNG, GIF, and MP4 where ffmpeg is

Names of the best checkpoint's files have -best behind the trajectory, or at their end. Those of
another dataset begin with the names of its folder.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from wavelit.checks.arguments import (
    require_instance,
    require_name,
    require_path,
    require_whole,
)
from wavelit.data.batch import Batch
from wavelit.data.datamodule import WellDataModule
from wavelit.data.format.folder import address, open_file
from wavelit.data.format.hdf5 import reading
from wavelit.data.pocketwell import SYSTEMS, generate_one
from wavelit.data.well import WellDataset
from wavelit.data.writing.write import rounds_off
from wavelit.evaluation.evaluate import Evaluation, evaluate
from wavelit.evaluation.figures import (
    last_validation,
    learning_curve,
    rollout_figure,
    save,
)
from wavelit.evaluation.films import animation
from wavelit.evaluation.opened_run import (
    chosen_device,
    is_trained_on,
    open_run,
    roll_out_one,
    several,
    to_play,
)
from wavelit.evaluation.orientation import view_of
from wavelit.evaluation.pictures import fields_to_show, file_part
from wavelit.evaluation.player import Rollout
from wavelit.evaluation.report import write_report
from wavelit.evaluation.rollout import Beside, write_rollout
from wavelit.files.atomic import require_writable
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.growth import growth_facts
from wavelit.model.pretrained import PREFIX
from wavelit.model.wavelit import WaveLiT
from wavelit.training.joint_folder import chosen_system, load_joint_settings
from wavelit.training.networks import model_facts
from wavelit.training.run_folder import Weights, load_settings, read_environment

__all__ = [
    "evaluate_run",
    "name_of",
    "record_pretrained_rollout",
    "record_rollout",
    "suffix_of",
]


def evaluate_run(
    folder: str | os.PathLike[str],
    split: str = "valid",
    weights: Weights = "final",
    data: WellDataModule | str | os.PathLike[str] | None = None,
    device: str | None = None,
    *,
    field: str | Sequence[str] | None = None,
    starts: int | None = None,
    out: str | os.PathLike[str] | None = None,
    orientation: str | Sequence[str] | None = None,
    model: nn.Module | None = None,
    system: str | None = None,
) -> tuple[Evaluation, Path]:
    """Score a run's model on a split, with persistence and a linear stencil beside it, and write
    its JSON and report.

    Args:
        folder: The run.
        split: valid or test.
        weights: The final averaged weights, or those of the best validation.
        data: Another dataset folder with the same fields, or a data module; the run's own if
            absent.
        device: Where to run; a GPU if there is one.
        field: The field of the still pictures and the animation, or several; the first if absent.
        starts: Rollouts of each record (`wavelit.evaluation.starts`); one, or several where the
            split is cut in time, if absent.
        out: Where the files go; the run folder if absent.
        orientation: The axes that run to the right and upwards (`wavelit.evaluation.orientation`).
        model: The network, of a run of a network of one's own.
        system: Of a joint run of several systems, which one; of any other None.

    Returns:
        The scores, and the path of the report.

    Raises:
        WavelitError: No run or weights there; a file of the run that is none; a dataset of other
            fields; no field or axis of that name.
    """
    folder, device = require_path("folder", folder), chosen_device(device)
    require_name("split", split, ("valid", "test"))
    require_name("weights", weights, get_args(Weights))
    if data is not None and not isinstance(data, WellDataModule):
        data = address(data, "data")
    target = folder if out is None else require_path("out", out)
    # The only system of a run needs no name, neither here nor in the names of the files.
    of = chosen_system(folder, system)
    emulator, module, trajectories = open_run(folder, weights, data, split, model, of)
    require_writable(target)
    fields = fields_to_show(module.field_names, field)
    view = view_of(trajectories.layouts[0].axes, orientation)
    name = name_of(emulator, weights)
    played = _Played(name, trajectories)
    own = is_trained_on(folder, module, of)
    if data is None and not own:
        warnings.warn(
            f"{module.path} holds other data than {folder} was trained on: the error on training "
            "windows is left out",
            stacklevel=2,
        )
    curve = learning_curve(folder)
    evaluation = evaluate(
        emulator.to(device),
        module,
        split,
        model=name,
        device=device,
        starts=starts,
        stencil=True,
        trained_on=own,
        watch=played.keep,
    )
    if own and curve is not None:
        evaluation = replace(evaluation, last_validation=last_validation(curve, of))
    # Scores of other weights or data stand beside one another.
    elsewhere = None if data is None else (data if isinstance(data, str) else data.path)
    suffix = suffix_of(split, weights, elsewhere, system)
    evaluation.save(target / f"evaluation-{suffix}.json")
    kept = [
        field_name
        for field_name, is_kept in zip(module.field_names, emulator.kept.tolist(), strict=True)
        if is_kept
    ]
    first = played.rollouts[0]
    report = write_report(
        target / f"report-{suffix}.html",
        evaluation,
        truth=first.truth,
        prediction=first.predictions[name],
        run_info={
            **(read_environment(folder) or {}),
            "fields whose mean is kept": ", ".join(kept) or "none",
            **growth_facts(emulator),
            "model": model_facts(emulator),
            "configuration": (load_settings if of is None else load_joint_settings)(folder),
        },
        metrics_csv=curve,
        fields=fields,
        valid=first.valid,
        rollouts=played.rollouts,
        pictures=f"{suffix}-0",
        view=view,
        units=trajectories.field_units,
    )
    return evaluation, report


def name_of(model: IncrementEmulator, weights: Weights) -> str:
    """What a run's model is called in tables."""
    best = ", best checkpoint" if weights == "best" else ""
    return f"{model.title} {model.n_parameters / 1e6:.2f}M{best}"


def suffix_of(
    split: str, weights: Weights, elsewhere: str | None = None, system: str | None = None
) -> str:
    """What tells the files of a judgement from those of others: the system, other data, the split,
    other weights.
    """
    parts = [] if system is None else [file_part(system)]
    if elsewhere is not None:
        parts += [file_part(part) for part in Path(os.path.abspath(elsewhere)).parts[-2:]]
    return "-".join([*parts, split, *(["best"] if weights == "best" else [])])


class _Played:
    """Keeps the model's first rollouts while they are scored, for the report to play."""

    def __init__(self, model: str, dataset: WellDataset) -> None:
        self.model, self.dataset = model, dataset
        self.rollouts: list[Rollout] = []

    def keep(self, name: str, batch: Batch, prediction: Tensor, truth: Tensor) -> None:
        number = len(self.rollouts)
        if name == self.model and (not number or number < several(self.dataset, prediction[:1])):
            self.rollouts.append(to_play(number, batch, truth.cpu(), {name: prediction.cpu()}))


def record_rollout(
    folder: str | os.PathLike[str],
    split: str = "valid",
    trajectory: int = 0,
    field: str | Sequence[str] | None = None,
    weights: Weights = "final",
    device: str | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    orientation: str | Sequence[str] | None = None,
    model: nn.Module | None = None,
    system: str | None = None,
    data: str | None = None,
) -> list[Path]:
    """Roll out one trajectory of a split and write it as HDF5, PNG, GIF and, where ffmpeg is, MP4.

    Args:
        folder: The run.
        split: train, valid or test.
        trajectory: Its number in the split.
        field: The field to draw, or several, each into files of its own; the first if absent.
        weights: The final averaged weights, or those of the best validation.
        device: Where to run; a GPU if there is one.
        out: Where the files go; the run folder if absent.
        orientation: The axes that run to the right and upwards (`wavelit.evaluation.orientation`).
        model: The network, of a run of a network of one's own.
        system: Of a joint run of several systems, which one; of any other None.
        data: Another dataset folder with the same fields; the run's own if absent.

    Returns:
        The files written. Where the prediction stops being finite a warning names the step, and the
        HDF5 ends before it.

    Raises:
        WavelitError: No run, weights, trajectory or field of that name.
    """
    folder, device = require_path("folder", folder), chosen_device(device)
    require_name("split", split, ("train", "valid", "test"))
    require_name("weights", weights, get_args(Weights))
    require_whole("trajectory", trajectory, 0)
    target = folder if out is None else require_path("out", out)
    emulator, module, trajectories = open_run(folder, weights, data, split, model, system)
    require_writable(target)
    suffix = suffix_of(f"{split}-{trajectory}", weights, data, system=system)
    stem = target / f"rollout-{suffix}"
    return _record(emulator, module, trajectories, trajectory, stem, field, device, orientation)


def record_pretrained_rollout(
    system: str,
    folder: str | os.PathLike[str],
    field: str | Sequence[str] | None = None,
    device: str | None = None,
) -> list[Path]:
    """Compute one trajectory of the system's validation split and roll out the model that comes
    with the package beside it.

    Args:
        system: One of `wavelit.model.pretrained.pretrained`, with or without pocketwell/.
        folder: Where the files go, and the trajectory, in <folder>/<system>, if it is not there
            yet.
        field: The field to draw, or several; the first if absent.
        device: Where to run; a GPU if there is one.

    Returns:
        The files written.

    Raises:
        WavelitError: No such model or field.
    """
    require_instance("system", system, str, "name one of PocketWell's")
    folder, system = require_path("folder", folder), system.removeprefix(PREFIX)
    model, device = WaveLiT.from_pretrained(f"{PREFIX}{system}"), chosen_device(device)
    path = folder / system
    if not any(path.glob("data/train/*.hdf5")):
        generate_one(system, path)
    module = WellDataModule(os.fspath(path), mask_field=SYSTEMS[system].mask_field)
    trajectories = module.rollout_dataset("valid")
    return _record(model, module, trajectories, 0, path / "rollout-valid-0", field, device)


def _record(
    model: IncrementEmulator,
    module: WellDataModule,
    dataset: WellDataset,
    trajectory: int,
    stem: Path,
    field: str | Sequence[str] | None,
    device: str,
    orientation: str | Sequence[str] | None = None,
) -> list[Path]:
    names = module.field_names
    fields = fields_to_show(names, field)
    view = view_of(dataset.layouts[0].axes, orientation)
    batch, prediction, truth = roll_out_one(model.to(device), dataset, trajectory, device)
    valid = None if batch.valid is None else batch.valid[0, 0]
    paths = []
    for name in fields:
        own = stem.with_name(f"{stem.name}-{file_part(name)}")
        still = rollout_figure(
            truth[0],
            prediction[0],
            names,
            field=name,
            valid=valid,
            view=view,
            units=dataset.field_units,
        )
        film = animation(
            own.with_name(f"{own.name}.gif"),
            truth[0],
            prediction[0],
            names,
            fields=[name],
            valid=valid,
            view=view,
            units=dataset.field_units,
        )
        paths += [save(still, own.with_name(f"{own.name}.png")), film.gif]
        paths += [] if film.mp4 is None else [film.mp4]
    finite = prediction.isfinite().flatten(2).all(2)[0].long().cumprod(0).sum().item()
    if finite < prediction.shape[1]:
        warnings.warn(
            f"the prediction stops being finite at step {finite + 1} of {prediction.shape[1]}",
            stacklevel=3,
        )
    file = stem.with_name(f"{stem.name}.hdf5")
    if finite == 0:
        # An earlier model's must not pass for this one's.
        file.unlink(missing_ok=True)
        return paths
    time, coordinates = _places(dataset, trajectory)
    first = module.n_steps_input
    write_rollout(
        file,
        prediction[:, :finite],
        truth[:, :finite],
        dataset=module.metadata.dataset_name,
        field_names=module.metadata.field_names,
        boundary_conditions=module.boundary_conditions,
        axes=module.train_dataset.layouts[0].axes,
        time=None if time is None else time[first : first + finite],
        coordinates=coordinates,
        beside=_beside(module, dataset, batch, slice(first, first + finite)),
    )
    return [file, *paths]


def _beside(module: WellDataModule, dataset: WellDataset, batch: Batch, frames: slice) -> Beside:
    """Constant fields, parameters, forcings at some frames, units and mask of a trajectory, as its
    files have them.
    """
    names = {
        order: [str(name) for name in each]
        for order, each in module.metadata.constant_field_names.items()
    }
    constants = batch.constants
    if constants is not None:
        # What is seen by its logarithm is written as it is.
        logs = {f"log {name}": name for name in module.log_constants or ()}
        channels = [name for each in names.values() for name in each]
        constants = constants.clone()
        for place, name in enumerate(channels):
            if name in logs:
                constants[:, place] = constants[:, place].exp()
        names = {order: [logs.get(name, name) for name in each] for order, each in names.items()}
    scalars = (
        {}
        if batch.scalars is None
        else dict(
            zip(module.metadata.constant_scalar_names, batch.scalars[0].tolist(), strict=True)
        )
    )
    mask = dataset.mask
    series = batch.scalar_forcings
    return Beside(
        constants,
        names,
        scalars,
        None if batch.forcings is None else batch.forcings[:, frames],
        {} if dataset.forced is None else dataset.forced.metadata.field_names,
        {}
        if series is None
        else {
            name: series[:, frames, place].numpy()
            for place, name in enumerate(dataset.forcing_scalars)
        },
        dataset.layouts[0].units,
        None if mask is None else mask.field,
        1.0 if mask is None else mask.excludes,
    )


def _places(
    dataset: WellDataset, trajectory: int
) -> tuple[NDArray[np.float64] | None, dict[str, NDArray[np.float64]] | None]:
    """Times of a trajectory's frames and positions along the axes, as its file has them; None
    where they do not increase in the float32 that they are written as.
    """
    number, row, start = dataset.locate(trajectory)
    layout = dataset.layouts[number]
    with (
        open_file(dataset.fs, layout.path) as file,
        reading(layout.path, "its times and positions"),
    ):
        lines = [
            np.asarray(file["dimensions"][name][()], np.float64) for name in ("time", *layout.axes)
        ]
    lines = [line[row] if line.ndim == 2 else line for line in lines]
    lines[0] = lines[0][start:]
    with np.errstate(over="ignore", invalid="ignore"):
        steps = [np.diff(line.astype(np.float32)) for line in lines]
    times, *positions = (
        line if ((step > 0) & np.isfinite(step)).all() else None
        for line, step in zip(lines, steps, strict=True)
    )
    time = None if times is None or rounds_off(times) else times
    known = {
        axis: line for axis, line in zip(layout.axes, positions, strict=True) if line is not None
    }
    return time, known if len(known) == len(positions) else None
