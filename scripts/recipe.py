"""The next recipe beside WaveLiT 0.1: the table of docs/results.md from results/accuracy2, on
validation.

    wavelit benchmark accuracy2 --models "WaveLiT 0.1" "WaveLiT 0.2 candidate"
    .venv/bin/python scripts/recipe.py

Each with its own learning rate and as many windows as its measured rate allows. Means of ratios are
geometric, without helmholtz_staircase.
"""

import json
import textwrap
from functools import cache
from pathlib import Path
from statistics import geometric_mean

from accuracy_scores import DIVERGED, FURTHER, SEVEN
from tables import markdown, put

from wavelit.benchmarks.protocol import THE_EIGHT

RESULTS = Path("results/accuracy2/5min")
PAGE = Path("docs/results.md")
MARKS = {
    name: (f"<!-- {name}: scripts/recipe.py -->", f"<!-- end of {name} -->")
    for name in ("next recipe", "by system")
}
OLD, NEW = "WaveLiT 0.1", "WaveLiT 0.2 candidate"
WINDOWS = ("one step", "1:20", "13:30", "21:56")


@cache
def errors(model: str) -> dict[tuple[str, int], list[float]]:
    """Errors over the windows by (system, seed); a run that diverged counts as 10."""
    found = {}
    for path in sorted(RESULTS.glob(f"{model.replace(' ', '_')}/*.json")):
        run = json.loads(path.read_text())
        scores = [min(FURTHER[window](run, "valid"), DIVERGED) for window in WINDOWS]
        found[run["system"], run["seed"]] = scores
    return found


def pairs() -> list[tuple[str, int]]:
    both = errors(OLD).keys() & errors(NEW).keys()
    return sorted(both, key=lambda pair: (THE_EIGHT.index(pair[0]), pair[1]))


def means(of: list[tuple[str, int]]) -> list[float]:
    """New over old in every window."""
    old, new = errors(OLD), errors(NEW)
    return [geometric_mean(new[pair][i] / old[pair][i] for pair in of) for i in range(len(WINDOWS))]


def seven() -> list[tuple[str, int]]:
    return [pair for pair in pairs() if pair[0] in SEVEN]


def finding() -> str:
    if not (both := seven()):
        return "The next recipe has not been measured yet."
    stable = [pair for pair in both if max(errors(NEW)[pair]) < DIVERGED]
    lost = sorted({system for system, _ in both} - {system for system, _ in stable})
    seeds = len({seed for _, seed in both})
    said = "one seed" if seeds == 1 else f"{seeds} seeds"
    line = (
        f"The candidate has {means(both)[0]:.2f} of 0.1's error one step ahead, the mean over "
        f"{len({system for system, _ in both})} systems, {said}, on validation. "
    )
    if lost:
        line += (
            f"**Rollouts leave all bounds on {' and '.join(lost)}, so it is not the default.** "
            "On the others "
        )
    else:
        line += "In rollouts "
    _, *later = means(stable)
    line += f"it has {later[0]:.2f} in 1:20, {later[1]:.2f} in 13:30 and {later[2]:.2f} in 21:56."
    return textwrap.fill(line, 100, break_on_hyphens=False, break_long_words=False)


def table() -> str:
    old, new = errors(OLD), errors(NEW)
    rows = [
        [
            system,
            str(seed),
            *(_both(a, b) for a, b in zip(old[system, seed], new[system, seed], strict=True)),
        ]
        for system, seed in pairs()
    ]
    if seven():
        rows.append(
            ["**ratio, mean of seven**", "", *(f"**{ratio:.2f}**" for ratio in means(seven()))]
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
