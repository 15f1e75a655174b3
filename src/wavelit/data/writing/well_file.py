"""One HDF5 file in The Well's format.

A file holds fields grouped by tensor order (``t0_fields`` scalars, ``t1_fields`` vectors,
``t2_fields`` matrices), each (N, T, *S, ...) in float32, components last; constant fields lack T,
and N where all trajectories share one. Boundary conditions are masks over the points of one axis,
true where the condition holds. Fields are read and written piece by piece. A file is written under
a temporary name and renamed, and holds no time stamp: it is whole or absent, and the same arrays
give the same bytes.

Beyond the format, a file names its mask (root attributes `mask_field` and `mask_excludes`), and
units (attribute `units` of fields, scalars, axes and time) where they are known.

References: Ohana, McCabe, Meyer et al., The Well: a Large-Scale Collection of Diverse Physics
Simulations for Machine Learning, 2024, arXiv:2412.00568.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from wavelit.checks.arguments import require_names
from wavelit.data.writing.given import (
    LARGEST,
    Boundaries,
    check_name,
    check_sides,
    local_path,
    mapping,
    numbers,
)
from wavelit.data.writing.masks import Mask, find_mask
from wavelit.data.writing.sources import Index, Source, arrays_of, source
from wavelit.data.writing.times import checked_times, line, time_line
from wavelit.data.writing.units import check_units
from wavelit.data.writing.xarrays import Given, by_name
from wavelit.errors import WavelitError, printable
from wavelit.files.atomic import atomic_path
from wavelit.files.space import bytes_needed, hdf5_file

__all__ = [
    "Contents",
    "checked_given",
    "is_shared",
    "write_contents",
    "write_well",
]

Array = npt.NDArray[Any]

AXES = ("x", "y", "z")
# Root attributes of the format and of ours: no scalar of a whole file can have these names.
RESERVED = (
    "dataset_name",
    "grid_type",
    "n_spatial_dims",
    "n_trajectories",
    "simulation_parameters",
    "mask_field",
    "mask_excludes",
    "split_in_time",
    "forcings",
)


@dataclass(frozen=True)
class Contents:
    """What a file is to hold: fields (N, T, *S, ...), constant fields (N, *S, ...) or (*S, ...),
    and what is said of them.

    `attributes` stand at the root.
    """

    given: Given
    name: str
    sides: list[tuple[str, str]]
    grid_type: str = "cartesian"
    mask_field: str | None = None
    mask_excludes: float = 1.0
    forcings: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)


def write_well(
    path: str | Path,
    fields: Mapping[str, Any],
    *,
    name: str,
    boundary_conditions: Boundaries,
    constant_fields: Mapping[str, Any] | None = None,
    scalars: Mapping[str, Any] | None = None,
    coordinates: Mapping[str, Any] | None = None,
    time: Any = None,
    grid_type: str = "cartesian",
    mask_field: str | None = None,
    mask_excludes: float = 1.0,
    units: Mapping[str, str] | None = None,
    forcings: Sequence[str] = (),
) -> Path:
    """Write N trajectories to one HDF5 file in The Well's format.

    The number of spatial axes d is the length of `boundary_conditions`; what a field has beyond (N,
    T, *S) is its tensor order.

    Args:
        path: the file; its folder is made. An existing file is replaced.
        fields: name -> numpy array or torch tensor, (N, T, *S), (N, T, *S, d) or (N, T, *S, d, d);
            or dask array, HDF5 dataset or zarr array of that shape, read piece by piece; or xarray
            DataArray, whose dimensions go by name and whose coordinates and units are kept, see
            `wavelit.data.writing.xarrays`. A Dataset or zarr group stands for its arrays.
        name: the dataset's name, the same in all its files.
        boundary_conditions: per axis, one kind for both sides or (low, high); kinds are periodic,
            wall and open.
        constant_fields: name -> (N, *S), (N, *S, d) or (N, *S, d, d); without N where it is the
            same for all trajectories.
        scalars: name -> one number (a simulation parameter of the whole file), (N, T), which is a
            forcing, or (N,), one number a
            trajectory.
        coordinates: axis name -> (n,) positions, in the order of the axes; x, y, z with 0, 1, 2 ...
            if absent.
        time: (T,) times of the snapshots, the same for all trajectories; 0, 1, 2 ... if absent.
            Dates are counted from the first one, in days or, for shorter steps, in seconds.
        grid_type: The Well's name of the grid.
        mask_field: the constant scalar field that marks cells outside the domain. There any value
            is accepted, NaN and hidden ones too, and 0 is stored in all other fields.
        mask_excludes: its value on these cells.
        units: name of a field, scalar, axis or 'time' -> its unit, in CF's spelling.
        forcings: fields that are known in advance: models are told them and do not predict them.

    Returns:
        The path written.

    Raises:
        WavelitError: a shape, boundary, coordinate or name does not fit, or a value is hidden or
            not finite in float32 in a cell that counts.
        OSError: the file cannot be written, for one because the disk is full.
    """
    path = local_path("path", path, folder=False)
    sides = check_sides(boundary_conditions)
    check_name("name", name)
    check_name("grid_type", grid_type)
    given = by_name(
        checked_given(fields, constant_fields, scalars, coordinates, time, units), len(sides)
    )
    if given.time is not None:
        times, unit = time_line("'time'", given.time)
        line_units = {"time": unit} | given.line_units if unit else given.line_units
        given = replace(given, time=times, line_units=line_units)
    contents = Contents(
        given,
        name,
        sides,
        grid_type,
        mask_field,
        mask_excludes,
        tuple(require_names("forcings", forcings, 0)),
    )
    return write_contents(path, contents)


def write_contents(
    path: Path, contents: Contents, told: Callable[[int], None] = lambda size: None
) -> Path:
    """Write a file, whole or not at all.

    Args:
        path: the file; its folder is made.
        contents: what it is to hold.
        told: called with the number of bytes of each piece that is written.

    Raises:
        WavelitError: as `write_well`.
        OSError: as `write_well`.
    """
    given, d, holes = contents.given, len(contents.sides), contents.mask_field is not None
    varying = {k: source(f"field '{k}'", v, holes) for k, v in given.fields.items()}
    first_name, first = next(iter(varying.items()))
    if first.ndim < 2 + d:
        raise WavelitError(
            f"field '{first_name}': expected (N, T, *S) with {d} spatial axes, one per boundary "
            f"condition, got shape {first.shape}"
        )
    n, steps, shape = first.shape[0], first.shape[1], first.shape[2 : 2 + d]
    if min(n, steps) < 1 or min(shape) < 2:
        raise WavelitError(
            f"field '{first_name}': expected N, T >= 1 and at least 2 points an axis, got shape "
            f"{first.shape}"
        )
    constants = {k: source(f"field '{k}'", v, holes) for k, v in given.constant_fields.items()}
    if twice := sorted(set(varying) & set(constants)):
        raise WavelitError(
            f"field '{twice[0]}' is given both as field and as constant field: rename one"
        )
    leads = dict.fromkeys(varying, 2) | {
        key: 0 if is_shared(value, n, shape) else 1 for key, value in constants.items()
    }
    whole = (n, steps, *shape)
    due = {2: whole, 1: (n, *shape), 0: shape}
    items = {
        key: _Item(
            value.flip([leads[key] + axis for axis in given.flipped]),
            leads[key],
            _order(key, value, due[leads[key]], d),
            key in varying,
        )
        for key, value in (varying | constants).items()
    }
    mask = find_mask(
        contents.mask_field, contents.mask_excludes, {k: items[k].source for k in constants}, shape
    )
    grid = _grid(given.coordinates, shape)
    _require_channels_apart({key: item.order for key, item in items.items()}, list(grid))
    times = checked_times(given.time, steps)
    checked = {key: _scalar(key, value, n, steps) for key, value in given.scalars.items()}
    if shared := [key for key in checked if key in {*items, *grid, "time"}]:
        raise WavelitError(
            f"'{shared[0]}' is the name of a scalar and of a field, an axis or the time: rename one"
        )
    forcings = _checked_forcings(contents.forcings, varying, checked)
    if taken := [key for key, value in checked.items() if value.ndim == 0 and key in RESERVED]:
        raise WavelitError(f"'{taken[0]}' is an attribute of the format: choose another name")
    check_units(given.units, [*items, *checked, *grid, "time"])
    lines = [*grid.values(), *grid.values(), times, *checked.values()]
    size = bytes_needed([*(item.source for item in items.values()), *lines])
    with atomic_path(path) as temporary, hdf5_file(temporary, size) as f:
        f.attrs["dataset_name"] = contents.name
        f.attrs["grid_type"] = contents.grid_type
        f.attrs["n_spatial_dims"] = d
        f.attrs["n_trajectories"] = n
        parameters = [key for key, value in checked.items() if value.ndim == 0]
        _strings(f, "simulation_parameters", parameters)
        for key in parameters:
            f.attrs[key] = float(checked[key])
        if mask is not None:
            f.attrs["mask_field"], f.attrs["mask_excludes"] = mask.name, mask.excludes
        if forcings:
            _strings(f, "forcings", forcings)
        for key, value in contents.attributes.items():
            f.attrs[key] = value
        group = f.create_group("dimensions")
        _strings(group, "spatial_dims", grid)
        for key, values in {"time": times, **grid}.items():
            line_ = _dataset(group, key, values, sample_varying=False, time_varying=key == "time")
            _unit(line_, given.line_units.get(key) or given.units.get(key, ""))
        _boundaries(f.create_group("boundary_conditions"), contents.sides, grid)
        group = f.create_group("scalars")
        _strings(group, "field_names", checked)
        for key, value in checked.items():
            varies = {"sample_varying": value.ndim > 0, "time_varying": value.ndim == 2}
            item = _dataset(group, key, value, **varies)
            _unit(item, given.units.get(key, ""))
        for order in range(3):
            group = f.create_group(f"t{order}_fields")
            names = [key for key, item in items.items() if item.order == order]
            _strings(group, "field_names", names)
            for key in names:
                _field(group, key, items[key], d, mask, told)
                _unit(group[key], given.units.get(key, ""))
    return path


@dataclass(frozen=True)
class _Item:
    """A field: its numbers, how many of trajectory and time stand before its axes, its tensor
    order, whether it varies in time.
    """

    source: Source
    lead: int
    order: int
    varies: bool


def is_shared(value: Source, n: int | None, shape: tuple[int, ...]) -> bool:
    """Whether a constant field is given once, (*S, ...), and not for each of n trajectories."""
    d = len(shape)
    if n is not None and value.shape[: 1 + d] == (n, *shape):
        return False
    return value.shape[:d] == shape and value.shape[d:] == (d,) * (value.ndim - d)


def _field(
    group: h5py.Group,
    name: str,
    what: _Item,
    d: int,
    mask: Mask | None,
    told: Callable[[int], None],
) -> None:
    """Write a field piece by piece."""
    numbers_ = what.source
    item = group.create_dataset(name, shape=numbers_.shape, dtype=np.float32, track_times=False)
    symmetric = antisymmetric = True
    for index in numbers_.pieces(what.lead):
        excluded = None if mask is None else mask.excluded(name, index, what.lead, what.order)
        piece = _float32(name, numbers_.read(index), index, excluded, mask)
        item[index or ...] = piece
        if what.order == 2 and (symmetric or antisymmetric):
            transposed = np.swapaxes(piece, -1, -2)
            symmetric = symmetric and np.array_equal(piece, transposed)
            antisymmetric = antisymmetric and np.array_equal(piece, -transposed)
        told(piece.nbytes)
    item.attrs["sample_varying"] = what.lead > 0
    item.attrs["time_varying"] = what.varies
    item.attrs["dim_varying"] = np.ones(d, bool)
    if what.order == 2:
        item.attrs["symmetric"] = bool(symmetric)
        item.attrs["antisymmetric"] = bool(antisymmetric)


def checked_given(
    fields: Any,
    constant_fields: Any,
    scalars: Any,
    coordinates: Any,
    time: Any,
    units: Any = None,
) -> Given:
    """The arguments with their names checked."""
    due = "array of shape (N, T, *S)"
    given = Given(
        mapping("fields", arrays_of(fields), due),
        mapping("constant_fields", arrays_of(constant_fields), "array of shape (N, *S)"),
        mapping("scalars", arrays_of(scalars), "number"),
        None if coordinates is None else mapping("coordinates", coordinates, "positions"),
        time,
        mapping("units", units, "unit"),
    )
    if not given.fields:
        raise WavelitError(f"expected at least one field, got none: pass fields={{name: {due}}}")
    return given


def _float32(
    name: str, values: Array, index: Index, excluded: Array | None, mask: Mask | None
) -> Array:
    """Numbers as they are stored: 0 in excluded cells, finite in all others."""
    with np.errstate(over="ignore", invalid="ignore"):
        piece = np.asarray(values, np.float32, order="C")
    if excluded is not None:
        piece = np.where(excluded, np.float32(0), piece)
    if not np.isfinite(piece).all():
        bad = tuple(int(i) for i in np.argwhere(~np.isfinite(piece))[0])
        starts = (*(part.start for part in index), *(0,) * (len(bad) - len(index)))
        place = tuple(start + i for start, i in zip(starts, bad, strict=True))
        found = values[bad]
        raise WavelitError(
            f"field '{name}' has a NaN, infinity or float32 overflow at index {place}, where it is "
            f"{found}: mend the data; "
            + (
                "cells outside the domain are declared by a constant field that marks them and "
                "mask_field"
                if mask is None
                else f"mask_field '{mask.name}' is not {mask.excludes:g} in that cell"
            )
        )
    return piece


def _order(name: str, array: Source, leading: tuple[int, ...], d: int) -> int:
    order = array.ndim - len(leading)
    if not 0 <= order <= 2 or array.shape != leading + (d,) * order:
        raise WavelitError(
            f"field '{name}': expected shape {leading}, {(*leading, d)} or {(*leading, d, d)}, got "
            f"{array.shape}"
        )
    return order


def _grid(coordinates: Mapping[str, Any] | None, shape: tuple[int, ...]) -> dict[str, Array]:
    if coordinates is None:
        coordinates = {axis: np.arange(length) for axis, length in zip(AXES, shape, strict=False)}
    if "time" in coordinates:
        raise WavelitError("coordinates: an axis cannot be called 'time': give times as time=")
    if len(coordinates) != len(shape):
        raise WavelitError(
            f"coordinates: expected {len(shape)} axes for the grid {shape}, got {list(coordinates)}"
        )
    grid = {
        axis: line(axis, value, length)
        for (axis, value), length in zip(coordinates.items(), shape, strict=True)
    }
    for axis, positions in grid.items():
        if (np.diff(positions.astype(np.float32)) <= 0).any():
            raise WavelitError(
                f"'{axis}' is stored in float32, where its positions coincide: take its first "
                "value off"
            )
    return grid


def _require_channels_apart(orders: Mapping[str, int], axes: Sequence[str]) -> None:
    """A component of a field has a name of its own, velocity_x, that no other may have."""
    seen: dict[str, str] = {}
    for name, order in orders.items():
        for along in itertools.product(axes, repeat=order):
            channel = f"{name}_{''.join(along)}" if order else name
            if (other := seen.setdefault(channel, name)) != name:
                raise WavelitError(
                    f"'{printable(channel, 60)}' names both a component and another field, of "
                    f"'{printable(other, 60)}' and '{printable(name, 60)}': rename one"
                )


def _checked_forcings(
    names: Sequence[str], fields: Mapping[str, Source], scalars: Mapping[str, Array]
) -> list[str]:
    """What is given in advance: the fields named, and every scalar that varies in time."""
    series = [name for name, value in scalars.items() if value.ndim == 2]
    if strange := [name for name in names if name not in (*fields, *series)]:
        raise WavelitError(
            f"forcings: '{printable(strange[0], 60)}' does not vary in time: name fields, "
            f"{', '.join(fields)}, or scalars (N, T)"
        )
    if set(fields) <= set(names):
        raise WavelitError("forcings: no field is left to predict: leave one of them out")
    return list(dict.fromkeys([*names, *series]))


def _scalar(name: str, value: Any, n: int, steps: int) -> Array:
    array = numbers(f"scalar '{name}'", value).astype(np.float64)
    bad = array[~(np.abs(array) <= LARGEST)]
    if array.shape not in ((), (n,), (n, steps)) or bad.size:
        got = f"{bad.flat[0]}" if bad.size else f"shape {array.shape}"
        raise WavelitError(
            f"scalar '{name}': expected one number finite in float32, or {n}, one a trajectory, "
            f"or ({n}, {steps}), one a frame, got {got}"
        )
    return array


def _boundaries(group: h5py.Group, sides: list[tuple[str, str]], grid: Mapping[str, Array]) -> None:
    for (axis, positions), pair in zip(grid.items(), sides, strict=True):
        for kind in dict.fromkeys(pair):
            mask = np.zeros(len(positions), bool)
            mask[0], mask[-1] = pair[0] == kind, pair[1] == kind
            item = group.create_group(f"{axis}_{kind}")
            _strings(item, "associated_dims", [axis])
            _strings(item, "associated_fields", [])
            item.attrs["bc_type"] = kind.upper()
            item.attrs["sample_varying"] = False
            item.attrs["time_varying"] = False
            item.create_dataset("mask", data=mask, track_times=False)


def _dataset(
    group: h5py.Group, name: str, value: Array, *, sample_varying: bool, time_varying: bool
) -> Any:
    item = group.create_dataset(name, data=np.asarray(value, np.float32), track_times=False)
    item.attrs["sample_varying"] = sample_varying
    item.attrs["time_varying"] = time_varying
    return item


def _unit(item: Any, unit: str) -> None:
    if unit:
        item.attrs["units"] = unit


def _strings(item: Any, name: str, values: Any) -> None:
    # Variable length strings: they are what h5py reads back as str, as The Well's reader needs.
    values = list(values)
    item.attrs.create(
        name, np.array(values, object), shape=(len(values),), dtype=h5py.string_dtype()
    )
