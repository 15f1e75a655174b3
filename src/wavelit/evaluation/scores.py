"""Scores of emulators on a split, their table, and their JSON; `wavelit.evaluation.evaluate` makes
them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wavelit.checks.arguments import (
    listed,
    require_instance,
    require_path,
    require_real,
    require_whole,
    shown,
)
from wavelit.errors import WavelitError, one_line, printable
from wavelit.evaluation.averages import (
    AVERAGES,
    STENCIL,
    WINDOWS,
    Array,
    Scores,
    Window,
    average,
    definitions,
    format_score,
)
from wavelit.evaluation.verdict import verdict
from wavelit.files.atomic import atomic_path
from wavelit.metrics import EPS, require_names_apart

__all__ = [
    "STENCIL",
    "WINDOWS",
    "Array",
    "Evaluation",
    "Row",
    "Scores",
    "Window",
    "average",
    "definitions",
    "format_score",
]


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
        starts: frames of each record that a rollout starts from. The rollouts of a record follow
            one another in `scores`.
        training_error: the model's mean VRMSE one step ahead on training windows; None: not known.
        last_validation: the last validation VRMSE that its training logged; None: not known.
        held_out: the share of the training trajectories' time that stands for the validation split;
            None: the split is that of the files.
        time_step: the shortest and the longest step of the records; None: not known.
        time_unit: its unit, where the files tell one.

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
    starts: int = 1
    training_error: float | None = None
    last_validation: float | None = None
    held_out: float | None = None
    time_step: tuple[float, float] | None = None
    time_unit: str = ""

    def __post_init__(self) -> None:
        require_whole("starts", self.starts)
        for name in ("training_error", "last_validation", "held_out"):
            if (value := getattr(self, name)) is not None:
                require_real(name, value)
        if self.time_step is not None:
            object.__setattr__(self, "time_step", _time_step(self.time_step))
        for name in ("dataset", "split", "model", "time_unit"):
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
        """The table of all fields as text."""
        rows = [["steps", "average", "as in", *(printable(name, 60) for name in self.scores)]]
        for row in self.rows():
            values = (format_score(float(averages[0])) for averages in row.scores.values())
            rows.append([row.steps, row.how, row.protocol, *values])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"VRMSE on {printable(self.dataset, 60)} ({self.split}), over all fields"]
        for line in rows:
            texts, numbers = zip(line[:3], widths[:3], strict=True), zip(line[3:], widths[3:],
                                                                         strict=True)  # fmt: skip
            cells = [text.ljust(n) for text, n in texts] + [text.rjust(n) for text, n in numbers]
            lines.append("  ".join(cells).rstrip())
        return "\n".join([*lines, *self.remarks()])

    def remarks(self) -> list[str]:
        """What is said beside the table: how long a step is, how many starts, how training went,
        and which case the model is (`wavelit.evaluation.verdict`), where that is known.
        """
        found = []
        if self.step_sizes:
            size = " to ".join(f"{each:.4g}" for each in self.step_sizes)
            found.append(f"A step is {size} {printable(self.time_unit, 60) or 'in time'}.")
        if self.held_out is not None:
            found.append(
                f"Scored on the last {self.held_out:.0%} of the time of the training trajectories, "
                "which were held out."
            )
        if self.starts > 1:
            n = len(self.scores[self.model].rollout)
            found.append(
                f"Rollouts of {self.n_steps} steps from {self.starts} starts of each record, {n} "
                "in all."
            )
        if self.training_error is not None:
            found.append(
                f"One step ahead on training windows: {format_score(self.training_error)}."
            )
        if self.last_validation is not None:
            found.append(f"Training ended at validation {format_score(self.last_validation)}.")
        if self.case is not None:
            found.append(self.case)
        return found

    @property
    def case(self) -> str | None:
        """Which case the model is, in a sentence; None where there is nothing to compare it
        with but persistence.
        """
        if STENCIL not in self.scores and self.training_error is None:
            return None
        return verdict(self.model, self.scores, self.training_error)

    @property
    def step_sizes(self) -> tuple[float, ...]:
        """The time from one state to the next, the shortest and the longest where records differ;
        nothing where it is not known, or is 1 of no unit.
        """
        if self.time_step is None or (self.time_step == (1.0, 1.0) and not self.time_unit):
            return ()
        shortest, longest = self.time_step
        return self.time_step if longest > 1.01 * shortest else (shortest,)

    def to_pandas(self) -> Any:
        """The table as a pandas.DataFrame: a line for every window, average and field, a column for
        every emulator.

        Raises:
            WavelitError: pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ImportError as error:
            raise WavelitError("to_pandas needs pandas: pip install pandas") from error
        return DataFrame(
            [
                {
                    "steps": row.steps,
                    "average": row.how,
                    "protocol": row.protocol,
                    "field": field,
                    **{name: float(values[n]) for name, values in row.scores.items()},
                }
                for row in self.rows()
                for n, field in enumerate(("all", *self.field_names))
            ]
        )

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
            **self._further(),
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

    def _further(self) -> dict[str, Any]:
        """Entries that evaluations of older versions lack, where they say something."""
        known = {
            "starts": self.starts if self.starts > 1 else None,
            "training_error": self.training_error,
            "last_validation": self.last_validation,
            "held_out": self.held_out,
            "time_step": None if self.time_step is None else list(self.time_step),
            "time_unit": self.time_unit or None,
        }
        return {name: value for name, value in known.items() if value is not None}

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
        further = (
            "starts",
            "training_error",
            "last_validation",
            "held_out",
            "time_step",
            "time_unit",
        )
        entries |= {name: content[name] for name in further if name in content}
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


def _time_step(given: Any) -> tuple[float, float]:
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise WavelitError(
            f"time_step must be the shortest and the longest step, not {shown(given)}"
        )
    shortest, longest = (require_real("time_step", each, beyond=True) for each in given)
    return shortest, longest


def _numbers(values: Array) -> Any:
    """Nested lists; what is not finite as text, since JSON has no number for it."""
    if values.ndim:
        return [_numbers(value) for value in values]
    return float(values) if math.isfinite(values) else str(float(values))
