"""The layout of a file in The Well's format: what the reader relies on, and what the files of a
dataset must share.

A file holds fields of tensor order 0, 1 and 2 in the groups t0_fields, t1_fields and t2_fields,
each an array of shape (trajectory?, time?, axis?..., component...): a dimension is stored only
where the field's attributes `sample_varying`, `time_varying` and `dim_varying` say so. Beside them
stand the groups `dimensions` (time and the grid axes), `boundary_conditions` (masks, named by type
and axis) and `scalars` (the PDE's parameters). `wavelit.data.format.examine` makes layouts of
files, looked up once and checked.

References:
    The Well: a Large-Scale Collection of Diverse Physics Simulations for Machine Learning, Ohana et
    al., 2024, arXiv 2412.00568; its page "Data format".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavelit.checks.arguments import require_whole
from wavelit.errors import WavelitError, printable
from wavelit.model.boundaries import BoundaryConditions

__all__ = [
    "Boundary",
    "FieldLayout",
    "FileLayout",
    "Mask",
    "beyond_float32",
    "common_boundaries",
    "disorder",
    "mask_of",
    "require_agreement",
    "require_steps",
    "scalar_problems",
    "uneven_lengths",
    "unlike_cartesian",
]

ORDERS = {0: "t0_fields", 1: "t1_fields", 2: "t2_fields"}


@dataclass(frozen=True)
class FieldLayout:
    """One field of a file: its name, tensor order and what it varies along.

    A component that was chosen alone has order 0, and `stored` and `component` say of which field
    it is. One that is read by its `logarithm` has another name than it is `stored` under.
    """

    name: str
    order: int
    sample_varying: bool
    time_varying: bool
    dim_varying: tuple[bool, ...]
    nbytes: int
    dtype: str = "<f4"
    stored: str = ""
    component: tuple[int, ...] = ()
    logarithm: bool = False

    @property
    def source(self) -> str:
        """Its name in the file."""
        return self.stored or self.name

    @property
    def group(self) -> str:
        """The group of the file that holds it."""
        return ORDERS[len(self.component) or self.order]

    @property
    def n_components(self) -> int:
        return int(len(self.dim_varying) ** self.order)


class Boundary(NamedTuple):
    """A boundary condition: its name, its kind as the file spells it, the axes that its mask is
    over.
    """

    name: str
    kind: str
    dims: tuple[str, ...]


class Mask(NamedTuple):
    """The constant scalar field that tells which cells count, and its value on the others."""

    field: str
    excludes: float = 1.0


@dataclass(frozen=True)
class FileLayout:
    """What one file holds.

    `scalars` has one float64 value a trajectory for every one of the scalars that is constant in
    time; `dt` is the median time between frames; `own_scalars` and `own_coordinates` name those of
    which every trajectory has its own. The rest is what a file may declare beyond The Well's
    format: its mask, the units of fields, scalars, axes and "time", whether its trajectories are
    parts of longer records, cut in time, and what is given instead of predicted.
    """

    path: str
    dataset_name: str
    grid_type: str
    axes: tuple[str, ...]
    resolution: tuple[int, ...]
    n_trajectories: int
    n_steps: int
    dt: float
    fields: tuple[FieldLayout, ...]
    scalar_names: tuple[str, ...]
    scalars: dict[str, NDArray[np.float64]]
    time_varying_scalars: tuple[str, ...]
    own_scalars: tuple[str, ...]
    own_coordinates: tuple[str, ...]
    boundaries: tuple[Boundary, ...]
    boundary_conditions: BoundaryConditions
    mask: Mask | None = None
    units: dict[str, str] = field(default_factory=dict)
    split_in_time: bool = False
    forcings: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Size of the fields once read, in bytes."""
        return sum(field.nbytes for field in self.fields)


def mask_of(layout: FileLayout, mask_field: str | None, mask_excludes: float) -> Mask | None:
    """The mask that holds for a file: the one given, else the one that the file declares.

    Raises:
        WavelitError: no constant scalar field has that name, the file declares another value, or a
            value is given without a field.
    """
    if mask_field is None:
        if mask_excludes not in (1.0, layout.mask and layout.mask.excludes):
            raise WavelitError(
                f"{layout.path}: mask_excludes {mask_excludes:g} is a value of a mask: name it in "
                "mask_field"
            )
        return layout.mask
    known = [f.name for f in layout.fields if f.order == 0 and not f.time_varying]
    if mask_field not in known:
        raise WavelitError(
            f"{layout.path}: mask_field '{mask_field}' is not a constant scalar field; those are "
            f"{known}"
        )
    mask = Mask(mask_field, mask_excludes)
    if layout.mask is not None and mask.field == layout.mask.field and mask != layout.mask:
        raise WavelitError(
            f"{layout.path}: declares that '{mask_field}' is {layout.mask.excludes:g} on excluded "
            f"cells, not {mask_excludes:g}; leave mask_field and mask_excludes out"
        )
    return mask


def beyond_float32(x: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where a finite number is too large for float32."""
    return np.isfinite(x) & (np.abs(x) > np.finfo(np.float32).max)


def scalar_problems(layout: FileLayout) -> Iterator[str]:
    """Scalars that float32 cannot hold, one sentence each."""
    for name, values in layout.scalars.items():
        if not np.isfinite(values).all():
            first = int(np.argmin(np.isfinite(values)))
            yield f"scalar '{name}' of trajectory {first} is not finite; write it again"
            continue
        with np.errstate(over="ignore", under="ignore"):
            stored = values.astype(np.float32)
        lost = ~np.isfinite(stored) | ((stored == 0) & (values != 0))
        if lost.any():
            trajectory = int(np.argmax(lost))
            yield (
                f"scalar '{name}' of trajectory {trajectory} is {values[trajectory]:g}, beyond "
                "float32; choose units in which it is about one"
            )


def require_agreement(layouts: Iterable[FileLayout]) -> None:
    """All files of a split must hold the same fields on the same grid.

    Raises:
        WavelitError: names the first file that differs from the first one, and in what.
    """
    first, *others = layouts
    for other in others:
        for what in ("dataset_name", "axes", "resolution", "mask", "forcings"):
            if getattr(first, what) != getattr(other, what):
                raise WavelitError(
                    f"{other.path}: {what} is {getattr(other, what)} but {getattr(first, what)} in "
                    f"{first.path}; keep different datasets in different folders"
                )
        signatures = [
            [(f.name, f.order, f.time_varying) for f in layout.fields] for layout in (first, other)
        ]
        names = [[*layout.scalars, *layout.time_varying_scalars] for layout in (first, other)]
        if signatures[0] != signatures[1] or names[0] != names[1]:
            mine = [f.name for f in other.fields] + names[1]
            theirs = [f.name for f in first.fields] + names[0]
            raise WavelitError(
                f"{other.path}: fields and scalars {mine} are not those of {first.path}, {theirs} "
                "(names, order and what varies in time must agree); write the files alike"
            )


def common_boundaries(layouts: Iterable[FileLayout]) -> BoundaryConditions:
    """The (low, high) boundary of every axis, on which all files must agree.

    Raises:
        WavelitError: names the first file that differs.
    """
    first, *others = layouts
    for other in others:
        if other.boundary_conditions != first.boundary_conditions:
            raise WavelitError(
                f"{other.path}: boundary conditions {other.boundary_conditions} are not those of "
                f"{first.path}, {first.boundary_conditions}; keep different boundaries in "
                "different folders"
            )
    return first.boundary_conditions


def disorder(name: str, line: NDArray[np.float64]) -> str:
    """Why coordinates (..., n) do not increase, if they do not."""
    if not np.isfinite(line).all():
        return (
            f"'{name}' is not finite at point {int(np.argwhere(~np.isfinite(line))[0][-1])}; write "
            "it again"
        )
    steps = np.diff(line, axis=-1)
    if not (steps <= 0).any():
        return ""
    if (steps < 0).all():
        return (
            f"'{name}' runs backwards, from {line.flat[0]:.6g} to {line.flat[-1]:.6g}; turn it and "
            "the fields around"
        )
    if (steps == 0).all():
        return (
            f"'{name}' is {line.flat[0]:.6g} at all its {line.shape[-1]} points; write the "
            "coordinates"
        )
    place = tuple(np.argwhere(steps <= 0)[0])
    before, after = line[place], line[(*place[:-1], place[-1] + 1)]
    what = "repeats" if before == after else "goes back from"
    return (
        f"'{name}' {what} {before:.6g}{'' if before == after else f' to {after:.6g}'} at point "
        f"{place[-1] + 1}; sort its points and the fields with them, and leave repeated ones out"
    )


def require_steps(
    layouts: Iterable[FileLayout], n_steps_input: int, n_steps_output: int, stride: int = 1
) -> None:
    """Every trajectory must hold at least one window of history and target.

    Raises:
        WavelitError: a number of steps is none; or names the first file that is too short.
    """
    n_steps_input = require_whole("n_steps_input", n_steps_input)
    n_steps_output = require_whole("n_steps_output", n_steps_output)
    needed = 1 + stride * (n_steps_input + n_steps_output - 1)
    for layout in layouts:
        if layout.n_steps < needed:
            raise WavelitError(
                f"{layout.path}: {layout.n_steps} steps a trajectory, but a window of "
                f"n_steps_input={n_steps_input} and n_steps_output={n_steps_output} needs "
                f"{needed}; lower them or leave this file out"
            )


def unlike_cartesian(layout: FileLayout) -> str | None:
    """What to say of a grid that is read as if its cells were all alike."""
    if layout.grid_type.lower() == "cartesian":
        return None
    return (
        f"grid_type is '{printable(layout.grid_type, 60)}', but models and scores take all cells "
        "as alike; interpolate onto a Cartesian grid, or know that areas and distances are not seen"
    )


def uneven_lengths(layouts: Sequence[FileLayout]) -> str | None:
    """What to say of rollouts where trajectories are not of one length."""
    steps = sorted({layout.n_steps for layout in layouts})
    if len(steps) < 2:
        return None
    return f"trajectories of {steps[0]} to {steps[-1]} steps; rollouts end with the shortest"
