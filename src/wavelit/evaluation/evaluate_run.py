"""A run folder's judgement: scores on a split, a report, and rollouts as files. The run folder is
all it needs.

evaluation-<split>.json   scores of the model and of persistence, with their definitions
report-<split>.html       tables, learning curve, one rollout beside the truth; self-contained
rollout-<split>-<n>.*     trajectory n: The Well's HDF5, PNG, GIF, and MP4 where ffmpeg is;
                          -best at its end for the best checkpoint
"""

from __future__ import annotations

import math
import os
import re
import warnings
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavelit.checks.arguments import (
    listed,
    require_device,
    require_instance,
    require_name,
    require_path,
    require_whole,
    shown,
)
from wavelit.data.batch import Batch
from wavelit.data.datamodule import WellDataModule
from wavelit.data.format.folder import open_file
from wavelit.data.format.hdf5 import reading
from wavelit.data.pocketwell import SYSTEMS, generate_one
from wavelit.data.well import WellDataset
from wavelit.data.writing.write import rounds_off
from wavelit.errors import WavelitError, printable
from wavelit.evaluation.evaluate import Evaluation, evaluate, predict
from wavelit.evaluation.figures import animation, rollout_figure, save
from wavelit.evaluation.pictures import channel_of
from wavelit.evaluation.report import write_report
from wavelit.evaluation.rollout import write_rollout
from wavelit.model.pretrained import PREFIX, read_json
from wavelit.model.wavelit import WaveLiT
from wavelit.training.run_folder import fields_of, load_data, load_model, load_settings

__all__ = ["evaluate_run", "record_pretrained_rollout", "record_rollout"]

Weights = Literal["final", "best"]


def evaluate_run(
    folder: str | os.PathLike[str],
    split: str = "valid",
    weights: Weights = "final",
    data: str | None = None,
    device: str | None = None,
) -> tuple[Evaluation, Path]:
    """Score a run's model on a split and write its JSON and report into the run folder.

    Args:
        folder: The run.
        split: valid or test.
        weights: The final averaged weights, or those of the best validation.
        data: Another dataset folder with the same fields; the run's own if absent.
        device: Where to run; a GPU if there is one.

    Returns:
        The scores, and the path of the report.

    Raises:
        WavelitError: No run or weights there; a file of the run that is none; a dataset of other
            fields.
    """
    folder, device = require_path("folder", folder), _device(device)
    require_name("split", split, ("valid", "test"))
    require_name("weights", weights, get_args(Weights))
    if data is not None:
        require_path("data", data)
    model, module, trajectories = _open(folder, weights, data, split)
    name = f"WaveLiT {model.n_parameters / 1e6:.2f}M" + (
        ", best checkpoint" if weights == "best" else ""
    )
    evaluation = evaluate(model.to(device), module, split, model=name, device=device)
    # Scores of other weights or data stand beside one another.
    parts = (
        []
        if data is None
        else [_file_name(part) for part in Path(os.path.abspath(data)).parts[-2:]]
    )
    suffix = "-".join([*parts, split, *(["best"] if weights == "best" else [])])
    evaluation.save(folder / f"evaluation-{suffix}.json")
    trajectory, prediction, truth = _roll_out(model, trajectories, 0, device)
    kept = [
        name
        for name, is_kept in zip(module.field_names, model.kept.tolist(), strict=True)
        if is_kept
    ]
    report = write_report(
        folder / f"report-{suffix}.html",
        evaluation,
        truth=truth[0],
        prediction=prediction[0],
        run_info={
            **read_json(folder / "environment.json"),
            "fields whose mean is kept": ", ".join(kept) or "none",
            "configuration": load_settings(folder),
        },
        metrics_csv=folder / "logs" / "metrics.csv",
        valid=None if trajectory.valid is None else trajectory.valid[0, 0],
    )
    return evaluation, report


def record_rollout(
    folder: str | os.PathLike[str],
    split: str = "valid",
    trajectory: int = 0,
    field: str | None = None,
    weights: Weights = "final",
    device: str | None = None,
) -> list[Path]:
    """Roll out one trajectory of a split and write it as HDF5, PNG, GIF and, where ffmpeg is, MP4.

    Args:
        folder: The run.
        split: train, valid or test.
        trajectory: Its number in the split.
        field: The field to draw; the first if absent.
        weights: The final averaged weights, or those of the best validation.
        device: Where to run; a GPU if there is one.

    Returns:
        The files written. Where the prediction stops being finite a warning names the step, and the
        HDF5 ends before it.

    Raises:
        WavelitError: No run, weights, trajectory or field of that name.
    """
    folder, device = require_path("folder", folder), _device(device)
    require_name("split", split, ("train", "valid", "test"))
    require_name("weights", weights, get_args(Weights))
    require_whole("trajectory", trajectory, 0)
    model, module, trajectories = _open(folder, weights, None, split)
    stem = folder / f"rollout-{split}-{trajectory}{'-best' if weights == 'best' else ''}"
    return _record(model, module, trajectories, trajectory, stem, field, device)


def record_pretrained_rollout(
    system: str, folder: str | os.PathLike[str], field: str | None = None, device: str | None = None
) -> list[Path]:
    """Compute one trajectory of the system's validation split and roll out the model that comes
    with the package beside it.

    Args:
        system: One of `wavelit.model.pretrained.pretrained`, with or without pocketwell/.
        folder: Where the files go, and the trajectory, in <folder>/<system>, if it is not there
            yet.
        field: The field to draw; the first if absent.
        device: Where to run; a GPU if there is one.

    Returns:
        The files written.

    Raises:
        WavelitError: No such model or field.
    """
    require_instance("system", system, str, "name one of PocketWell's")
    folder, system = require_path("folder", folder), system.removeprefix(PREFIX)
    model, device = WaveLiT.from_pretrained(f"{PREFIX}{system}"), _device(device)
    path = folder / system
    if not any(path.glob("data/train/*.hdf5")):
        generate_one(system, path)
    module = WellDataModule(os.fspath(path), mask_field=SYSTEMS[system].mask_field)
    trajectories = module.rollout_dataset("valid")
    return _record(model, module, trajectories, 0, path / "rollout-valid-0", field, device)


def _record(
    model: WaveLiT,
    module: WellDataModule,
    dataset: WellDataset,
    trajectory: int,
    stem: Path,
    field: str | None,
    device: str,
) -> list[Path]:
    names = module.field_names
    shown_field = names[channel_of(names, field)]
    batch, prediction, truth = _roll_out(model.to(device), dataset, trajectory, device)
    valid = None if batch.valid is None else batch.valid[0, 0]
    still = rollout_figure(truth[0], prediction[0], names, field=shown_field, valid=valid)
    film = animation(
        stem.with_suffix(".gif"), truth[0], prediction[0], names, fields=[shown_field], valid=valid
    )
    paths = [
        save(still, stem.with_suffix(".png")),
        film.gif,
        *([] if film.mp4 is None else [film.mp4]),
    ]
    finite = prediction.isfinite().flatten(2).all(2)[0].long().cumprod(0).sum().item()
    if finite < prediction.shape[1]:
        warnings.warn(
            f"the prediction stops being finite at step {finite + 1} of {prediction.shape[1]}",
            stacklevel=3,
        )
    file = stem.with_suffix(".hdf5")
    if finite == 0:
        # An earlier model's must not pass for this one's.
        file.unlink(missing_ok=True)
        return paths
    time, coordinates = _places(dataset, trajectory)
    write_rollout(
        file,
        prediction[:, :finite],
        truth[:, :finite],
        dataset=module.metadata.dataset_name,
        field_names=module.metadata.field_names,
        boundary_conditions=module.boundary_conditions,
        axes=module.train_dataset.layouts[0].axes,
        time=None if time is None else time[module.n_steps_input :][:finite],
        coordinates=coordinates,
    )
    return [file, *paths]


def _places(
    dataset: WellDataset, trajectory: int
) -> tuple[NDArray[np.float64] | None, dict[str, NDArray[np.float64]] | None]:
    """Times of a trajectory's frames and positions along the axes, as its file has them; None
    where they do not increase.
    """
    number, row, _ = dataset.locate(trajectory)
    layout = dataset.layouts[number]
    with (
        open_file(dataset.fs, layout.path) as file,
        reading(layout.path, "its times and positions"),
    ):
        lines = [
            np.asarray(file["dimensions"][name][()], np.float64) for name in ("time", *layout.axes)
        ]
    lines = [line[row] if line.ndim == 2 else line for line in lines]
    times, *positions = (line if (np.diff(line) > 0).all() else None for line in lines)
    time = None if times is None or rounds_off(times) else times
    known = {
        axis: line for axis, line in zip(layout.axes, positions, strict=True) if line is not None
    }
    return time, known if len(known) == len(positions) else None


def _device(device: str | None) -> str:
    return require_device(
        ("cuda" if torch.cuda.is_available() else "cpu") if device is None else device
    )


def _file_name(text: str) -> str:
    """A folder's name as part of a file's, at most 80 characters."""
    return re.sub(r'[\\/:*?"<>|]', "_", printable(text, 80))


def _trained_on(folder: Path) -> dict[str, Any]:
    """What a run was trained on, with all its entries checked but "resolution", which older runs
    lack as they do "time steps".

    Raises:
        WavelitError: fields.json has no such entry, or another's kind of value.
    """
    path = folder / "fields.json"
    facts = read_json(path)
    kinds: dict[str, tuple[str, bool, type]] = {
        "fields": ("names", True, str),
        "constant fields": ("names", True, str),
        "scalars": ("names", True, str),
        "time steps": ("two numbers", False, float),
        "resolution": ("whole numbers", False, int),
    }
    for name, (what, is_due, kind) in kinds.items():
        if name not in facts and not is_due:
            continue
        value = facts.get(name)
        allowed = (int, float) if kind is float else (kind,)
        fits = isinstance(value, list) and all(
            isinstance(each, allowed) and not isinstance(each, bool) for each in value
        )
        if not fits or (name == "time steps" and len(value or ()) != 2):
            raise WavelitError(
                f"{printable(path)}: expected {name!r}, a list of {what}, got {shown(value)}: put "
                "the run's own file back, or train it anew"
            )
    return facts


def _open(
    folder: Path, weights: Weights, data: str | None, split: str
) -> tuple[WaveLiT, WellDataModule, WellDataset]:
    """The model, its data and the trajectories of the split, which the model can be judged on.

    Raises:
        WavelitError: they are of other fields or boundaries, or have a scalar without the logarithm
            that the model sees.
    """
    model, module = load_model(folder, weights), load_data(folder)
    if data is not None:
        module = WellDataModule(**{**load_settings(folder)["data"], "path": os.fspath(data)})
    trained_on, path = _trained_on(folder), printable(module.path)
    for kind, names in fields_of(module).items():
        if names != trained_on[kind]:
            raise WavelitError(
                f"{path} has the {kind} {listed(names, 60)}; the run was trained on "
                f"{listed(trained_on[kind], 60)}: name a dataset with the same"
            )
    trajectories = module.rollout_dataset(split)
    layouts = trajectories.layouts
    grid = list(module.metadata.spatial_resolution)
    if (trained_grid := trained_on.get("resolution", grid)) != grid:
        has, had = (" x ".join(map(str, each)) for each in (grid, trained_grid))
        warnings.warn(
            f"{path} has the resolution {has}; the run was trained on {had}, whose spacing its "
            "model assumes",
            stacklevel=3,
        )
    low, high = trained_on.get("time steps", (0.0, math.inf))
    if odd := [layout.dt for layout in layouts if not 0.99 * low <= layout.dt <= 1.01 * high]:
        warnings.warn(
            f"{path} has the time step {odd[0]:.4g}; the run was trained with {low:.4g} to "
            f"{high:.4g}, which its model assumes",
            stacklevel=3,
        )
    for name, log in zip(module.scalar_names, model.normalizer.scalar_log.tolist(), strict=True):
        if log and (lowest := min(float(layout.scalars[name].min()) for layout in layouts)) <= 0:
            raise WavelitError(
                f"{path} has scalar '{printable(name, 60)}' {lowest:g}, of which the run's model "
                "sees the logarithm: leave that file out"
            )
    if module.boundary_conditions != model.config.boundary_conditions:
        raise WavelitError(
            f"{path} has the boundaries {module.boundary_conditions}; the run was trained with "
            f"{model.config.boundary_conditions}: name a dataset with the same"
        )
    return model, module, trajectories


def _roll_out(
    model: WaveLiT, dataset: WellDataset, trajectory: int, device: str
) -> tuple[Batch, Tensor, Tensor]:
    """The batch of one trajectory, its prediction and its truth, both (1, steps, C, *S) on the
    CPU.
    """
    if not 0 <= trajectory < len(dataset):
        raise WavelitError(
            f"{printable(dataset.data_path)} has trajectories 0 to {len(dataset) - 1}, not "
            f"{shown(trajectory)}"
        )
    batch = dataset.collate(dataset.__getitems__([trajectory]))
    prediction, truth = predict(model, batch.to(device))
    return batch, prediction.cpu(), truth.cpu()
