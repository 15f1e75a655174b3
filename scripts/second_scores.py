"""The scores of results/accuracy2, and ratios of two contestants: what the scripts that render its
tables share.
"""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from statistics import geometric_mean

from accuracy_scores import DIVERGED, FURTHER

from wavelit.benchmarks.protocol import THE_EIGHT

RESULTS = Path("results/accuracy2")
WINDOWS = ("one step", "1:20", "13:30", "21:56")

Pair = tuple[str, int, list[float], list[float]]


@cache
def _results() -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*min/*/*.json"))]


@cache
def runs(split: str = "valid") -> dict[tuple[float, str, int, str], list[float]]:
    """Errors over the windows by (minutes, system, seed, model); one that diverged counts as 10."""
    found = {}
    for run in _results():
        key = (run["minutes"], run["system"], run["seed"], run["model"])
        found[key] = [min(FURTHER[window](run, split), DIVERGED) for window in WINDOWS]
    return found


@cache
def persistence(split: str = "valid") -> dict[str, list[float]]:
    """Errors of predicting no change over the windows, by system."""
    found = {}
    for run in _results():
        still = {split: run[split]["persistence"]}
        found[run["system"]] = [FURTHER[window](still, split) for window in WINDOWS]
    return found


def compared(minutes: float, one: str, other: str, split: str = "valid") -> list[Pair]:
    """System, seed, and the errors of either, where both were run."""
    found = runs(split)
    return [
        (system, seed, errors, found[minutes, system, seed, other])
        for system in THE_EIGHT
        for (budget, where, seed, model), errors in sorted(found.items())
        if (budget, where, model) == (minutes, system, one)
        and (minutes, system, seed, other) in found
    ]


def ratios(pairs: Iterable[Pair]) -> list[float]:
    """The second over the first in every window: geometric means over each system's seeds, then
    over systems, so that a system with more seeds weighs no more.
    """
    by_system: dict[str, list[list[float]]] = {}
    for system, _, one, other in pairs:
        each = [b / a for a, b in zip(one, other, strict=True)]
        by_system.setdefault(system, []).append(each)
    means = [
        [geometric_mean(column) for column in zip(*each, strict=True)]
        for each in by_system.values()
    ]
    return [geometric_mean(column) for column in zip(*means, strict=True)]
