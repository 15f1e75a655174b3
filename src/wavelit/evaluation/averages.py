"""VRMSE averaged over the windows of two protocols, and what the figures mean in words.

What is averaged in which order is said in `wavelit.evaluation.evaluate`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavelit.checks.arguments import require_array, require_name, require_whole, shown
from wavelit.errors import WavelitError
from wavelit.metrics import EPS

__all__ = [
    "AVERAGES",
    "STENCIL",
    "WINDOWS",
    "Array",
    "Scores",
    "Window",
    "average",
    "definitions",
    "format_score",
]

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


STENCIL = "linear stencil"
"""The name of `wavelit.evaluation.stencil` among the emulators."""

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
        "Walrus": (
            "A foundation model of many systems (McCabe et al., 2025, arXiv 2511.15684), whose "
            "windows and order of averaging are given here for comparison; no prediction of its "
            "is."
        ),
        "persistence": "Predicts no change: the last known state, held.",
        STENCIL: (
            "A linear function of the 3^d cells around a cell in all frames of the history (the "
            "last two, or one, where that would be more than 2000 inputs), fitted to the "
            "increments of 64 training windows by least squares."
        ),
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


def format_score(value: float) -> str:
    """Four decimals, or three significant digits where these would say too little or too much."""
    if not isinstance(value, int | float | np.integer | np.floating):
        raise WavelitError(f"value must be a number, not {shown(value)}")
    if math.isinf(value):
        return "∞"
    return f"{value:.4f}" if 0.01 <= value < 100 else f"{value:.3g}"
