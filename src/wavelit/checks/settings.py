"""Settings as frozen dataclasses: their types and bounds are checked in one place, and what is
read from a file is data alone.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from wavelit.checks.arguments import shown
from wavelit.errors import WavelitError, printable

__all__ = ["check_bounds", "check_types", "current_names", "from_mapping", "require_mapping"]

Settings = TypeVar("Settings")
EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


def check_types(settings: Any) -> None:
    """Make each entry of a frozen dataclass the plain number, text or truth value that it is
    declared as.

    Numbers of numpy, whole floats and the text 1e4 are taken, as settings are written as YAML and
    JSON.

    Raises:
        WavelitError: Names the entry, what is due and what came.
    """
    for field in dataclasses.fields(settings):
        declared = str(field.type).split(" | ")
        kind = next((kind for kind in (bool, int, float, str) if kind.__name__ in declared), None)
        value = getattr(settings, field.name)
        if kind is None or (value is None and "None" in declared):
            continue
        # YAML reads 1e4 as text, for want of a point.
        if kind in (int, float) and isinstance(value, str) and EXPONENT.fullmatch(value):
            value = float(value)
        # bool(x) and str(x) take everything, and a truth value is a whole number to Python.
        suits = isinstance(value, str) == (kind is str) and (
            kind is bool or not isinstance(value, bool)
        )
        try:
            plain = kind(value) if suits else None
        except (TypeError, ValueError, OverflowError):
            plain = None
        if plain is None or not _same(plain, value):
            what = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[
                kind
            ]
            raise WavelitError(f"{field.name} must be {what}, not {shown(value)}")
        object.__setattr__(settings, field.name, plain)


def check_bounds(settings: Any, bounds: Mapping[str, tuple[float, float | None]]) -> None:
    """Compare entries with their smallest and, unless it is None, largest value.

    Raises:
        WavelitError: Names the entry, the bounds and what came.
    """
    for name, (low, high) in bounds.items():
        value = getattr(settings, name)
        if value is not None and not (low <= value and (high is None or value <= high)):
            most = "" if high is None else f" and at most {high}"
            raise WavelitError(f"{name} must be at least {low}{most}, not {shown(value)}")


def current_names(
    kind: type[Any], values: Mapping[str, Any], where: str | None = None
) -> dict[str, Any]:
    """Entries of settings under the names that they have now, where an older version wrote them:
    `RENAMED` of the dataclass.

    Args:
        kind: The dataclass.
        values: The entries.
        where: The file or option, for a warning about each old name; without it there is none.
    """
    renamed: Mapping[str, str] = getattr(kind, "RENAMED", {})
    for name in renamed.keys() & values.keys() if where is not None else ():
        warnings.warn(f"{where}: {name} is called {renamed[name]} now", stacklevel=3)
    return {renamed.get(name, name): value for name, value in values.items()}


def require_mapping(where: str, values: Any, known: Collection[str] | None = None) -> None:
    """Refuse what is no mapping, or has other entries than the known ones.

    Raises:
        WavelitError: Names the file, and the entry.
    """
    if not isinstance(values, Mapping):
        raise WavelitError(f"{where}: a mapping is due, not {shown(values)}; write it again")
    if known is not None and (strange := [name for name in values if name not in known]):
        raise WavelitError(
            f"{where}: unknown entry {shown(strange[0])}, known: {', '.join(sorted(known))}; a "
            "newer version may have written it"
        )


def from_mapping(kind: type[Settings], values: Any, where: str) -> Settings:
    """Settings from what a file holds; entries that are not there keep their defaults.

    Args:
        kind: The dataclass.
        values: What was read.
        where: The file, and the part of it, for errors.

    Raises:
        WavelitError: It is no mapping, has an entry that `kind` has not, or one of another type.
    """
    require_mapping(where, values)
    values = current_names(kind, values, where)
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    require_mapping(where, values, known)
    try:
        return kind(**values)
    except WavelitError as error:
        raise WavelitError(f"{where}: {error}") from error
    except TypeError as error:
        raise WavelitError(f"{where}: {printable(error)}; write it again") from error


def _same(plain: Any, value: Any) -> bool:
    """Whether a conversion kept the value; also where arrays or text came, whose comparison is
    none.
    """
    try:
        return bool(plain == value)
    except (TypeError, ValueError, RuntimeError):
        return False
