"""xarray's DataArrays to arrays (N, T, *S, ...): dimensions go by their names, whatever their
order; coordinates, units and dates are kept.

A dimension called trajectory, sample, member, ensemble or run is N, one called time or t is T; the
others are the axes, in the order of `coordinates` or else of the first DataArray, and after them
those of vectors and matrices. All DataArrays of a call agree. A DataArray without a trajectory
dimension is one record; a list of DataArrays holds records, which may differ in length and time.
Plain arrays beside them are positional, in the same order of axes. An axis whose coordinate
decreases, as latitude may, is turned around in all of them. Values are read piece by piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from wavelit.data.writing.given import kind_of, labelled, masked, numbers
from wavelit.data.writing.sources import Index, Source
from wavelit.data.writing.times import Line, is_dated, time_line
from wavelit.data.writing.units import agreed_units, units_of
from wavelit.errors import WavelitError, one_line, printable
from wavelit.model.labelled import COMPONENT, TIME, TRAJECTORY, by_index

__all__ = ["Given", "by_name"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Given:
    """The arguments of a writer, without DataArrays: coordinates and time are those of the
    DataArrays if there are any.

    `units` are those of fields and scalars, `line_units` those of axes and of time; `flipped` are
    the numbers of the axes along which all fields are to be turned around.
    """

    fields: dict[str, Any]
    constant_fields: dict[str, Any]
    scalars: dict[str, Any]
    coordinates: dict[str, Any] | None
    time: Any
    units: dict[str, str] = field(default_factory=dict)
    line_units: dict[str, str] = field(default_factory=dict)
    flipped: tuple[int, ...] = ()


def by_name(given: Given, d: int) -> Given:
    """Replace the DataArrays by arrays in the order of dimensions that a file has.

    Args:
        given: as the user gave it.
        d: number of axes.

    Raises:
        WavelitError: a dimension has no known name or several could be meant, DataArrays differ in
            their dimensions, coordinates or units, or an argument contradicts them.
    """
    parts = {
        f"field '{key}'": _parts(value)
        for key, value in (given.fields | given.constant_fields).items()
        if _parts(value)
    }
    arrays = {
        (what if len(several) == 1 else f"{what} of record {i}"): value
        for what, several in parts.items()
        for i, value in enumerate(several)
    }
    series = {
        f"scalar '{key}'": value
        for key, value in given.scalars.items()
        if labelled(value) and value.ndim
    }
    lines = {**(given.coordinates or {}), **({} if given.time is None else {"time": given.time})}
    units = units_of(given.units, given.fields | given.constant_fields, given.scalars, lines)
    if not arrays and not series:
        return replace(given, units=units)
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
        key: order.arrange(f"field '{key}'", value, varies=True) if _parts(value) else value
        for key, value in given.fields.items()
    }
    constants = {
        key: order.arrange(f"field '{key}'", value, varies=False) if _parts(value) else value
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
    if all(len(several) == 1 for several in parts.values()):
        _coordinate(every, order.trajectory)
    grid, flipped = _grid(every, order.axes, given)
    time = _times(parts, order, given)
    line_units = {
        dim: text
        for dim in order.axes
        if (text := agreed_units(f"coordinate '{dim}'", _coords(arrays, dim)))
    }
    time_units = agreed_units("the time", _coords(arrays, order.time))
    dated = [each.units for each in (time if isinstance(time, list) else [time]) if _is_line(each)]
    if dated and dated[0]:
        time_units = dated[0]
    if time_units and given.time is None:
        line_units["time"] = time_units
    return Given(fields, constants, scalars, grid, _values(time), units, line_units, flipped)


def _parts(value: Any) -> list[Any]:
    """The DataArrays of an argument: itself, or those of a list; none if it holds no such."""
    if labelled(value):
        return [value]
    if isinstance(value, list | tuple) and value and all(labelled(each) for each in value):
        return list(value) if all(getattr(each, "ndim", 0) for each in value) else []
    return []


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
        # In a list, a record may come alone or along a dimension.
        self.mixed = any(" of record " in what for what in arrays)
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

    def arrange(self, what: str, value: Any, varies: bool) -> Source | list[Source]:
        """Its numbers: (N, T, *S, ...), or without T; without N where it is the same for all
        trajectories; one by one where it is a list.
        """
        several = _parts(value)
        if len(several) == 1 and not isinstance(value, list | tuple):
            return self._one(what, value, varies)
        found: list[Source] = []
        for i, each in enumerate(several):
            part = self._one(f"{what} of record {i}", each, varies)
            has_n = varies or self.trajectory in each.dims
            found += part.each() if has_n else [part]
        return found

    def _one(self, what: str, value: Any, varies: bool) -> Source:
        single = self.trajectory is None or self.trajectory not in value.dims
        if single and varies and self.trajectory is not None and not self.mixed:
            raise WavelitError(self._due(what, value.dims, varies))
        lead = (() if single else (self.trajectory,)) + ((self.time,) if varies else ())
        due = (*lead, *self.axes)
        rest = by_index([dim for dim in value.dims if dim not in due])
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
        found = _labelled_source(what, value, (*due, *rest))
        return found.grow() if single and varies else found

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


def _labelled_source(what: str, value: Any, order: tuple[Any, ...]) -> Source:
    """A DataArray with its dimensions in that order, read by slices of its own."""
    if value.dtype.kind not in "fiub":
        raise WavelitError(
            f"{what}: expected real numbers, got {kind_of(value, value.dtype, value.ndim)}"
        )
    places = [value.dims.index(dim) for dim in order]

    def fetch(index: Index) -> Array:
        part = value.isel(dict(zip(order, index, strict=True)))
        try:
            numbers_ = masked(part.values)
        except (OSError, RuntimeError, ValueError, LookupError) as error:
            raise WavelitError(
                f"{what} cannot be read: {one_line(error)}: write it again"
            ) from error
        return np.transpose(numbers_, places)

    stored = value.encoding.get("preferred_chunks") or {}
    dask = dict(zip(value.dims, value.chunks or (), strict=False))
    chunks = tuple(
        int(np.max(dask[dim])) if dim in dask else int(np.max(stored.get(dim, 1))) for dim in order
    )
    shape = tuple(value.sizes[dim] for dim in order)
    return Source(what, shape, value.dtype.itemsize, fetch, chunks)


def _coords(arrays: Mapping[str, Any], dim: str | None) -> dict[str, Any]:
    return {
        what: value.coords[dim]
        for what, value in arrays.items()
        if dim is not None and dim in value.dims and dim in value.coords
    }


def _coordinate(arrays: Mapping[str, Any], dim: str | None) -> Array | None:
    """The coordinate along a dimension, the same in all arrays that have one."""
    found: tuple[str, Array] | None = None
    for what, coordinate in _coords(arrays, dim).items():
        values = np.asarray(coordinate.values)
        if found is not None and not np.array_equal(found[1], values):
            raise WavelitError(
                f"{found[0]} and {what} differ in their coordinate '{dim}': align them"
            )
        found = found or (what, values)
    return None if found is None else found[1]


def _times(parts: Mapping[str, Sequence[Any]], order: _Order, given: Given) -> Any:
    """The times of all trajectories, or a list of those of each; as given if none are labelled."""
    several = max((len(each) for each in parts.values()), default=1)
    found: list[Any] = []
    for i in range(several):
        record = {
            (what if len(each) == 1 else f"{what} of record {i}"): each[i]
            for what, each in parts.items()
            if i < len(each) and (len(each) == several)
        }
        values = _coordinate(record, order.time)
        n = max((v.sizes.get(order.trajectory, 1) for v in record.values()), default=1)
        found += [values] * (n if several > 1 else 1)
    if all(values is None for values in found):
        return given.time
    if any(values is None for values in found):
        raise WavelitError(
            f"some records have a coordinate '{order.time}' and others none: give it to all"
        )
    for values in found:
        if values.dtype.kind not in "fiu" and not is_dated(values):
            raise WavelitError(
                f"coordinate '{order.time}' holds no numbers but dtype {values.dtype}: give time= "
                "as numbers or dates"
            )
    if given.time is not None:
        if several == 1 and not is_dated(found[0]):
            _agree("time", given.time, order.time, found[0])
        return given.time
    what = f"coordinate '{order.time}'"
    lines = [time_line(what, values) for values in found]
    if len({each.units for each in lines}) > 1:
        lines = [time_line(what, values, days=False) for values in found]
    return lines if several > 1 else lines[0]


def _is_line(value: Any) -> bool:
    return isinstance(value, Line)


def _values(time: Any) -> Any:
    if isinstance(time, list) and time and _is_line(time[0]):
        return [each.values for each in time]
    return time.values if _is_line(time) else time


def _grid(
    arrays: Mapping[str, Any], axes: tuple[str, ...], given: Given
) -> tuple[dict[str, Any] | None, tuple[int, ...]]:
    """Positions along each axis, increasing, and the axes that were turned for that."""
    if not axes:
        return given.coordinates, ()
    grid: dict[str, Any] = {}
    flipped: list[int] = []
    for number, axis in enumerate(axes):
        values = _coordinate(arrays, axis)
        explicit = None if given.coordinates is None else given.coordinates[axis]
        if values is not None and values.dtype.kind in "fiu":
            _agree(f"coordinates['{axis}']", explicit, axis, values)
            explicit = values
            if len(values) > 1 and (np.diff(values.astype(np.float64)) < 0).all():
                explicit = values[::-1]
                flipped.append(number)
        elif values is not None and explicit is None:
            raise WavelitError(
                f"coordinate '{axis}' holds no numbers but dtype {values.dtype}: give positions by "
                "coordinates="
            )
        if explicit is None:
            explicit = np.arange(
                next(value.sizes[axis] for value in arrays.values() if axis in value.dims)
            )
        grid[axis] = explicit
    return grid, tuple(flipped)


def _agree(what: str, explicit: Any, dim: str | None, values: Array) -> None:
    if explicit is None:
        return
    if not np.array_equal(numbers(what, explicit), values):
        raise WavelitError(
            f"{what} differs from the DataArray's own coordinate '{dim}': leave one of them out"
        )


def _names(dims: Any) -> str:
    return printable(f"({', '.join(map(str, dims))})")
