"""The next recipe beside WaveLiT 0.1: the table of docs/results.md from results/accuracy2, on
validation.

    wavelit benchmark accuracy2 --models "WaveLiT 0.1" "WaveLiT 0.2 candidate"
    .venv/bin/python scripts/recipe.py

Each with its own learning rate and as many windows as its measured rate allows. Means of ratios are
geometric, without helmholtz_staircase.
"""

import textwrap
from pathlib import Path

from accuracy_scores import DIVERGED, SEVEN
from second_scores import WINDOWS, Pair, compared, ratios
from tables import markdown, put

MINUTES = 5
PAGE = Path("docs/results.md")
MARKS = {
    name: (f"<!-- {name}: scripts/recipe.py -->", f"<!-- end of {name} -->")
    for name in ("next recipe", "by system")
}
OLD, NEW = "WaveLiT 0.1", "WaveLiT 0.2 candidate"


def pairs() -> list[Pair]:
    return compared(MINUTES, OLD, NEW)


def seven() -> list[Pair]:
    return [pair for pair in pairs() if pair[0] in SEVEN]


def finding() -> str:
    if not (both := seven()):
        return "The next recipe has not been measured yet."
    stable = [pair for pair in both if max(pair[3]) < DIVERGED]
    systems = {pair[0] for pair in both}
    lost = sorted(systems - {pair[0] for pair in stable})
    seeds = len({pair[1] for pair in both})
    said = "one seed" if seeds == 1 else f"{seeds} seeds"
    line = (
        f"The candidate has {ratios(both)[0]:.2f} of 0.1's error one step ahead, the mean over "
        f"{len(systems)} systems, {said}, on validation. "
    )
    if lost:
        line += (
            f"**Rollouts leave all bounds on {' and '.join(lost)}, so it is not the default.** "
            "On the others "
        )
    else:
        line += "In rollouts "
    _, *later = ratios(stable)
    line += f"it has {later[0]:.2f} in 1:20, {later[1]:.2f} in 13:30 and {later[2]:.2f} in 21:56."
    return textwrap.fill(line, 100, break_on_hyphens=False, break_long_words=False)


def table() -> str:
    rows = [
        [system, str(seed), *(_both(a, b) for a, b in zip(old, new, strict=True))]
        for system, seed, old, new in pairs()
    ]
    if seven():
        rows.append(
            ["**ratio, mean of seven**", "", *(f"**{ratio:.2f}**" for ratio in ratios(seven()))]
        )
    return markdown(["system", "seed", *WINDOWS], rows)


def _both(old: float, new: float) -> str:
    return " / ".join("diverged" if x >= DIVERGED else f"{x:.3g}" for x in (old, new))


def tables() -> list[str]:
    """What the page holds."""
    return [finding(), table()]


if __name__ == "__main__":
    for (begin, end), text in zip(MARKS.values(), tables(), strict=True):
        put(PAGE, begin, end, text)
