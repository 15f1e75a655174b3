"""Reading a map of transfer: does a model trained on A help on B?

    ratio(A, B) = error on B of what started from A / error on B of the better from-scratch

Below 1 the start from A helps. A *cell* is one run of a pair: the plain record of a JSON file with

    {"kind": "pair", "source": A, "target": B, "seed": 0, "trajectories": 4, "minutes": 1.0,
     "chosen": "free", "valid": {...}, "test": {...},
     "arms": {"scratch": {"holdout": h, "valid": {...}}, "free": {...}, ...}}

Errors are {"one_step": x, "rollout": {"1:20": y, ...}}, with "bands", {label: z}, where they were
measured by wavelet band. Arms whose names begin with "scratch" started from nothing; the lowest of
them is the better one, for every error of its own. "holdout" is the error one step ahead on what is
kept from the arms to choose among them, "holdout_rollout" that of rollouts, where it was measured
(`favoured`). Means of ratios are geometric.
`wavelit.evaluation.relations` asks what goes with these ratios.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from wavelit.checks.arguments import (
    listed,
    require_instance,
    require_name,
    require_path,
    require_real,
    require_whole,
    shown,
)
from wavelit.checks.settings import require_mapping
from wavelit.errors import WavelitError, printable
from wavelit.files.plain import read_json

__all__ = [
    "ARMS",
    "ONE_STEP",
    "Setting",
    "TransferMap",
    "chosen_counts",
    "favoured",
    "geometric_mean",
    "measures_of",
    "ratio",
    "read_pairs",
    "settings_of",
    "transfer_map",
    "with_setting",
]

Record = Mapping[str, Any]
Setting = tuple[int, float]
"""Trajectories that were given, and core-minutes."""

PAIR, SCRATCH = "pair", "scratch"
ONE_STEP = "one_step"
# Which arm is compared with the from-scratch ones: the one that the rule chose, which may be one of
# them, or the best start from the source by the hold-out, whatever the rule said.
ARMS = ("chosen", "started")
ENTRIES = ("source", "target", "seed", "trajectories", "minutes", "chosen", "arms")
# Rollouts with more than so many times the lowest error are no choice, however good one step is.
TOLERATED = 2.0

Choice = TypeVar("Choice")


def read_pairs(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The cells of pairs in a folder and those below, by source, target and seed; other files are
    passed over. Empty where there is no such folder.

    Raises:
        WavelitError: A file is not JSON, or a cell lacks an entry or has one of another type.
    """
    found = []
    for path in sorted(require_path("folder", folder).rglob("*.json")):
        record = read_json(path)
        if record.get("kind") == PAIR:
            _require_cell(record, printable(path))
            found.append(record)
    return sorted(found, key=lambda cell: (cell["source"], cell["target"], cell["seed"]))


def _require_cell(record: Record, where: str) -> None:
    if missing := [name for name in ENTRIES if name not in record]:
        raise WavelitError(f"{where}: a cell of a pair without '{missing[0]}'; run it again")
    try:
        for name in ("source", "target", "chosen"):
            require_instance(name, record[name], str, "it names a system or an arm")
        require_whole("seed", record["seed"], 0)
        require_whole("trajectories", record["trajectories"])
        require_real("minutes", record["minutes"])
    except WavelitError as error:
        raise WavelitError(f"{where}: {error}; run it again") from error
    require_mapping(f"{where}, arms", record["arms"])
    for name, arm in record["arms"].items():
        require_mapping(f"{where}, arms, {shown(name)}", arm)
    if record["chosen"] not in record["arms"]:
        raise WavelitError(
            f"{where}: chosen is {shown(record['chosen'])}, but the arms are "
            f"{listed(record['arms'])}; run it again"
        )
    if not any(name.startswith(SCRATCH) for name in record["arms"]):
        raise WavelitError(
            f"{where}: none of the arms {listed(record['arms'])} is from scratch; run it again"
        )


def settings_of(records: Sequence[Record]) -> list[Setting]:
    """The (trajectories, minutes) that occur: ratios of different ones are never averaged."""
    return sorted({_setting(record) for record in records})


def with_setting(records: Sequence[Record], setting: Setting) -> list[Record]:
    """The records of one setting."""
    return [record for record in records if _setting(record) == setting]


def _setting(record: Record) -> Setting:
    return int(record["trajectories"]), float(record["minutes"])


def measures_of(records: Sequence[Record]) -> list[str]:
    """Which errors the arms hold: "one_step", "rollout 1:20", "band details of 2 cells", as `ratio`
    takes them. Rollouts are in the order of their lead times.
    """
    found = {ONE_STEP: (0, 0, "")}
    for record in records:
        for arm in record["arms"].values():
            errors = arm.get("valid") or {}
            for window in errors.get("rollout") or {}:
                first = window.partition(":")[0]
                found[f"rollout {window}"] = 1, int(first) if first.isdecimal() else 0, window
            for n, band in enumerate(errors.get("bands") or {}):
                found[f"band {band}"] = 2, n, ""
    return sorted(found, key=lambda name: found[name])


def favoured(held_out: Mapping[Choice, Record]) -> Choice:
    """What its errors on held-out time speak for: the lowest error one step ahead, of those whose
    rollouts have at most twice the lowest error of rollouts. Where rollouts were not measured, one
    step decides alone.

    Rollouts that are merely worse do not count: where all have lost the truth, which of them has
    the lower error says little.

    Args:
        held_out: By name "holdout" and "holdout_rollout"; None where one is not finite.
    """
    far = {
        name: error
        for name, each in held_out.items()
        if (error := _number(each.get("holdout_rollout"))) is not None
    }
    limit = TOLERATED * min(far.values(), default=math.inf)

    def rank(name: Choice) -> tuple[bool, bool, float]:
        diverged = far.get(name, math.inf) > limit
        error = _number(held_out[name].get("holdout"))
        return diverged, error is None, 0.0 if error is None else error

    return min(held_out, key=rank)


def ratio(
    record: Record, measure: str = ONE_STEP, split: str = "valid", arm: str = "chosen"
) -> float | None:
    """The error of a cell over that of the better from-scratch; None where the record lacks one of
    them. Infinite for a rollout that diverged where from-scratch did not.

    Args:
        record: A cell.
        measure: As `measures_of` names it.
        split: "valid", or "test" where the from-scratch arms were scored on it too.
        arm: "chosen" or "started": see `ARMS`.

    Raises:
        WavelitError: An unknown split or arm.
    """
    require_name("split", split, ("valid", "test"))
    require_name("arm", arm, ARMS)
    arms: Mapping[str, Record] = record["arms"]
    scratch = [
        error
        for name, each in arms.items()
        if name.startswith(SCRATCH) and (error := _error(each.get(split), measure)) is not None
    ]
    if arm == "chosen":
        chosen = record["chosen"]
        error = _error(arms[chosen].get(split), measure)
        if error is None:
            error = _error(record.get(split), measure)
    else:
        started = {name: each for name, each in arms.items() if not name.startswith(SCRATCH)}
        known = {name: each for name, each in started.items() if _number(each.get("holdout"))}
        if not known:
            return None
        error = _error(known[favoured(known)].get(split), measure)
    if error is None or not scratch or not 0 < min(scratch) < math.inf:
        return None
    return error / min(scratch)


def _error(errors: Any, measure: str) -> float | None:
    kind, _, label = measure.partition(" ")
    if not isinstance(errors, Mapping):
        return None
    if kind == ONE_STEP:
        return _number(errors.get(ONE_STEP))
    group = errors.get("bands" if kind == "band" else kind)
    return _number(group.get(label)) if isinstance(group, Mapping) else None


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known and not math.isnan(value) else None


def geometric_mean(ratios: Sequence[float]) -> float:
    """NaN of none; infinite where one is."""
    return float(np.exp(np.mean(np.log(ratios)))) if len(ratios) else math.nan


@dataclass(frozen=True)
class TransferMap:
    """Ratios of source against target.

    Args:
        sources: The S rows.
        targets: The T columns.
        ratios: (S, T), means over seeds; NaN where nothing was measured.
        seeds: How many runs each is of, (S, T).
        measure: Which error.
        setting: Trajectories and core-minutes.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    ratios: NDArray[np.float64]
    seeds: NDArray[np.int64]
    measure: str
    setting: Setting

    @property
    def elsewhere(self) -> NDArray[np.float64]:
        """The ratios of pairs of two systems: NaN where source and target are the same."""
        same = np.array(self.sources)[:, None] == np.array(self.targets)[None]
        return np.where(same, np.nan, self.ratios)

    def mean(self) -> float:
        """The mean over all pairs of two systems."""
        return _known_mean(self.elsewhere)

    def by_source(self) -> dict[str, float]:
        """What each source gives to others, the mean over targets; NaN where nothing is known."""
        return {name: _known_mean(self.elsewhere[i]) for i, name in enumerate(self.sources)}

    def by_target(self) -> dict[str, float]:
        """What each target gets from others, the mean over sources."""
        return {name: _known_mean(self.elsewhere[:, i]) for i, name in enumerate(self.targets)}


def _known_mean(ratios: NDArray[np.float64]) -> float:
    return geometric_mean(ratios[~np.isnan(ratios)].tolist())


def transfer_map(
    records: Sequence[Record],
    measure: str = ONE_STEP,
    split: str = "valid",
    arm: str = "chosen",
) -> TransferMap:
    """The map of records that have one setting.

    Args:
        records: Cells of pairs.
        measure: As `measures_of` names it.
        split: As for `ratio`.
        arm: As for `ratio`.

    Raises:
        WavelitError: There is no record, or they have several settings.
    """
    settings = settings_of(records)
    if len(settings) != 1:
        raise WavelitError(
            f"a map needs cells of one setting, got {listed(settings)} (trajectories, minutes): "
            "choose them by with_setting"
        )
    sources = tuple(sorted({record["source"] for record in records}))
    targets = tuple(sorted({record["target"] for record in records}))
    cells: dict[tuple[int, int], list[float]] = {}
    for record in records:
        value = ratio(record, measure, split, arm)
        if value is not None:
            place = sources.index(record["source"]), targets.index(record["target"])
            cells.setdefault(place, []).append(value)
    ratios = np.full((len(sources), len(targets)), np.nan)
    seeds = np.zeros(ratios.shape, np.int64)
    for place, values in cells.items():
        ratios[place], seeds[place] = geometric_mean(values), len(values)
    return TransferMap(sources, targets, ratios, seeds, measure, settings[0])


def chosen_counts(records: Sequence[Record]) -> dict[str, int]:
    """How often each arm was chosen, most often first."""
    names = [record["chosen"] for record in records]
    return {name: names.count(name) for name in sorted(set(names), key=lambda n: -names.count(n))}
