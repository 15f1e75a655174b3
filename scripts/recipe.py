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


def means() -> list[float]:
    """New over old in every window."""
    old, new = errors(OLD), errors(NEW)
    of_seven = [pair for pair in pairs() if pair[0] in SEVEN]
    return [
        geometric_mean(new[pair][i] / old[pair][i] for pair in of_seven)
        for i in range(len(WINDOWS))
    ]


def finding() -> str:
    if not any(system in SEVEN for system, _ in pairs()):
        return "The next recipe has not been measured yet."
    systems = len({system for system, _ in pairs() if system in SEVEN})
    seeds = len({seed for _, seed in pairs()})
    one_step, rollout, *later = means()
    line = (
        f"The candidate has {one_step:.2f} of 0.1's error one step ahead and {rollout:.2f} in "
        f"rollouts 1:20, {later[0]:.2f} in 13:30 and {later[1]:.2f} in 21:56. These are means over "
        f"{systems} systems, {seeds} seed{'s' * (seeds > 1)}, on validation."
    )
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
    if rows:
        rows.append(["**ratio, mean of seven**", "", *(f"**{ratio:.2f}**" for ratio in means())])
    return markdown(["system", "seed", *WINDOWS], rows)


def _both(old: float, new: float) -> str:
    return " / ".join("diverged" if x >= DIVERGED else f"{x:.3g}" for x in (old, new))


def tables() -> list[str]:
    """What the page holds."""
    return [finding(), table()]


if __name__ == "__main__":
    for (begin, end), text in zip(MARKS.values(), tables(), strict=True):
        put(PAGE, begin, end, text)
