"""The scores of results/accuracy, and how two models are compared by them: what its tables and
figures share.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from wavelit.benchmarks.protocol import THE_EIGHT

RESULTS = Path("results/accuracy")
# Helmholtz' fields are an exact rotation: it measures the precision of a fit, and stands apart from
# the means.
SEVEN = [system for system in THE_EIGHT if system != "helmholtz_staircase"]
# A VRMSE above this is a divergence.
DIVERGED = 10.0

Run = dict[str, Any]
Score = Callable[[Run], float]
Scores = dict[tuple[str, str], float]


@cache
def runs(budget: str = "5min") -> dict[tuple[str, str], list[Run]]:
    """All seeds of every (model, system) that has been run."""
    found: dict[tuple[str, str], list[Run]] = {}
    for path in sorted((RESULTS / budget).glob("*/*.json")):
        result = json.loads(path.read_text())
        found.setdefault((result["model"], result["system"]), []).append(result)
    return found


def one_step(result: Run, split: str = "test") -> float:
    return _finite(result.get(split, {}).get("one_step"))


def rollout(result: Run, split: str = "test", steps: str = "1:20") -> float:
    return _finite(result.get(split, {}).get("rollout", {}).get(steps))


FURTHER: dict[str, Callable[..., float]] = {
    "one step": one_step,
    **{steps: partial(rollout, steps=steps) for steps in ("1:20", "6:12", "13:30", "21:56")},
}


def worst(result: Run) -> float:
    """The largest VRMSE of any trajectory over any window, mean over fields and steps."""
    return _finite(result.get("test", {}).get("worst_window"))


def _finite(value: float | None) -> float:
    return math.inf if value is None else value


def band(result: Run, number: int) -> float:
    """The error of one step that one of the three bands of wavenumber carries, on validation."""
    return _finite((result.get("bands") or [None] * 3)[number])


def companions(score: Score) -> Scores:
    """Persistence and the exact rotation, which every run has the scores of."""
    scores = {}
    for (_, system), each in runs().items():
        for name in ("persistence", "exact_rotation"):
            splits = {
                s: found[name] for s in ("valid", "test") if name in (found := each[0].get(s, {}))
            }
            if splits:
                scores[name, system] = score(splits)
    return scores


def typical_scores(score: Score) -> Scores:
    """Median over seeds of every (model, system), since one that diverges would decide a mean;
    companions beside them.
    """
    return companions(score) | {key: median(map(score, each)) for key, each in runs().items()}


def pairs(score: Score, base: str, model: str) -> dict[str, tuple[float, float]]:
    """Both scores by system, medians over the seeds that both were run with; but of all its seeds
    for one that diverges by these.

    Runs of one seed see the same data in the same order, and their errors go together (log.md):
    with other seeds on either side a ratio would be one of seeds too.
    """
    found, others = {}, companions(score)
    for system in THE_EIGHT:
        both = [{r["seed"]: score(r) for r in runs().get((n, system), [])} for n in (base, model)]
        if (model, system) in others:
            both[1] = dict.fromkeys(both[0], others[model, system])
        if shared := both[0].keys() & both[1].keys():
            ours, theirs = (_typical(each, shared) for each in both)
            found[system] = ours, theirs
    return found


def _typical(scores: dict[int, float], seeds: Iterable[int]) -> float:
    over_all = median(scores.values())
    return over_all if over_all > DIVERGED else median(scores[seed] for seed in seeds)


def mean_ratio(some: Sequence[tuple[float, float]]) -> str:
    """Geometric mean of the first over the second; pairs in which the second diverged are left
    out, to its advantage.
    """
    finite = [a / b for a, b in some if b <= DIVERGED]
    if not finite:
        return ""
    if not all(map(math.isfinite, finite)):
        return "∞"
    return f"{geometric_mean(finite):.2f}"
