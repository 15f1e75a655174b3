"""The runs of results/transfer and what their errors are over: what the tables of docs/transfer.md
share.

A ratio is an error over that of a model trained on the system alone for five core-minutes, the
median of its seeds; below one the joint model is better. That model is `nano-0.1`, or WaveLiT 0.2
where it is said, which has the same time by the rates of the second protocol. Means are geometric,
over the seven systems without helmholtz_staircase.
"""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from accuracy import RIVALS
from accuracy_scores import SEVEN, one_step, rollout, typical_scores
from accuracy_scores import runs as bespoke_runs
from second_scores import WINDOWS
from second_scores import runs as second_runs

from wavelit.benchmarks.joint_cells import cost_of
from wavelit.benchmarks.protocol import REFERENCE, read_rates

RESULTS = Path("results/transfer")
# Joint configurations by what sets them apart: configs/joint/pocketwell.yaml, the same with another
# recipe of fine-tuning or without symmetries, pocketwell_narrow.yaml, and that before.
CONFIGURATIONS = {
    "144 channels, symmetries": RESULTS,
    "144 channels, symmetries, stability 0.1": RESULTS / "stable",
    "144 channels": RESULTS / "wide",
    "96 channels": RESULTS / "narrow",
    "96 channels, recipe of 0.1": RESULTS / "first",
}
SCORES = {"one step": one_step, "1:20": rollout}
# Core-minutes of WaveLiT 0.2, by the rates of its protocol, that are an eighth of a joint run's.
SECOND_MINUTES = 3.5

Run = dict[str, Any]
Base = Callable[[str, str, str], float]


def found(pattern: str, folder: Path = RESULTS) -> list[Run]:
    """The results in a folder."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(pattern))]


def bespoke(system: str, window: str, split: str = "valid") -> float:
    """Median of the seeds of `nano-0.1` trained on one system for five core-minutes."""
    return median(SCORES[window](run, split) for run in bespoke_runs()[REFERENCE, system])


def second(system: str, window: str, split: str = "valid") -> float:
    """Of WaveLiT 0.2 in an eighth of a joint run's time, by the rates of its own protocol."""
    place = WINDOWS.index(window)
    return median(
        errors[place]
        for (minutes, where, _, model), errors in second_runs(split).items()
        if (minutes, where, model) == (SECOND_MINUTES, system, "WaveLiT 0.2")
    )


def rival(system: str, window: str, split: str = "valid") -> float:
    """The lowest of The Well's models trained on one system for five core-minutes."""
    scores = typical_scores(lambda run: SCORES[window](run, split))
    return min(scores[name, system] for name in RIVALS if (name, system) in scores)


def an_eighth(run: Run, folder: Path) -> float:
    """Core-minutes that an eighth of a joint run takes by the rates of the second protocol."""
    rates = read_rates(Path("results/accuracy2"))
    steps = sum(n * rates["WaveLiT 0.1", system] for system, n in run["windows"].items())
    return cost_of(folder) * steps / 60e3 / len(run["windows"])


def error(run: Run, system: str, window: str, split: str = "valid") -> float:
    """Of a joint run on one of its systems."""
    return SCORES[window]({split: run[split][system]}, split)


def over(runs: Iterable[Run], system: str, base: Base, split: str = "valid") -> list[float]:
    """Ratios on one system, one step and in rollouts: means over runs."""
    return [
        mean(error(run, system, window, split) / base(system, window, split) for run in runs)
        for window in SCORES
    ]


def mean_over(runs: Iterable[Run], base: Base, split: str = "valid") -> list[float]:
    """Ratios, one step and in rollouts: means over runs and the seven systems."""
    each = [over(runs, system, base, split) for system in SEVEN]
    return [mean(column) for column in zip(*each, strict=True)]


def mean(ratios: Iterable[float]) -> float:
    """The geometric one; infinite where a run diverged."""
    known = list(ratios)
    return geometric_mean(known) if all(map(math.isfinite, known)) else math.inf


def quotient(value: float | None, base: float | None) -> float:
    """The first over the second, infinite where one is missing: a rollout that diverged."""
    return math.inf if value is None or base is None else value / base


def pair(values: Iterable[float], digits: int = 3) -> str:
    return " / ".join(_number(value, digits) for value in values)


def _number(value: float, digits: int) -> str:
    return "?" if math.isnan(value) else f"{value:.{digits}g}" if math.isfinite(value) else "∞"


def seeds(n: int) -> str:
    return "one seed" if n == 1 else f"{n} seeds"
