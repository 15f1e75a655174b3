"""What a user gives, against what a model's training saw: names, and ranges of values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavelit.checks.arguments import listed, shown
from wavelit.errors import WavelitError, printable

__all__ = ["far_from", "require_all", "require_finite_scalar"]

Array = NDArray[Any]

# A value is far outside the range that training saw where it is beyond by this share of its width.
FAR = 0.5


def far_from(
    what: str, values: Array, seen: tuple[float, float], unit: str, log: bool = False
) -> str:
    """The sentence for values that lie far from the range that training saw, else "".

    Args:
        what: Their name.
        values: At least one, finite; positive where `log`.
        seen: Smallest and largest value in training.
        unit: Their unit, or "".
        log: Whether the model sees the logarithm.
    """
    low, high = values.min(), values.max()
    scale = np.log if log else np.float64
    least, most, a, b = (float(scale(value)) for value in (*seen, low, high))
    room = max(FAR * (most - least), 1e-3 * max(abs(least), abs(most)))
    if least - room <= a and b <= most + room:
        return ""
    said = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    unit = f" {printable(unit, 20)}" if unit else ""
    return (
        f"{what} is {said}{unit}, far from the {seen[0]:.4g} to {seen[1]:.4g}{unit} that training "
        "saw: the prediction may be wrong"
    )


def require_finite_scalar(what: str, values: Array, log: bool) -> None:
    """Refuse scalars that float32 cannot hold, or of which there is no logarithm.

    Raises:
        WavelitError: Names the scalar.
    """
    with np.errstate(over="ignore"):
        finite = np.isfinite(values.astype(np.float32)).all()
    if not finite or (log and (values <= 0).any()):
        raise WavelitError(
            f"{what} must be {'positive and ' if log else ''}finite in float32, not "
            f"{values.min():g}"
        )


def require_all(what: str, missing: list[str], unknown: list[str], due: list[str]) -> None:
    """Refuse names that are unknown or missing.

    Raises:
        WavelitError: Lists those that are due.
    """
    if unknown:
        raise WavelitError(
            f"{what}: unknown name {shown(unknown[0])}; this model takes {listed(due)}"
        )
    if missing:
        raise WavelitError(f"{what}: no {listed(missing)}; this model takes {listed(due)}")
