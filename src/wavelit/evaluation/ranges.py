"""The colour range of a rollout, one for all of its steps, and values as eight bits within it.

    truth and prediction  the quantiles 0.002 and 0.998 of the truth, widened to its extremes where
                          these lie at most 1.5 times as far apart; symmetric about zero for a
                          field of both signs
    error                 symmetric about zero, the quantile 0.998 of its size, widened alike, at
                          most twice the width of the truth's range

A value beyond its range is marked as such and never passes for the end of the range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ABOVE", "BELOW", "EMPTY", "LEVELS", "Range", "error_range", "quantised", "restored",
           "value_range"]  # fmt: skip

Array = NDArray[Any]

# Codes of eight bits: no value, below the range, 253 levels from its lower end to its upper, above.
EMPTY, BELOW, FIRST, LAST, ABOVE = 0, 1, 2, 254, 255
LEVELS = LAST - FIRST + 1
WIDENED = 1.5
OUTLYING = 0.002


@dataclass(frozen=True)
class Range:
    """Ends of a colour range, in the field's units, and matplotlib's name of its colour map."""

    low: float
    high: float
    colours: str

    @property
    def half_step(self) -> float:
        """The most that eight bits round off a value within the range."""
        return (self.high / 2 - self.low / 2) / (LEVELS - 1)


def value_range(truth: Array) -> Range:
    """The range of truth and prediction.

    Args:
        truth: all steps of a rollout, any shape; what is not finite is left out.
    """
    values = truth[np.isfinite(truth)].astype(np.float64)
    # Without a finite value all is grey.
    low, high = _ends(values, OUTLYING, 1 - OUTLYING) if values.size else (0.0, 1.0)
    if min(-low, high) > 0.05 * max(-low, high):
        size = max(-low, high)
        return Range(-size, size, "RdBu_r")
    return Range(*_apart(low, high), "viridis")


def error_range(errors: Sequence[Array], of_truth: Range) -> Range:
    """The range of errors, one for all predictions of a truth.

    Args:
        errors: prediction minus truth, all steps of each prediction; what is not finite is left
            out.
        of_truth: the truth's range.
    """
    sizes = np.concatenate([np.abs(e[np.isfinite(e)]).astype(np.float64) for e in errors])
    size = _ends(np.append(sizes, 0.0), 0.0, 1 - OUTLYING)[1] if sizes.size else 1.0
    most = 4 * (of_truth.high / 2 - of_truth.low / 2)
    size = min(size, most)
    return Range(*_apart(-size, size), "PuOr_r")


def _ends(values: Array, lower: float, upper: float) -> tuple[float, float]:
    low, high = (float(end) for end in np.quantile(values, [lower, upper]))
    least, most = float(values.min()), float(values.max())
    # Halves, as a difference may overflow.
    if most / 2 - least / 2 <= WIDENED * (high / 2 - low / 2):
        return least, most
    return low, high


def _apart(low: float, high: float) -> tuple[float, float]:
    if high > low:
        return low, high
    room = max(0.5, 1e-3 * abs(low))
    return low - room, high + room


def quantised(values: Array, within: Range) -> NDArray[np.uint8]:
    """Values as codes of eight bits: 0 for what is not finite, 1 and 255 for what is beyond the
    range, else 2 to 254 in equal steps from its lower end to its upper.
    """
    finite = np.isfinite(values)
    filled = np.where(finite, values, within.low).astype(np.float64)
    width = within.high / 2 - within.low / 2
    with np.errstate(over="ignore"):
        level = (filled / 2 - within.low / 2) / width * (LEVELS - 1)
    # An end of the range, rounded to float32, is still within it.
    level = np.clip(np.round(level, 3), -1.0, LEVELS)
    codes = np.where(level < 0, BELOW, np.where(level > LEVELS - 1, ABOVE, np.rint(level) + FIRST))
    return np.where(finite, codes, EMPTY).astype(np.uint8)


def restored(codes: NDArray[np.uint8], within: Range) -> NDArray[np.float64]:
    """What codes stand for: NaN without a value, an infinity beyond the range."""
    share = (codes.astype(np.float64) - FIRST) / (LEVELS - 1)
    values = within.low * (1 - share) + within.high * share
    values = np.where(codes == EMPTY, np.nan, values)
    return np.where(codes == BELOW, -np.inf, np.where(codes == ABOVE, np.inf, values))
