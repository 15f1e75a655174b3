"""What attention is worth: the tables of docs/results.md from results/accuracy2, on validation.

    wavelit benchmark accuracy2 ...
    .venv/bin/python scripts/attention.py

A ratio is the error of what stands in attention's place over attention's, of the same system,
seed and budget; means are geometric, without helmholtz_staircase.
"""

import json
import textwrap
from functools import cache
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from accuracy_scores import SEVEN, one_step, rollout
from tables import markdown, put

from wavelit.benchmarks.protocol import THE_EIGHT

RESULTS = Path("results/accuracy2")
PAGE = Path("docs/results.md")
MARKS = {
    name: (f"<!-- {name}: scripts/attention.py -->", f"<!-- end of {name} -->")
    for name in ("finding", "attention")
}
ATTENTION = "WaveLiT 0.1"
TWINS = {"convolution twin": "convolution of 7 x 7 tokens", "long-convolution twin": "long one"}
SCORES = (one_step, rollout)


@cache
def runs() -> dict[tuple[float, str, int, str], list[float]]:
    """One step and 1:20 by (minutes, system, seed, model)."""
    found = {}
    for path in RESULTS.glob("*min/*/*.json"):
        run: dict[str, Any] = json.loads(path.read_text())
        key = (run["minutes"], run["system"], run["seed"], run["model"])
        found[key] = [score(run, "valid") for score in SCORES]
    return found


def compared(minutes: float, twin: str) -> list[tuple[str, int, list[float], list[float]]]:
    """System, seed, attention's errors and the twin's, where both were run."""
    found = runs()
    return [
        (system, seed, errors, found[minutes, system, seed, twin])
        for system in THE_EIGHT
        for (budget, where, seed, model), errors in sorted(found.items())
        if (budget, where, model) == (minutes, system, ATTENTION)
        and (minutes, system, seed, twin) in found
    ]


def means(minutes: float, twin: str) -> tuple[list[float], int, int] | None:
    """Ratios one step ahead and 1:20, of how many systems and seeds."""
    pairs = [each for each in compared(minutes, twin) if each[0] in SEVEN]
    if not pairs:
        return None
    ratios = [geometric_mean(b[i] / a[i] for _, _, a, b in pairs) for i in range(2)]
    return ratios, len({pair[0] for pair in pairs}), len({pair[1] for pair in pairs})


def budgets() -> list[float]:
    return sorted({minutes for minutes, *_ in runs()})


def finding() -> str:
    """What attention is worth after the longest budget, in a sentence."""
    twin = next(iter(TWINS))
    found = [(minutes, *known) for minutes in budgets() if (known := means(minutes, twin))]
    if not found:
        return "What attention is worth has not been measured yet."
    minutes, ratios, systems, seeds = found[-1]
    said = "one seed" if seeds == 1 else f"{seeds} seeds"
    line = (
        f"After {minutes:g} core-minutes a depthwise convolution of 7 x 7 tokens in attention's "
        f"place has {_pair(ratios)} times its error (one step / 1:20). That is the mean over "
        f"{systems} of the systems, {said}, on validation ([table](#what-attention-is-worth))."
    )
    return textwrap.fill(line, 100, break_on_hyphens=False, break_long_words=False)


def table() -> str:
    rows = []
    for minutes in budgets():
        for twin, words in TWINS.items():
            for system, seed, mine, theirs in compared(minutes, twin):
                ratio = [b / a for a, b in zip(mine, theirs, strict=True)]
                cells = [_pair(mine), words, _pair(theirs), _pair(ratio)]
                rows.append([f"{minutes:g}", system, str(seed), *cells])
            if (known := means(minutes, twin)) is not None:
                ratios, systems, _ = known
                mean = f"**mean, {systems} of the systems**"
                rows.append([f"{minutes:g}", mean, "", "", words, "", f"**{_pair(ratios)}**"])
    head = ["core-minutes", "system", "seed", "attention", "in its place", "error", "ratio"]
    return markdown(head, rows)


def tables() -> list[str]:
    """What the page holds."""
    return [finding(), table()]


def _pair(values: list[float]) -> str:
    return " / ".join(f"{value:.3g}" for value in values)


if __name__ == "__main__":
    for (begin, end), text in zip(MARKS.values(), tables(), strict=True):
        put(PAGE, begin, end, text)
