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


def means(model: str) -> tuple[list[float], int]:
    """Ratios to 0.2 over the systems that the paper's configuration was run on too, and of how
    many they are.
    """
    shared = [system for system in SEVEN if all(system in errors(each) for each in OTHERS)]
    own = errors(OWN)
    pairs = [(system, SEED, own[system], errors(model)[system]) for system in shared]
    return (ratios(pairs) if pairs else []), len(pairs)


def finding() -> str:
    """How far the paper's configuration is from 0.2, in sentences."""
    (paper, n), (more, _), (old, _) = map(means, OTHERS)
    if not n:
        return "It has not been trained for five core-minutes yet."
    line = (
        f"After {MINUTES} core-minutes the preset `paper` has {_joined(paper)} times 0.2's error "
        f"(one step / 1:20 / 21:56). With the additions it has {_joined(more)} times, "
        f"and 0.1 has {_joined(old)} times. These are means over {n} systems, one seed, on the "
        "test split."
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
    n = means(OTHERS[0])[1]
    if n:
        rows.append(
            [
                f"**over 0.2, mean of {n}**",
                *(f"**{_joined(means(each)[0])}**" for each in OTHERS),
                "",
            ]
        )
    return markdown(["system", *models], rows)


def tables() -> list[str]:
    if not means(OTHERS[0])[1]:
        return [finding()]
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
