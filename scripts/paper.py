"""The paper's own configuration beside WaveLiT 0.1 and 0.2: the table of docs/results.md from
results/accuracy2, on the test split.

    wavelit benchmark accuracy2 --models paper "paper with additions" --seeds 3
    .venv/bin/python scripts/paper.py

A ratio is an error over 0.2's, of the same system and seed; means are geometric, without
helmholtz_staircase.
"""

from pathlib import Path

from accuracy_scores import DIVERGED, SEVEN
from second_scores import compared, ratios
from tables import markdown, paragraph, put

PAGE = Path("docs/results.md")
BEGIN, END = "<!-- paper: scripts/paper.py -->", "<!-- end of paper -->"
MINUTES, SEED = 5, 3
OWN = "WaveLiT 0.2"
OTHERS = ("paper", "paper with additions", "WaveLiT 0.1")


def errors(model: str) -> dict[str, list[float]]:
    """By system, one step ahead, in 1:20 and in 21:56."""
    return {
        system: _some(theirs)
        for system, seed, _, theirs in compared(MINUTES, OWN, model, "test")
        if seed == SEED
    }


def shared() -> list[str]:
    """Systems that all were run on, of those that count in means."""
    return [system for system in SEVEN if all(system in errors(each) for each in OTHERS)]


def means(model: str) -> str:
    """Ratios to 0.2 over these systems."""
    own, theirs = errors(OWN), errors(model)
    return _joined(ratios((system, SEED, own[system], theirs[system]) for system in shared()))


def finding() -> str:
    """How far the paper's configuration is from 0.2, in sentences."""
    paper, more, old = map(means, OTHERS)
    line = (
        f"After {MINUTES} core-minutes the preset `paper` has {paper} times 0.2's error (one step "
        f"/ 1:20 / 21:56). With the additions it has {more} times, and 0.1 has {old} times. These "
        f"are means over {len(shared())} systems, one seed, on the test split."
    )
    diverged = [
        f" {name} diverged on {system}, which counts as {DIVERGED:g}."
        for name, model in (("It", OTHERS[0]), ("With the additions it", OTHERS[1]))
        for system, each in errors(model).items()
        if max(each) >= DIVERGED
    ]
    return paragraph(line + "".join(diverged))


def table() -> str:
    models = (*OTHERS, OWN)
    found = {model: errors(model) for model in models}
    rows = [
        [
            system,
            *(_joined(found[model][system]) if system in found[model] else "" for model in models),
        ]
        for system in found[OWN]
        if any(system in found[model] for model in OTHERS[:2])
    ]
    name = f"**over 0.2, mean of {len(shared())}**"
    rows.append([name, *(f"**{means(each)}**" for each in OTHERS), ""])
    return markdown(["system", *models], rows)


def tables() -> list[str]:
    if not shared():
        return ["It has not been trained for five core-minutes yet."]
    caption = (
        f"Error on the test split, one step / 1:20 / 21:56, after {MINUTES} core-minutes, seed "
        f"{SEED}:"
    )
    return [f"{finding()}\n\n{caption}\n\n{table()}"]


def _some(windows: list[float]) -> list[float]:
    return [*windows[:2], windows[3]]


def _joined(values: list[float]) -> str:
    return " / ".join("diverged" if value >= DIVERGED else f"{value:.3g}" for value in values)


if __name__ == "__main__":
    put(PAGE, BEGIN, END, *tables())
