"""Files of NetCDF or zarr to a dataset: what `write_dataset` does, for variables named in files.

Every file is one record, or holds several along a dimension called trajectory. They are opened by
xarray and read piece by piece.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from wavelit.checks.arguments import listed
from wavelit.data.writing.given import Boundaries, check_sides
from wavelit.data.writing.sources import require_whole_store, text_of
from wavelit.data.writing.times import is_dated
from wavelit.data.writing.write import write_dataset
from wavelit.errors import WavelitError, one_line, printable
from wavelit.model.labelled import COMPONENT, TIME, TRAJECTORY

__all__ = ["convert"]

# What its backends raise for files that are none, cut short, or of a kind not installed.
UNREADABLE = (OSError, ValueError, LookupError, TypeError, RuntimeError, ImportError)


def convert(
    files: Sequence[str | os.PathLike[str]],
    to: str | os.PathLike[str],
    *,
    boundary_conditions: Boundaries,
    name: str | None = None,
    fields: Sequence[str] | None = None,
    constant_fields: Sequence[str] = (),
    scalars: Sequence[str] = (),
    dims: Mapping[str, str] | None = None,
    mask_field: str | None = None,
    mask_from: str | None = None,
    **options: Any,
) -> Path:
    """Write the records of NetCDF or zarr files as a folder ready for training.

    Args:
        files: one or more; what they hold agrees in names, grid and units.
        to: the folder of the dataset.
        boundary_conditions: of each axis, as in `write_dataset`.
        name: the dataset's name; that of the folder if absent.
        fields: variables that vary in time; all those with a time and all axes if absent.
        constant_fields: variables that do not.
        scalars: variables of one number a record, or global attributes.
        dims: name in the files -> name that is understood, such as {"case": "trajectory"}.
        mask_field: the constant field that marks cells outside the domain; it need not be among
            `constant_fields`.
        mask_from: a variable that is missing outside the domain: its missing cells are written as
            `mask_field`, or as "mask".
        **options: as in `write_dataset`: splits or split_in_time, gap, equal_steps, mask_excludes.

    Returns:
        The folder written.

    Raises:
        WavelitError: a file cannot be read or is half written, has no such variable, or what
            `write_dataset` refuses.
    """
    sides = check_sides(boundary_conditions)
    if not files:
        raise WavelitError("expected at least one file, got none: name NetCDF files or zarr stores")
    if twice := [str(file) for i, file in enumerate(files) if file in files[:i]]:
        raise WavelitError(f"{twice[0]} is given twice: name every file once")
    with ExitStack() as stack:
        opened = {str(file): stack.enter_context(_open(Path(file), dims or {})) for file in files}
        first_name, first = next(iter(opened.items()))
        if fields is None:
            fields = _varying(first, len(sides))
            if not fields:
                raise WavelitError(
                    f"{first_name}: no variable has a time dimension ({', '.join(TIME)}) and "
                    f"{len(sides)} axes, one per boundary condition: name fields, or rename "
                    f"dimensions by dims; there are {listed(map(str, first.sizes))}"
                )
        given = {key: _several(opened, key) for key in fields}
        constants = {key: _once(_several(opened, key)) for key in constant_fields}
        if mask_from is not None:
            if options.get("mask_excludes", 1.0) != 1.0:
                raise WavelitError("mask_from marks cells by 1: leave mask_excludes out")
            mask_field = mask_field or "mask"
            missing = [_missing(each) for each in _several(opened, mask_from)]
            if not any(each.any() for each in missing):
                raise WavelitError(
                    f"mask_from: '{printable(mask_from, 60)}' is missing nowhere in its first frame"
                )
            constants[mask_field] = _once(missing)
        elif mask_field is not None and mask_field not in constants:
            constants[mask_field] = _once(_several(opened, mask_field))
        numbers, units = _scalars(opened, scalars)
        return write_dataset(
            os.fspath(to),
            {key: each[0] if len(each) == 1 else each for key, each in given.items()},
            name=name or Path(to).name,
            boundary_conditions=boundary_conditions,
            constant_fields=constants,
            scalars=numbers,
            mask_field=mask_field,
            units=units,
            **options,
        )


@contextmanager
def _open(path: Path, dims: Mapping[str, str]) -> Iterator[Any]:
    try:
        import xarray
    except ImportError as error:
        raise WavelitError(
            "NetCDF and zarr are read by xarray: install it by `pip install 'wavelit[netcdf]'`"
        ) from error
    if not path.exists():
        raise WavelitError(f"{path}: no such file: name a NetCDF file or a zarr store")
    # What is in "days" or "seconds" is a number: older xarrays make a span of time of it.
    options: dict[str, Any] = {"cache": False, "decode_timedelta": False}
    try:
        with warnings.catch_warnings():
            # A store without consolidated metadata is read all the same.
            warnings.simplefilter("ignore")
            if path.is_dir():
                data = xarray.open_dataset(path, engine="zarr", **options)
            else:
                data = xarray.open_dataset(path, **options)
    except UNREADABLE as error:
        if "unable to decode time" in str(error):
            raise WavelitError(
                f"{path}: its times cannot be decoded ({one_line(error)}): write them in days or "
                "seconds since a date"
            ) from error
        raise WavelitError(
            f"{path}: no NetCDF file or zarr store that can be read ({one_line(error)}): write it "
            "again, or install `pip install 'wavelit[netcdf]'`"
        ) from error
    with data:
        if strange := [dim for dim in dims if dim not in data.sizes]:
            raise WavelitError(
                f"{path}: dims: no dimension '{printable(strange[0], 60)}': there are "
                f"{listed(map(str, data.sizes))}"
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                renamed = data.rename(dims)
                # Positions that had another name than their dimension.
                lines = [
                    name
                    for name in dims.values()
                    if name in renamed.data_vars and renamed[name].dims == (name,)
                ]
                renamed = renamed.set_coords(lines)
        except ValueError as error:
            raise WavelitError(f"{path}: dims: {one_line(error)}: choose other names") from error
        yield renamed


def _varying(data: Any, d: int) -> list[str]:
    """Variables with a time and d axes."""
    found = []
    for name, value in data.data_vars.items():
        known = [dim for dim in value.dims if str(dim).lower() in (*TIME, *TRAJECTORY)]
        axes = [dim for dim in value.dims if dim not in known and not COMPONENT.fullmatch(str(dim))]
        timed = any(str(dim).lower() in TIME for dim in known)
        if timed and len(axes) >= d and value.dtype.kind in "fiub":
            found.append(str(name))
    return found


def _several(opened: Mapping[str, Any], name: str) -> list[Any]:
    """A variable in every file, whole."""
    found = []
    for path, data in opened.items():
        if name not in data.variables:
            raise WavelitError(
                f"{path}: no variable '{printable(name, 60)}': there are "
                f"{listed(map(str, data.variables))}"
            )
        if Path(path).is_dir():
            import zarr

            # The name of a variable that is also a dimension may have been changed.
            stored = dict(zarr.open_group(path, mode="r").arrays())
            if name in stored:
                what = f"{path}: variable '{name}'"
                # Of the older format, xarray takes the fill value for missing.
                older = getattr(getattr(stored[name], "metadata", None), "zarr_format", 2) == 2
                require_whole_store(what, stored[name], older)
        found.append(data[name])
    return found


def _once(several: list[Any]) -> Any:
    """A constant field, once where it is the same in all files."""
    first, *others = several
    alike = not any(str(dim).lower() in TRAJECTORY for dim in first.dims)
    if alike and all(
        each.dims == first.dims and np.array_equal(each.values, first.values, equal_nan=True)
        for each in others
    ):
        return first
    return several


def _missing(value: Any) -> Any:
    """Where a variable is missing in its first frame."""
    time = [dim for dim in value.dims if str(dim).lower() in TIME]
    return value.isel(dict.fromkeys(time, 0), drop=True).isnull()


def _scalars(
    opened: Mapping[str, Any], names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """One number a record, and the units that their variables have."""
    found: dict[str, Any] = {}
    units: dict[str, str] = {}
    for name in names:
        values: list[Any] = []
        for path, data in opened.items():
            lengths = [n for dim, n in data.sizes.items() if str(dim).lower() in TRAJECTORY]
            value = data.variables.get(name, data.attrs.get(name))
            array = np.asarray(value)
            if array.dtype.kind in "fiub" and array.ndim > 1 and not is_dated(array):
                raise WavelitError(
                    f"{path}: scalar '{printable(name, 60)}' has shape {array.shape}: give one "
                    "number a record; what varies in time goes by `wavelit.write_dataset`"
                )
            if value is None or array.dtype.kind not in "fiub" or is_dated(array):
                raise WavelitError(
                    f"{path}: no number '{printable(name, 60)}' among its variables and "
                    f"attributes: there are {listed([*data.variables, *data.attrs])}"
                )
            due = lengths[0] if lengths else 1
            if array.ndim == 1 and len(array) != due:
                raise WavelitError(
                    f"{path}: scalar '{name}' has {len(array)} values for {due} records: give one "
                    "number a record"
                )
            values += np.broadcast_to(array, due).tolist()
            unit = text_of(value, "units")
            if units.setdefault(name, unit) != unit:
                raise WavelitError(
                    f"{path}: scalar '{name}' is in '{unit}', but in '{units[name]}' in another "
                    "file: convert one of them"
                )
        found[name] = np.array(values)
    return found, {name: unit for name, unit in units.items() if unit}
