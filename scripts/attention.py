"""What attention is worth: the tables of docs/results.md from results/accuracy2, on validation.

    wavelit benchmark accuracy2 ...
    .venv/bin/python scripts/attention.py

A ratio is the error of what stands in attention's place over attention's, of the same system,
seed and budget; means are geometric, without helmholtz_staircase.
"""

import textwrap
from pathlib import Path

from accuracy_scores import SEVEN
from second_scores import Pair, compared, ratios, runs
from tables import markdown, put

PAGE = Path("docs/results.md")
MARKS = {
    name: (f"<!-- {name}: scripts/attention.py -->", f"<!-- end of {name} -->")
    for name in ("finding", "attention")
}
ATTENTION = "WaveLiT 0.1"
TWINS = {"convolution twin": "convolution of 7 x 7 tokens", "long-convolution twin": "long one"}


def pairs_of(minutes: float, twin: str) -> list[Pair]:
    """System, seed, attention's errors and the twin's, one step ahead and 1:20."""
    return [(s, seed, a[:2], b[:2]) for s, seed, a, b in compared(minutes, ATTENTION, twin)]


def means(minutes: float, twin: str) -> tuple[list[float], int, int] | None:
    """Ratios one step ahead and 1:20, of how many systems and seeds."""
    pairs = [each for each in pairs_of(minutes, twin) if each[0] in SEVEN]
    if not pairs:
        return None
    return ratios(pairs), len({pair[0] for pair in pairs}), len({pair[1] for pair in pairs})


def budgets() -> list[float]:
    return sorted({minutes for minutes, *_ in runs()})


def finding() -> str:
    """What attention is worth after the longest budget, in a sentence."""
    twin = next(iter(TWINS))
    found = [(minutes, *known) for minutes in budgets() if (known := means(minutes, twin))]
    if not found:
        return "What attention is worth has not been measured yet."
    minutes, mean, systems, seeds = found[-1]
    said = "one seed" if seeds == 1 else f"{seeds} seeds"
    line = (
        f"After {minutes:g} core-minutes a depthwise convolution of 7 x 7 tokens in attention's "
        f"place has {_pair(mean)} times its error (one step / 1:20). That is the mean over "
        f"{systems} of the systems, {said}, on validation ([table](#what-attention-is-worth))."
    )
    return textwrap.fill(line, 100, break_on_hyphens=False, break_long_words=False)


def table() -> str:
    rows = []
    for minutes in budgets():
        for twin, words in TWINS.items():
            for system, seed, mine, theirs in pairs_of(minutes, twin):
                ratio = [b / a for a, b in zip(mine, theirs, strict=True)]
                cells = [_pair(mine), words, _pair(theirs), _pair(ratio)]
                rows.append([f"{minutes:g}", system, str(seed), *cells])
            if (known := means(minutes, twin)) is not None:
                mean, systems, _ = known
                name = f"**mean, {systems} of the systems**"
                rows.append([f"{minutes:g}", name, "", "", words, "", f"**{_pair(mean)}**"])
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
