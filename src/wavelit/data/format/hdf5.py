"""HDF5 as others write it: attributes as plain values, arrays of real numbers that lie in the file
itself, named errors.

Fortran, R and Julia store text of a fixed length, MATLAB single numbers as arrays, and anybody
anything: what is wrong with an item is an `UnfitError`, one sentence on the item. Links are
followed inside the file only, one by one, since to HDF5 a link may stand for any file of this
machine; so may an array stored externally or virtually.

References: The HDF Group, HDF5 File Format Specification Version 3.0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wavelit.errors import WavelitError, one_line, printable

__all__ = [
    "REFUSALS",
    "UnfitError",
    "array",
    "flags",
    "label_of",
    "members",
    "names",
    "reading",
    "real_number",
    "subgroup",
    "text",
    "unreadable",
    "whole_number",
]

# What h5py, numpy and a filesystem under them raise on an item that they cannot read.
REFUSALS = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    MemoryError,
)
# Entries of an attribute, characters of a name, links on the way to an item.
MOST_ENTRIES, LONGEST_NAME, MOST_LINKS = 10_000, 200, 16
# A chunk is read whole: of one larger than its array, and than this, most is nothing.
LARGEST_SPARE_CHUNK = 64 * 1024**2


class UnfitError(ValueError):
    """One sentence: what is wrong with an item of a file, and the fix."""


def unreadable(path: str, what: str, error: BaseException) -> WavelitError:
    """The error to raise for an item that HDF5 fails to read."""
    if isinstance(error, MemoryError):
        return WavelitError(
            f"{path}: {what} takes more memory than there is ({one_line(error)}); free some"
        )
    return WavelitError(
        f"{path}: {what} cannot be read ({one_line(error) or type(error).__name__}); download or "
        "write the file again"
    )


@contextmanager
def reading(path: str, what: str) -> Iterator[None]:
    """Name the file and the item that HDF5 fails to read.

    Raises:
        WavelitError: for any of `REFUSALS`.
    """
    try:
        yield
    except WavelitError:
        raise
    except REFUSALS as error:
        raise unreadable(path, what, error) from error


@contextmanager
def _examining(label: str) -> Iterator[None]:
    try:
        yield
    except UnfitError:
        raise
    except REFUSALS as error:
        raise UnfitError(f"{label} cannot be read ({one_line(error)}); write it again") from error


# --- attributes


def text(item: Any, name: str, label: str, fix: str = "add it") -> str:
    """An attribute that is one text.

    Args:
        item: the group or dataset.
        name: the attribute's name.
        label: how messages call it.
        fix: what to do where it is missing.

    Raises:
        UnfitError: it is missing, something else, or not fit to be printed.
    """
    found = _texts(item, name, label, fix)
    if len(found) != 1:
        raise UnfitError(f"{label} holds {len(found)} texts; one is due")
    _require_name(found[0], label)
    return found[0]


def has(item: Any, name: str, label: str) -> bool:
    """Whether a group or dataset has an attribute.

    Raises:
        UnfitError: HDF5 cannot tell.
    """
    with _examining(label):
        return name in item.attrs


def label_of(item: Any, name: str) -> str:
    """An attribute that is worth keeping if it is one printable text, such as a unit; else ""."""
    try:
        return text(item, name, name) if has(item, name, name) else ""
    except UnfitError:
        return ""


def names(item: Any, name: str, label: str, fix: str) -> list[str]:
    """An attribute that lists names, each once. Arguments and errors as of `text`."""
    found = _texts(item, name, label, fix)
    for each in found:
        _require_name(each, f"a name in {label}")
        if "/" in each or each == ".":
            raise UnfitError(
                f"{label} lists '{each}', which is a path; name what is in the group itself"
            )
        if found.count(each) > 1:
            raise UnfitError(f"{label} lists '{each}' twice; list it once")
    return found


def flags(item: Any, name: str, label: str, n: int | None = 1) -> tuple[bool, ...]:
    """An attribute of `n` truth values, any number of them where n is None. Arguments and errors
    as of `text`.
    """
    values = _numbers(item, name, label, "true or false")
    if values.ndim > 1 or (n is not None and values.size != n) or not np.isin(values, (0, 1)).all():
        raise UnfitError(f"{label} is {_shown(values)}; true or false is due, as 1 or 0")
    return tuple(bool(value) for value in np.atleast_1d(values))


def real_number(item: Any, name: str, label: str) -> float:
    """An attribute that is one finite number.

    Raises:
        UnfitError: as for `text`.
    """
    values = _numbers(item, name, label, "a number")
    if values.size != 1 or not np.isfinite(values).all():
        raise UnfitError(f"{label} is {_shown(values)}; a number is due")
    return float(values.reshape(-1)[0])


def whole_number(item: Any, name: str, label: str, most: int, fix: str) -> int:
    """An attribute that is a whole number from 1 to `most`; `fix` is what to do about a larger one.

    Raises:
        UnfitError: as for `text`.
    """
    values = _numbers(item, name, label, "a whole number")
    # A NaN is none either.
    if values.size != 1 or not (value := values.reshape(-1)[0]) >= 1 or value != np.floor(value):
        raise UnfitError(f"{label} is {_shown(values)}; a whole number from 1 on is due")
    if value > most:
        raise UnfitError(f"{label} is {_shown(values)}, and {most} is the most; {fix}")
    return int(value)


def _value(item: Any, name: str, label: str, fix: str) -> Any:
    with _examining(label):
        if name not in item.attrs:
            raise UnfitError(f"{label} is missing; {fix}")
        n = math.prod(item.attrs.get_id(name).shape or ())
        if n > MOST_ENTRIES:
            raise UnfitError(f"{label} has {n} entries; at most {MOST_ENTRIES} are due")
        return item.attrs[name]


def _texts(item: Any, name: str, label: str, fix: str) -> list[str]:
    value = _value(item, name, label, fix)
    if isinstance(value, h5py.Empty):
        return []
    entries = np.atleast_1d(np.asarray(value))
    # A list of no text has no type: h5py stores it as numbers.
    if entries.ndim > 1 or (
        entries.size and not all(isinstance(entry, str | bytes) for entry in entries)
    ):
        raise UnfitError(f"{label} is {_shown(entries)}; text is due")
    padded = False
    with _examining(label):
        kind = item.attrs.get_id(name).get_type()
        if isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str():
            padded = kind.get_strpad() == h5py.h5t.STR_SPACEPAD
    found = []
    for entry in entries:
        stored = entry if isinstance(entry, bytes) else str(entry).encode("utf8", "surrogateescape")
        try:
            found.append((stored.rstrip(b" ") if padded else stored).decode("utf8"))
        except UnicodeDecodeError as error:
            raise UnfitError(
                f"{label} is not UTF-8 ({printable(stored)}); write it again"
            ) from error
    return found


def _numbers(item: Any, name: str, label: str, due: str) -> NDArray[Any]:
    value = _value(item, name, label, "add it")
    if isinstance(value, h5py.Empty):
        raise UnfitError(f"{label} is empty; {due} is due")
    values = np.asarray(value)
    if values.dtype.kind not in "biuf":
        raise UnfitError(f"{label} is {_shown(values)}; {due} is due")
    return values


def _shown(values: NDArray[Any]) -> str:
    if values.size > 8:
        return f"an array of shape {values.shape}"
    return printable(values.tolist() if values.dtype.kind in "biuf" else f"'{values.tolist()}'", 80)


def _require_name(name: str, label: str) -> None:
    if not name:
        raise UnfitError(f"{label} is empty; give it a name")
    if len(name) > LONGEST_NAME:
        raise UnfitError(f"{label} has {len(name)} characters; at most {LONGEST_NAME} are due")
    if printable(name) != name:
        raise UnfitError(
            f"{label}, '{printable(name)}', has control characters or is not UTF-8; rename it"
        )


# --- items


def members(group: h5py.Group, label: str) -> list[str]:
    """The names of what is in a group.

    Raises:
        UnfitError: one of them is not fit to be printed.
    """
    with _examining(label):
        found = list(group.keys())
    for name in found:
        _require_name(name, f"a name in {label}")
    return found


def subgroup(group: h5py.Group, name: str, label: str, fix: str) -> h5py.Group:
    """The group `name` of a group.

    Args:
        group: where it is.
        name: its name.
        label: how messages call it.
        fix: what to do where it is missing.

    Raises:
        UnfitError: it is missing, something else, or beyond a link out of the file.
    """
    item = _member(group, name, label)
    if item is None:
        raise UnfitError(f"{label} is missing; {fix}")
    if not isinstance(item, h5py.Group):
        raise UnfitError(f"{label} is not a group; {fix}")
    return item


def array(group: h5py.Group, name: str, label: str, kinds: str = "biuf") -> h5py.Dataset:
    """The dataset `name` of a group: real numbers that lie in this file and can be read; none is
    read here.

    Args:
        group: where it is.
        name: its name.
        label: how messages call it.
        kinds: numpy's letters for the types that serve.

    Raises:
        UnfitError: it is missing, something else, of another type, stored elsewhere, or by a filter
            unknown here.
    """
    item = _member(group, name, label)
    if item is None:
        raise UnfitError(f"dataset {label} is missing; write it or drop its name from the list")
    if not isinstance(item, h5py.Dataset):
        raise UnfitError(f"{label} is not a dataset; write an array of numbers")
    with _examining(label):
        _require_numbers(item, label, kinds)
        if item.shape is None:
            raise UnfitError(f"{label} is empty; write an array of numbers")
        if item.is_virtual or item.external:
            raise UnfitError(
                f"{label} lies in other files, which are not read; store it in this one"
            )
        plist = item.id.get_create_plist()
        for number in range(plist.get_nfilters()):
            code, _, _, called = plist.get_filter(number)
            if not h5py.h5z.filter_avail(code):
                called = printable((called or b"").decode("utf8", "replace"), 60)
                raise UnfitError(
                    f"{label} is compressed by filter {code} ({called}), which is not installed; "
                    "write it with gzip"
                )
        spare = 0 if item.chunks is None else math.prod(item.chunks) * item.dtype.itemsize
        if spare > max(LARGEST_SPARE_CHUNK, item.nbytes):
            raise UnfitError(
                f"{label} is stored in chunks of {spare} bytes but holds {item.nbytes}; write it "
                "in smaller ones"
            )
    return item


def _require_numbers(item: h5py.Dataset, label: str, kinds: str) -> None:
    dtype = item.dtype
    if dtype.kind == "c":
        raise UnfitError(
            f"{label} holds complex numbers, whose imaginary part would be lost; split it in two "
            "fields"
        )
    listed = h5py.check_enum_dtype(dtype) is not None and dtype.kind != "b"
    # Neither torch nor other machines know numbers of 80 or 128 bits.
    if dtype.kind not in kinds or listed or dtype.itemsize > 8 or dtype.subdtype is not None:
        kind = "an enumeration" if listed else f"type {printable(dtype, 60)}"
        raise UnfitError(f"{label} is of {kind}, not of real numbers; write it as float32")
    if not dtype.isnative:
        raise UnfitError(
            f"{label} is stored in another byte order than this machine's; write it as '<f4'"
        )


def _member(group: h5py.Group, name: str, label: str) -> Any:
    """What a group has under a name, None where it has not; links are followed inside the file."""
    with _examining(label):
        return _follow(group, [name], label)


def _follow(group: h5py.Group, names: list[str], label: str) -> Any:
    item: Any = group
    names, hops = names[::-1], 0
    while names:
        stored = names.pop().encode("utf8", "surrogateescape")
        if not isinstance(item, h5py.Group) or not item.id.links.exists(stored):
            if hops:
                raise UnfitError(f"{label} is a link to nothing; write it here")
            return None
        kind = item.id.links.get_info(stored).type
        if kind == h5py.h5l.TYPE_HARD:
            item = item[stored]
            continue
        hops += 1
        if kind != h5py.h5l.TYPE_SOFT:
            raise UnfitError(
                f"{label} is a link to another file, which is not read; copy it into this one"
            )
        if hops > MOST_LINKS:
            raise UnfitError(f"{label} is a loop of links; write it here")
        path = item.id.links.get_val(stored).decode("utf8", "surrogateescape")
        names += [part for part in path.split("/") if part not in ("", ".")][::-1]
        if path.startswith("/"):
            item = item.file["/"]
    return item
