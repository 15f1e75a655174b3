"""xarray's DataArrays to arrays (N, T, *S, ...): dimensions go by their names, whatever their
order, and coordinates are kept.

A dimension called trajectory, sample, member, ensemble or run is N, one called time or t is T; the
others are the axes, in the order of `coordinates` or else of the first DataArray, and after them
those of vectors and matrices. All DataArrays of a call agree. Plain arrays beside them are
positional, in the same order of axes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wavelit.data.writing.given import labelled, numbers
from wavelit.errors import WavelitError, printable

__all__ = ["Given", "by_name"]

Array = npt.NDArray[Any]

TRAJECTORY = ("trajectory", "sample", "member", "ensemble", "run")
TIME = ("time", "t")
COMPONENT = re.compile(r"comp(onent)?_?[0-9ij]?")


@dataclass(frozen=True)
class Given:
    """The arguments of a writer, without DataArrays: coordinates and time are those of the
    DataArrays if there are any.
    """

    fields: dict[str, Any]
    constant_fields: dict[str, Any]
    scalars: dict[str, Any]
    coordinates: dict[str, Any] | None
    time: Any


def by_name(given: Given, d: int) -> Given:
    """Replace the DataArrays by arrays in the order of dimensions that a file has.

    Args:
        given: as the user gave it.
        d: number of axes.

    Raises:
        WavelitError: a dimension has no known name or several could be meant, DataArrays differ in
            their dimensions or coordinates, or an argument contradicts them.
    """
    arrays = {
        f"field '{key}'": value
        for key, value in (given.fields | given.constant_fields).items()
        if labelled(value)
    }
    series = {
        f"scalar '{key}'": value
        for key, value in given.scalars.items()
        if labelled(value) and value.ndim
    }
    if not arrays and not series:
        return given
    for what, value in (arrays | series).items():
        if hasattr(value, "data_vars"):
            raise WavelitError(
                f"{what}: expected a DataArray, got a Dataset: pick one of its variables"
            )
        if len(set(value.dims)) < len(value.dims) or not all(
            isinstance(dim, str) for dim in value.dims
        ):
            raise WavelitError(
                f"{what}: dimensions {_names(value.dims)} need names of their own: rename them"
            )
    order = _Order(arrays, series, given.coordinates, d)
    fields = {
        key: order.arrange(f"field '{key}'", value, varies=True) if labelled(value) else value
        for key, value in given.fields.items()
    }
    constants = {
        key: order.arrange(f"field '{key}'", value, varies=False) if labelled(value) else value
        for key, value in given.constant_fields.items()
    }
    for what, value in series.items():
        if value.dims != (order.trajectory,):
            raise WavelitError(
                f"{what}: expected one number, or one a trajectory along '{order.trajectory}', got "
                f"dimensions {_names(value.dims)}"
            )
    scalars = {
        key: value.values if labelled(value) else value for key, value in given.scalars.items()
    }
    every = arrays | series
    _coordinate(every, order.trajectory)
    return Given(
        fields, constants, scalars, _grid(every, order.axes, given), _time(every, order.time, given)
    )


class _Order:
    """The names of the dimensions in the order of a file: trajectory, time, axes.

    Args:
        arrays: DataArrays of fields, varying or constant, by what they are.
        series: those of scalars.
        coordinates: as the user gave them.
        d: number of axes.
    """

    def __init__(
        self,
        arrays: Mapping[str, Any],
        series: Mapping[str, Any],
        coordinates: Mapping[str, Any] | None,
        d: int,
    ) -> None:
        self.d = d
        # Before the roles: an axis of that name is one, whatever it is called.
        self.axes: tuple[str, ...] = tuple(coordinates or ())
        self.trajectory = self._common({**arrays, **series}, TRAJECTORY)
        self.time = self._common(arrays, TIME)
        if coordinates is None and arrays:
            known = (self.trajectory, self.time)
            rests = [
                tuple(
                    dim
                    for dim in value.dims
                    if dim not in known and not COMPONENT.fullmatch(dim.lower())
                )
                for value in arrays.values()
            ]
            # An array with other dimensions than axes beside is understood by one without.
            self.axes = next((rest for rest in rests if len(rest) == d), ())
            if not self.axes:
                what, value = next(iter(arrays.items()))
                raise WavelitError(self._due(what, value.dims))

    def _common(self, arrays: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
        """The one dimension of these names in all arrays; none if no array has one."""
        found: dict[str, str] = {}
        for what, value in arrays.items():
            here = [dim for dim in value.dims if dim.lower() in names and dim not in self.axes]
            if len(here) > 1:
                raise WavelitError(
                    f"{what}: dimensions {_names(here)} could both be the {names[0]}: rename all "
                    "but one"
                )
            found |= {dim: what for dim in here if dim not in found}
        if len(found) > 1:
            (a, first), (b, second), *_ = found.items()
            raise WavelitError(
                f"{first} has dimension '{a}' where {second} has '{b}': give them the same name"
            )
        return next(iter(found), None)

    def arrange(self, what: str, value: Any, varies: bool) -> Array:
        """Its numbers, (N, T, *S, ...) or without T."""
        due = (self.trajectory, self.time, *self.axes) if varies else (self.trajectory, *self.axes)
        rest = [dim for dim in value.dims if dim not in due]
        if not varies and self.time is not None and self.time in rest:
            raise WavelitError(
                f"{what} is constant but has dimension '{self.time}': take one time, as in "
                f".isel({self.time}=0)"
            )
        if not set(due) <= set(value.dims) or not self._components(value, rest):
            raise WavelitError(self._due(what, value.dims, varies))
        for dim in rest:
            labels = value.coords[dim].values.tolist() if dim in value.coords else []
            # Components that are called after the axes go by those names too.
            if labels != list(self.axes) and sorted(map(str, labels)) == sorted(self.axes):
                value = value.isel({dim: [labels.index(axis) for axis in self.axes]})
        return numbers(what, value.transpose(*due, *rest).values)

    def _components(self, value: Any, rest: list[str]) -> bool:
        """Whether these dimensions are those of a vector or matrix: by their names, or as they
        come last and fit.
        """
        last = value.dims[len(value.dims) - len(rest) :]
        return len(rest) <= 2 and all(
            COMPONENT.fullmatch(dim.lower()) or (dim in last and value.sizes[dim] == self.d)
            for dim in rest
        )

    def _due(self, what: str, dims: tuple[str, ...], varies: bool = True) -> str:
        axes = (
            f"the axes {_names(self.axes)}"
            if self.axes
            else f"{self.d} axes, one per boundary condition"
        )
        time = f", a time dimension ({', '.join(TIME)})" if varies else ""
        return (
            f"{what}: dimensions {_names(dims)}, but due are a trajectory dimension "
            f"({', '.join(TRAJECTORY)}){time}, {axes}, and 'component' for a vector: rename or "
            "expand_dims, or pass .values in the order (N, T, *S)"
        )


def _coordinate(arrays: Mapping[str, Any], dim: str | None) -> Array | None:
    """The coordinate along a dimension, the same in all arrays that have one."""
    found: tuple[str, Array] | None = None
    for what, value in arrays.items():
        if dim not in value.dims or dim not in value.coords:
            continue
        values = np.asarray(value.coords[dim].values)
        if found is not None and not np.array_equal(found[1], values):
            raise WavelitError(
                f"{found[0]} and {what} differ in their coordinate '{dim}': align them"
            )
        found = found or (what, values)
    return None if found is None else found[1]


def _time(arrays: Mapping[str, Any], dim: str | None, given: Given) -> Any:
    values = _coordinate(arrays, dim)
    if values is None:
        return given.time
    if values.dtype.kind not in "fiu":
        if given.time is None:
            raise WavelitError(
                f"coordinate '{dim}' holds no numbers but dtype {values.dtype}: give time= in a "
                "unit of your choice, as in (t - t[0]) / np.timedelta64(1, 's') where t is the "
                "coordinate's values"
            )
        return given.time
    _agree("time", given.time, dim, values)
    return values


def _grid(arrays: Mapping[str, Any], axes: tuple[str, ...], given: Given) -> dict[str, Any] | None:
    if not axes:
        return given.coordinates
    grid = {}
    for axis in axes:
        values = _coordinate(arrays, axis)
        explicit = None if given.coordinates is None else given.coordinates[axis]
        if values is not None and values.dtype.kind in "fiu":
            _agree(f"coordinates['{axis}']", explicit, axis, values)
        elif values is not None and explicit is None:
            raise WavelitError(
                f"coordinate '{axis}' holds no numbers but dtype {values.dtype}: give positions by "
                "coordinates="
            )
        if explicit is None:
            size = next(value.sizes[axis] for value in arrays.values() if axis in value.dims)
            explicit = np.arange(size) if values is None else values
        grid[axis] = explicit
    return grid


def _agree(what: str, explicit: Any, dim: str | None, values: Array) -> None:
    if explicit is None:
        return
    if not np.array_equal(numbers(what, explicit), values):
        raise WavelitError(
            f"{what} differs from the DataArray's own coordinate '{dim}': leave one of them out"
        )


def _names(dims: Any) -> str:
    return printable(f"({', '.join(map(str, dims))})")
