"""xarray's DataArrays for a model, and its predictions as DataArrays: dimensions go by name.

A dimension called trajectory, sample, member, ensemble or run is N, one called time or t is T. Axes
go by the names in the model's signature, components come last or are called component. xarray
itself is not imported: who gives a DataArray has it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavelit.errors import WavelitError, printable
from wavelit.model.signature import Signature
from wavelit.model.units import same_time_unit, seconds_in, units_differ

__all__ = [
    "COMPONENT",
    "TIME",
    "TRAJECTORY",
    "Labels",
    "by_index",
    "dataset_like",
    "is_labelled",
]

Array = NDArray[Any]

TRAJECTORY = ("trajectory", "sample", "member", "ensemble", "run")
TIME = ("time", "t")
COMPONENT = re.compile(r"comp(?:onent)?_?([0-9ij]?)")

# A distance or time step that differs from that of the training data by more than this is told.
TOLERANCE = 0.01


def is_labelled(value: Any) -> bool:
    """Whether it is an xarray DataArray."""
    return all(hasattr(value, name) for name in ("dims", "coords", "transpose", "isel"))


def by_index(dims: Sequence[str]) -> list[str]:
    """Dimensions of the components of a matrix in the order of their indices, component_i before
    component_j, where all have one; else as they came.
    """
    found = [COMPONENT.fullmatch(dim.lower()) for dim in dims]
    indices = {dim: match[1] for dim, match in zip(dims, found, strict=True) if match}
    if len(indices) < len(dims) or not all(indices.values()):
        return list(dims)
    return sorted(dims, key=lambda dim: indices[dim])


def dataset_like(came: Any, result: dict[str, Any]) -> Any:
    """Results as a Dataset with the attributes of `came`, where that is one."""
    return type(came)(result, attrs=dict(came.attrs)) if hasattr(came, "data_vars") else result


class Labels:
    """Dimensions and coordinates of the DataArrays of one call, which must agree.

    Args:
        signature: Names the axes, their spacing and units.
        told: Where sentences go that the user is to be told.
    """

    def __init__(self, signature: Signature, told: list[str]) -> None:
        self.signature, self.told = signature, told
        # Between frames, in the signature's unit; None where it is not known.
        self.time_step: float | None = None
        self._came: dict[str, Any] = {}
        self._arranged: dict[str, Any] = {}
        self._coordinates: dict[str, tuple[str, Any]] = {}

    def arranged(self, kind: str, what: str, name: str, value: Any, order: int, unit: str) -> Array:
        """Its numbers ([N,] T, *S, d ...), of a constant without T; every axis in increasing order.

        Raises:
            WavelitError: Dimensions that are not those of the model, other units, or coordinates
                that differ between arrays.
        """
        self.require_unit(what, value, unit)
        varies = kind != "constant"
        dims = [str(dim) for dim in value.dims]
        axes = self.signature.axes
        free = [dim for dim in dims if dim not in axes]
        n = [dim for dim in free if dim.lower() in TRAJECTORY]
        t = [dim for dim in free if dim.lower() in TIME]
        rest = by_index([dim for dim in free if dim not in (*n, *t)])
        named = all(COMPONENT.fullmatch(dim.lower()) or value.sizes[dim] == len(axes) for dim in
                    rest)  # fmt: skip
        if (
            not set(axes) <= set(dims)
            or len(n) > 1
            or len(t) != int(varies)
            or len(rest) != order
            or not named
        ):
            due = [*["time"] * varies, *axes, *["component"] * order]
            raise WavelitError(
                f"{what}: dimensions ({printable(', '.join(dims))}), but due are "
                f"({printable(', '.join(due))}), and trajectory if there are several: rename or "
                "select them"
            )
        # A forcing has more frames than the fields: it goes on to the last step.
        for dim in (*axes, *n, *([] if kind == "forcing" else t)):
            self.require_same(what, value, dim)
        self._came[name] = value
        if kind == "forcing":
            value = self.from_the_first(what, value)
        # An axis that runs down, as latitude may, is turned round, and back at the end.
        down = {axis: slice(None, None, -1) for axis in axes if self._runs_down(value, axis)}
        value = value.isel(down)
        for dim in rest:
            labels = value.coords[dim].values.tolist() if dim in value.coords else []
            if labels != list(axes) and sorted(map(str, labels)) == sorted(axes):
                value = value.isel({dim: [labels.index(axis) for axis in axes]})
        value = value.transpose(*n, *t, *axes, *rest)
        self._arranged[name] = value
        values: Array = value.values
        return values

    def turned(self) -> str | None:
        """An axis that decreases in what came, if there is one."""
        every = ((axis, value) for axis in self.signature.axes for value in self._came.values())
        return next((axis for axis, value in every if self._runs_down(value, axis)), None)

    def labelled(self, name: str, values: Array) -> Any:
        """A prediction ([N,] steps, *S, d ...) as what the field of that name came as: its
        coordinates, the times after its last, its attributes.
        """
        template, came = self._arranged[name], self._came[name]
        (time,) = [dim for dim in template.dims if str(dim).lower() in TIME]
        steps = values.shape[list(template.dims).index(time)]
        coords = {key: value for key, value in template.coords.items() if time not in value.dims}
        following = None if time not in template.coords else self._following(
            template.coords[time].values, steps
        )  # fmt: skip
        if following is not None:
            coords[time] = (time, following, dict(template.coords[time].attrs))
        result = type(template)(
            values, dims=template.dims, coords=coords, attrs=dict(template.attrs), name=came.name
        )
        down = {
            axis: slice(None, None, -1)
            for axis in self.signature.axes
            if self._runs_down(came, axis)
        }
        return result.isel(down).transpose(*came.dims)

    def require_unit(self, what: str, value: Any, unit: str) -> None:
        """Refuse another unit than the training data's, where both are known.

        Raises:
            WavelitError: Names both.
        """
        own = str(value.attrs.get("units") or "")
        if units_differ(own, unit):
            raise WavelitError(
                f"{what} is in {printable(own, 40)}; the model was trained on "
                f"{printable(unit, 40)}: convert it, or mend attrs['units'] if both are one"
            )

    def require_same(self, what: str, value: Any, dim: str) -> None:
        """Take note of a coordinate, or compare it with that of the arrays before.

        Raises:
            WavelitError: It is another, or out of order.
        """
        if dim not in value.coords:
            return
        coordinate = value.coords[dim]
        first, own = self._coordinates.setdefault(dim, (what, coordinate))
        if first == what:
            self._compare(dim, coordinate)
        elif not np.array_equal(own.values, coordinate.values):
            raise WavelitError(
                f"{first} and {what} differ in their coordinate '{printable(dim, 40)}': align them"
            )

    def from_the_first(self, what: str, value: Any) -> Any:
        """What is given in advance, time last, from the fields' first frame on: by its times, where
        it and the fields have them.

        Raises:
            WavelitError: Its times do not hold those of the fields, or run backwards.
        """
        found = [dim for dim in value.dims if str(dim).lower() in TIME]
        if len(found) != 1:
            return value
        (dim,) = found
        value = value.transpose(..., dim)
        if dim not in value.coords or dim not in self._coordinates:
            return value
        times, due = value.coords[dim].values, self._coordinates[dim][1].values
        self._require_order(dim, times)
        start = next((n for n in range(len(times)) if _same(times[n], due[0], times)), len(times))
        here = times[start : start + len(due)]
        if len(here) < len(due) or not all(
            _same(a, b, times) for a, b in zip(here, due, strict=True)
        ):
            raise WavelitError(
                f"{what} is given from {printable(times[0], 40)} to {printable(times[-1], 40)}, "
                f"the fields from {printable(due[0], 40)} to {printable(due[-1], 40)}: give it at "
                "their times, from their first frame on"
            )
        return value.isel({dim: slice(start, None)})

    def _compare(self, dim: str, coordinate: Any) -> None:
        """Tell of a spacing or time step that is not the training data's, or is uneven."""
        signature, values = self.signature, coordinate.values
        is_time = dim.lower() in TIME
        if dim not in signature.axes and not is_time:
            # Of trajectories the order says nothing.
            return
        dated = values.dtype.kind in "mM" or all(hasattr(each, "timetuple") for each in values.flat)
        if values.dtype.kind not in "fiu" and not (is_time and dated):
            raise WavelitError(
                f"coordinate '{printable(dim, 40)}' holds no numbers{' or dates' * is_time} but "
                f"dtype {values.dtype}: drop it, or give positions"
            )
        self._require_order(dim, values)
        if dim in signature.axes:
            axis = signature.axes.index(dim)
            self.require_unit(f"coordinate '{dim}'", coordinate, signature.axis_units[axis])
            known = None if signature.spacing is None else (signature.spacing[axis],) * 2
            own = _step(values)
            what, unit = f"spacing along '{printable(dim, 40)}'", signature.axis_units[axis]
        else:
            known, unit = signature.time_step, signature.time_unit
            own, what = self._time_step(coordinate), "time step"
            self.time_step = own
        if known is None or own is None:
            return
        low, high = known
        if not (1 - TOLERANCE) * low <= own <= (1 + TOLERANCE) * high:
            seen = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
            self.told.append(
                f"the {what} is {own:.4g}; the model was trained on {seen} {unit}".rstrip()
                + ", which it assumes"
            )

    def _require_order(self, dim: str, values: Array) -> None:
        """Refuse positions that turn back or repeat, and times that run backwards; tell of uneven
        ones.
        """
        if (steps := _differences(values)) is None or not len(steps):
            return
        name, is_axis = printable(dim, 40), dim in self.signature.axes
        if not (steps > 0).all() and not (is_axis and (steps < 0).all()):
            bad = int(np.argmax(steps <= 0)) + 1
            raise WavelitError(
                f"coordinate '{name}' is {printable(values[bad], 40)} after "
                f"{printable(values[bad - 1], 40)}: sort it, with the fields, and leave out what "
                "is there twice"
            )
        if np.ptp(steps) > TOLERANCE * np.abs(steps).max():
            self.told.append(
                f"coordinate '{name}' is uneven, its steps differ by a factor of "
                f"{np.abs(steps).max() / np.abs(steps).min():.3g}; the model assumes equal ones"
            )

    def _time_step(self, coordinate: Any) -> float | None:
        """The mean time between frames in the signature's unit; None where it cannot be told."""
        values = coordinate.values
        if len(values) < 2:
            return None
        due = seconds_in(self.signature.time_unit)
        if values.dtype.kind in "fiu":
            unit = str(coordinate.attrs.get("units") or "")
            step = _step(values)
            if step is None or not unit or same_time_unit(unit, self.signature.time_unit):
                return step
            own = seconds_in(unit)
            return None if own is None or due is None else step * own / due
        span = values[-1] - values[0]
        if isinstance(span, np.timedelta64):
            seconds = float(span / np.timedelta64(1, "s"))
        elif hasattr(span, "total_seconds"):
            seconds = float(span.total_seconds())
        else:
            return None
        return None if due is None else seconds / (len(values) - 1) / due

    def _following(self, times: Array, steps: int) -> Any:
        """The times after the last; None where there is no telling."""
        if len(times) > 1:
            step = sorted(np.diff(times))[(len(times) - 1) // 2]
        elif times.dtype.kind in "fiu" and self.signature.time_step is not None:
            step = self.signature.time_step[0]
        else:
            return None
        return np.asarray([times[-1] + step * (n + 1) for n in range(steps)])

    def _runs_down(self, value: Any, axis: str) -> bool:
        if axis not in value.coords or self.signature.spacing is None:
            return False
        values = value.coords[axis].values
        numbers = values.dtype.kind in "fiu" and values.ndim == 1 and len(values) > 1
        return bool(numbers and (np.diff(values.astype(np.float64)) < 0).all())


def _same(one: Any, other: Any, times: Array) -> bool:
    """Whether two times are one; numbers, within a hundredth of a step."""
    if times.dtype.kind not in "fiu":
        return bool(one == other)
    step = _step(times) or 0.0
    return bool(abs(float(one) - float(other)) <= TOLERANCE * step)


def _step(values: Array) -> float | None:
    """The mean distance between numbers in order; None of other things."""
    if values.dtype.kind not in "fiu" or values.ndim != 1 or len(values) < 2:
        return None
    return abs(float(values[-1]) - float(values[0])) / (len(values) - 1)


def _differences(values: Array) -> NDArray[np.float64] | None:
    """Steps between numbers or dates, in any unit; None of other things."""
    if values.ndim != 1 or len(values) < 2:
        return None
    if values.dtype.kind in "fiu":
        return np.diff(values.astype(np.float64))
    steps = np.diff(values)
    if steps.dtype.kind == "m":
        return (steps / np.timedelta64(1, "s")).astype(np.float64)
    if all(hasattr(step, "total_seconds") for step in steps):
        return np.array([step.total_seconds() for step in steps])
    return None
