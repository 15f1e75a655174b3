"""Arrays to datasets in The Well's format: one HDF5 file per parameter set, one folder per split.

A file holds fields grouped by tensor order (``t0_fields`` scalars, ``t1_fields`` vectors,
``t2_fields`` matrices), each (N, T, *S, ...) in float32, components last; constant fields lack T.
Boundary conditions are masks over the points of one axis, true where the condition holds.
`stats.yaml` beside the splits holds the moments of every field over the training split. A file is
written under a temporary name and renamed, and holds no time stamp: it is whole or absent, and the
same arrays give the same bytes.

References: Ohana, McCabe, Meyer et al., The Well: a Large-Scale Collection of Diverse Physics
Simulations for Machine Learning, 2024, arXiv:2412.00568.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from wavelit.checks.arguments import shown
from wavelit.data.statistics import write_statistics
from wavelit.data.writing.given import (
    LARGEST,
    check_file_name,
    check_name,
    local_path,
    mapping,
    numbers,
    rounds_off,
)
from wavelit.data.writing.xarrays import Given, by_name
from wavelit.errors import WavelitError, printable
from wavelit.files.atomic import atomic_path
from wavelit.files.owner import owned
from wavelit.files.space import bytes_needed, hdf5_file

__all__ = ["rounds_off", "write_dataset", "write_well"]

Array = npt.NDArray[Any]
Boundaries = Sequence["str | tuple[str, str]"]

KINDS = ("periodic", "wall", "open")
AXES = ("x", "y", "z")
SPLITS = ("train", "valid", "test")
# Root attributes of the format: no scalar of a whole file can have these names.
RESERVED = (
    "dataset_name",
    "grid_type",
    "n_spatial_dims",
    "n_trajectories",
    "simulation_parameters",
)


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
) -> Path:
    """Write N trajectories to one HDF5 file in The Well's format.

    The number of spatial axes d is the length of `boundary_conditions`; what a field has beyond (N,
    T, *S) is its tensor order.

    Args:
        path: the file; its folder is made. An existing file is replaced.
        fields: name -> numpy array or torch tensor, (N, T, *S), (N, T, *S, d) or (N, T, *S, d, d);
            or xarray DataArray, whose dimensions go by name and whose coordinates are kept, see
            `wavelit.data.writing.xarrays`.
        name: the dataset's name, the same in all its files.
        boundary_conditions: per axis, one kind for both sides or (low, high); kinds are periodic,
            wall and open.
        constant_fields: name -> (N, *S), (N, *S, d) or (N, *S, d, d).
        scalars: name -> one number (a simulation parameter of the whole file) or (N,), one number a
            trajectory.
        coordinates: axis name -> (n,) positions, in the order of the axes; x, y, z with 0, 1, 2 ...
            if absent.
        time: (T,) times of the snapshots, the same for all trajectories; 0, 1, 2 ... if absent.
        grid_type: The Well's name of the grid.

    Returns:
        The path written.

    Raises:
        WavelitError: a shape, boundary, coordinate or name does not fit, an array is masked, or a
            value is not finite in float32.
        OSError: the file cannot be written, for one because the disk is full.
    """
    path = local_path("path", path, folder=False)
    sides = _sides(boundary_conditions)
    d = len(sides)
    check_name("name", name)
    check_name("grid_type", grid_type)
    given = by_name(_given(fields, constant_fields, scalars, coordinates, time), d)
    varying = {key: _array(key, value) for key, value in given.fields.items()}
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
    constants = {key: _array(key, value) for key, value in given.constant_fields.items()}
    if twice := sorted(set(varying) & set(constants)):
        raise WavelitError(
            f"field '{twice[0]}' is given both as field and as constant field: rename one"
        )
    orders = {key: _order(key, value, (n, steps, *shape), d) for key, value in varying.items()}
    orders |= {key: _order(key, value, (n, *shape), d) for key, value in constants.items()}
    grid = _grid(given.coordinates, shape)
    times = _line("time", np.arange(steps) if given.time is None else given.time, steps)
    if rounds_off(times):
        raise WavelitError(
            "'time' is stored in float32, which rounds its steps by more than a tenth: take its "
            "first value off"
        )
    checked = {key: _scalar(key, value, n) for key, value in given.scalars.items()}
    if taken := [key for key, value in checked.items() if value.ndim == 0 and key in RESERVED]:
        raise WavelitError(f"'{taken[0]}' is an attribute of the format: choose another name")

    size = bytes_needed(
        [
            *varying.values(),
            *constants.values(),
            *grid.values(),
            *grid.values(),
            times,
            *checked.values(),
        ]
    )
    with atomic_path(path) as temporary, hdf5_file(temporary, size) as f:
        f.attrs["dataset_name"] = name
        f.attrs["grid_type"] = grid_type
        f.attrs["n_spatial_dims"] = d
        f.attrs["n_trajectories"] = n
        parameters = [key for key, value in checked.items() if value.ndim == 0]
        _strings(f, "simulation_parameters", parameters)
        for key in parameters:
            f.attrs[key] = float(checked[key])
        group = f.create_group("dimensions")
        _strings(group, "spatial_dims", grid)
        _dataset(group, "time", times, sample_varying=False, time_varying=True)
        for axis, positions in grid.items():
            _dataset(group, axis, positions, sample_varying=False, time_varying=False)
        _boundaries(f.create_group("boundary_conditions"), sides, grid)
        group = f.create_group("scalars")
        _strings(group, "field_names", checked)
        for key, value in checked.items():
            _dataset(group, key, value, sample_varying=value.ndim == 1, time_varying=False)
        for order in range(3):
            group = f.create_group(f"t{order}_fields")
            _strings(group, "field_names", [key for key, value in orders.items() if value == order])
            for key, value in (varying | constants).items():
                if orders[key] != order:
                    continue
                item = _dataset(group, key, value, sample_varying=True, time_varying=key in varying)
                item.attrs["dim_varying"] = np.ones(d, bool)
                if order == 2:
                    transposed = np.swapaxes(value, -1, -2)
                    item.attrs["symmetric"] = bool(np.array_equal(value, transposed))
                    item.attrs["antisymmetric"] = bool(np.array_equal(value, -transposed))
    return path


def write_dataset(
    path: str | Path,
    fields: Mapping[str, Any],
    *,
    splits: Mapping[str, int],
    name: str,
    boundary_conditions: Boundaries,
    constant_fields: Mapping[str, Any] | None = None,
    scalars: Mapping[str, Any] | None = None,
    coordinates: Mapping[str, Any] | None = None,
    time: Any = None,
    mask_field: str | None = None,
    mask_excludes: float = 1.0,
) -> Path:
    """Write arrays as a folder ready for training: data/{train,valid,test}/<name>.hdf5 and
    stats.yaml.

    >>> x, t = np.arange(64) / 64, np.arange(30) / 30
    >>> speed = np.random.default_rng(0).uniform(0.5, 1.5, 10)
    >>> u = np.sin(2 * np.pi * (x - speed[:, None, None] * t[:, None]))  # (10, 30, 64)
    >>> folder = wavelit.write_dataset(
    ...     "datasets/waves",
    ...     {"u": u},
    ...     splits={"train": 8, "valid": 1, "test": 1},
    ...     name="waves",
    ...     boundary_conditions=["periodic"],
    ...     scalars={"speed": speed},
    ... )

    Args:
        path: the folder of the dataset; its `data` must not exist yet.
        fields: as in `write_well`, all trajectories together.
        splits: number of trajectories of train, valid and test, taken in this order from the first
            axis; they add up to N.
        name: the dataset's name.
        boundary_conditions: as in `write_well`, as are the arguments up to `time`.
        mask_field: the constant field that marks cells outside the domain, which the statistics
            leave out; give it to the `WellDataModule` too.
        mask_excludes: its value there.

    Returns:
        The folder written.

    Raises:
        WavelitError: as `write_well`; or the splits do not fit, or the folder holds data already,
            or another process writes there.
        OSError: as `write_well`.
    """
    path = local_path("path", path)
    check_file_name("name", name)
    counts = _counts(splits)
    total = sum(counts.values())
    given = by_name(
        _given(fields, constant_fields, scalars, coordinates, time),
        len(_sides(boundary_conditions)),
    )
    varying = {key: numbers(f"field '{key}'", value) for key, value in given.fields.items()}
    constants = {
        key: numbers(f"field '{key}'", value) for key, value in given.constant_fields.items()
    }
    parameters = {key: numbers(f"scalar '{key}'", value) for key, value in given.scalars.items()}
    _check_mask(mask_field, mask_excludes, constants)
    for key, value in (
        varying | constants | {k: v for k, v in parameters.items() if v.ndim}
    ).items():
        if value.shape[:1] != (total,):
            raise WavelitError(
                f"splits add up to {total} trajectories, but '{key}' of shape {value.shape} has "
                f"{value.shape[0] if value.ndim else 'none'} along its first axis: mend the "
                f"splits, or repeat it for every trajectory, (N={total}, ...)"
            )
    found = path.exists()
    try:
        with owned(path, "generating"):
            if (path / "data").exists():
                raise WavelitError(
                    f"{path / 'data'} exists already: remove it or choose another folder"
                )
            start = 0
            try:
                for split, count in counts.items():
                    part = slice(start, start + count)
                    start = part.stop
                    where = f"{split}, trajectories {part.start} to {part.stop - 1}"
                    write_well(
                        path / "data" / split / f"{name}.hdf5",
                        {key: value[part] for key, value in varying.items()},
                        name=name,
                        boundary_conditions=boundary_conditions,
                        constant_fields={key: value[part] for key, value in constants.items()},
                        scalars={k: v[part] if v.ndim else v for k, v in parameters.items()},
                        coordinates=given.coordinates,
                        time=given.time,
                    )
                where = "statistics"
                write_statistics(path, mask_field=mask_field, mask_excludes=mask_excludes)
            except BaseException as error:
                # A dataset is whole or absent too: nothing is left in the way of the next attempt.
                shutil.rmtree(path / "data", ignore_errors=True)
                if isinstance(error, WavelitError):
                    raise WavelitError(f"{where}: {error}") from error
                raise
    except BaseException:
        if not found:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise
    return path


def _given(fields: Any, constant_fields: Any, scalars: Any, coordinates: Any, time: Any) -> Given:
    """The arguments with their names checked."""
    due = "array of shape (N, T, *S)"
    given = Given(
        mapping("fields", fields, due),
        mapping("constant_fields", constant_fields, "array of shape (N, *S)"),
        mapping("scalars", scalars, "number"),
        None if coordinates is None else mapping("coordinates", coordinates, "positions"),
        time,
    )
    if not given.fields:
        raise WavelitError(f"expected at least one field, got none: pass fields={{name: {due}}}")
    return given


def _counts(splits: Any) -> dict[str, int]:
    """Trajectories of each split, checked."""
    counts = dict(splits) if isinstance(splits, Mapping) else {}
    if set(counts) != set(SPLITS) or not all(
        isinstance(count, int | np.integer) and not isinstance(count, bool) and count >= 1
        for count in counts.values()
    ):
        raise WavelitError(
            f"splits: expected a positive number for each of {', '.join(SPLITS)}, the whole number "
            f"of its trajectories as in {{'train': 8, 'valid': 1, 'test': 1}}, got "
            f"{shown(splits)}; a single long trajectory can be cut in time"
        )
    return {split: int(counts[split]) for split in SPLITS}


def _check_mask(mask_field: Any, mask_excludes: Any, constants: Mapping[str, Array]) -> None:
    if mask_field is not None and (not isinstance(mask_field, str) or mask_field not in constants):
        raise WavelitError(
            "mask_field, whose cells are left out of the statistics: "
            f"'{printable(mask_field, 60)}' is not a constant scalar field: name one of "
            f"{', '.join(constants) or 'constant_fields, which are none'}"
        )
    real = isinstance(mask_excludes, int | float | np.number) and not isinstance(
        mask_excludes, bool
    )
    if not real or not math.isfinite(mask_excludes):
        raise WavelitError(
            "mask_excludes: expected the number of excluded cells, got "
            f"{printable(mask_excludes, 60)}"
        )


def _array(name: str, value: Any) -> Array:
    given = numbers(f"field '{name}'", value)
    with np.errstate(over="ignore"):
        array = np.asarray(given, np.float32, order="C")
    if not np.isfinite(array).all():
        bad = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise WavelitError(
            f"field '{name}' has a NaN, infinity or float32 overflow at index {bad}, where it is "
            f"{given[bad]}: mend the data; cells outside the domain may hold any finite number, "
            "such as 0"
        )
    return array


def _order(name: str, array: Array, leading: tuple[int, ...], d: int) -> int:
    order = array.ndim - len(leading)
    if not 0 <= order <= 2 or array.shape != leading + (d,) * order:
        raise WavelitError(
            f"field '{name}': expected shape {leading}, {(*leading, d)} or {(*leading, d, d)}, got "
            f"{array.shape}"
        )
    return order


def _line(name: str, value: Any, length: int) -> Array:
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
        axis: _line(axis, value, length)
        for (axis, value), length in zip(coordinates.items(), shape, strict=True)
    }
    for axis, positions in grid.items():
        if (np.diff(positions.astype(np.float32)) <= 0).any():
            raise WavelitError(
                f"'{axis}' is stored in float32, where its positions coincide: take its first "
                "value off"
            )
    return grid


def _scalar(name: str, value: Any, n: int) -> Array:
    array = numbers(f"scalar '{name}'", value).astype(np.float64)
    bad = array[~(np.abs(array) <= LARGEST)]
    if array.shape not in ((), (n,)) or bad.size:
        got = f"{bad.flat[0]}" if bad.size else f"shape {array.shape}"
        raise WavelitError(
            f"scalar '{name}': expected one number finite in float32, or {n}, one a trajectory, "
            f"got {got}"
        )
    return array


def _sides(boundary_conditions: Boundaries) -> list[tuple[str, str]]:
    """One (low, high) pair per axis, checked."""
    entries = (
        list(boundary_conditions)
        if isinstance(boundary_conditions, list | tuple | np.ndarray)
        else []
    )
    if not 1 <= len(entries) <= len(AXES):
        raise WavelitError(
            "boundary_conditions: expected one entry per axis, 1 to 3 axes, got "
            f"{shown(boundary_conditions)}: write them as in ['periodic', ('wall', 'open')]"
        )
    sides = []
    for entry in entries:
        pair = tuple(entry) if isinstance(entry, list | tuple | np.ndarray) else (entry, entry)
        if len(pair) != 2 or not all(isinstance(kind, str) and kind in KINDS for kind in pair):
            raise WavelitError(
                f"boundary_conditions: expected {', '.join(KINDS)} for (low, high), got "
                f"{shown(entry)}"
            )
        if "periodic" in pair and pair[0] != pair[1]:
            raise WavelitError(
                "boundary_conditions: an axis is periodic on both sides or on none, got "
                f"{shown(entry)}"
            )
        sides.append((pair[0], pair[1]))
    return sides


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


def _strings(item: Any, name: str, values: Any) -> None:
    # Variable length strings: they are what h5py reads back as str, as The Well's reader needs.
    values = list(values)
    item.attrs.create(
        name, np.array(values, object), shape=(len(values),), dtype=h5py.string_dtype()
    )
