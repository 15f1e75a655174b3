"""Units of fields, scalars, axes and time, as texts in the spelling of the CF conventions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wavelit.checks.arguments import shown
from wavelit.data.writing.sources import text_of
from wavelit.errors import WavelitError, printable
from wavelit.model.units import same_unit

__all__ = ["agreed_units", "check_units", "units_of"]


def units_of(
    given: Mapping[str, str],
    fields: Mapping[str, Any],
    scalars: Mapping[str, Any],
    lines: Mapping[str, Any],
) -> dict[str, str]:
    """Those given, and those that fields, scalars, positions and times say themselves.

    Raises:
        WavelitError: records of one field differ in theirs.
    """
    found = dict(given)
    for kind, values in (
        ("field", fields),
        ("scalar", scalars),
        ("coordinate", lines),
    ):
        for key, value in values.items():
            several = value if isinstance(value, list | tuple) else [value]
            labelled_ones = {
                f"{kind} '{key}' of record {i}": each
                for i, each in enumerate(several)
                if hasattr(each, "attrs")
            }
            if text := agreed_units(f"{kind} '{key}'", labelled_ones):
                found.setdefault(key, text)
    return found


def agreed_units(what: str, arrays: Mapping[str, Any]) -> str:
    """The unit of arrays that must be in one; empty if none says it.

    Raises:
        WavelitError: they differ.
    """
    units = {where: text for where, value in arrays.items() if (text := text_of(value, "units"))}
    if not units:
        return ""
    (first, one), *others = units.items()
    for other, another in others:
        if not same_unit(one, another):
            raise WavelitError(
                f"{what} is in '{one}' ({first}) and in '{another}' ({other}): convert one of them"
            )
    return one


def check_units(units: Mapping[str, Any], known: Sequence[str]) -> None:
    """Units are texts, of names that there are.

    Raises:
        WavelitError: one is not.
    """
    for name, unit in units.items():
        if name not in known:
            raise WavelitError(
                f"units: '{printable(name, 60)}' is no field, scalar or axis: name one of "
                f"{', '.join(known)}"
            )
        if not isinstance(unit, str) or len(unit) > 100 or printable(unit) != unit:
            raise WavelitError(
                f"units: that of '{name}' must be a text of at most 100 characters, as in 'm s-1', "
                f"not {shown(unit)}"
            )
