"""Which fields of a file are predicted and which are given in advance: a choice by name.

A component of a vector or matrix field that is chosen alone, velocity_x, is a scalar field from
then on. A *forcing* is a field or scalar that varies in time and is known beforehand: insolation,
an inlet, a control. It is told to the emulator and never predicted.

A constant field that spans decades can be read by its logarithm: what is called density is then
called log density, and is told to the emulator so.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from wavelit.data.format.layout import FieldLayout, FileLayout
from wavelit.errors import WavelitError

__all__ = ["Component", "Logarithm", "Selection", "channel_names", "select"]


def channel_names(field: FieldLayout, axes: Sequence[str]) -> list[str]:
    """A name for every component of a field: velocity_x, velocity_y."""
    components = ["".join(along) for along in itertools.product(axes, repeat=field.order)]
    return [f"{field.name}_{along}" if along else field.name for along in components]


class Component:
    """One component of a stored vector or matrix field, which indexes like a scalar field.

    Args:
        item: the stored array, components last.
        component: which one.
    """

    def __init__(self, item: Any, component: tuple[int, ...]) -> None:
        self._item, self._component = item, component
        self.dtype = item.dtype
        self.shape = item.shape[: -len(component)]

    def __getitem__(self, key: Any) -> Any:
        return np.ascontiguousarray(self._item[key][(..., *self._component)])


class Logarithm:
    """The natural logarithm of a stored array, which indexes like it. What is not positive becomes
    a value that is not finite, which readers refuse on cells that count.

    Args:
        item: the stored array.
    """

    def __init__(self, item: Any) -> None:
        self._item = item
        self.dtype, self.shape = np.dtype(np.float32), item.shape

    def __getitem__(self, key: Any) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            # In double precision: a ratio of large numbers is to be as exact as one of small ones.
            return np.log(np.asarray(self._item[key], dtype=np.float64)).astype(np.float32)


class Selection(NamedTuple):
    """What of a file's fields a dataset is made of.

    `predicted` has the fields that vary in time and are predicted, and the constant ones;
    `forcings` those that are given and the constant ones, None if none is given.
    """

    predicted: FileLayout
    forcings: FileLayout | None


def select(
    layout: FileLayout,
    fields: Sequence[str] | None,
    forcings: Sequence[str] | None,
    log_constants: Sequence[str] = (),
) -> Selection:
    """Choose among the fields of a file that vary in time; constant ones always stay.

    Args:
        layout: what the file holds.
        fields: those to predict, a vector as a whole or one of its components; all that are no
            forcings if absent. Their order is the file's.
        forcings: fields and scalars that are given in advance; what the file declares if absent.
            A scalar that varies in time and is not among those that are named is left out.
        log_constants: constant scalar fields that are read by their logarithm.

    Raises:
        WavelitError: no such field, or one that is both, or none is left to predict; the logarithm
            of the mask.
    """
    layout = _with_logarithms(layout, log_constants)
    given = list(layout.forcings if forcings is None else forcings)
    scalars = layout.time_varying_scalars
    if forcings is not None:
        kept = tuple(name for name in scalars if name in given)
        layout = replace(layout, forcings=tuple(given), time_varying_scalars=kept)
    if fields is None and not given:
        return Selection(layout, None)
    parts = {name: part for field in layout.fields for name, part in _parts(field, layout.axes)}
    moving = {name: part for name, part in parts.items() if part.time_varying}
    wanted = _default(layout, given) if fields is None else list(fields)
    for what, names, known in (
        ("fields", wanted, list(moving)),
        ("forcings", given, [*moving, *scalars]),
    ):
        if strange := [name for name in names if name not in known]:
            raise WavelitError(
                f"{layout.path}: {what} names '{strange[0]}', which does not vary in time here; "
                f"known: {', '.join(known)}"
            )
    _require_once("fields", wanted, layout)
    _require_once("forcings", given, layout)
    # As the file has them, whatever the order of the names.
    chosen = [part for name, part in moving.items() if name in wanted]
    told = [part for name, part in moving.items() if name in given]
    _require_apart([*chosen, *told], layout)
    if not chosen:
        raise WavelitError(f"{layout.path}: no field is left to predict; name one in fields")
    constants = tuple(field for field in layout.fields if not field.time_varying)
    layout = replace(layout, forcings=tuple(given))
    everything = replace(layout, fields=_ordered([*chosen, *constants]))
    if not told:
        return Selection(everything, None)
    # The mask is a constant field, which decides for forcings too.
    return Selection(everything, replace(layout, fields=_ordered([*told, *constants])))


def _with_logarithms(layout: FileLayout, names: Sequence[str]) -> FileLayout:
    """The layout with those constant fields by their logarithm."""
    if not names:
        return layout
    known = [f.name for f in layout.fields if not (f.time_varying or f.order)]
    if strange := [name for name in names if name not in known]:
        raise WavelitError(
            f"{layout.path}: log_constants names '{strange[0]}', which is no constant scalar field "
            f"here; known: {', '.join(known) or 'none'}"
        )
    if taken := [f.name for f in layout.fields if f.name in [f"log {name}" for name in names]]:
        raise WavelitError(
            f"{layout.path}: '{taken[0]}' is the name of a field already: leave "
            f"'{taken[0].removeprefix('log ')}' out of log_constants"
        )
    if layout.mask is not None and layout.mask.field in names:
        raise WavelitError(
            f"{layout.path}: '{layout.mask.field}' tells which cells count: leave it out of "
            "log_constants"
        )
    fields = (
        replace(field, name=f"log {field.name}", stored=field.name, logarithm=True)
        if field.name in names
        else field
        for field in layout.fields
    )
    return replace(layout, fields=tuple(fields))


def _default(layout: FileLayout, given: Sequence[str]) -> list[str]:
    """All fields that vary in time and are not given, nor is one of their components."""
    return [
        field.name
        for field in layout.fields
        if field.time_varying and not {name for name, _ in _parts(field, layout.axes)} & {*given}
    ]


def _parts(field: FieldLayout, axes: Sequence[str]) -> Iterator[tuple[str, FieldLayout]]:
    """A field as a whole, then each of its components."""
    yield field.name, field
    if not field.order:
        return
    places = itertools.product(range(len(axes)), repeat=field.order)
    for name, place in zip(channel_names(field, axes), places, strict=True):
        nbytes = field.nbytes // field.n_components
        yield (
            name,
            replace(field, name=name, order=0, nbytes=nbytes, stored=field.name, component=place),
        )


def _ordered(fields: Any) -> tuple[FieldLayout, ...]:
    """As the format has them: by tensor order."""
    return tuple(sorted(fields, key=lambda field: field.order))


def _require_once(what: str, names: Sequence[str], layout: FileLayout) -> None:
    if twice := [name for name in names if names.count(name) > 1]:
        raise WavelitError(f"{layout.path}: {what} names '{twice[0]}' twice; name it once")


def _require_apart(fields: Sequence[FieldLayout], layout: FileLayout) -> None:
    """Every channel once, whether it is named alone or as a part of its vector."""
    seen: dict[tuple[str, tuple[int, ...]], str] = {}
    for field in fields:
        places = itertools.product(range(len(layout.axes)), repeat=field.order)
        for place in [field.component] if field.component else places:
            other = seen.setdefault((field.source, place), field.name)
            if other != field.name or fields.count(field) > 1:
                raise WavelitError(
                    f"{layout.path}: '{other}' and '{field.name}' hold the same values; name them "
                    "once, in fields or in forcings"
                )
