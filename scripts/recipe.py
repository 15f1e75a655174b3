"""WaveLiT 0.2 beside 0.1 and rivals: tables of docs/results.md and of the README, from
results/accuracy2.

    wavelit benchmark accuracy2 --models "WaveLiT 0.1" "WaveLiT 0.2" --seeds 0 3
    .venv/bin/python scripts/recipe.py

Each with its own learning rate and as many windows as its measured rate allows. The recipe was
chosen with seed 0 on validation; what is claimed is of seeds from 3 on, on the test split. Means
of ratios are geometric, without helmholtz_staircase.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import geometric_mean, median

from accuracy import RIVALS
from accuracy_scores import DIVERGED, SEVEN, one_step, rollout, typical_scores
from accuracy_scores import runs as first_runs
from second_scores import WINDOWS, Pair, compared, persistence, ratios, runs
from tables import markdown, paragraph, put

from wavelit.benchmarks.entries import EVERYONE
from wavelit.benchmarks.protocol import THE_EIGHT

MINUTES = 5
FIRST_CLAIMED = 3
PAGE, README = Path("docs/results.md"), Path("README.md")
OLD, NEW = "WaveLiT 0.1", "WaveLiT 0.2"


def claimed() -> list[Pair]:
    return [pair for pair in compared(MINUTES, OLD, NEW, "test") if pair[1] >= FIRST_CLAIMED]


def chosen() -> list[Pair]:
    return [pair for pair in compared(MINUTES, OLD, NEW) if pair[1] < FIRST_CLAIMED]


def finding() -> str:
    pairs = [pair for pair in claimed() if pair[0] in SEVEN]
    if not pairs:
        return "WaveLiT 0.2 has not been measured yet."
    found = ratios(pairs)
    systems = Counter(pair[0] for pair in pairs)
    least, most = min(systems.values()), max(systems.values())
    seeds = f"{least} to {most} seeds each" if least < most else f"{most} seeds"
    line = (
        f"WaveLiT 0.2 has {found[0]:.2f} of 0.1's error one step ahead and {found[1]:.2f} in "
        f"rollouts 1:20 ({found[2]:.2f} in 13:30, {found[3]:.2f} in 21:56). These are means over "
        f"{len(systems)} systems, {'one seed' if most == 1 else seeds}, on the test split. "
    )
    worse = [
        f"{system} in {window} ({mean:.2f})"
        for system in dict.fromkeys(pair[0] for pair in pairs)
        for window, mean in zip(WINDOWS, ratios(p for p in pairs if p[0] == system), strict=True)
        # As printed: what rounds to 1 is level.
        if round(mean, 2) > 1
    ]
    line += f"It is worse on {', '.join(worse)}." if worse else "It is worse on none of them."
    return paragraph(line + _diverged(pairs))


def _diverged(pairs: list[Pair]) -> str:
    """Which runs of 0.1 or 0.2 diverged, in sentences; nothing if none did."""
    told = [
        f" {name} diverged on {system} in {window} with seed {seed}, which counts as {DIVERGED:g}."
        for system, seed, *both in pairs
        for name, errors in zip(("0.1", "0.2"), both, strict=True)
        for window, error in zip(WINDOWS, errors, strict=True)
        if error >= DIVERGED
    ]
    return "".join(told)


def best_rivals(framed: bool = False) -> dict[str, list[tuple[float, float, str]]]:
    """By system, one step ahead and in 1:20: the error of 0.2, that of the best of The Well's
    models that were run with its seed, as published or in the frame, and that model; test split.
    """
    found = runs("test")
    best: dict[str, list[tuple[float, float, str]]] = {}
    for system in THE_EIGHT:
        own = found.get((MINUTES, system, FIRST_CLAIMED, NEW))
        beside = {
            model: errors
            for (minutes, where, seed, model), errors in found.items()
            if (minutes, where, seed) == (MINUTES, system, FIRST_CLAIMED)
            and is_rival(model, framed)
        }
        if own is not None and beside:
            names = [min(beside, key=lambda model: beside[model][place]) for place in range(2)]
            best[system] = [(own[i], beside[name][i], name) for i, name in enumerate(names)]
    return best


def rival_means(best: dict[str, list[tuple[float, float, str]]]) -> tuple[list[float], int]:
    """Ratios one step ahead and in 1:20, geometric means, and of how many systems."""
    seven = [pair for system, pair in best.items() if system in SEVEN]
    return [geometric_mean(pair[i][0] / pair[i][1] for pair in seven) for i in range(2)], len(seven)


def rivals() -> str:
    """What 0.2 is worth beside the best rivals, in a few sentences."""
    best = best_rivals()
    if not best:
        return "WaveLiT 0.2 has not been run beside the rivals."
    means, n = rival_means(best)
    lower = [sum(pair[i][0] < pair[i][1] for pair in best.values()) for i in range(2)]
    line = (
        f"WaveLiT 0.2 has {means[0]:.2f} of the best rival's error one step ahead and "
        f"{means[1]:.2f} in rollouts 1:20. These are means over {n} systems, one seed of the "
        f"second protocol, on the test split. It is lower {_on(lower)} of {len(best)} systems. "
        "Where a rival counts by the better of two protocols, rollouts have "
        f"{beside_either()[1][0]:.2f} ([table](#beside-the-wells-models))."
    )
    if framed := best_rivals(framed=True):
        means, n = rival_means(framed)
        line += (
            f" Beside [rivals in its frame](#rivals-in-the-frame) it has {means[0]:.2f} and "
            f"{means[1]:.2f}, on {n} systems."
        )
    return paragraph(line)


def losses() -> str:
    """Where predicting no change, or a rival as published, has a lower error than 0.2, by split and
    window: 0.2 is the median of its seeds beside the former, of a rival's seed beside that.
    """
    lines = []
    for split in ("test", "valid"):
        found, still = runs(split), persistence(split)
        for system in THE_EIGHT:
            ran = {
                (model, seed): errors
                for (minutes, where, seed, model), errors in found.items()
                if (minutes, where) == (MINUTES, system)
                and (model == NEW or is_rival(model))
                and (split == "valid" or seed >= FIRST_CLAIMED)
            }
            own = {seed: errors for (model, seed), errors in ran.items() if model == NEW}
            for place, window in enumerate(WINDOWS):
                better = [
                    (errors[place], own[seed][place], model)
                    for (model, seed), errors in ran.items()
                    if model != NEW and seed in own and errors[place] < own[seed][place]
                ]
                middle = median(errors[place] for errors in own.values())
                if still[system][place] < middle:
                    better.append((still[system][place], middle, "persistence"))
                lines += [
                    f"- {system}, {window}{'' if split == 'test' else ', validation'}: "
                    f"WaveLiT {ours:.3g}; {name} {theirs:.3g}"
                    for theirs, ours, name in sorted(better)
                ]
    return "\n".join(lines) or "- Nowhere, among what has been run."


def is_rival(model: str, framed: bool = False) -> bool:
    """Whether it is one of The Well's models, as published or in the frame."""
    return EVERYONE[model].rival is not None and EVERYONE[model].framed == framed


def _on(counts: list[int]) -> str:
    """Of how many systems one step ahead and in rollouts."""
    one, far = counts
    return f"in both on {one}" if one == far else f"on {one} one step ahead and in 1:20 on {far}"


def rival_table(framed: bool = False) -> str:
    rows = []
    best = best_rivals(framed)
    for system, pair in best.items():
        row = [system]
        for own, other, name in pair:
            row += [f"{own:.3g}", f"{other:.3g}, {name}", f"{own / other:.2f}"]
        rows.append(row)
    if best:
        means, n = rival_means(best)
        rows.append(
            [f"**mean of {n}**", "", "", f"**{means[0]:.2f}**", "", "", f"**{means[1]:.2f}**"]
        )
    head = ["0.2", "best rival", "ratio"]
    return markdown(["system", *(f"{each}, {w}" for w in WINDOWS[:2] for each in head)], rows)


def later() -> str:
    """Errors after longer budgets beside those of five minutes, test split: of the same seeds, and
    of the first protocol's, which are others.
    """
    found = runs("test")
    rows = []
    for minutes, system, seed, model in sorted(found, key=lambda key: (key[1], key[0], key[2:])):
        if minutes > MINUTES and seed >= FIRST_CLAIMED:
            own = found.get((minutes, system, seed, NEW))
            first = found.get((MINUTES, system, seed, model))
            errors = found[minutes, system, seed, model]
            over = None if model == NEW else own
            rows.append([f"{minutes:g}", system, str(seed), model, *_longer(first, errors, over)])
            if model == NEW:
                rows += _by_the_first_protocol(minutes, system, errors)
    windows = [
        f"{word}, {w}" for w in WINDOWS[:2] for word in ("5 minutes", "longer", "0.2 over it")
    ]
    return markdown(["core-minutes", "system", "seed", "model", *windows], rows)


def _longer(
    first: list[float] | None, errors: list[float], own: list[float] | None
) -> Iterator[str]:
    """One step ahead and in 1:20: after five minutes, after more, and 0.2's over that."""
    for i in range(2):
        yield "" if first is None else f"{first[i]:.3g}"
        yield f"{errors[i]:.3g}"
        yield "" if own is None else f"{own[i] / errors[i]:.2f}"


def _by_the_first_protocol(minutes: float, system: str, own: list[float]) -> list[list[str]]:
    rows = []
    for model, name in (("WaveLiT", "WaveLiT 0.1"), ("TFNO", "TFNO")):
        five, more = (
            {run["seed"]: [one_step(run), rollout(run)] for run in of.get((model, system), ())}
            for of in (first_runs(f"{budget:g}min") for budget in (MINUTES, minutes))
        )
        for seed, errors in more.items():
            cells = _longer(five.get(seed), errors, own)
            rows.append([f"{minutes:g}", system, str(seed), f"{name}, first protocol", *cells])
    return rows


def table(pairs: list[Pair]) -> str:
    rows = [
        [system, str(seed), *(_both(a, b) for a, b in zip(old, new, strict=True))]
        for system, seed, old, new in pairs
    ]
    seven = [pair for pair in pairs if pair[0] in SEVEN]
    if seven:
        name = f"**ratio, mean of {len({pair[0] for pair in seven})}**"
        rows.append([name, "", *(f"**{ratio:.2f}**" for ratio in ratios(seven))])
    return markdown(["system", "seed", *WINDOWS], rows)


def _both(old: float, new: float) -> str:
    return " / ".join("diverged" if x >= DIVERGED else f"{x:.3g}" for x in (old, new))


def beside_either() -> tuple[dict[str, tuple[float, ...]], list[float]]:
    """Rollouts 1:20 by system: 0.2, the best model of The Well by the better of the two protocols,
    and persistence; and the means of 0.2 over both.
    """
    first = typical_scores(rollout)
    second = best_rivals()
    own = {
        system: median(new[1] for where, _, _, new in claimed() if where == system)
        for system in second
    }
    beside = {
        system: [
            min(pair[1][1], *(first[name, system] for name in RIVALS if (name, system) in first)),
            first["persistence", system],
        ]
        for system, pair in second.items()
    }
    over = [geometric_mean(own[s] / beside[s][i] for s in second if s in SEVEN) for i in range(2)]
    return {s: (own[s], *beside[s]) for s in second}, over


def headline() -> str:
    """For the README: rollouts 1:20 of 0.2 beside the best model of The Well, whichever that is on
    a system.
    """
    values, over = beside_either()
    rows = [[system, *(f"{x:.3g}" for x in row)] for system, row in values.items()]
    rows.append(["WaveLiT's error over theirs", "", *(f"{ratio:.2f}" for ratio in over)])
    return markdown(["system", "WaveLiT", "best of The Well's models", "persistence"], rows)


SECTIONS = {
    "recipe": finding,
    "rivals": rivals,
    "losses": losses,
    "by rival": rival_table,
    "in the frame": lambda: rival_table(framed=True),
    "by system": lambda: table(claimed()),
    "chosen": lambda: table(chosen()),
    "later": later,
    "accuracy": headline,
}


def tables() -> list[str]:
    return [make() for make in SECTIONS.values()]


if __name__ == "__main__":
    for section, make in SECTIONS.items():
        text = make()
        for page in (PAGE, README) if section == "accuracy" else (PAGE,):
            put(page, f"<!-- {section}: scripts/recipe.py -->", f"<!-- end of {section} -->", text)
