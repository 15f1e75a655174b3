"""Scores of emulators on a split, their averages over the windows of two protocols, and their JSON.

What is averaged in which order is said in `wavelit.evaluation.evaluate`, which makes them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavelit.checks.arguments import (
    listed,
    require_array,
    require_instance,
    require_name,
    require_path,
    require_whole,
    shown,
)
from wavelit.errors import WavelitError, one_line, printable
from wavelit.files.atomic import atomic_path
from wavelit.metrics import EPS, require_names_apart

__all__ = ["WINDOWS", "Array", "Evaluation", "Row", "Scores", "Window", "average", "definitions"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """Rollout steps `first` to `last`, counted from 1, both included."""

    first: int
    last: int

    def __post_init__(self) -> None:
        require_whole("last", self.last, require_whole("first", self.first))

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
    """Average VRMSE (trajectories, steps, C) to (1 + C,): over all fields first, then each field's
    own.

    "mean": over everything at once. "median": the mean over fields, its median over trajectories at
    each step, the mean over steps; for one field its own median. An infinite value makes a mean
    infinite, a median only once half of the trajectories are.

    Args:
        values: VRMSE, (trajectories, steps, C).
        how: "mean" or "median".

    Raises:
        WavelitError: values of another shape, or another average.
    """
    values = require_array("values", values)
    if values.ndim != 3 or not values.size:
        raise WavelitError(
            f"values must be (trajectories, steps, C), none of them 0, not {values.shape}"
        )
    require_name("how", how, AVERAGES)
    each = np.concatenate([values.mean(-1, keepdims=True), values], axis=-1)
    return np.asarray(each.mean((0, 1)) if how == "mean" else np.median(each, axis=0).mean(0))


def definitions() -> dict[str, str]:
    """What the figures mean, in words, for every place that prints them."""
    return {
        "VRMSE": (
            "sqrt( mean |u - v|² / (var(v) + eps) ) over the grid, for every sample, time and "
            f"field by itself; u predicted, v true, eps = {EPS:g}, mean over N cells, variance "
            "with N - 1. 1 is the score of the true spatial mean. Cells excluded by a declared "
            "mask are left out of mean, variance and count."
        ),
        "mean": "The Well's order: the mean over trajectories, steps and fields at once.",
        "median": (
            "Walrus's order: the mean over fields, its median over trajectories at each step, then "
            "the mean over steps."
        ),
        "steps": (
            "Rollout steps count from 1 and both ends are included; 6:12 is the sixth to the "
            "twelfth prediction."
        ),
        "persistence": "Predicts no change: the last known state, held.",
        "diverged": (
            "Trajectories whose prediction stopped being finite; these steps score infinity, "
            "nothing is clipped."
        ),
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

    Raises:
        WavelitError: the model or persistence has no scores, or scores do not fit one another and
            the field names.
    """

    dataset: str
    split: str
    model: str
    field_names: tuple[str, ...]
    history: int
    start: int
    scores: dict[str, Scores]

    def __post_init__(self) -> None:
        for name in ("dataset", "split", "model"):
            require_instance(name, getattr(self, name), str, "give its name")
        require_names_apart(self.field_names)
        require_whole("start", self.start, require_whole("history", self.history))
        require_instance("scores", self.scores, dict, "give Scores by emulator")
        for name in (self.model, "persistence"):
            if name not in self.scores:
                raise WavelitError(
                    f"scores: expected those of {printable(name, 60)}, got {listed(self.scores)}: "
                    "evaluate anew"
                )
        n_fields, n_steps = len(self.field_names), None
        for name, each in self.scores.items():
            require_instance("scores", each, Scores, "evaluate anew")
            single, rolled = np.shape(each.one_step), np.shape(each.rollout)
            n_steps = rolled[1:2] if n_steps is None else n_steps
            fit = len(single) == 2 and len(rolled) == 3 and single[1] == rolled[2] == n_fields
            if not fit or rolled[1:2] != n_steps or 0 in (*single, *rolled):
                raise WavelitError(
                    f"scores of {printable(name, 60)}: expected (windows, {n_fields}) and "
                    f"(trajectories, steps, {n_fields}), as many steps each, got {single} and "
                    f"{rolled}: evaluate anew"
                )

    def __str__(self) -> str:
        """The means over all fields, a line for every window."""
        lines = [f"VRMSE on {printable(self.dataset, 60)} ({self.split}), mean over all fields"]
        for row in self.rows():
            if row.how == "mean":
                each = (f"{printable(name, 60)} {v[0]:.4g}" for name, v in row.scores.items())
                lines.append(f"{row.steps:>8}  {', '.join(each)}")
        return "\n".join(lines)

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
        """Plain lists, numbers and text; an infinite value is the text "inf", since JSON has no
        number for it.
        """
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
                        name: dict(zip(("all", *self.field_names), _numbers(values), strict=True))
                        for name, values in row.scores.items()
                    },
                }
                for row in self.rows()
            ],
            "scores": {
                name: {
                    "diverged": scores.diverged,
                    "one_step": _numbers(scores.one_step),
                    "rollout": _numbers(scores.rollout),
                }
                for name, scores in self.scores.items()
            },
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_dict`; the table is computed anew.

        Raises:
            WavelitError: an entry is missing, or is none of `to_dict`'s.
        """
        try:
            scores = {
                name: Scores(
                    np.asarray(s["one_step"], dtype=np.float64),
                    np.asarray(s["rollout"], dtype=np.float64),
                )
                for name, s in content["scores"].items()
            }
            entries = {
                name: content[name]
                for name in ("dataset", "split", "model", "field_names", "history", "start")
            }
        except KeyError as error:
            raise WavelitError(
                f"the evaluation has no entry {error}: evaluate anew, `wavelit evaluate`"
            ) from error
        except (TypeError, ValueError, AttributeError) as error:
            raise WavelitError(
                f"expected an evaluation as `to_dict` gives it, got {shown(content)}: "
                f"{one_line(error)}: evaluate anew"
            ) from error
        names = entries.pop("field_names")
        return cls(
            **entries, field_names=tuple(names) if isinstance(names, list) else names, scores=scores
        )

    def save(self, path: str | Path) -> Path:
        """Write `to_dict` as JSON, whole or not at all."""
        path = require_path("path", path, is_file=True)
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return path


def _numbers(values: Array) -> Any:
    """Nested lists; what is not finite as text, since JSON has no number for it."""
    if values.ndim:
        return [_numbers(value) for value in values]
    return float(values) if math.isfinite(values) else str(float(values))
