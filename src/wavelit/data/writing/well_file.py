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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from wavelit.checks.arguments import require_names
from wavelit.data.writing.contents import Contents, Item, Plan, checked_given, planned
from wavelit.data.writing.given import Boundaries, check_name, check_sides, local_path
from wavelit.data.writing.masks import Mask
from wavelit.data.writing.sources import Index
from wavelit.data.writing.times import time_line
from wavelit.data.writing.xarrays import by_name
from wavelit.errors import WavelitError
from wavelit.files.atomic import atomic_path
from wavelit.files.space import bytes_needed, hdf5_file

__all__ = ["write_contents", "write_well"]

Array = npt.NDArray[Any]

# What NetCDF's library stores where nothing was written, of float and double.
UNWRITTEN = np.float32(9.969209968386869e36)


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
        scalars: name -> one number (a simulation parameter of the whole file), (N,), one a
            trajectory, or (N, T), which is a forcing.
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
    plan = planned(contents)
    lines = [*plan.grid.values(), *plan.grid.values(), plan.times, *plan.scalars.values()]
    size = bytes_needed([*(item.source for item in plan.items.values()), *lines])
    with atomic_path(path) as temporary, hdf5_file(temporary, size) as file:
        _write_root(file, contents, plan)
        _write_lines(file, contents, plan)
        for order in range(3):
            group = file.create_group(f"t{order}_fields")
            names = [key for key, item in plan.items.items() if item.order == order]
            _strings(group, "field_names", names)
            for key in names:
                _field(group, key, plan.items[key], len(contents.sides), plan.mask, told)
                _unit(group[key], contents.given.units.get(key, ""))
    return path


def _write_root(file: h5py.File, contents: Contents, plan: Plan) -> None:
    """Attributes of the file."""
    file.attrs["dataset_name"] = contents.name
    file.attrs["grid_type"] = contents.grid_type
    file.attrs["n_spatial_dims"] = len(contents.sides)
    file.attrs["n_trajectories"] = plan.n_trajectories
    parameters = [key for key, value in plan.scalars.items() if value.ndim == 0]
    _strings(file, "simulation_parameters", parameters)
    for key in parameters:
        file.attrs[key] = float(plan.scalars[key])
    if plan.mask is not None:
        file.attrs["mask_field"], file.attrs["mask_excludes"] = plan.mask.name, plan.mask.excludes
    if plan.forcings:
        _strings(file, "forcings", plan.forcings)
    for key, value in contents.attributes.items():
        file.attrs[key] = value


def _write_lines(file: h5py.File, contents: Contents, plan: Plan) -> None:
    """Coordinates, boundary conditions and scalars."""
    given = contents.given
    group = file.create_group("dimensions")
    _strings(group, "spatial_dims", plan.grid)
    for key, values in {"time": plan.times, **plan.grid}.items():
        item = _dataset(group, key, values, sample_varying=False, time_varying=key == "time")
        _unit(item, given.line_units.get(key) or given.units.get(key, ""))
    _boundaries(file.create_group("boundary_conditions"), contents.sides, plan.grid)
    group = file.create_group("scalars")
    _strings(group, "field_names", plan.scalars)
    for key, value in plan.scalars.items():
        varies = {"sample_varying": value.ndim > 0, "time_varying": value.ndim == 2}
        _unit(_dataset(group, key, value, **varies), given.units.get(key, ""))


def _field(
    group: h5py.Group,
    name: str,
    what: Item,
    d: int,
    mask: Mask | None,
    told: Callable[[int], None],
) -> None:
    """Write a field piece by piece."""
    numbers_ = what.source
    item = group.create_dataset(name, shape=numbers_.shape, dtype=np.float32, track_times=False)
    symmetric = antisymmetric = True
    stored, largest = False, 0.0
    for index in numbers_.pieces(what.lead):
        excluded = None if mask is None else mask.excluded(name, index, what.lead, what.order)
        values = numbers_.read(index)
        piece = _float32(name, values, index, excluded, mask)
        stored = stored or bool(piece.any())
        if not stored:
            counted = values if excluded is None else np.where(excluded, 0, values)
            largest = max(largest, float(np.abs(counted, dtype=np.float64).max(initial=0.0)))
        item[index or ...] = piece
        if what.order == 2 and (symmetric or antisymmetric):
            transposed = np.swapaxes(piece, -1, -2)
            symmetric = symmetric and np.array_equal(piece, transposed)
            antisymmetric = antisymmetric and np.array_equal(piece, -transposed)
        told(piece.nbytes)
    if largest and not stored:
        raise WavelitError(
            f"field '{name}' holds numbers up to {largest:.3g}, which float32 rounds to 0: choose "
            "units in which it is about one"
        )
    item.attrs["sample_varying"] = what.lead > 0
    item.attrs["time_varying"] = what.varies
    item.attrs["dim_varying"] = np.ones(d, bool)
    if what.order == 2:
        item.attrs["symmetric"] = bool(symmetric)
        item.attrs["antisymmetric"] = bool(antisymmetric)


def _float32(
    name: str, values: Array, index: Index, excluded: Array | None, mask: Mask | None
) -> Array:
    """Numbers as they are stored: 0 in excluded cells, finite in all others."""
    with np.errstate(over="ignore", invalid="ignore"):
        piece = np.asarray(values, np.float32, order="C")
    if excluded is not None:
        piece = np.where(excluded, np.float32(0), piece)
    if (unwritten := piece == UNWRITTEN).any():
        raise WavelitError(
            f"field '{name}' holds {int(unwritten.sum())} times {UNWRITTEN:.6g}, which NetCDF "
            "stores where nothing was written: leave these frames out, or mask their cells"
        )
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
