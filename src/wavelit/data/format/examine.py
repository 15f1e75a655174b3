"""From a file to its layout: everything that reading relies on is checked here, once, before a
value is read.

Only what reading needs is demanded; what is merely customary is left to
`wavelit.data.checking.check`. All sizes are compared with one another first, so that what is read,
here and later, is what the fields of the file account for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from wavelit.data.format.hdf5 import (
    UnfitError,
    array,
    flags,
    has,
    label_of,
    members,
    names,
    reading,
    real_number,
    subgroup,
    text,
    whole_number,
)
from wavelit.data.format.layout import ORDERS, Boundary, FieldLayout, FileLayout, Mask, disorder
from wavelit.errors import WavelitError
from wavelit.model.boundaries import BoundaryConditions

__all__ = ["layout_problems", "read_layout"]

BOUNDARIES = ("wall", "open", "periodic")
# What one file may declare: all of it is counted in tables of memory before a field is read.
MOST_TRAJECTORIES, MOST_FRAMES, LONGEST_LINE = 2**20, 2**28, 2**24


def layout_problems(file: h5py.File) -> list[str]:
    """Every deviation of an open file from what the reader needs, as one sentence each: what is
    wrong, what is due.
    """
    return _examine(file, "")[0]


def read_layout(file: h5py.File, path: str) -> FileLayout:
    """Check an open file and say what it holds.

    Raises:
        WavelitError: names the file, the first deviation and its fix.
    """
    problems, layout = _examine(file, path)
    if layout is None:
        raise WavelitError(f"{path}: {problems[0]}")
    return layout


class _Problems(list[str]):
    """What is wrong with a file, as it is met."""

    @contextmanager
    def noted(self) -> Iterator[None]:
        try:
            yield
        except UnfitError as error:
            self.append(str(error))
        # From the first reading of values: the file is named by whoever lists the problems.
        except WavelitError as error:
            self.append(str(error).removeprefix(": "))


def _median_step(line: NDArray[np.float64]) -> float:
    steps = np.diff(line, axis=-1)
    return float(np.median(steps)) if steps.size else 0.0


def _examine(file: h5py.File, path: str) -> tuple[list[str], FileLayout | None]:
    """What is wrong with an open file, and, if nothing is, what it holds."""
    problems = _Problems()
    root: dict[str, Any] = {}
    for name in ("dataset_name", "grid_type"):
        with problems.noted():
            root[name] = text(file, name, f"root attribute '{name}'")
    for name, most, fix in (
        ("n_spatial_dims", 3, "write at most three axes"),
        ("n_trajectories", MOST_TRAJECTORIES, "spread them over several files"),
    ):
        with problems.noted():
            root[name] = whole_number(file, name, f"root attribute '{name}'", most, fix)
    groups: dict[str, h5py.Group] = {}
    for name in ("dimensions", "boundary_conditions", "scalars", *ORDERS.values()):
        with problems.noted():
            groups[name] = subgroup(file, name, f"group '{name}'", "add it, empty if need be")
    if problems:
        return problems, None
    lines: dict[str, h5py.Dataset] = {}
    axes: tuple[str, ...] = ()
    with problems.noted():
        axes = _axes(groups["dimensions"], root["n_spatial_dims"])
    for name in ("time", *axes) if axes else ():
        with problems.noted():
            lines[name] = _line(groups["dimensions"], name, root["n_trajectories"])
    if problems:
        return problems, None
    grid = _Grid(
        axes,
        tuple(lines[axis].shape[-1] for axis in axes),
        root["n_trajectories"],
        lines["time"].shape[-1],
    )
    fields, scalars = _examine_fields(groups, grid, problems)
    boundaries = _examine_boundaries(groups["boundary_conditions"], grid, problems)
    mask: Mask | None = None
    forcings: tuple[str, ...] = ()
    with problems.noted():
        mask = _mask(file, fields)
    with problems.noted():
        forcings = _forcings(file, fields, scalars)
    if not problems:
        with problems.noted():
            _require_sizes(fields, grid)
    if problems:
        return problems, None
    # Nothing was read so far but attributes: what is read now is of the sizes that the fields have.
    values: dict[str, NDArray[np.float64]] = {}
    dt = 0.0
    conditions: BoundaryConditions = ()
    with problems.noted(), reading(path, "'/dimensions/time'"):
        time = np.asarray(lines["time"][()], np.float64)
        # A model asks for the distance of two states, which is neither negative nor unknown.
        if not np.isfinite(time).all() or (dt := _median_step(time)) < 0:
            problems.append(disorder("time", time))
    for scalar in scalars:
        if not scalar.time_varying:
            with problems.noted(), reading(path, f"scalar '{scalar.name}'"):
                stored = np.asarray(groups["scalars"][scalar.name][()], np.float64)
                values[scalar.name] = np.broadcast_to(stored, (grid.n_trajectories,)).copy()
    with problems.noted():
        conditions = _boundary_conditions(groups["boundary_conditions"], boundaries, grid, path)
    if problems:
        return problems, None
    return problems, FileLayout(
        path=path,
        dataset_name=root["dataset_name"],
        grid_type=root["grid_type"],
        axes=axes,
        resolution=grid.resolution,
        n_trajectories=grid.n_trajectories,
        n_steps=grid.n_steps,
        dt=dt,
        fields=fields,
        scalar_names=tuple(scalar.name for scalar in scalars),
        scalars=values,
        time_varying_scalars=tuple(scalar.name for scalar in scalars if scalar.time_varying),
        own_scalars=tuple(scalar.name for scalar in scalars if scalar.sample_varying),
        own_coordinates=tuple(name for name, line in lines.items() if line.ndim == 2),
        boundaries=boundaries,
        boundary_conditions=conditions,
        mask=mask,
        units=_units(groups, fields, scalars, lines),
        split_in_time=has(file, "split_in_time", "root attribute 'split_in_time'"),
        forcings=forcings,
    )


class _Grid(NamedTuple):
    axes: tuple[str, ...]
    resolution: tuple[int, ...]
    n_trajectories: int
    n_steps: int


class _Scalar(NamedTuple):
    name: str
    sample_varying: bool
    time_varying: bool


def _axes(dimensions: h5py.Group, n: int) -> tuple[str, ...]:
    label = "attribute 'spatial_dims' of group 'dimensions'"
    axes = tuple(names(dimensions, "spatial_dims", label, "list the names of the axes"))
    if len(axes) != n:
        raise UnfitError(
            f"'spatial_dims' names {len(axes)} axes but 'n_spatial_dims' is {n}; make them agree"
        )
    if "time" in axes:
        raise UnfitError(
            "'spatial_dims' names an axis 'time', which is not one of space; rename it"
        )
    return axes


def _line(dimensions: h5py.Group, name: str, n_trajectories: int) -> h5py.Dataset:
    """Coordinates (n,), or (trajectory, n) where every trajectory has its own."""
    label = f"'/dimensions/{name}'"
    line = array(dimensions, name, label, kinds="fiu")
    (varies,) = flags(line, "sample_varying", f"attribute 'sample_varying' of {label}")
    if line.ndim == 0:
        raise UnfitError(f"{label} is a single number; an array of coordinates is due")
    n = line.shape[-1]
    if not 1 <= n <= LONGEST_LINE:
        raise UnfitError(f"{label} has {n} points; from 1 to {LONGEST_LINE} are due")
    due = (n_trajectories, n) if varies else (n,)
    if line.shape != due:
        raise UnfitError(
            f"{label} has shape {line.shape} but its attributes and 'n_trajectories' promise "
            f"{due}; write it anew"
        )
    return line


def _examine_fields(
    groups: dict[str, h5py.Group], grid: _Grid, problems: _Problems
) -> tuple[tuple[FieldLayout, ...], tuple[_Scalar, ...]]:
    fields: list[FieldLayout] = []
    scalars: list[_Scalar] = []
    where: dict[str, str] = {}
    for order, group in ORDERS.items():
        for name in _declared(groups[group], group, "fields", problems):
            with problems.noted():
                if name in where:
                    raise UnfitError(
                        f"field '{name}' is both in '{where[name]}' and in '{group}'; rename one"
                    )
                where[name] = group
                fields.append(_field(groups[group], f"'/{group}/{name}'", name, order, grid))
    for name in _declared(groups["scalars"], "scalars", "scalars", problems):
        with problems.noted():
            label = f"'/scalars/{name}'"
            item = array(groups["scalars"], name, label)
            varying = _varying(item, label)
            _require_shape(item, f"scalar '{name}'", varying, grid, ())
            scalars.append(_Scalar(name, *varying))
    return tuple(fields), tuple(scalars)


def _declared(group: h5py.Group, name: str, kind: str, problems: _Problems) -> list[str]:
    found: list[str] = []
    with problems.noted():
        found = names(
            group, "field_names", f"attribute 'field_names' of group '{name}'", f"list its {kind}"
        )
    return found


def _varying(item: h5py.Dataset, label: str) -> tuple[bool, bool]:
    """Whether it varies from trajectory to trajectory, and in time."""
    first, second = (
        flags(item, name, f"attribute '{name}' of {label}")[0]
        for name in ("sample_varying", "time_varying")
    )
    return first, second


def _field(group: h5py.Group, label: str, name: str, order: int, grid: _Grid) -> FieldLayout:
    item = array(group, name, label)
    varying = _varying(item, label)
    along = flags(item, "dim_varying", f"attribute 'dim_varying' of {label}", n=None)
    if len(along) != len(grid.axes):
        raise UnfitError(
            f"'dim_varying' of field '{name}' has {len(along)} entries; {len(grid.axes)} are due, "
            "one an axis"
        )
    stored = tuple(n * varies for n, varies in zip(grid.resolution, along, strict=True))
    _require_shape(item, f"field '{name}'", varying, grid, (*stored, *(len(grid.axes),) * order))
    # More than the whole file holds: compressed, or declared and never written.
    if item.nbytes > item.file.id.get_filesize() and item.id.get_storage_size() == 0:
        raise UnfitError(
            f"field '{name}' declares {item.nbytes} bytes and holds none: write its values"
        )
    return FieldLayout(name, order, *varying, along, int(item.nbytes), item.dtype.str)


def _require_shape(
    item: h5py.Dataset, label: str, varying: tuple[bool, bool], grid: _Grid, rest: tuple[int, ...]
) -> None:
    """`rest` are the lengths after trajectory and time; 0 marks an axis along which the field
    does not vary.
    """
    lengths = (grid.n_trajectories, grid.n_steps)
    lead = tuple(n for n, flag in zip(lengths, varying, strict=True) if flag)
    # The format leaves such an axis out; The Well's reader takes one of length 1 as well.
    due = (*lead, *(n for n in rest if n > 0))
    if item.shape not in (due, (*lead, *(max(n, 1) for n in rest))):
        raise UnfitError(
            f"{label} has shape {item.shape} but its attributes and the dimensions promise {due}; "
            "write it anew"
        )


def _require_sizes(fields: Sequence[FieldLayout], grid: _Grid) -> None:
    """Trajectories, steps and points must be those of some field: what else is a file to hold so
    many of?
    """
    if not any(field.time_varying for field in fields):
        raise UnfitError(
            "no field varies in time, so that there is nothing to predict; list one that does"
        )
    for i, (axis, n) in enumerate(zip(grid.axes, grid.resolution, strict=True)):
        if n > 1 and not any(field.dim_varying[i] for field in fields):
            raise UnfitError(
                f"no field varies along axis '{axis}' of {n} points; leave this axis out"
            )
    if grid.n_trajectories * grid.n_steps > MOST_FRAMES:
        raise UnfitError(
            f"{grid.n_trajectories} trajectories of {grid.n_steps} steps are more than "
            f"{MOST_FRAMES} frames; spread them over several files"
        )


def _mask(file: h5py.File, fields: Sequence[FieldLayout]) -> Mask | None:
    """The mask that a file declares by the root attributes mask_field and mask_excludes."""
    if not has(file, "mask_field", "root attribute 'mask_field'"):
        return None
    name = text(file, "mask_field", "root attribute 'mask_field'")
    known = [field.name for field in fields if field.order == 0 and not field.time_varying]
    if name not in known:
        raise UnfitError(
            f"root attribute 'mask_field' names '{name}', which is not a constant scalar field; "
            f"those are {known}"
        )
    label = "root attribute 'mask_excludes'"
    return Mask(name, real_number(file, "mask_excludes", label))


def _forcings(
    file: h5py.File, fields: Sequence[FieldLayout], scalars: Sequence[_Scalar]
) -> tuple[str, ...]:
    """What a file declares as given in advance by the root attribute forcings."""
    label = "root attribute 'forcings'"
    if not has(file, "forcings", label):
        return ()
    found = names(file, "forcings", label, "add it")
    known = [field.name for field in fields if field.time_varying]
    known += [scalar.name for scalar in scalars if scalar.time_varying]
    if strange := [name for name in found if name not in known]:
        raise UnfitError(
            f"{label} names '{strange[0]}', which is no field or scalar that varies in time; those "
            f"are {known}"
        )
    return tuple(found)


def _units(
    groups: dict[str, h5py.Group],
    fields: Sequence[FieldLayout],
    scalars: Sequence[_Scalar],
    lines: dict[str, h5py.Dataset],
) -> dict[str, str]:
    """The units that a file tells, by the name of the field, scalar or axis, and "time"."""
    items = {field.name: groups[ORDERS[field.order]][field.name] for field in fields}
    items |= {scalar.name: groups["scalars"][scalar.name] for scalar in scalars} | lines
    found = {name: label_of(item, "units") for name, item in items.items()}
    return {name: unit for name, unit in found.items() if unit}


def _examine_boundaries(
    group: h5py.Group, grid: _Grid, problems: _Problems
) -> tuple[Boundary, ...]:
    boundaries: list[Boundary] = []
    found: list[str] = []
    with problems.noted():
        found = members(group, "group 'boundary_conditions'")
    for name in found:
        with problems.noted():
            boundaries.append(_boundary(group, name, grid))
    return tuple(boundaries)


def _boundary(group: h5py.Group, name: str, grid: _Grid) -> Boundary:
    label = f"boundary condition '{name}'"
    item = subgroup(group, name, label, "a group with a dataset 'mask' is due")
    kind = text(item, "bc_type", f"attribute 'bc_type' of {label}")
    dims = names(item, "associated_dims", f"attribute 'associated_dims' of {label}", "add it")
    if kind.lower() not in BOUNDARIES:
        raise UnfitError(
            f"{label} is of type '{kind.lower()}'; one of {', '.join(BOUNDARIES)} is due"
        )
    if strange := [dim for dim in dims if dim not in grid.axes]:
        raise UnfitError(
            f"{label} belongs to axis '{strange[0]}', which is none of {list(grid.axes)}; name one "
            "of them"
        )
    if not dims:
        raise UnfitError(f"'associated_dims' of {label} is empty; name its axis")
    mask = array(item, "mask", f"'mask' of {label}")
    if mask.ndim != len(dims):
        raise UnfitError(
            f"'mask' of {label} has {mask.ndim} dimensions; {len(dims)} are due, one an associated "
            "axis"
        )
    due = tuple(grid.resolution[grid.axes.index(dim)] for dim in dims)
    if mask.shape != due:
        raise UnfitError(
            f"'mask' of {label} has shape {mask.shape} but its axes {due}; write it anew"
        )
    return Boundary(name, kind, tuple(dims))


def _boundary_conditions(
    group: h5py.Group, boundaries: Sequence[Boundary], grid: _Grid, path: str
) -> BoundaryConditions:
    """Name the two ends of every axis, by the masks as The Well's reader does: open unless a mask
    says otherwise.

    A wall must cover the whole end, an open or periodic part makes the end so. Ours differs in one
    thing: a periodic condition holds at both ends of its axis whatever its mask marks, since half a
    period does not exist.
    """
    ends = [["open", "open"] for _ in grid.axes]
    for boundary in boundaries:
        kind, label = boundary.kind.lower(), f"'mask' of boundary condition '{boundary.name}'"
        for position, dim in enumerate(boundary.dims):
            for end, index in ((0, 0), (1, -1)):
                marked = np.True_
                if kind != "periodic":
                    with reading(path, label):
                        marked = group[boundary.name]["mask"][(*(slice(None),) * position, index)]
                if not np.isin(marked, (0, 1)).all():
                    raise UnfitError(
                        f"{label} has values other than 0 and 1; write it as true and false"
                    )
                if marked.all() if kind == "wall" else marked.any():
                    ends[grid.axes.index(dim)][end] = kind
    return tuple((low, high) for low, high in ends)
