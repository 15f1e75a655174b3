"""A run folder's judgement: scores on a split, a report, and rollouts as files. The run folder is all it needs.

evaluation-<split>.json   scores of the model and of persistence, with their definitions
report-<split>.html       tables, learning curve and one rollout beside the truth, in one self-contained page
rollout-<split>-<n>.*     trajectory n: The Well's HDF5, PNG, GIF, and MP4 where ffmpeg is
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from wavelit.data.pocketwell import SYSTEMS, generate_one
from wavelit.data.well import Batch, WellDataModule
from wavelit.errors import WavelitError
from wavelit.evaluate import Evaluation, evaluate, predict
from wavelit.figures import animation, rollout_figure, save
from wavelit.model import WaveLiT
from wavelit.pretrained import PREFIX
from wavelit.report import write_report
from wavelit.rollout import write_rollout
from wavelit.run import fields_of, load_data, load_model, load_settings, read_json

__all__ = ["judge", "record_pretrained_rollout", "record_rollout"]

Weights = Literal["final", "best"]


def judge(
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
        WavelitError: No run or weights there; a dataset of other fields.
    """
    folder, device = Path(folder), _device(device)
    model, module = _open(folder, weights, data)
    name = f"WaveLiT {model.n_parameters / 1e6:.2f}M" + (", best checkpoint" if weights == "best" else "")
    evaluation = evaluate(model.to(device), module, split, model=name, device=device)
    # Scores of other weights or data stand beside one another.
    parts = [] if data is None else [Path(data).absolute().parent.name, Path(data).name]
    suffix = "-".join([*parts, split, *(["best"] if weights == "best" else [])])
    evaluation.save(folder / f"evaluation-{suffix}.json")
    trajectory, prediction, truth = _roll_out(model, module, split, 0, device)
    kept = [name for name, is_kept in zip(module.field_names, model.kept.tolist(), strict=True) if is_kept]
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
        The files written.

    Raises:
        WavelitError: No run, weights, trajectory or field of that name.
    """
    folder, device = Path(folder), _device(device)
    model, module = _open(folder, weights, None)
    return _record(model, module, folder, split, trajectory, field, device)


def record_pretrained_rollout(
    system: str, folder: str | os.PathLike[str], field: str | None = None, device: str | None = None
) -> list[Path]:
    """Compute one trajectory of the system's validation split and roll out the model that comes with the package beside it.

    Args:
        system: One of `wavelit.pretrained.pretrained`, with or without pocketwell/.
        folder: Where the files go, and the trajectory, in <folder>/<system>, if it is not there yet.
        field: The field to draw; the first if absent.
        device: Where to run; a GPU if there is one.

    Returns:
        The files written.

    Raises:
        WavelitError: No such model or field.
    """
    system = system.removeprefix(PREFIX)
    model, device = WaveLiT.from_pretrained(f"{PREFIX}{system}"), _device(device)
    path = Path(folder) / system
    if not any(path.glob("data/train/*.hdf5")):
        generate_one(system, path)
    module = WellDataModule(os.fspath(path), mask_field=SYSTEMS[system].mask_field)
    return _record(model, module, path, "valid", 0, field, device)


def _record(
    model: WaveLiT,
    module: WellDataModule,
    folder: Path,
    split: str,
    trajectory: int,
    field: str | None,
    device: str,
) -> list[Path]:
    batch, prediction, truth = _roll_out(model.to(device), module, split, trajectory, device)
    stem = folder / f"rollout-{split}-{trajectory}"
    valid = None if batch.valid is None else batch.valid[0, 0]
    names = module.field_names
    still = rollout_figure(truth[0], prediction[0], names, field=field, valid=valid)
    film = animation(
        stem.with_suffix(".gif"), truth[0], prediction[0], names, fields=[field or names[0]], valid=valid
    )
    paths = [
        write_rollout(
            stem.with_suffix(".hdf5"),
            prediction,
            truth,
            dataset=module.metadata.dataset_name,
            field_names=module.metadata.field_names,
            boundary_conditions=module.boundary_conditions,
            axes=module.train_dataset.layouts[0].axes,
        ),
        save(still, stem.with_suffix(".png")),
        film.gif,
    ]
    return paths if film.mp4 is None else [*paths, film.mp4]


def _device(device: str | None) -> str:
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise WavelitError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return name


def _open(folder: Path, weights: Weights, data: str | None) -> tuple[WaveLiT, WellDataModule]:
    model, module = load_model(folder, weights), load_data(folder)
    if data is not None:
        module = WellDataModule(**{**load_settings(folder)["data"], "path": os.fspath(data)})
    trained_on = read_json(folder / "fields.json")
    for kind, names in fields_of(module).items():
        if names != trained_on[kind]:
            raise WavelitError(
                f"{module.path} has the {kind} {', '.join(names) or 'none'}; the run was trained on "
                f"{', '.join(trained_on[kind]) or 'none'}"
            )
    if module.boundary_conditions != model.config.boundary_conditions:
        raise WavelitError(
            f"{module.path} has the boundaries {module.boundary_conditions}; the run was trained with "
            f"{model.config.boundary_conditions}"
        )
    return model, module


def _roll_out(
    model: WaveLiT, module: WellDataModule, split: str, trajectory: int, device: str
) -> tuple[Batch, Tensor, Tensor]:
    """The batch of one trajectory, its prediction and its truth, both (1, steps, C, *S) on the CPU."""
    dataset: Any = module.rollout_dataset(split)
    if not 0 <= trajectory < len(dataset):
        raise WavelitError(f"the split {split} has trajectories 0 to {len(dataset) - 1}, not {trajectory}")
    batch = dataset.collate(dataset.__getitems__([trajectory]))
    prediction, truth = predict(model, batch.to(device))
    return batch, prediction.cpu(), truth.cpu()
