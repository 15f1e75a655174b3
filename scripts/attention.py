"""What attention is worth: the tables of docs/results.md from results/accuracy2, on validation.

    wavelit benchmark accuracy2 ...
    .venv/bin/python scripts/recipe_trial.py ...    # finer grids, hidden fields
    .venv/bin/python scripts/attention.py

A ratio is the error of what stands in attention's place over attention's, of the same system,
seed and budget; means are geometric, without helmholtz_staircase.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from accuracy_scores import DIVERGED, SEVEN
from second_scores import Pair, compared, ratios, runs
from tables import markdown, paragraph, put

from wavelit.data.pocketwell import SYSTEMS

TRIALS = Path("results/recipe")
PAGE = Path("docs/results.md")
MARKS = {
    name: (f"<!-- {name}: scripts/attention.py -->", f"<!-- end of {name} -->")
    for name in ("finding", "attention", "long range")
}
ATTENTION = "WaveLiT 0.1"
TWINS = {"convolution twin": "convolution of 7 x 7 tokens", "long-convolution twin": "long one"}


def pairs_of(minutes: float, twin: str) -> list[Pair]:
    """System, seed, attention's errors and the twin's, one step ahead, 1:20 and 21:56."""
    return [
        (s, seed, [*a[:2], a[3]], [*b[:2], b[3]])
        for s, seed, a, b in compared(minutes, ATTENTION, twin)
    ]


def means(minutes: float, twin: str) -> tuple[list[float], list[int]] | None:
    """Ratios one step ahead, 1:20 and 21:56, and how many seeds each system has, fewest first."""
    pairs = [each for each in pairs_of(minutes, twin) if each[0] in SEVEN]
    if not pairs:
        return None
    return ratios(pairs), sorted(Counter(system for system, *_ in pairs).values())


def budgets() -> list[float]:
    return sorted({minutes for minutes, *_ in runs()})


def finding() -> str:
    """What attention is worth after the longest budget, and after shorter ones, in sentences."""
    twin = next(iter(TWINS))
    found = [(minutes, *known) for minutes in budgets() if (known := means(minutes, twin))]
    if not found:
        return "What attention is worth has not been measured yet."
    *shorter, (minutes, mean, seeds) = found
    fewest, most = seeds[0], seeds[-1]
    if fewest < most:
        said = f"{fewest} to {most} seeds of each"
    else:
        said = "one seed" if most == 1 else f"{most} seeds"
    line = (
        f"After {minutes:g} core-minutes a depthwise convolution of 7 x 7 tokens in attention's "
        f"place has {_joined(mean)} times its error (one step / 1:20 / 21:56). "
        f"That is the mean over {len(seeds)} of the systems, {said}, on validation "
        f"([table](#what-attention-is-worth)).{_diverged(minutes, twin)}"
    )
    for budget, own, _ in shorter:
        minute = "core-minute" if budget == 1 else "core-minutes"
        line += f" After {budget:g} {minute} it has {_joined(own)}.{_diverged(budget, twin)}"
    return paragraph(line)


def _diverged(minutes: float, twin: str) -> str:
    """Where the twin diverged, in a sentence; nothing if it did not."""
    where = sorted({s for s, _, _, errors in pairs_of(minutes, twin) if max(errors) >= DIVERGED})
    if not where:
        return ""
    return f" It diverged on {', '.join(where)}, which counts as {DIVERGED:g}."


def table() -> str:
    rows = []
    for minutes in budgets():
        for twin, words in TWINS.items():
            for system, seed, mine, theirs in pairs_of(minutes, twin):
                ratio = [b / a for a, b in zip(mine, theirs, strict=True)]
                cells = [_joined(mine), words, _joined(theirs), _joined(ratio)]
                rows.append([f"{minutes:g}", system, str(seed), *cells])
            if (known := means(minutes, twin)) is not None:
                mean, seeds = known
                name = f"**mean, {len(seeds)} of the systems**"
                rows.append([f"{minutes:g}", name, "", "", words, "", f"**{_joined(mean)}**"])
    head = ["core-minutes", "system", "seed", "attention", "in its place", "error", "ratio"]
    return markdown(head, rows)


def trials(model: dict[str, str]) -> dict[tuple[Any, ...], list[float]]:
    """Errors one step ahead, 1:20 and 21:56 of short runs of a model with nothing else changed, by
    system, size, fields that are given, windows and seed.
    """
    found = {}
    for path in sorted(TRIALS.glob("*.json")):
        trial = json.loads(path.read_text())
        if (trial["model"], trial["train"]) == (model, {}):
            fields = tuple(trial.get("data", {}).get("fields", ()))
            size, rollout = trial.get("size", "small"), trial["rollout"]
            key = trial["system"], size, fields, trial["samples"], trial["seed"]
            found[key] = [trial["one_step"], rollout["1:20"], rollout["21:56"]]
    return found


def long_range() -> str:
    """Where the range is longer than on the small grids with all fields, at equal windows."""
    mine, theirs = (
        trials({"preset": "nano-0.1"}),
        trials({"preset": "nano-0.1", "mixers": "conv:7"}),
    )
    rows = []
    for key in sorted(mine.keys() & theirs.keys()):
        system, size, fields, samples, seed = key
        grid = " x ".join(map(str, SYSTEMS[system].shapes[size]))
        ratio = [b / a for a, b in zip(mine[key], theirs[key], strict=True)]
        cells = [_joined(values) for values in (mine[key], theirs[key], ratio)]
        rows.append([system, grid, ", ".join(fields) or "all", f"{samples:,}", str(seed), *cells])
    head = ["system", "grid", "fields", "windows", "seed", "attention", "convolution", "ratio"]
    return markdown(head, rows)


def tables() -> list[str]:
    """What the page holds."""
    return [finding(), table(), long_range()]


def _joined(values: list[float]) -> str:
    return " / ".join(f"{value:.3g}" for value in values)


if __name__ == "__main__":
    for (begin, end), text in zip(MARKS.values(), tables(), strict=True):
        put(PAGE, begin, end, text)
