"""What a file in The Well's format is to hold, and whether it fits together."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from wavelit.data.writing.given import LARGEST, SMALLEST, mapping, numbers
from wavelit.data.writing.masks import Mask, find_mask
from wavelit.data.writing.sources import Source, arrays_of, source
from wavelit.data.writing.times import checked_times, line
from wavelit.data.writing.units import check_units
from wavelit.data.writing.xarrays import Given
from wavelit.errors import WavelitError, printable

__all__ = ["RESERVED", "Contents", "Item", "Plan", "checked_given", "is_shared", "planned"]

Array = npt.NDArray[Any]

AXES = ("x", "y", "z")
# Root attributes of the format and of ours: no scalar of a whole file can have these names.
RESERVED = (
    "dataset_name",
    "grid_type",
    "n_spatial_dims",
    "n_trajectories",
    "simulation_parameters",
    "mask_field",
    "mask_excludes",
    "split_in_time",
    "forcings",
)


@dataclass(frozen=True)
class Contents:
    """What a file is to hold: fields (N, T, *S, ...), constant fields (N, *S, ...) or (*S, ...),
    and what is said of them.

    `attributes` stand at the root.
    """

    given: Given
    name: str
    sides: list[tuple[str, str]]
    grid_type: str = "cartesian"
    mask_field: str | None = None
    mask_excludes: float = 1.0
    forcings: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """A field: its numbers, how many of trajectory and time stand before its axes, its tensor
    order, whether it varies in time.
    """

    source: Source
    lead: int
    order: int
    varies: bool


@dataclass(frozen=True)
class Plan:
    """What is written, checked: fields by name, the mask, positions by axis, times (T,), scalars
    by name, () or (N,) or (N, T), and the names of forcings.
    """

    n_trajectories: int
    items: dict[str, Item]
    mask: Mask | None
    grid: dict[str, Array]
    times: Array
    scalars: dict[str, Array]
    forcings: Sequence[str]


def planned(contents: Contents) -> Plan:
    """Everything that is to be written fits together.

    Raises:
        WavelitError: as `write_well`.
    """
    given, d, holes = contents.given, len(contents.sides), contents.mask_field is not None
    varying = {k: source(f"field '{k}'", v, holes) for k, v in given.fields.items()}
    n, steps, shape = _sizes(*next(iter(varying.items())), d)
    constants = {k: source(f"field '{k}'", v, holes) for k, v in given.constant_fields.items()}
    if twice := sorted(set(varying) & set(constants)):
        raise WavelitError(
            f"field '{twice[0]}' is given both as field and as constant field: rename one"
        )
    leads = dict.fromkeys(varying, 2) | {
        key: 0 if is_shared(value, n, shape) else 1 for key, value in constants.items()
    }
    due = {2: (n, steps, *shape), 1: (n, *shape), 0: shape}
    items = {
        key: Item(
            value.flip([leads[key] + axis for axis in given.flipped]),
            leads[key],
            _order(key, value, due[leads[key]], d),
            key in varying,
        )
        for key, value in (varying | constants).items()
    }
    mask = find_mask(
        contents.mask_field, contents.mask_excludes, {k: items[k].source for k in constants}, shape
    )
    grid = _grid(given.coordinates, shape)
    _require_channels_apart({key: item.order for key, item in items.items()}, list(grid))
    times = checked_times(given.time, steps)
    scalars = {key: _scalar(key, value, n, steps) for key, value in given.scalars.items()}
    if shared := [key for key in scalars if key in {*items, *grid, "time"}]:
        raise WavelitError(
            f"'{shared[0]}' is the name of a scalar and of a field, an axis or the time: rename one"
        )
    forcings = _checked_forcings(contents.forcings, varying, scalars)
    if taken := [key for key, value in scalars.items() if value.ndim == 0 and key in RESERVED]:
        raise WavelitError(f"'{taken[0]}' is an attribute of the format: choose another name")
    check_units(given.units, [*items, *scalars, *grid, "time"])
    return Plan(n, items, mask, grid, times, scalars, forcings)


def _sizes(name: str, first: Source, d: int) -> tuple[int, int, tuple[int, ...]]:
    """N, T and S of a file, as its first field has them."""
    if first.ndim < 2 + d:
        raise WavelitError(
            f"field '{name}': expected (N, T, *S) with {d} spatial axes, one per boundary "
            f"condition, got shape {first.shape}"
        )
    n, steps, shape = first.shape[0], first.shape[1], first.shape[2 : 2 + d]
    if min(n, steps) < 1 or min(shape) < 2:
        raise WavelitError(
            f"field '{name}': expected N, T >= 1 and at least 2 points an axis, got shape "
            f"{first.shape}"
        )
    return n, steps, shape


def is_shared(value: Source, n: int | None, shape: tuple[int, ...]) -> bool:
    """Whether a constant field is given once, (*S, ...), and not for each of n trajectories."""
    d = len(shape)
    if n is not None and value.shape[: 1 + d] == (n, *shape):
        return False
    return value.shape[:d] == shape and value.shape[d:] == (d,) * (value.ndim - d)


def checked_given(
    fields: Any,
    constant_fields: Any,
    scalars: Any,
    coordinates: Any,
    time: Any,
    units: Any = None,
) -> Given:
    """The arguments with their names checked."""
    due = "array of shape (N, T, *S)"
    given = Given(
        mapping("fields", arrays_of(fields), due),
        mapping("constant_fields", arrays_of(constant_fields), "array of shape (N, *S)"),
        mapping("scalars", arrays_of(scalars), "number"),
        None if coordinates is None else mapping("coordinates", coordinates, "positions"),
        time,
        mapping("units", units, "unit"),
    )
    if not given.fields:
        raise WavelitError(f"expected at least one field, got none: pass fields={{name: {due}}}")
    return given


def _order(name: str, array: Source, leading: tuple[int, ...], d: int) -> int:
    order = array.ndim - len(leading)
    if not 0 <= order <= 2 or array.shape != leading + (d,) * order:
        raise WavelitError(
            f"field '{name}': expected shape {leading}, {(*leading, d)} or {(*leading, d, d)}, got "
            f"{array.shape}"
        )
    return order


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
        axis: line(axis, value, length)
        for (axis, value), length in zip(coordinates.items(), shape, strict=True)
    }
    for axis, positions in grid.items():
        if (np.diff(positions.astype(np.float32)) <= 0).any():
            raise WavelitError(
                f"'{axis}' is stored in float32, where its positions coincide: take its first "
                "value off"
            )
    return grid


def _require_channels_apart(orders: Mapping[str, int], axes: Sequence[str]) -> None:
    """A component of a field has a name of its own, velocity_x, that no other may have."""
    seen: dict[str, str] = {}
    for name, order in orders.items():
        for along in itertools.product(axes, repeat=order):
            channel = f"{name}_{''.join(along)}" if order else name
            if (other := seen.setdefault(channel, name)) != name:
                raise WavelitError(
                    f"'{printable(channel, 60)}' names both a component and another field, of "
                    f"'{printable(other, 60)}' and '{printable(name, 60)}': rename one"
                )


def _checked_forcings(
    names: Sequence[str], fields: Mapping[str, Source], scalars: Mapping[str, Array]
) -> list[str]:
    """What is given in advance: the fields named, and every scalar that varies in time."""
    series = [name for name, value in scalars.items() if value.ndim == 2]
    if strange := [name for name in names if name not in (*fields, *series)]:
        raise WavelitError(
            f"forcings: '{printable(strange[0], 60)}' does not vary in time: name fields, "
            f"{', '.join(fields)}, or scalars (N, T)"
        )
    if set(fields) <= set(names):
        raise WavelitError("forcings: no field is left to predict: leave one of them out")
    return list(dict.fromkeys([*names, *series]))


def _scalar(name: str, value: Any, n: int, steps: int) -> Array:
    array = numbers(f"scalar '{name}'", value).astype(np.float64)
    bad = array[~(np.abs(array) <= LARGEST)]
    if (lost := array[(array != 0) & (np.abs(array) < SMALLEST)]).size:
        raise WavelitError(
            f"scalar '{name}': float32 rounds {lost.flat[0]:.3g} to 0: choose units in which it is "
            "about one"
        )
    if array.shape not in ((), (n,), (n, steps)) or bad.size:
        got = f"{bad.flat[0]}" if bad.size else f"shape {array.shape}"
        raise WavelitError(
            f"scalar '{name}': expected one number finite in float32, or {n}, one a trajectory, "
            f"or ({n}, {steps}), one a frame, got {got}"
        )
    return array
