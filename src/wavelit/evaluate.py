"""One-step and rollout tables of an emulator, with persistence beside it.

Every score is a VRMSE per trajectory, step and field (see `wavelit.metrics`); two protocols average it differently:

    The Well:  mean over trajectories, steps and fields at once;                        steps 6:12 and 13:30
    Walrus:    mean over fields, median over trajectories at each step, mean over steps;  steps 1:20 and 21:60

Steps count from 1, both ends included. Both averages are given on all four windows at the emulator's own history. A
window that the record cuts short is named by its real end (21:56); one that begins beyond the record is left out. A
prediction that is not finite scores infinity, and its trajectory counts as diverged. Nothing is clipped.

References: Ohana et al., The Well (2024), arXiv 2412.00568; McCabe et al., Walrus (2025), arXiv 2511.15684, whose order
of averaging is not stated there and is taken as above.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

from wavelit.data.well import Batch, WellDataModule
from wavelit.errors import WavelitError
from wavelit.metrics import EPS, vrmse
from wavelit.rollout import Emulator, inference, persistence, rollout, rotation

__all__ = [
    "WINDOWS",
    "Evaluation",
    "Row",
    "Scores",
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

Array = NDArray[np.float64]

HELMHOLTZ = "helmholtz_staircase"


@dataclass(frozen=True)
class Window:
    """Rollout steps `first` to `last`, counted from 1, both included."""

    first: int
    last: int

    @property
    def label(self) -> str:
        return f"{self.first}:{self.last}"

    def within(self, n_steps: int) -> Window | None:
        """The part inside a record of `n_steps` predicted steps, or None where there is none."""
        return Window(self.first, min(self.last, n_steps)) if self.first <= n_steps else None


WINDOWS = (
    (Window(1, 20), "Walrus"),
    (Window(6, 12), "The Well"),
    (Window(13, 30), "The Well"),
    (Window(21, 60), "Walrus"),
)
"""The windows of the protocols, in the order of the tables."""

AVERAGES = {"mean": "The Well", "median": "Walrus"}


def average(values: Array, how: str) -> Array:
    """Average VRMSE (trajectories, steps, C) to (1 + C,): over all fields first, then each field's own.

    "mean": over everything at once. "median": the mean over fields, its median over trajectories at each step, the
    mean over steps; for one field its own median. An infinite value makes a mean infinite, a median only once half of
    the trajectories are.

    Args:
        values: VRMSE, (trajectories, steps, C).
        how: "mean" or "median".
    """
    each = np.concatenate([values.mean(-1, keepdims=True), values], axis=-1)
    return np.asarray(each.mean((0, 1)) if how == "mean" else np.median(each, axis=0).mean(0))


def definitions() -> dict[str, str]:
    """What the figures mean, in words, for every place that prints them."""
    return {
        "VRMSE": (
            "sqrt( mean |u - v|² / (var(v) + eps) ) over the grid, for every sample, time and field by itself; "
            f"u predicted, v true, eps = {EPS:g}, mean over N cells, variance with N - 1. 1 is the score of the true "
            "spatial mean. Cells excluded by a declared mask are left out of mean, variance and count."
        ),
        "mean": "The Well's order: the mean over trajectories, steps and fields at once.",
        "median": (
            "Walrus's order: the mean over fields, its median over trajectories at each step, then the mean over steps."
        ),
        "steps": "Rollout steps count from 1 and both ends are included; 6:12 is the sixth to the twelfth prediction.",
        "persistence": "Predicts no change: the last known state, held.",
        "diverged": "Trajectories whose prediction stopped being finite; these steps score infinity, nothing is clipped.",
    }


@dataclass(frozen=True)
class Scores:
    """VRMSE of one emulator.

    Args:
        one_step: (windows, C), each window of the split predicted one step ahead.
        rollout: (trajectories, steps, C), each trajectory of the split predicted from its start.
    """

    one_step: Array
    rollout: Array

    @property
    def diverged(self) -> int:
        """Trajectories with a prediction that is not finite."""
        return int(np.count_nonzero(np.isinf(self.rollout).any((1, 2))))


@dataclass(frozen=True)
class Row:
    """One line of the table: `scores[emulator]` is (1 + C,), all fields first."""

    steps: str
    how: str
    protocol: str
    scores: dict[str, Array]


@dataclass(frozen=True)
class Evaluation:
    """Scores on one split of one dataset.

    Args:
        dataset: its name.
        split: "valid" or "test".
        model: name of the emulator judged, a key of `scores` as "persistence" is.
        field_names: the C fields, in channel order.
        history: states T that the emulator is given.
        start: true states before the first predicted one; the last T of them are the history.
        scores: by emulator, the model first.
    """

    dataset: str
    split: str
    model: str
    field_names: tuple[str, ...]
    history: int
    start: int
    scores: dict[str, Scores]

    @property
    def n_steps(self) -> int:
        """Predicted steps of a rollout."""
        return int(self.scores[self.model].rollout.shape[1])

    def windows(self) -> list[tuple[Window, str]]:
        """The windows that the record allows, each with the protocol it comes from."""
        cut = ((window.within(self.n_steps), protocol) for window, protocol in WINDOWS)
        return [(window, protocol) for window, protocol in cut if window is not None]

    def rows(self) -> list[Row]:
        """The table: one step, then every window, each under both averages."""
        rows = [
            Row(
                "one step",
                how,
                protocol,
                {k: average(s.one_step[:, None], how) for k, s in self.scores.items()},
            )
            for how, protocol in AVERAGES.items()
        ]
        for window, origin in self.windows():
            part = slice(window.first - 1, window.last)
            for how, protocol in AVERAGES.items():
                scores = {k: average(s.rollout[:, part], how) for k, s in self.scores.items()}
                rows.append(Row(window.label, how, protocol if protocol == origin else "", scores))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and text; an infinite value is the text "inf", since JSON has no number for it."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "model": self.model,
            "field_names": list(self.field_names),
            "history": self.history,
            "start": self.start,
            "eps": EPS,
            "definitions": definitions(),
            "table": [
                {
                    "steps": row.steps,
                    "average": row.how,
                    "protocol": row.protocol,
                    "vrmse": {
                        name: dict(zip(("all", *self.field_names), _plain(values), strict=True))
                        for name, values in row.scores.items()
                    },
                }
                for row in self.rows()
            ],
            "scores": {
                name: {
                    "diverged": scores.diverged,
                    "one_step": _plain(scores.one_step),
                    "rollout": _plain(scores.rollout),
                }
                for name, scores in self.scores.items()
            },
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_dict`; the table is computed anew."""
        scores = {
            name: Scores(
                np.asarray(s["one_step"], dtype=np.float64), np.asarray(s["rollout"], dtype=np.float64)
            )
            for name, s in content["scores"].items()
        }
        return cls(
            dataset=content["dataset"],
            split=content["split"],
            model=content["model"],
            field_names=tuple(content["field_names"]),
            history=content["history"],
            start=content["start"],
            scores=scores,
        )

    def save(self, path: str | Path) -> Path:
        """Write `to_dict` as JSON."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        return path


def one_step(
    emulators: Mapping[str, Emulator], batches: Iterable[Batch], device: str | torch.device = "cpu"
) -> dict[str, Array]:
    """VRMSE of the first target step of every window, (windows, C) for each emulator; the data are read once.

    Args:
        emulators: by name.
        batches: every window of a split once.
        device: where the emulators live.

    Raises:
        WavelitError: there is no window.
    """
    errors: dict[str, list[Array]] = {name: [] for name in emulators}
    for batch in batches:
        batch = batch.to(device)
        for name, emulator in emulators.items():
            with inference(emulator):
                following = emulator(batch.fields, batch.constants, batch.scalars)
            errors[name].append(_vrmse(following, batch.target[:, 0], batch.fields.ndim - 3, batch.valid))
    return {name: _joined(found, "windows") for name, found in errors.items()}


def roll_out(
    emulators: Mapping[str, Emulator],
    trajectories: Iterable[Batch],
    start: int | None = None,
    device: str | torch.device = "cpu",
) -> dict[str, Array]:
    """VRMSE of every rollout step, (trajectories, steps, C) for each emulator; the data are read once.

    Args:
        emulators: by name.
        trajectories: batches whose fields and target together are the whole record.
        start: see `predict`.
        device: where the emulators live.

    Raises:
        WavelitError: there is no trajectory, or records differ in length.
    """
    errors: dict[str, list[Array]] = {name: [] for name in emulators}
    for batch in trajectories:
        batch = batch.to(device)
        for name, emulator in emulators.items():
            prediction, truth = predict(emulator, batch, start)
            errors[name].append(_vrmse(prediction, truth, batch.fields.ndim - 3, batch.valid))
    return {name: _joined(found, "trajectories") for name, found in errors.items()}


def predict(emulator: Emulator, trajectory: Batch, start: int | None = None) -> tuple[Tensor, Tensor]:
    """Roll out to the end of the record.

    Args:
        emulator: gets as many states as `trajectory.fields` holds, on the trajectory's device.
        trajectory: a batch whose fields and target together are the whole record.
        start: true states before the first predicted one, of which the last T are the history; T when None. Walrus's
            protocol starts at 17.

    Returns:
        Prediction and truth, both (B, steps, C, *S).

    Raises:
        WavelitError: `start` leaves no history or nothing to predict.
    """
    record = torch.cat([trajectory.fields, trajectory.target], dim=1)
    history = trajectory.fields.shape[1]
    start = history if start is None else start
    if not history <= start < record.shape[1]:
        raise WavelitError(
            f"expected a start from {history}, the history's length, to {record.shape[1] - 1}, which leaves one state "
            f"to predict, got {start}"
        )
    prediction = rollout(
        emulator,
        record[:, start - history : start],
        record.shape[1] - start,
        constants=trajectory.constants,
        scalars=trajectory.scalars,
        valid=trajectory.valid,
    )
    return prediction, record[:, start:]


def evaluate(
    emulator: Emulator,
    data: WellDataModule,
    split: str = "valid",
    *,
    model: str = "model",
    start: int | None = None,
    device: str | torch.device = "cpu",
    rollout_batch_size: int = 1,
) -> Evaluation:
    """Score an emulator on every window and every trajectory of a split, with persistence beside it.

    On helmholtz_staircase the exact rotation stands beside it too: its score measures the precision of the data.

    Args:
        emulator: the model, in physical units.
        data: gives `windows(split)` and `trajectories(split)` at the model's own history.
        split: "valid" or "test".
        model: the name to print.
        start: see `predict`.
        device: where the emulator lives.
        rollout_batch_size: trajectories rolled out together.

    Raises:
        WavelitError: the model takes the name of a companion, or the split cannot be evaluated.
    """
    dataset, field_names = data.metadata.dataset_name, tuple(data.field_names)
    companions: dict[str, Emulator] = {"persistence": persistence}
    if dataset == HELMHOLTZ:
        companions["exact rotation"] = rotation(field_names)
    if model in companions:
        raise WavelitError(
            f"expected a model name other than {', '.join(companions)}, got {model}: choose another"
        )
    emulators = {model: emulator, **companions}
    single = one_step(emulators, data.windows(split), device)
    rolled = roll_out(emulators, data.trajectories(split, rollout_batch_size), start, device)
    return Evaluation(
        dataset=dataset,
        split=split,
        model=model,
        field_names=field_names,
        history=data.n_steps_input,
        start=data.n_steps_input if start is None else start,
        scores={name: Scores(single[name], rolled[name]) for name in emulators},
    )


def format_score(value: float) -> str:
    """Four decimals, or three significant digits where these would say too little or too much."""
    if math.isinf(value):
        return "∞"
    return f"{value:.4f}" if 0.01 <= value < 100 else f"{value:.3g}"


def format_table(evaluation: Evaluation) -> Table:
    """The scores over all fields for a terminal: title with dataset, split and history, caption with the metric."""
    table = Table(
        title=f"VRMSE on {evaluation.dataset} ({evaluation.split}), history {evaluation.history}",
        caption="\n".join(f"{term}: {definitions()[term]}" for term in ("VRMSE", "mean", "median")),
        caption_justify="left",
    )
    for heading in ("steps", "average", "as in"):
        table.add_column(heading)
    for name, scores in evaluation.scores.items():
        diverged = f"\n{scores.diverged} of {len(scores.rollout)} diverged" if scores.diverged else ""
        table.add_column(name + diverged, justify="right")
    for row in evaluation.rows():
        values = (format_score(float(averages[0])) for averages in row.scores.values())
        table.add_row(row.steps, row.how, row.protocol, *values, end_section=row.how == "median")
    return table


def _plain(values: Array) -> Any:
    """Nested lists; what is not finite as text, since JSON has no number for it."""
    if values.ndim:
        return [_plain(value) for value in values]
    return float(values) if math.isfinite(values) else str(float(values))


def _vrmse(prediction: Tensor, target: Tensor, spatial: int, valid: Tensor | None) -> Array:
    """VRMSE (B, C) or (B, steps, C), infinite where the prediction is not finite."""
    values = vrmse(prediction, target, spatial, valid=valid)
    # The reader has seen to it that targets are finite wherever a cell counts: only a prediction can spoil a score.
    return np.asarray(values.where(values.isfinite(), math.inf).cpu().numpy())


def _joined(found: list[Array], what: str) -> Array:
    if not found:
        raise WavelitError(
            f"expected {what} to evaluate, got none: check the split's folder and the history's length"
        )
    lengths = sorted({values.shape[1:] for values in found})
    if len(lengths) > 1:
        raise WavelitError(
            f"expected {what} of one length, got {', '.join(str(n[0]) for n in lengths)} steps"
        )
    return np.concatenate(found)
