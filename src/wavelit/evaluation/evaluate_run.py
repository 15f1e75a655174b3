"""A run folder's judgement: scores on a split, a report, and rollouts as files. The run folder is
all it needs.

evaluation-<split>.json   scores of the model and of persistence, with their definitions
report-<split>.html       tables, learning curve, rollouts to play beside the truth; self-contained
rollout-<split>-<n>.*     trajectory n: The Well's HDF5, PNG, GIF, and MP4 where ffmpeg is;
                          -best at its end for the best checkpoint
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from wavelit.checks.arguments import (
    require_instance,
    require_name,
    require_path,
    require_whole,
)
from wavelit.data.datamodule import WellDataModule
from wavelit.data.format.folder import open_file
from wavelit.data.format.hdf5 import reading
from wavelit.data.pocketwell import SYSTEMS, generate_one
from wavelit.data.well import WellDataset
from wavelit.data.writing.write import rounds_off
from wavelit.errors import printable
from wavelit.evaluation.evaluate import Evaluation, evaluate
from wavelit.evaluation.figures import rollout_figure, save
from wavelit.evaluation.films import animation
from wavelit.evaluation.opened_run import (
    chosen_device,
    open_run,
    roll_out_one,
    several,
    to_play,
)
from wavelit.evaluation.pictures import channel_of
from wavelit.evaluation.report import write_report
from wavelit.evaluation.rollout import write_rollout
from wavelit.files.plain import read_json
from wavelit.model.pretrained import PREFIX
from wavelit.model.wavelit import WaveLiT
from wavelit.training.run_folder import Weights, load_settings

__all__ = ["evaluate_run", "record_pretrained_rollout", "record_rollout"]


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
    folder, device = require_path("folder", folder), chosen_device(device)
    require_name("split", split, ("valid", "test"))
    require_name("weights", weights, get_args(Weights))
    if data is not None:
        require_path("data", data)
    model, module, trajectories = open_run(folder, weights, data, split)
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
    trajectory, prediction, truth = roll_out_one(model, trajectories, 0, device)
    rollouts = [to_play(0, trajectory, truth, {name: prediction})]
    for number in range(1, several(trajectories, prediction)):
        batch, further, its_truth = roll_out_one(model, trajectories, number, device)
        rollouts.append(to_play(number, batch, its_truth, {name: further}))
    kept = [
        field
        for field, is_kept in zip(module.field_names, model.kept.tolist(), strict=True)
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
        rollouts=rollouts,
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
    folder, device = require_path("folder", folder), chosen_device(device)
    require_name("split", split, ("train", "valid", "test"))
    require_name("weights", weights, get_args(Weights))
    require_whole("trajectory", trajectory, 0)
    model, module, trajectories = open_run(folder, weights, None, split)
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
    model, device = WaveLiT.from_pretrained(f"{PREFIX}{system}"), chosen_device(device)
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
    batch, prediction, truth = roll_out_one(model.to(device), dataset, trajectory, device)
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


def _file_name(text: str) -> str:
    """A folder's name as part of a file's, at most 80 characters."""
    return re.sub(r'[\\/:*?"<>|]', "_", printable(text, 80))
