"""One-step and rollout tables of an emulator, with persistence beside it.

Every score is a VRMSE per trajectory, step and field (see `wavelit.metrics`); two protocols average
it differently:

    The Well   mean over trajectories, steps and fields at once; steps 6:12 and 13:30
    Walrus     mean over fields, median over trajectories at each step, mean over steps;
               steps 1:20 and 21:60

Steps count from 1, both ends included. Both averages are given on all four windows at the
emulator's own history. A window that the record cuts short is named by its real end (21:56); one
that begins beyond the record is left out. A prediction that is not finite scores infinity, and its
trajectory counts as diverged. Nothing is clipped.

References: Ohana et al., The Well (2024), arXiv 2412.00568; McCabe et al., Walrus (2025), arXiv
2511.15684, whose order of averaging is not stated there and is taken as above.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from rich.table import Table
from rich.text import Text
from torch import Tensor

from wavelit.checks.arguments import (
    require_device,
    require_instance,
    require_name,
    require_whole,
    shown,
)
from wavelit.data.batch import Batch
from wavelit.data.datamodule import WellDataModule
from wavelit.data.well import WellDataset
from wavelit.errors import WavelitError, printable
from wavelit.evaluation.rollout import (
    Emulator,
    inference,
    persistence,
    require_emulator,
    require_state,
    rollout,
    rotation,
)
from wavelit.evaluation.scores import (
    STENCIL,
    WINDOWS,
    Array,
    Evaluation,
    Row,
    Scores,
    Window,
    average,
    definitions,
    format_score,
)
from wavelit.evaluation.starts import Starts, starts_of
from wavelit.evaluation.stencil import fit_stencil, training_windows
from wavelit.metrics import vrmse
from wavelit.model.rollout import step_by_step, with_forcings

__all__ = [
    "WINDOWS",
    "Evaluation",
    "Row",
    "Scores",
    "Watch",
    "Window",
    "average",
    "definitions",
    "evaluate",
    "format_score",
    "format_table",
    "one_step",
    "predict",
    "roll_out",
]

HELMHOLTZ = "helmholtz_staircase"

Watch: TypeAlias = Callable[[str, Batch, Tensor, Tensor], None]
"""watch(emulator's name, batch, prediction, truth), both (B, steps, C, *S)."""


def one_step(
    emulators: Mapping[str, Emulator], batches: Iterable[Batch], device: str | torch.device = "cpu"
) -> dict[str, Array]:
    """VRMSE of the first target step of every window, (windows, C) for each emulator; the data are
    read once.

    Args:
        emulators: by name.
        batches: every window of a split once.
        device: where the emulators live.

    Raises:
        WavelitError: there is no window, or an emulator does not return the next state.
    """
    _require_emulators(emulators)
    device = require_device(device)
    errors: dict[str, list[Array]] = {name: [] for name in emulators}
    for batch in batches:
        require_instance("batches", batch, Batch, "give what `WellDataModule.windows` gives")
        batch = batch.to(device)
        for name, emulator in emulators.items():
            with inference(emulator):
                following = emulator(batch.fields, *batch.beside())
            following = require_state(following, batch.fields)
            errors[name].append(
                _vrmse(following, batch.target[:, 0], batch.fields.ndim - 3, batch.valid)
            )
    return {name: _joined(found, "windows") for name, found in errors.items()}


def roll_out(
    emulators: Mapping[str, Emulator],
    trajectories: Iterable[Batch],
    start: int | None = None,
    device: str | torch.device = "cpu",
    starts: Starts | None = None,
    watch: Watch | None = None,
) -> dict[str, Array]:
    """VRMSE of every rollout step, (rollouts, steps, C) for each emulator; the data are read once.

    Args:
        emulators: by name.
        trajectories: batches whose fields and target together are the whole record.
        start: see `predict`.
        device: where the emulators live.
        starts: where the rollouts of a record start and how long they are, in place of `start`:
            those of a record follow one another.
        watch: is handed every emulator's name with the batch, prediction and truth of its first
            start.

    Raises:
        WavelitError: there is no trajectory, or records differ in length, or an emulator does not
            return the next state.
    """
    _require_emulators(emulators)
    device = require_device(device)
    errors: dict[str, list[Array]] = {name: [] for name in emulators}
    n_steps = starts.n_steps if starts else None
    for batch in trajectories:
        for name, emulator in emulators.items():
            each = []
            for number, first in enumerate(starts.frames if starts else (start,)):
                kept: list[Tensor] | None = [] if watch is not None and number == 0 else None
                each.append(_roll_out(emulator, batch, first, n_steps, device, kept))
                if watch is not None and kept is not None:
                    begin, end = _span(batch, first, n_steps)
                    truth = _frames(batch, begin, end)
                    watch(name, batch, torch.stack(kept, 1), truth)
            errors[name].append(np.stack(each, 1).reshape(-1, *each[0].shape[1:]))
    return {name: _joined(found, "trajectories") for name, found in errors.items()}


def _roll_out(
    emulator: Emulator,
    record: Batch,
    start: int | None,
    n_steps: int | None,
    device: str,
    kept: list[Tensor] | None,
) -> Array:
    """VRMSE (B, steps, C) of a rollout. The record stays where it is: the device holds a history
    and a frame. `kept` gets the states, beside the record.
    """
    start, end = _span(record, start, n_steps)
    history = record.fields.shape[1]
    constants, scalars, valid = (
        None if x is None else x.to(device)
        for x in (record.constants, record.scalars, record.valid)
    )
    spatial = record.fields.ndim - 3
    errors: list[Tensor] = []

    def told(n: int) -> tuple[Tensor | None, Tensor | None]:
        now = slice(start - 1 + n, start + 1 + n)
        given = (
            None if x is None else x[:, now].to(device)
            for x in (record.forcings, record.scalar_forcings)
        )
        return with_forcings(constants, next(given), 0), with_forcings(scalars, next(given), 0)

    def score(n: int, following: Tensor) -> None:
        truth = _frames(record, start + n, start + n + 1)[:, 0].to(device)
        errors.append(vrmse(following, truth, spatial, valid=valid))
        if kept is not None:
            kept.append(following.to(record.fields.device))

    past = _frames(record, start - history, start).to(device)
    step_by_step(emulator, past, end - start, told, valid, score)
    return _finite(torch.stack(errors, 1))


def _frames(record: Batch, first: int, end: int) -> Tensor:
    """Frames (B, end - first, C, *S) of a record, a view where they are all of one part."""
    n = record.fields.shape[1]
    if first >= n:
        return record.target[:, first - n : end - n]
    if end <= n:
        return record.fields[:, first:end]
    return torch.cat([record.fields[:, first:], record.target[:, : end - n]], 1)


def _span(record: Batch, start: int | None, n_steps: int | None) -> tuple[int, int]:
    """The first frame that is predicted, and the one after the last."""
    require_instance("trajectory", record, Batch, "give one of `WellDataModule.trajectories`")
    history = record.fields.shape[1]
    length = history + record.target.shape[1]
    start = history if start is None else require_whole("start", start, 0)
    least = 1 if n_steps is None else require_whole("n_steps", n_steps)
    if not history <= start <= length - least:
        states = "one state" if least == 1 else f"{least} states"
        raise WavelitError(
            f"expected a start from {history}, the history's length, to "
            f"{length - least}, which leaves {states} to predict, got {shown(start)}"
        )
    return start, length if n_steps is None else start + n_steps


def predict(
    emulator: Emulator, trajectory: Batch, start: int | None = None, n_steps: int | None = None
) -> tuple[Tensor, Tensor]:
    """Roll out to the end of the record.

    Args:
        emulator: gets as many states as `trajectory.fields` holds, on the trajectory's device.
        trajectory: a batch whose fields and target together are the whole record.
        start: true states before the first predicted one, of which the last T are the history; T
            when None. Walrus's protocol starts at 17.
        n_steps: states to predict; to the end of the record when None.

    Returns:
        Prediction and truth, both (B, steps, C, *S).

    Raises:
        WavelitError: `start` leaves no history or not as many states to predict, or the emulator
            does not return the next state.
    """
    start, end = _span(trajectory, start, n_steps)
    history = trajectory.fields.shape[1]
    prediction = rollout(
        emulator,
        _frames(trajectory, start - history, start),
        end - start,
        constants=trajectory.constants,
        scalars=trajectory.scalars,
        valid=trajectory.valid,
        forcings=_from(trajectory.forcings, start),
        scalar_forcings=_from(trajectory.scalar_forcings, start),
    )
    return prediction, _frames(trajectory, start, end)


def _from(forcings: Tensor | None, start: int) -> Tensor | None:
    """From the history's last frame on, (B, steps + 1, F, ...)."""
    return None if forcings is None else forcings[:, start - 1 :]


def evaluate(
    emulator: Emulator,
    data: WellDataModule,
    split: str = "valid",
    *,
    model: str = "model",
    start: int | None = None,
    device: str | torch.device = "cpu",
    rollout_batch_size: int = 1,
    starts: int | None = None,
    stencil: bool = False,
    trained_on: bool = True,
    watch: Watch | None = None,
) -> Evaluation:
    """Score an emulator on every window and every trajectory of a split, with persistence beside
    it.

    On helmholtz_staircase the exact rotation stands beside it too: its score measures the precision
    of the data.

    Args:
        emulator: the model, in physical units.
        data: gives `windows(split)` and `trajectories(split)` at the model's own history.
        split: "valid" or "test", or "train".
        model: the name to print.
        start: see `predict`.
        device: where the emulator lives.
        rollout_batch_size: trajectories rolled out together.
        starts: rollouts of each record, evenly spaced (`wavelit.evaluation.starts`); if absent one
            of the whole record, or several where the split is cut in time from longer records.
        stencil: whether a linear stencil that is fitted to the training split stands beside it too,
            and the model's error on training windows is measured.
        trained_on: whether the model was trained on these data; else their training windows are no
            measure of what it learned by heart.
        watch: see `roll_out`.

    Raises:
        WavelitError: the model takes the name of a companion, or the split cannot be evaluated.
    """
    require_emulator(emulator)
    require_instance("data", data, WellDataModule, "give one of the dataset's folder")
    require_name("split", split, ("train", "valid", "test"))
    require_instance("model", model, str, "give its name")
    require_whole("rollout_batch_size", rollout_batch_size)
    if start is not None:
        require_whole("start", start, 0)
    require_device(device)
    dataset, field_names = data.metadata.dataset_name, tuple(data.field_names)
    companions: dict[str, Emulator] = {"persistence": persistence}
    if dataset == HELMHOLTZ:
        companions["exact rotation"] = rotation(field_names)
    linear = fit_stencil(data) if stencil else None
    if linear is not None:
        companions[STENCIL] = linear
    if model in companions:
        raise WavelitError(
            f"expected a model name other than {', '.join(companions)}, got "
            f"{printable(model, 60)}: choose another"
        )
    emulators = {model: emulator, **companions}
    chosen = starts_of(data, split, start, starts)
    known = stencil and trained_on
    training = one_step({model: emulator}, training_windows(data), device) if known else None
    windows = data.windows(split)
    single = one_step(emulators, windows, device)
    assert isinstance(windows.dataset, WellDataset)
    judged = windows.dataset.layouts
    # Both may hold the split in memory.
    del windows
    rolled = roll_out(
        emulators, data.trajectories(split, rollout_batch_size), start, device, chosen, watch
    )
    error = None if training is None else float(training[model].mean())
    times = [layout.dt for layout in judged]
    return Evaluation(
        dataset=dataset,
        split=split,
        model=model,
        field_names=field_names,
        history=data.n_steps_input,
        start=data.n_steps_input if start is None else start,
        scores={name: Scores(single[name], rolled[name]) for name in emulators},
        starts=1 if chosen is None else len(chosen.frames),
        training_error=error if error is not None and math.isfinite(error) else None,
        held_out=data.holdout if split == "valid" else None,
        time_step=(min(times), max(times)) if min(times) > 0 else None,
        time_unit=judged[0].units.get("time", ""),
    )


def format_table(evaluation: Evaluation) -> Table:
    """The scores over all fields for a terminal: title with dataset, split and history, caption
    with the metric.
    """
    require_instance(
        "evaluation", evaluation, Evaluation, "get one from wavelit.evaluation.evaluate"
    )
    dataset, split = printable(evaluation.dataset, 80), printable(evaluation.split, 80)
    table = Table(
        # Text and no str, in which brackets would be markup.
        title=Text(f"VRMSE on {dataset} ({split}), history {evaluation.history}", "table.title"),
        caption="\n".join(f"{term}: {definitions()[term]}" for term in ("VRMSE", "mean", "median")),
        caption_justify="left",
    )
    for heading in ("steps", "average", "as in"):
        table.add_column(heading)
    # What predicts nothing stands last.
    names = sorted(evaluation.scores, key=lambda name: name == "persistence")
    for name in names:
        scores = evaluation.scores[name]
        diverged = (
            f"\n{scores.diverged} of {len(scores.rollout)} diverged" if scores.diverged else ""
        )
        table.add_column(Text(printable(name, 80) + diverged), justify="right")
    for row in evaluation.rows():
        values = (format_score(float(row.scores[name][0])) for name in names)
        table.add_row(row.steps, row.how, row.protocol, *values, end_section=row.how == "median")
    return table


def _require_emulators(emulators: Any) -> None:
    if not isinstance(emulators, Mapping) or not emulators:
        raise WavelitError(f"emulators must be given by name, at least one, not {shown(emulators)}")
    for emulator in emulators.values():
        require_emulator(emulator)


def _vrmse(prediction: Tensor, target: Tensor, spatial: int, valid: Tensor | None) -> Array:
    """VRMSE (B, C)."""
    return _finite(vrmse(prediction, target, spatial, valid=valid))


def _finite(values: Tensor) -> Array:
    """Scores (B, C) or (B, steps, C), infinite where the prediction is not finite."""
    # The reader has seen to it that targets are finite wherever a cell counts: only a prediction
    # can spoil a score.
    return np.asarray(values.where(values.isfinite(), math.inf).cpu().numpy())


def _joined(found: list[Array], what: str) -> Array:
    if not found:
        raise WavelitError(
            f"expected {what} to evaluate, got none: check the split's folder and the history's "
            "length"
        )
    lengths = sorted({values.shape[1:] for values in found})
    if len(lengths) > 1:
        raise WavelitError(
            f"expected {what} of one length, got {', '.join(str(n[0]) for n in lengths)} steps"
        )
    return np.concatenate(found)
