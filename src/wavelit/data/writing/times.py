"""Times of frames: dates to numbers, and what the steps between frames must be.

Dates (numpy's datetime64, or the objects of cftime in any calendar) are counted from the first one,
in days if the steps are a day or longer, else in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wavelit.data.writing.given import LARGEST, labelled, numbers, rounds_off
from wavelit.errors import WavelitError

__all__ = [
    "EVEN",
    "Line",
    "checked_times",
    "is_dated",
    "line",
    "lines",
    "require_even",
    "time_line",
    "time_steps",
]

Array = npt.NDArray[Any]

# Steps that differ by no more than this share of one are equal.
EVEN = 1e-2
DAY = 86400.0


class Line(NamedTuple):
    """Times of a record, (T,), and their unit, empty if it is not known."""

    values: Array
    units: str


def is_dated(values: Array) -> bool:
    """Whether these are dates or spans of time, not numbers."""
    if values.dtype.kind in "mM":
        return True
    return values.dtype == object and values.size > 0 and hasattr(values.flat[0], "timetuple")


def time_line(what: str, value: Any, days: bool | None = None) -> Line:
    """Times as numbers: dates are counted from the first one.

    Args:
        what: their name in messages.
        value: numbers, datetime64, timedelta64, or cftime's or Python's datetimes.
        days: the unit of dates; if absent, days if the steps are that long, else seconds.

    Raises:
        WavelitError: there are others than these.
    """
    given = value.values if labelled(value) else value
    if isinstance(given, np.ma.MaskedArray) or not (
        hasattr(given, "dtype") or isinstance(given, list | tuple)
    ):
        return Line(numbers(what, value), "")
    try:
        array = np.asarray(given)
    except (ValueError, TypeError, RuntimeError):
        return Line(numbers(what, value), "")
    if not is_dated(array) or array.ndim != 1:
        return Line(numbers(what, value), "")
    if array.dtype.kind in "mM":
        array = _of_one_length(what, array)
        first = array[0] if array.dtype.kind == "M" else np.timedelta64(0, "s")
        seconds = (array - first) / np.timedelta64(1, "s")
    else:
        try:
            seconds = np.array([(date - array[0]).total_seconds() for date in array])
        except (TypeError, ValueError, AttributeError) as error:
            raise WavelitError(f"{what}: dates of several kinds: give them in one") from error
    if days is None:
        days = in_days(seconds)
    return Line(seconds / DAY, "days") if days else Line(seconds, "seconds")


def _of_one_length(what: str, array: Array) -> Array:
    """Dates in months or years as days, since those have no length of their own."""
    if np.datetime_data(array.dtype)[0] not in ("Y", "M"):
        return array
    if array.dtype.kind == "m":
        raise WavelitError(f"{what}: months and years differ in length: give days, or dates")
    return array.astype("datetime64[D]")


def in_days(seconds: Array) -> bool:
    steps = np.diff(seconds)
    return bool(steps.size and np.median(steps) >= DAY)


def lines(what: str, value: Any) -> Line | list[Line]:
    """One line for all trajectories, or one for each: a list of lines or an array (N, T).

    Raises:
        WavelitError: as `time_line`.
    """
    several = isinstance(value, list | tuple) and any(np.ndim(item) == 1 for item in value)
    if not several and getattr(value, "ndim", 1) != 2:
        return time_line(what, value)
    found = [time_line(f"{what} of trajectory {i}", item) for i, item in enumerate(value)]
    if len({each.units for each in found}) > 1:
        # Some have long steps, others short ones: seconds suit all.
        found = [
            time_line(f"{what} of trajectory {i}", item, days=False) for i, item in enumerate(value)
        ]
    return found


def line(name: str, value: Any, length: int) -> Array:
    """Increasing numbers that float32 can hold, (length,).

    Raises:
        WavelitError: they are not.
    """
    array = numbers(f"'{name}'", value).astype(np.float64)
    problem = ""
    if array.shape != (length,):
        problem = f"shape {array.shape}"
    elif (bad := np.flatnonzero(~(np.abs(array) <= LARGEST))).size:
        problem = f"{array[bad[0]]} at index {bad[0]}, which float32 cannot hold"
    elif (bad := np.flatnonzero(np.diff(array) <= 0)).size:
        problem = f"{array[bad[0] + 1]} after {array[bad[0]]} at index {bad[0] + 1}"
    if problem:
        raise WavelitError(
            f"'{name}': expected {length} increasing finite numbers, got {problem}: mend '{name}', "
            "sorting the data with it"
        )
    return array


def checked_times(value: Any, length: int) -> Array:
    """The times of a file.

    Raises:
        WavelitError: they do not increase, or float32 rounds off their steps.
    """
    times = line("time", np.arange(length) if value is None else value, length)
    if rounds_off(times):
        raise WavelitError(
            "'time' is stored in float32, which rounds its steps by more than a hundredth: take "
            "its first value off"
        )
    return times


def require_even(times: Array, where: str) -> None:
    """Frames must follow each other in equal steps: a model takes them so.

    Raises:
        WavelitError: steps differ by more than a hundredth.
    """
    steps = np.diff(times)
    if steps.size and not _even(steps):
        raise WavelitError(
            f"'time'{where} is not evenly spaced: steps from {steps.min():.6g} to "
            f"{steps.max():.6g}, but models take frames to be so: interpolate the fields to even "
            "times, or pass equal_steps=True (--equal_steps) to say that the steps are equal"
        )


def time_steps(every: Sequence[Array]) -> Array | None:
    """The step of each record, (N,), where they differ by more than a hundredth; else None."""
    steps = np.array([float(np.median(np.diff(times))) for times in every if len(times) > 1])
    if len(steps) < len(every) or _even(steps):
        return None
    return steps


def _even(steps: Array) -> bool:
    return bool(np.ptp(steps) <= EVEN * np.abs(np.median(steps)))
