"""What an argument must be: whole numbers, real numbers, names out of a few, folders, devices,
arrays.

Each check names the argument and what came, in one line, and stands where a user's value enters:
what is inside trusts it. Torch takes seconds to import, and is not imported to tell that a value is
none of its own: whoever made one has imported it.
"""

from __future__ import annotations

import math
import operator
import os
import re
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wavelit.errors import WavelitError, one_line, printable

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "listed",
    "most_threads",
    "require_array",
    "require_dense",
    "require_device",
    "require_instance",
    "require_mask",
    "require_name",
    "require_names",
    "require_path",
    "require_real",
    "require_values",
    "require_whole",
    "shown",
]

# file:///a, s3://b: read by what reads datasets, and by nothing that writes. A Path has one slash.
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def _of_torch(value: object, kind: str) -> bool:
    """Whether it is a "Tensor" or a "device" of torch."""
    return isinstance(value, getattr(sys.modules.get("torch"), kind, ()))


def shown(value: object) -> str:
    """A value as an error shows it, at most 80 characters: of an array its kind, type and shape."""
    if isinstance(value, np.ndarray) or _of_torch(value, "Tensor"):
        array: Any = value
        return f"{type(value).__name__} {array.dtype} {tuple(array.shape)}"
    if isinstance(value, int) and value.bit_length() > 200:
        # Python refuses to write out an integer of more than 4,300 digits.
        return f"a number of {value.bit_length()} bits"
    if (
        value is None
        or isinstance(value, str | int | float | list | tuple | dict | os.PathLike)
        or _of_torch(value, "device")
    ):
        return printable(repr(value), 80)
    return f"a {type(value).__name__}"


def listed(names: Iterable[object], longest: int = 200) -> str:
    """Names with commas between them; those beyond about `longest` characters are counted."""
    each = [printable(name, 60) for name in names]
    length = 0
    for n, name in enumerate(each):
        length += len(name) + 2
        if length > longest:
            return f"{', '.join(each[:n])} and {len(each) - n} more"
    return ", ".join(each) or "none"


def most_threads() -> int:
    """Threads that a process may ask for: the machine's processors, or 64 where it has fewer. The
    OpenMP runtime ends the process where the system refuses one.
    """
    return max(64, os.cpu_count() or 1)


def require_whole(name: str, value: Any, low: int = 1, high: int | None = None) -> int:
    """An integer within bounds, of Python's or numpy's types.

    Raises:
        WavelitError: it is none, or out of bounds.
    """
    range_ = f"of at least {low}" if high is None else f"from {low} to {high}"
    try:
        none = isinstance(value, bool | np.bool_) or _of_torch(value, "Tensor")
        number = None if none else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < low or (high is not None and number > high):
        raise WavelitError(f"{name} must be a whole number {range_}, not {shown(value)}")
    return number


def require_real(
    name: str, value: Any, low: float = 0.0, high: float = math.inf, beyond: bool = False
) -> float:
    """A finite number from `low` to `high`, greater than `low` if `beyond`.

    Raises:
        WavelitError: it is none, or out of bounds.
    """
    number = math.nan
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        # An integer may be too large for a float.
        number = math.inf if isinstance(value, int) and value.bit_length() > 1000 else float(value)
    if not (math.isfinite(number) and low <= number <= high) or (beyond and number == low):
        bounds = f"greater than {low:g}" if beyond else f"of at least {low:g}"
        bounds += f" and at most {high:g}" if math.isfinite(high) else ""
        raise WavelitError(f"{name} must be a finite number {bounds}, not {shown(value)}")
    return number


def require_name(name: str, value: Any, known: Collection[str]) -> str:
    """One of the known names.

    Raises:
        WavelitError: it is none of them.
    """
    if not isinstance(value, str) or value not in known:
        raise WavelitError(f"unknown {name} {shown(value)}: expected one of {listed(known)}")
    return value


def require_names(name: str, values: Any, at_least: int = 1) -> list[str]:
    """A sequence of texts, which one text alone is not.

    Raises:
        WavelitError: it is none, or too short.
    """
    if isinstance(values, list | tuple) and len(values) >= at_least:
        wrong = [each for each in values if not isinstance(each, str)]
        if not wrong:
            return list(values)
        values = wrong[0]
    raise WavelitError(f"{name} must be a list of names, at least {at_least}, not {shown(values)}")


def require_instance(name: str, value: Any, kind: type, fix: str) -> None:
    """A value of that class.

    Raises:
        WavelitError: it is none.
    """
    if not isinstance(value, kind):
        raise WavelitError(f"{name} must be a {kind.__name__}, not {shown(value)}: {fix}")


def require_path(name: str, value: Any, is_file: bool = False) -> Path:
    """A path, ~ spelled out, that may be a file's if `is_file`.

    Raises:
        WavelitError: it is no text or path, is blank, holds a NUL, names no file, or is an address.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if (
        not isinstance(text, str)
        or not text.strip()
        or "\0" in text
        or (is_file and Path(text).name in ("", ".."))
    ):
        raise WavelitError(
            f"{name} must be the path of a {'file' if is_file else 'folder'}, not {shown(value)}"
        )
    if ADDRESS.match(text):
        raise WavelitError(f"{name} must be a path on this machine, not the address {shown(value)}")
    return Path(os.path.expanduser(text))


def require_device(device: Any) -> str:
    """A device that tensors of float64 can be put on and read from.

    Raises:
        WavelitError: it is none.
    """
    import torch

    try:
        # None is torch's default device, and a number one of its accelerator's.
        name = device if isinstance(device, torch.device) else torch.device(str(device))
        torch.zeros(1, dtype=torch.float64, device=name).tolist()
    except (RuntimeError, AssertionError, TypeError, ValueError, ImportError) as error:
        raise WavelitError(
            f"device {shown(device)} cannot be used here: {one_line(error)}: choose cpu, or another"
        ) from error
    return str(name)


def require_array(name: str, value: Any) -> NDArray[Any]:
    """Real numbers as a numpy array, of a tensor on any device too.

    Raises:
        WavelitError: it holds anything else.
    """
    if _of_torch(value, "Tensor"):
        import torch

        require_values(name, value)
        value = value.detach().cpu()
        # numpy has no bfloat16.
        value = value.float() if value.dtype == torch.bfloat16 else value
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise WavelitError(f"{name} must be an array of real numbers: {one_line(error)}") from error
    if array.dtype.kind not in "fiub":
        raise WavelitError(f"{name} must be an array of real numbers, not {shown(value)}")
    return array


def require_dense(name: str, value: Tensor) -> None:
    """A tensor with plain storage.

    Raises:
        WavelitError: It is sparse, or no tensor.
    """
    if not _of_torch(value, "Tensor"):
        raise WavelitError(
            f"{name} must be a tensor, not {shown(value)}: torch.as_tensor makes one"
        )
    import torch

    if value.layout != torch.strided:
        raise WavelitError(
            f"{name} must be a dense tensor, not {value.layout}: make it so by .to_dense()"
        )


def require_values(name: str, value: Tensor) -> None:
    """A tensor whose numbers can be read one by one.

    Raises:
        WavelitError: It is sparse, nested, quantized, or on the meta device.
    """
    import torch

    if value.layout != torch.strided or value.is_nested or value.is_meta or value.is_quantized:
        raise WavelitError(
            f"{name}: expected real numbers, got a tensor without plain storage: make it dense"
        )


def require_mask(field: Any, excludes: Any) -> None:
    """A mask is declared by the name of a field and a number.

    Raises:
        WavelitError: one is of another type, or the number is NaN, which equals no value.
    """
    if field is not None and not isinstance(field, str):
        raise WavelitError(f"mask_field must be the name of a field, not {shown(field)}")
    number = isinstance(excludes, int | float | np.integer | np.floating) and not isinstance(
        excludes, bool
    )
    if not number or math.isnan(excludes):
        raise WavelitError(f"mask_excludes must be a number, not {shown(excludes)}")
