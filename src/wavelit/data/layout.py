"""The layout of a file in The Well's format: what the reader relies on, looked up once and checked.

A file holds fields of tensor order 0, 1 and 2 in the groups t0_fields, t1_fields and t2_fields, each an array of
shape (trajectory?, time?, axis?..., component...): a dimension is stored only where the field's attributes
`sample_varying`, `time_varying` and `dim_varying` say so. Beside them stand the groups `dimensions` (time and the
grid axes), `boundary_conditions` (masks, named by type and axis) and `scalars` (the PDE's parameters).
Only what reading needs is demanded; what is merely customary is left to `wavelit.data.check`.

References:
    The Well: a Large-Scale Collection of Diverse Physics Simulations for Machine Learning, Ohana et al., 2024,
    arXiv 2412.00568; its page "Data format".
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import h5py
import numpy as np
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from wavelit.errors import WavelitError

__all__ = [
    "SPLITS",
    "BoundaryConditions",
    "FieldLayout",
    "FileLayout",
    "common_boundaries",
    "find_files",
    "layout_problems",
    "open_file",
    "read_layout",
    "require_agreement",
    "require_steps",
    "split_folder",
    "uneven_lengths",
]

SPLITS = ("train", "valid", "test")
ORDERS = {0: "t0_fields", 1: "t1_fields", 2: "t2_fields"}
BOUNDARIES = ("wall", "open", "periodic")

BoundaryConditions = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class FieldLayout:
    """One field of a file: its name, tensor order and what it varies along."""

    name: str
    order: int
    sample_varying: bool
    time_varying: bool
    dim_varying: tuple[bool, ...]
    nbytes: int

    @property
    def n_components(self) -> int:
        return int(len(self.dim_varying) ** self.order)


@dataclass(frozen=True)
class FileLayout:
    """What one file holds.

    `scalars` has one float64 value a trajectory for every scalar constant in time; `dt` is the median time between frames.
    """

    path: str
    dataset_name: str
    axes: tuple[str, ...]
    resolution: tuple[int, ...]
    n_trajectories: int
    n_steps: int
    dt: float
    fields: tuple[FieldLayout, ...]
    scalars: dict[str, NDArray[np.float64]]
    time_varying_scalars: tuple[str, ...]
    boundary_conditions: BoundaryConditions

    @property
    def nbytes(self) -> int:
        """Size of the fields once read, in bytes."""
        return sum(field.nbytes for field in self.fields)


def split_folder(path: str, split: str | None) -> str:
    """The folder that holds the files of a split.

    Raises:
        WavelitError: the split is not one of train, valid and test.
    """
    if split is None:
        return path
    if split not in SPLITS:
        raise WavelitError(f"unknown split '{split}' of {path}: use one of {', '.join(SPLITS)}")
    return f"{path.rstrip('/')}/data/{split}"


def find_files(folder: str, storage_options: dict[str, Any] | None = None) -> tuple[Any, list[str]]:
    """The filesystem of a folder (local path or fsspec address) and its HDF5 files, sorted.

    Raises:
        WavelitError: the folder does not exist, holds no file ending in .hdf5 or .h5, or its name is a pattern.
    """
    try:
        fs, root = fsspec.url_to_fs(folder, **(storage_options or {}))
    except (ValueError, ImportError) as error:
        raise WavelitError(f"{folder}: no filesystem for this address ({error})") from error
    if not fs.isdir(root):
        raise WavelitError(
            f"{folder}: no such folder; a dataset is a folder with data/train, data/valid and data/test in it"
        )
    if glob.has_magic(root):
        raise WavelitError(
            f"{folder}: its name holds one of * ? [, which The Well's reader takes for a pattern; rename it"
        )
    files = sorted(fs.glob(f"{root}/*.h5") + fs.glob(f"{root}/*.hdf5"))
    if not files:
        raise WavelitError(
            f"{folder}: no file ending in .hdf5 or .h5 in this folder; give the dataset's own folder"
        )
    return fs, files


def open_file(fs: Any, path: str, **fsspec_params: Any) -> h5py.File:
    """Open an HDF5 file for reading: by HDF5 itself when local, through fsspec otherwise.

    Raises:
        WavelitError: the file is missing, truncated or not HDF5.
    """
    try:
        if isinstance(fs, LocalFileSystem):
            return h5py.File(path, "r")
        return h5py.File(fs.open(path, "rb", **fsspec_params), "r")
    except FileNotFoundError as error:
        raise WavelitError(f"{path}: no such file; it was listed but has gone since") from error
    except OSError as error:
        reason = str(error)
        if "truncated" in reason:
            raise WavelitError(f"{path}: truncated HDF5 file; download or write it again") from error
        if "signature" in reason:
            raise WavelitError(f"{path}: not an HDF5 file; delete it or write it again") from error
        raise WavelitError(f"{path}: HDF5 cannot open this file ({reason})") from error


def layout_problems(file: h5py.File) -> Iterator[str]:
    """Every deviation of an open file from what the reader needs, as one sentence each: what is wrong, what is due."""
    missing = [
        name
        for name in ("dataset_name", "grid_type", "n_spatial_dims", "n_trajectories")
        if name not in file.attrs
    ]
    yield from (f"root attribute '{name}' is missing; add it" for name in missing)
    groups = ("dimensions", "boundary_conditions", "scalars", *ORDERS.values())
    absent = [name for name in groups if not isinstance(file.get(name), h5py.Group)]
    yield from (f"group '{name}' is missing; add it, empty if need be" for name in absent)
    if missing or absent:
        return
    dimensions = file["dimensions"]
    if "spatial_dims" not in dimensions.attrs:
        yield "attribute 'spatial_dims' of group 'dimensions' is missing; list the names of the axes"
        return
    axes = _names(dimensions.attrs["spatial_dims"])
    if len(axes) != int(file.attrs["n_spatial_dims"]):
        yield f"'spatial_dims' names {len(axes)} axes but 'n_spatial_dims' is {file.attrs['n_spatial_dims']}; make them agree"
        return
    unusable = False
    for name in ("time", *axes):
        problem = _dataset_problem(dimensions, name, ("sample_varying",))
        if problem is None and dimensions[name].ndim == 0:
            problem = f"'/dimensions/{name}' is a single number; an array of coordinates is due"
        if problem is not None:
            unusable = True
            yield problem
    if unusable:
        return
    lengths = (int(file.attrs["n_trajectories"]), int(dimensions["time"].shape[-1]))
    resolution = tuple(dimensions[axis].shape[-1] for axis in axes)
    flags = ("sample_varying", "time_varying")
    for order, group_name in ORDERS.items():
        if "field_names" not in file[group_name].attrs:
            yield f"attribute 'field_names' of group '{group_name}' is missing; list its fields"
            continue
        for name in _names(file[group_name].attrs["field_names"]):
            problem = _dataset_problem(file[group_name], name, (*flags, "dim_varying"))
            if problem is None:
                varying = tuple(bool(v) for v in np.atleast_1d(file[group_name][name].attrs["dim_varying"]))
                if len(varying) != len(axes):
                    problem = f"'dim_varying' of field '{name}' has {len(varying)} entries; {len(axes)} are due, one an axis"
                else:
                    grid = (n * varies for n, varies in zip(resolution, varying, strict=True))
                    components = (len(axes),) * order
                    problem = _shape_problem(
                        file[group_name][name], f"field '{name}'", lengths, (*grid, *components)
                    )
            if problem is not None:
                yield problem
    if "field_names" not in file["scalars"].attrs:
        yield "attribute 'field_names' of group 'scalars' is missing; list its scalars"
    else:
        for name in _names(file["scalars"].attrs["field_names"]):
            problem = _dataset_problem(file["scalars"], name, flags)
            if problem is None:
                problem = _shape_problem(file["scalars"][name], f"scalar '{name}'", lengths, ())
            if problem is not None:
                yield problem
    for name, boundary in file["boundary_conditions"].items():
        yield from _boundary_problems(name, boundary, axes)


def read_layout(file: h5py.File, path: str) -> FileLayout:
    """Check an open file and say what it holds.

    Raises:
        WavelitError: names the file, the first deviation and its fix.
    """
    for problem in layout_problems(file):
        raise WavelitError(f"{path}: {problem}")
    axes = tuple(_names(file["dimensions"].attrs["spatial_dims"]))
    n_trajectories = int(file.attrs["n_trajectories"])
    fields = []
    for order, group in ORDERS.items():
        for name in _names(file[group].attrs["field_names"]):
            attrs = file[group][name].attrs
            fields.append(
                FieldLayout(
                    name=name,
                    order=order,
                    sample_varying=bool(attrs["sample_varying"]),
                    time_varying=bool(attrs["time_varying"]),
                    dim_varying=tuple(bool(v) for v in np.atleast_1d(attrs["dim_varying"])),
                    nbytes=int(file[group][name].nbytes),
                )
            )
    steps = np.diff(np.asarray(file["dimensions"]["time"][()], np.float64), axis=-1)
    names = _names(file["scalars"].attrs["field_names"])
    changing = tuple(name for name in names if file["scalars"][name].attrs["time_varying"])
    scalars = {
        name: np.broadcast_to(np.asarray(file["scalars"][name][()], np.float64), (n_trajectories,)).copy()
        for name in names
        if name not in changing
    }
    return FileLayout(
        path=path,
        dataset_name=str(file.attrs["dataset_name"]),
        axes=axes,
        resolution=tuple(int(file["dimensions"][axis].shape[-1]) for axis in axes),
        n_trajectories=n_trajectories,
        n_steps=int(file["dimensions"]["time"].shape[-1]),
        dt=float(np.median(steps)) if steps.size else 0.0,
        fields=tuple(fields),
        scalars=scalars,
        time_varying_scalars=changing,
        boundary_conditions=_boundary_conditions(file["boundary_conditions"], axes),
    )


def scalar_problems(layout: FileLayout) -> Iterator[str]:
    """Scalars that are not finite, one sentence each."""
    for name, values in layout.scalars.items():
        if not np.isfinite(values).all():
            yield f"scalar '{name}' of trajectory {int(np.argmin(np.isfinite(values)))} is not finite; write it again"


def require_agreement(layouts: Iterable[FileLayout]) -> None:
    """All files of a split must hold the same fields on the same grid.

    Raises:
        WavelitError: names the first file that differs from the first one, and in what.
    """
    first, *others = layouts
    for other in others:
        for what in ("dataset_name", "axes", "resolution"):
            if getattr(first, what) != getattr(other, what):
                raise WavelitError(
                    f"{other.path}: {what} is {getattr(other, what)} but {getattr(first, what)} in {first.path}; "
                    "keep different datasets in different folders"
                )
        signatures = [[(f.name, f.order, f.time_varying) for f in layout.fields] for layout in (first, other)]
        names = [[*layout.scalars, *layout.time_varying_scalars] for layout in (first, other)]
        if signatures[0] != signatures[1] or names[0] != names[1]:
            mine = [f.name for f in other.fields] + names[1]
            theirs = [f.name for f in first.fields] + names[0]
            raise WavelitError(
                f"{other.path}: fields and scalars {mine} are not those of {first.path}, {theirs} (names, order and "
                "what varies in time must agree); write the files alike"
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
                f"{other.path}: boundary conditions {other.boundary_conditions} are not those of {first.path}, "
                f"{first.boundary_conditions}; keep different boundaries in different folders"
            )
    return first.boundary_conditions


def require_steps(
    layouts: Iterable[FileLayout], n_steps_input: int, n_steps_output: int, stride: int = 1
) -> None:
    """Every trajectory must hold at least one window of history and target.

    Raises:
        WavelitError: names the first file that is too short.
    """
    if n_steps_input < 1 or n_steps_output < 1:
        raise WavelitError(
            f"n_steps_input={n_steps_input} and n_steps_output={n_steps_output}: both must be at least 1"
        )
    needed = 1 + stride * (n_steps_input + n_steps_output - 1)
    for layout in layouts:
        if layout.n_steps < needed:
            raise WavelitError(
                f"{layout.path}: {layout.n_steps} steps a trajectory, but a window of n_steps_input={n_steps_input} and "
                f"n_steps_output={n_steps_output} needs {needed}; lower them or leave this file out"
            )


def uneven_lengths(layouts: Sequence[FileLayout]) -> str | None:
    """What to say of rollouts where trajectories are not of one length."""
    steps = sorted({layout.n_steps for layout in layouts})
    if len(steps) < 2:
        return None
    return f"trajectories of {steps[0]} to {steps[-1]} steps; rollouts end with the shortest"


def _names(value: Any) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in np.atleast_1d(value)]


def _dataset_problem(group: h5py.Group, name: str, attributes: tuple[str, ...]) -> str | None:
    if not isinstance(group.get(name), h5py.Dataset):
        return f"dataset '{group.name}/{name}' is missing; write it or drop its name from the list"
    missing = [a for a in attributes if a not in group[name].attrs]
    if missing:
        return f"attribute '{missing[0]}' of '{group.name}/{name}' is missing; add it"
    if not group[name].dtype.isnative:
        return f"'{group.name}/{name}' is stored in another byte order than this machine's; write it as '<f4'"
    return None


def _shape_problem(
    dataset: h5py.Dataset, label: str, lengths: tuple[int, int], rest: tuple[int, ...]
) -> str | None:
    """`rest` are the lengths after trajectory and time; 0 marks an axis along which the field does not vary."""
    lead = tuple(
        n for n, flag in zip(lengths, ("sample_varying", "time_varying"), strict=True) if dataset.attrs[flag]
    )
    # The format leaves such an axis out; The Well's reader takes one of length 1 as well.
    due = (*lead, *(n for n in rest if n > 0))
    if dataset.shape in (due, (*lead, *(max(n, 1) for n in rest))):
        return None
    return f"{label} has shape {dataset.shape} but its attributes and the dimensions promise {due}; write it anew"


def _boundary_problems(name: str, boundary: Any, axes: list[str]) -> Iterator[str]:
    label = f"boundary condition '{name}'"
    if not isinstance(boundary, h5py.Group):
        yield f"{label} is not a group; a group with a dataset 'mask' is due"
        return
    missing = [a for a in ("bc_type", "associated_dims") if a not in boundary.attrs]
    yield from (f"attribute '{a}' of {label} is missing; add it" for a in missing)
    if "mask" not in boundary:
        yield f"dataset 'mask' of {label} is missing; add it"
    if missing or "mask" not in boundary:
        return
    kind = str(boundary.attrs["bc_type"]).lower()
    if kind not in BOUNDARIES:
        yield f"{label} is of type '{kind}'; one of {', '.join(BOUNDARIES)} is due"
    dims = _names(boundary.attrs["associated_dims"])
    strange = [dim for dim in dims if dim not in axes]
    if strange:
        yield f"{label} belongs to axis '{strange[0]}', which is none of {axes}; name one of them"
    elif boundary["mask"].ndim != len(dims):
        yield f"'mask' of {label} has {boundary['mask'].ndim} dimensions; {len(dims)} are due, one an associated axis"


def _boundary_conditions(group: h5py.Group, axes: tuple[str, ...]) -> BoundaryConditions:
    """Name the two ends of every axis, by the masks as The Well's reader does: open unless a mask says otherwise.

    A wall must cover the whole end, an open or periodic part makes the end so. Ours differs in one thing: a periodic
    condition holds at both ends of its axis whatever its mask marks, since half a period does not exist.
    """
    ends = [["open", "open"] for _ in axes]
    for boundary in group.values():
        kind = str(boundary.attrs["bc_type"]).lower()
        mask = boundary["mask"][()]
        for position, dim in enumerate(_names(boundary.attrs["associated_dims"])):
            for end, index in ((0, 0), (1, -1)):
                marked = mask.take(index, axis=position)
                if kind == "periodic" or (marked.all() if kind == "wall" else marked.any()):
                    ends[axes.index(dim)][end] = kind
    return tuple((low, high) for low, high in ends)
