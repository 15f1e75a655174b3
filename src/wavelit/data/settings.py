"""What a reader may be told: whole numbers within bounds, a mask by name and value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wavelit.errors import WavelitError, printable

__all__ = ["LARGEST", "MOST_WORKERS", "require_mask", "require_whole"]

# Of steps and samples; what a dataset has is compared with the files.
LARGEST = 2**31 - 1
MOST_WORKERS = 256


def require_whole(name: str, value: Any, least: int, most: int) -> None:
    """A setting must be a whole number within bounds.

    Raises:
        WavelitError: names the setting, the value and the bounds.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise WavelitError(f"{name} must be a whole number, not {printable(repr(value), 80)}")
    if not least <= value <= most:
        raise WavelitError(f"{name} must be from {least} to {most}, not {printable(value, 80)}")


def require_mask(field: Any, excludes: Any) -> None:
    """A mask is declared by the name of a field and a number.

    Raises:
        WavelitError: one is of another type, or the number is NaN, which equals no value.
    """
    if field is not None and not isinstance(field, str):
        raise WavelitError(f"mask_field must be the name of a field, not {printable(repr(field), 80)}")
    number = isinstance(excludes, int | float | np.integer | np.floating) and not isinstance(excludes, bool)
    if not number or math.isnan(excludes):
        raise WavelitError(f"mask_excludes must be a number, not {printable(repr(excludes), 80)}")
