"""What an evaluation leaves in a result of the accuracy benchmark, and how results are written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wavelit.evaluation.evaluate import Evaluation, Row
from wavelit.files.atomic import atomic_path

__all__ = ["number", "scores_of", "write_result"]


def scores_of(evaluation: Evaluation) -> dict[str, Any]:
    """What the tables and figures need, of the contestant and of its companions."""
    rows = [row for row in evaluation.rows() if row.how == "mean"]
    found = {name: _summary(name, evaluation, rows) for name in evaluation.scores}
    return {
        **found.pop(evaluation.model),
        **{name.replace(" ", "_"): each for name, each in found.items()},
    }


def _summary(name: str, evaluation: Evaluation, rows: Sequence[Row]) -> dict[str, Any]:
    rollout = evaluation.scores[name].rollout
    per_step = rollout.mean(-1)  # (trajectories, steps)
    windows = [per_step[:, window.first - 1 : window.last] for window, _ in evaluation.windows()]
    # All fields first, then each field's own.
    one_step, *windows_means = ([number(value) for value in row.scores[name]] for row in rows)
    return {
        "one_step": one_step[0],
        "one_step_by_field": dict(zip(evaluation.field_names, one_step[1:], strict=True)),
        "rollout": {
            row.steps: means[0] for row, means in zip(rows[1:], windows_means, strict=True)
        },
        # The largest score of any field at any step of any trajectory; and of any trajectory's
        # window, mean over fields and steps.
        "worst": number(rollout.max()),
        "worst_window": number(max(part.mean(1).max() for part in windows)),
        "rollout_by_step": [number(value) for value in per_step.mean(0)],
    }


def number(value: float) -> float | None:
    """Four significant digits; None for what is not finite, which JSON has no number for."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def write_result(path: Path, result: Mapping[str, Any]) -> Path:
    """Write a result, whole or not at all."""
    with atomic_path(path) as temporary:
        text = json.dumps(result, indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf8")
    return path
