"""The tables of docs/transfer.md, from results/transfer; the page says how those are made.

    python scripts/transfer.py

A ratio is an error over that of `nano` trained on the system alone, the median of its seeds at five
core-minutes; below one the joint model is better. Means are geometric, over the seven systems
without helmholtz_staircase.
"""

import json
import math
import textwrap
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from accuracy_scores import SEVEN, one_step, rollout
from accuracy_scores import runs as bespoke_runs
from tables import markdown, put

from wavelit.benchmarks.few_cells import ARMS
from wavelit.benchmarks.protocol import REFERENCE, THE_EIGHT

RESULTS = Path("results/transfer")
PAGE = Path("docs/transfer.md")
SCORES = {"one step": one_step, "1:20": rollout}


def found(pattern: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(pattern))]


def bespoke(system: str, score: Any, split: str) -> float:
    """Median of the seeds of `nano` trained on one system for five core-minutes."""
    return median(score(run, split) for run in bespoke_runs()[REFERENCE, system])


def trials() -> str:
    """What was tried, grouped by what may be compared: the same systems and windows."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for trial in found("trials/*.json"):
        groups.setdefault(tuple(trial["systems"]), []).append(trial)
    rows = []
    for systems, group in groups.items():
        for trial in sorted(group, key=lambda each: each["geometric mean"]["one_step"]):
            model, train = trial["model"], trial["train"]
            windows = max(trial["windows of each system"].values())
            parts = [
                f"{len(systems)} systems, {windows:,} windows",
                str(model.get("depth", 4)),
                model.get("trunk", "shared"),
                model.get("adapters", "field"),
                ", ".join(model.get("own", [])) or ("" if not model.get("rank") else "rank"),
                str(trial.get("batch_size", 4)),
                f"{train.get('lr', 8e-3):g}",
                train.get("balance", "running"),
                *(f"{trial['geometric mean'][key]:.3g}" for key in ("one_step", "1:20")),
            ]
            rows.append(parts)
    head = ["what", "blocks", "trunk", "adapters", "own", "batch", "learning rate", "balance"]
    return markdown([*head, "one step", "1:20"], rows)


def joint(split: str = "valid") -> str:
    """Every joint run and control, system by system, as error / ratio to bespoke."""
    columns = found("*min/joint-[0-9]*.json") + found("*min/control-[0-9]*.json")
    columns = [each for each in columns if split in each]
    if not columns:
        return "Not run yet."
    rows = []
    for system in THE_EIGHT:
        row = [system, _pair([bespoke(system, score, split) for score in SCORES.values()])]
        for each in columns:
            row.append(
                _pair([score({split: each[split][system]}, split) for score in SCORES.values()])
            )
        rows.append(row)
    means = ["**over bespoke, seven systems**", ""]
    means += [
        _pair([_mean_ratio(each, score, split) for score in SCORES.values()], 3) for each in columns
    ]
    return markdown(["system", "bespoke", *map(_title, columns)], [*rows, means])


def finding() -> str:
    """Where the joint model loses, then where it wins: mean over its seeds, on validation."""
    runs = found("40min/joint-[0-9]*.json")
    if not runs:
        return "No joint model has been trained to its full budget yet."
    ratios = {
        system: [
            geometric_mean(
                score({"valid": run["valid"][system]}, "valid") / bespoke(system, score, "valid")
                for run in runs
            )
            for score in SCORES.values()
        ]
        for system in THE_EIGHT
    }
    order = sorted(THE_EIGHT, key=lambda system: -ratios[system][0])
    loses = [f"{s} ({_pair(ratios[s], 3)})" for s in order if max(ratios[s]) > 1]
    wins = [f"{s} ({_pair(ratios[s], 3)})" for s in order if max(ratios[s]) <= 1]
    means = _pair([geometric_mean(ratios[s][i] for s in SEVEN) for i in range(2)], 3)
    seeds = "one seed" if len(runs) == 1 else f"{len(runs)} seeds"
    lines = [
        f"**At equal time one joint model has {means} times the error of one model for each system"
        + f" (one step / 1:20, geometric mean over seven systems, {seeds}).**",
        f"It loses on {', '.join(loses) or 'none of them'}.",
        f"It is level or better on {', '.join(wins) or 'none of them'}.",
        *_sharing(runs),
    ]
    return "\n".join(textwrap.fill(line, 100) for line in lines)


def _sharing(runs: list[dict[str, Any]]) -> list[str]:
    """What is gained by sharing: joint runs over controls of the same seeds."""
    shared = {run["seed"]: run for run in runs}
    controls = {run["seed"]: run for run in found("40min/control-[0-9]*.json")}
    seeds = sorted(shared.keys() & controls.keys())
    if not seeds:
        return []

    def over(seed: int, systems: list[str], score: Any) -> float:
        parts = [
            [score({"valid": run[seed]["valid"][system]}, "valid") for run in (shared, controls)]
            for system in systems
        ]
        return geometric_mean(mine / theirs for mine, theirs in parts)

    each = [[over(seed, list(SEVEN), score) for score in SCORES.values()] for seed in seeds]
    means = _pair([geometric_mean(pair[i] for pair in each) for i in range(2)], 3)
    spread = [f"{min(pair[i] for pair in each):.3g} to {max(pair[i] for pair in each):.3g}"
              for i in range(2)]  # fmt: skip
    said = "one seed" if len(seeds) == 1 else f"seeds {spread[0]} / {spread[1]}"
    alone = [over(seeds[0], ["helmholtz_staircase"], score) for score in SCORES.values()]
    return [
        f"**Over its control, the same code and time with a trunk for each system, it has {means} "
        + f"times the error ({said}).**",
        f"On helmholtz_staircase, which has a quarter of the windows, it has {_pair(alone, 3)}.",
    ]


def tuned() -> str:
    """A joint model trained on with one of its systems: errors, and over those of bespoke."""
    rows = []
    for cell in found("tuned/*/*.json"):
        own = [score({"valid": cell["valid"]}, "valid") for score in SCORES.values()]
        base = [bespoke(cell["target"], score, "valid") for score in SCORES.values()]
        ratio = [_over(value, known) for value, known in zip(own, base, strict=True)]
        rows.append([cell["source"], cell["target"], f"{cell['lr']:g}", _pair(own), _pair(ratio)])
    if not rows:
        return "Not run yet."
    return markdown(["from", "onto", "learning rate", "error", "over bespoke"], rows)


def _mean_ratio(run: dict[str, Any], score: Any, split: str) -> float:
    ratios = [score({split: run[split][s]}, split) / bespoke(s, score, split) for s in SEVEN]
    return geometric_mean(ratios) if all(map(math.isfinite, ratios)) else math.inf


def _title(run: dict[str, Any]) -> str:
    kind = "joint" if run["trunk"] == "shared" else "private trunks"
    return f"{kind}, {run['minutes']:g} min, seed {run['seed']}"


def few() -> str:
    """A few trajectories: every arm's error over that of the better start from scratch."""
    rows = []
    for cell in found("few/*/*.json"):
        arms = cell["arms"]
        scratch = arms[cell["scratch"]]["valid"]
        row = [
            cell["source"],
            cell["target"],
            str(cell["trajectories"] or "all"),
            str(cell["seed"]),
            f"{cell['scratch']} {_pair([scratch['one_step'], scratch['rollout']['1:20']])}",
        ]
        for arm in ARMS:
            own = arms[arm]["valid"]
            row.append(
                _pair(
                    [
                        _over(own["one_step"], scratch["one_step"]),
                        _over(own["rollout"]["1:20"], scratch["rollout"]["1:20"]),
                    ],
                    2,
                )
            )
        rows.append([*row, cell["chosen"]])
    if not rows:
        return "Not run yet."
    head = ["from", "onto", "trajectories", "seed", "scratch, better on what was held out"]
    return markdown([*head, *ARMS, "chosen"], rows)


def _over(value: float | None, base: float | None) -> float:
    return math.inf if value is None or base is None else value / base


def _pair(values: list[float], digits: int = 3) -> str:
    return " / ".join(f"{value:.{digits}g}" if math.isfinite(value) else "∞" for value in values)


SECTIONS = {"finding": finding, "joint": joint, "tuned": tuned, "few": few, "trials": trials}


def tables() -> list[str]:
    return [make() for make in SECTIONS.values()]


if __name__ == "__main__":
    for section, make in SECTIONS.items():
        put(PAGE, f"<!-- {section}: scripts/transfer.py -->", f"<!-- end of {section} -->", make())
