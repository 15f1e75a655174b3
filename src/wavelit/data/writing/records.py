"""From what is given to files: which trajectories, and which of their frames, stand in which file.

Splits take whole trajectories, or cut every one in time and leave some frames out between two
splits, so that no frame stands in windows of both. A file holds trajectories of one length and one
line of times; others stand in files of their own. Where time steps differ, every trajectory gets
its own as a scalar, `time_step`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from wavelit.checks.arguments import require_whole, shown
from wavelit.data.writing.contents import is_shared
from wavelit.data.writing.given import numbers
from wavelit.data.writing.sources import Source, records
from wavelit.data.writing.times import (
    EVEN,
    Line,
    checked_times,
    line,
    lines,
    require_even,
    time_steps,
)
from wavelit.data.writing.xarrays import Given
from wavelit.errors import WavelitError

__all__ = ["SPLITS", "TIME_STEP", "Part", "Records", "counted_splits", "parts", "shares_in_time"]

Array = npt.NDArray[Any]

SPLITS = ("train", "valid", "test")
TIME_STEP = "time_step"


@dataclass(frozen=True)
class Part:
    """A file: its split, the number of its line of times, what is in it, how messages call it."""

    split: str
    number: int
    given: Given
    where: str


@dataclass(frozen=True)
class Records:
    """N trajectories: of fields (N, T, *S, ...), or lists of (T_i, *S, ...); and their times."""

    given: Given
    lengths: tuple[int, ...]
    times: tuple[Array, ...]

    @staticmethod
    def take(given: Given, holes: bool, equal_steps: bool) -> Records:
        """What is given, with trajectories counted and times checked.

        Args:
            given: without DataArrays.
            holes: whether entries may be missing.
            equal_steps: whether an irregular time axis is to be taken as regular.

        Raises:
            WavelitError: fields differ in the lengths of trajectories, or times do not fit.
        """
        fields = {k: records(f"field '{k}'", v, holes) for k, v in given.fields.items()}
        constants = {k: records(f"field '{k}'", v, holes) for k, v in given.constant_fields.items()}
        scalars = {k: numbers(f"scalar '{k}'", v) for k, v in given.scalars.items()}
        for name, value in fields.items():
            if isinstance(value, Source) and value.ndim < 2:
                n = value.shape[0] if value.ndim else "none"
                raise WavelitError(
                    f"'{name}' of shape {value.shape} has {n} along its first axis: expected "
                    "(N, T, *S), N trajectories"
                )
        lengths = _lengths(fields)
        _require_series(scalars, max(lengths, default=0))
        found = Line(np.empty(0), "") if given.time is None else lines("'time'", given.time)
        if isinstance(found, list) and len(found) != len(lengths):
            raise WavelitError(
                f"time: {len(found)} lines for {len(lengths)} trajectories: give one line, or one "
                "for each"
            )
        times = tuple(_times(given.time is None, found, lengths, equal_steps))
        units = found[0].units if isinstance(found, list) else found.units
        line_units = {"time": units} | given.line_units if units else given.line_units
        whole = replace(
            given,
            fields=fields,
            constant_fields={
                k: Source.stack(v) if isinstance(v, list) and _alike(k, v) else v
                for k, v in constants.items()
            },
            scalars=scalars,
            line_units=line_units,
        )
        return Records(_with_time_step(whole, times, line_units), lengths, times)

    def grid(self, d: int) -> tuple[int, ...]:
        """The shape of the grid, by the first field."""
        first = next(iter(self.given.fields.values()))
        shape: tuple[int, ...] = first[0].shape[1:] if isinstance(first, list) else first.shape[2:]
        return shape[:d]


def parts(
    found: Records, counts: Mapping[str, int] | None, shares: Sequence[float], gap: int, d: int
) -> list[Part]:
    """The files of a dataset.

    Args:
        found: all trajectories.
        counts: how many trajectories each split takes; None: every one is cut in time.
        shares: of the splits in time.
        gap: frames left out between two splits.
        d: number of axes.

    Raises:
        WavelitError: trajectories are too short to be cut.
    """
    n = len(found.lengths)
    keys = [
        (length, times.tobytes()) for length, times in zip(found.lengths, found.times, strict=True)
    ]
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    made, start = [], 0
    cuts = {} if counts else {T: _cuts(T, shares, gap) for T in dict.fromkeys(found.lengths)}
    for split in SPLITS:
        inside = range(start, start + counts[split]) if counts else range(n)
        start = inside.stop
        for key, i in number.items():
            members = [each for each in inside if keys[each] == key]
            if not members:
                continue
            frames = cuts[key[0]][split] if cuts else slice(0, key[0])
            where = f"{split}, trajectories {members[0]} to {members[-1]}"
            if cuts:
                where += f", steps {frames.start} to {frames.stop - 1}"
            made.append(Part(split, i, _select(found, members, frames, d), where))
    return made


def counted_splits(splits: Any) -> dict[str, int]:
    """Trajectories of each split, checked."""
    counts = dict(splits) if isinstance(splits, Mapping) else {}
    if set(counts) != set(SPLITS) or not all(
        isinstance(count, int | np.integer) and not isinstance(count, bool) and count >= 1
        for count in counts.values()
    ):
        raise WavelitError(
            f"splits: expected a positive number for each of {', '.join(SPLITS)}, the whole number "
            f"of its trajectories as in {{'train': 8, 'valid': 1, 'test': 1}} (--splits 8 1 1), "
            f"got {shown(splits)}; long trajectories can be cut in time, by split_in_time="
            "(0.8, 0.1, 0.1) (--split_in_time 0.8 0.1 0.1)"
        )
    return {split: int(counts[split]) for split in SPLITS}


def shares_in_time(split_in_time: Any, gap: Any) -> tuple[float, ...]:
    """The shares of train, valid and test, checked."""
    try:
        shares = tuple(float(share) for share in split_in_time)
    except (TypeError, ValueError):
        shares = ()
    if len(shares) != 3 or not all(share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise WavelitError(
            "split_in_time: expected three positive shares of time that add up to 1, as in "
            f"(0.8, 0.1, 0.1), for {', '.join(SPLITS)}, got {shown(split_in_time)}"
        )
    require_whole("gap", gap, 0, 2**31 - 1)
    return shares


def _cuts(length: int, shares: Sequence[float], gap: int) -> dict[str, slice]:
    """The frames of each split of a trajectory."""
    usable = length - 2 * gap
    later = [max(0, round(share * usable)) for share in shares[1:]]
    sizes = [usable - sum(later), *later]
    least = max(gap, 1) + 1
    if min(sizes) < least:
        raise WavelitError(
            f"split_in_time: a trajectory of {length} frames, less 2 gaps of {gap}, gives "
            f"{', '.join(str(max(0, size)) for size in sizes)} frames to {', '.join(SPLITS)}, but "
            f"each needs {least}, a history of {least - 1} and its target: take longer records, "
            "other shares or a smaller gap"
        )
    starts = [0, sizes[0] + gap, sizes[0] + sizes[1] + 2 * gap]
    return {
        split: slice(start, start + size)
        for split, start, size in zip(SPLITS, starts, sizes, strict=True)
    }


def _lengths(fields: Mapping[str, Source | list[Source]]) -> tuple[int, ...]:
    """Frames of each trajectory, in which all fields must agree."""
    found: dict[str, list[int]] = {}
    for name, value in fields.items():
        if isinstance(value, list):
            if short := [i for i, each in enumerate(value) if each.ndim < 1]:
                raise WavelitError(f"field '{name}' of trajectory {short[0]}: expected (T, *S)")
            found[name] = [each.shape[0] for each in value]
        else:
            found[name] = [value.shape[1]] * value.shape[0]
    (first, due), *others = found.items()
    for name, lengths in others:
        if lengths != due:
            if len(lengths) != len(due):
                raise WavelitError(
                    f"field '{name}' has {len(lengths)} trajectories where field '{first}' has "
                    f"{len(due)}: give all of them"
                )
            i = next(i for i, pair in enumerate(zip(lengths, due, strict=True)) if len({*pair}) > 1)
            raise WavelitError(
                f"field '{name}' of trajectory {i} has {lengths[i]} frames where field '{first}' "
                f"has {due[i]}: cut them alike"
            )
    return tuple(due)


def _require_series(scalars: Mapping[str, Array], length: int) -> None:
    """Scalars that vary in time have a value for each frame of the longest trajectory."""
    for name, value in scalars.items():
        if value.ndim == 2 and value.shape[1] != length:
            raise WavelitError(
                f"scalar '{name}' of shape {value.shape} has {value.shape[1]} values in time where "
                f"fields have {length} frames: cut them alike"
            )


def _times(
    absent: bool, found: Line | list[Line], lengths: Sequence[int], equal_steps: bool
) -> list[Array]:
    if absent:
        return [np.arange(float(length)) for length in lengths]
    if isinstance(found, Line):
        if len(set(lengths)) > 1:
            raise WavelitError(
                f"time: one line of {len(found.values)} for trajectories of {min(lengths)} to "
                f"{max(lengths)} frames: give a list of lines, one for each"
            )
        times = line("time", found.values, lengths[0] if lengths else 0)
        every = [times] * len(lengths)
    else:
        every = [
            line(f"time of trajectory {i}", each.values, length)
            for i, (each, length) in enumerate(zip(found, lengths, strict=True))
        ]
    for i, times in enumerate(every[:1] if isinstance(found, Line) else every):
        checked_times(times, len(times))
        if not equal_steps:
            require_even(times, "" if isinstance(found, Line) else f" of trajectory {i}")
    return every


def _with_time_step(given: Given, times: Sequence[Array], line_units: Mapping[str, str]) -> Given:
    """With the scalar of the time steps, where they differ."""
    steps = time_steps(times)
    if steps is None:
        return given
    own = given.scalars.get(TIME_STEP)
    if own is not None:
        close = own.shape in ((), steps.shape) and np.allclose(own, steps, rtol=EVEN, atol=0)
        if not close:
            raise WavelitError(
                f"scalar '{TIME_STEP}' is {shown(own.tolist())}, but trajectories have time steps "
                f"from {steps.min():.6g} to {steps.max():.6g}, which are written under that name: "
                "give the scalar another one, or leave it out"
            )
        return given
    unit = line_units.get("time") or given.units.get("time")
    units = {**given.units, TIME_STEP: unit} if unit else given.units
    return replace(given, scalars={**given.scalars, TIME_STEP: steps}, units=units)


def _alike(name: str, several: Sequence[Source]) -> bool:
    shapes = [each.shape for each in several]
    if odd := next((i for i, shape in enumerate(shapes) if shape != shapes[0]), 0):
        raise WavelitError(
            f"field '{name}' of trajectory {odd} has shape {shapes[odd]} where that of trajectory "
            f"0 has {shapes[0]}: give all of one shape"
        )
    return True


def _select(found: Records, members: Sequence[int], frames: slice, d: int) -> Given:
    """What a file holds: some trajectories, some of their frames."""
    given, n, shape = found.given, len(found.lengths), found.grid(d)
    return replace(
        given,
        fields={k: _pick(v, members).cut(frames, 1) for k, v in given.fields.items()},
        constant_fields={
            k: v if is_shared(v, n, shape) else _pick(v, members)
            for k, v in given.constant_fields.items()
        },
        scalars={
            k: v[list(members)][(..., frames) if v.ndim == 2 else ...] if v.ndim else v
            for k, v in given.scalars.items()
        },
        time=found.times[members[0]][frames],
    )


def _pick(value: Source | list[Source], members: Sequence[int]) -> Source:
    """Trajectories (len(members), ...) of a field."""
    if isinstance(value, list):
        several = [value[i] for i in members]
        shapes = {each.shape for each in several}
        if len(shapes) > 1:
            raise WavelitError(
                f"{several[0].what}: shapes {', '.join(map(str, sorted(shapes)))} differ in more "
                "than their frames: put them on one grid"
            )
        return Source.stack(several)
    if list(members) == list(range(members[0], members[-1] + 1)):
        return value.cut(slice(members[0], members[-1] + 1))
    return Source.stack([each for i, each in enumerate(value.each()) if i in set(members)])
