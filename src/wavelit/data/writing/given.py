"""What a user gives to be written, taken as arrays, names and folders: all of it is what it
seems, or it is refused by name.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wavelit.checks.arguments import ADDRESS, require_values, shown
from wavelit.errors import WavelitError, one_line, printable

__all__ = [
    "Boundaries",
    "check_file_name",
    "check_name",
    "check_sides",
    "kind_of",
    "labelled",
    "local_path",
    "mapping",
    "masked",
    "numbers",
    "rounds_off",
]

Array = npt.NDArray[Any]
Boundaries = Sequence["str | tuple[str, str]"]

KINDS = ("periodic", "wall", "open")
MOST_AXES = 3

# Bytes: with an ending and the temporary name's additions, what file systems take.
LONGEST_FILE_NAME = 200
LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
# Tensors of other floating types have no numpy dtype.
FLOATS = (torch.float16, torch.float32, torch.float64)


def labelled(value: Any) -> bool:
    """Whether it is an xarray DataArray; xarray itself is not imported."""
    return all(hasattr(value, name) for name in ("dims", "coords", "transpose"))


def numbers(what: str, value: Any) -> Array:
    """Real numbers as a numpy array in their own dtype, without a copy where there need be none.

    Args:
        what: its name in messages: "field 'a'".
        value: a numpy array, tensor, DataArray of at most one axis, number, or nested lists of
            them. Tensors are taken from their device and their graph.

    Raises:
        WavelitError: it holds something else, such as a mask, complex numbers, dates or text.
    """
    if isinstance(value, np.ma.MaskedArray):
        return _unmasked(what, value)
    if isinstance(value, Tensor):
        return _tensor(what, value)
    if labelled(value):
        if getattr(value, "ndim", 2) > 1:
            raise WavelitError(
                f"{what}: a DataArray cannot stand here: pass its values, in the order that is due"
            )
        return numbers(what, value.values)
    if isinstance(value, list | tuple) and any(_nested(item) for item in value):
        value = [numbers(what, item) for item in value]
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise WavelitError(
            f"{what}: expected real numbers, but they make no array: {one_line(error)}"
        ) from error
    if array.dtype.kind not in "fiub":
        raise WavelitError(
            f"{what}: expected real numbers, got {kind_of(value, array.dtype, array.ndim)}"
        )
    return array


def masked(values: Any) -> Array:
    """An array without its mask: what is hidden is NaN."""
    if isinstance(values, np.ma.MaskedArray):
        if not np.ma.is_masked(values):
            return np.asarray(values.data)
        kind = values.dtype if values.dtype.kind == "f" else np.dtype(np.float64)
        return np.where(np.ma.getmaskarray(values), np.nan, values.data.astype(kind))
    return np.asarray(values)


def rounds_off(times: Array) -> bool:
    """Whether float32, in which they are stored, changes the steps between times by more than a
    hundredth.
    """
    stored = np.diff(times.astype(np.float32).astype(np.float64))
    return not np.allclose(stored, np.diff(times), rtol=1e-2, atol=0.0)


def mapping(what: str, value: Any, entry: str) -> dict[str, Any]:
    """Names and what stands under them; none for None.

    Raises:
        WavelitError: it is no mapping, or a name cannot stand in a file.
    """
    if value is None:
        return {}
    # xarray's Dataset is a mapping, a DataArray is none.
    if not isinstance(value, Mapping):
        raise WavelitError(f"{what}: expected {{name: {entry}}}, got {type(value).__name__}")
    return {check_name(what, name): item for name, item in value.items()}


def check_name(what: str, name: Any) -> str:
    """A name that HDF5 can hold and that can be printed.

    Raises:
        WavelitError: it is none.
    """
    if not isinstance(name, str):
        raise WavelitError(f"{what}: expected a name, as text, got {shown(name)}")
    if not name.strip() or name in (".", "..") or "/" in name or printable(name) != name:
        raise WavelitError(
            f"{what}: '{printable(name, 60)}' cannot be a name in HDF5: give 1 to 200 characters "
            "without slashes and control characters"
        )
    return str(name)


def check_file_name(what: str, name: Any) -> str:
    """A name that HDF5 can hold and that can be a file's, in the folder where it is due.

    Raises:
        WavelitError: it is none.
    """
    text: str = check_name(what, name)
    if text.startswith(".") or "\\" in text or len(text.encode("utf8")) > LONGEST_FILE_NAME:
        raise WavelitError(
            f"{what}: '{printable(name, 60)}' cannot be the name of a file: give at most "
            f"{LONGEST_FILE_NAME} bytes without slashes, and no dot in front"
        )
    return text


def check_sides(boundary_conditions: Boundaries) -> list[tuple[str, str]]:
    """One (low, high) pair per axis.

    Raises:
        WavelitError: there are others than the three kinds, or not one to three axes.
    """
    entries = (
        list(boundary_conditions)
        if isinstance(boundary_conditions, list | tuple | np.ndarray)
        else []
    )
    if not 1 <= len(entries) <= MOST_AXES:
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


def local_path(what: str, path: Any, folder: bool = True) -> Path:
    """The path of a dataset's folder, or of a file, that can be made where it is to be; ~ is the
    home folder.

    Raises:
        WavelitError: it is no path, an address or a pattern, or a file is in the way.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise WavelitError(f"{what}: expected a path, got {shown(path)}")
    text = os.path.expanduser(os.fspath(path))
    if not text.strip() or "\0" in text:
        raise WavelitError(f"{what}: expected a path, got '{printable(text)}'")
    if ADDRESS.match(text):
        raise WavelitError(f"{what} must be a path on this machine, not the address {shown(path)}")
    if folder and glob.has_magic(os.path.abspath(text)):
        raise WavelitError(
            f"{what} is {shown(text)}: its name holds one of * ? [, which The Well's reader takes "
            "for a pattern; choose another"
        )
    target = Path(text)
    for part in (target, *target.parents) if folder else target.parents:
        if os.path.lexists(part):
            if not part.is_dir():
                raise WavelitError(
                    f"{printable(part)} is no folder, but {what} is to be one or lie in it: choose "
                    "another path"
                )
            break
    if not folder and target.is_dir():
        raise WavelitError(f"{printable(target)} is a folder: {what} is to be a file")
    return target


def _nested(item: Any) -> bool:
    return isinstance(item, list | tuple | np.ma.MaskedArray | Tensor) or labelled(item)


def _unmasked(what: str, value: np.ma.MaskedArray[Any, Any]) -> Array:
    if np.ma.is_masked(value):
        raise WavelitError(
            f"{what}: {int(np.ma.getmaskarray(value).sum())} entries of the array are masked: "
            "fill them, as in array.filled(0), or write the mask as a constant field of 0 and 1, "
            "and name that as mask_field"
        )
    return numbers(what, np.asarray(value))


def _tensor(what: str, value: Tensor) -> Array:
    require_values(what, value)
    value = value.detach()
    if value.is_floating_point() and value.dtype not in FLOATS:
        value = value.float()
    return numbers(what, value.cpu().resolve_conj().resolve_neg().numpy())


def kind_of(value: Any, dtype: np.dtype[Any], ndim: int) -> str:
    """What came where real numbers are due, and the way out."""
    if dtype.kind == "c":
        return f"dtype {dtype}: split complex values in two fields"
    if dtype.kind in "mM":
        return f"dates, dtype {dtype}: give numbers, as in (t - t[0]) / np.timedelta64(1, 's')"
    if dtype.kind in "US":
        return f"text, dtype {dtype}: give numbers"
    if ndim == 0:
        return (
            f"{'None' if value is None else type(value).__name__}: give numbers, or an array of "
            "them"
        )
    return f"dtype {dtype}: give numbers, or an array of them"
