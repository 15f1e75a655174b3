"""The tables of docs/results_first.md from results/accuracy; the page says how those are made.

.venv/bin/python scripts/accuracy.py && .venv/bin/python scripts/accuracy_figures.py
"""

import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from accuracy_scores import (
    DIVERGED,
    FURTHER,
    RESULTS,
    SEVEN,
    Score,
    Scores,
    band,
    mean_ratio,
    one_step,
    pairs,
    rollout,
    runs,
    typical_scores,
    worst,
)
from tables import markdown, put

from wavelit.benchmarks.baselines import SETTINGS
from wavelit.benchmarks.entries import (
    ABLATIONS,
    AS_WAVELIT,
    CONTESTANTS,
    SMALL,
    TOKENS_ALONE,
    TWINS,
    WITH_INCREMENTS,
)
from wavelit.benchmarks.protocol import LEARNING_RATES, LR_SYSTEMS, THE_EIGHT, best_lr, search_cells

PAGE = Path("docs/results_first.md")
RIVALS = [*SETTINGS, *WITH_INCREMENTS]
# Ablations that were run beyond the three systems of the others.
WIDE = ("without input noise", "without conserved means")
# In the wide tables; the others have tables of their own.
SHOWN = [name for name in CONTESTANTS if name in WIDE or name not in {*TOKENS_ALONE, *ABLATIONS}]
# All networks that are not WaveLiT's, controls too.
OTHER_NETWORKS = [*RIVALS, *AS_WAVELIT]
# Blocks, loss and history were searched on these, on their validation splits; noise and conserved
# means on others too.
SEARCHED_ON = (
    "acoustic_scattering_maze",
    "gray_scott_reaction_diffusion",
    "rayleigh_benard",
    "turbulent_radiative_layer_2D",
)

# One wave, one reaction, one chaotic flow: for the ablations and for those whose cost asks for
# less.
THREE = ["acoustic_scattering_maze", "gray_scott_reaction_diffusion", "rayleigh_benard"]
# Whoever is not run on all eight, and where. Elsewhere no field keeps its mean.
WHERE = {
    **dict.fromkeys(
        ["AViT", "softmax twin", *(name for name in ABLATIONS if name not in WIDE)], THREE
    ),
    "without conserved means": [
        "shear_flow",
        "active_matter",
        "rayleigh_benard",
        "viscoelastic_instability",
    ],
}
SEEDS = 3
SPLITS = ("test", "valid")


def _over(n: int, n_all: int) -> str:
    return "" if n == n_all else f" ({n} of {n_all})"


def compared(score: Score) -> str:
    """VRMSE by system and model; the last lines have the geometric mean over some systems of
    WaveLiT's over the column's.
    """
    scores = typical_scores(score)
    present = {model for model, _ in scores}
    models = [name for name in [*SHOWN, "persistence", "exact_rotation"] if name in present]
    rows = []
    for system in THE_EIGHT:
        line = {model: scores[model, system] for model in models if (model, system) in scores}
        best = min((line[m] for m in line if m != "exact_rotation"), default=math.nan)
        cells = [_bold(line[m], line[m] == best) if m in line else "" for m in models]
        rows.append([system, *cells])
    unseen = [system for system in SEVEN if system not in SEARCHED_ON]
    for label, some in (
        ("seven systems", SEVEN),
        ("the three that blocks, loss and history were not searched on", unseen),
    ):
        ratios = [_ratio(score, model, systems=some) for model in models]
        rows.append([f"**WaveLiT over it, {label}**", *ratios])
    return markdown(["system", *(name.replace("_", " ") for name in models)], rows)


def _ratio(score: Score, model: str, base: str = "WaveLiT", systems: Sequence[str] = SEVEN) -> str:
    if model == base:
        return ""
    both = [each for s, each in pairs(score, base, model).items() if s in systems]
    text = mean_ratio(both)
    return text and text + _over(sum(b <= DIVERGED for _, b in both), len(systems))


def _best(scores: Scores, names: Sequence[str]) -> dict[str, str]:
    """Who of these has the lowest score, by system, of those that were run on it."""
    run = {s: [n for n in names if (n, s) in scores] for s in THE_EIGHT}
    return {s: min(each, key=lambda n: scores[n, s]) for s, each in run.items() if each}


def _against_best(
    score: Score, names: Sequence[str], base: str = "WaveLiT"
) -> dict[str, tuple[float, float]]:
    """The base's score and that of the best of these, by system."""
    best = _best(typical_scores(score), names)
    both = {name: pairs(score, base, name) for name in set(best.values())}
    return {s: both[name][s] for s, name in best.items() if s in both[name]}


def _seven(both: dict[str, tuple[float, float]]) -> list[tuple[float, float]]:
    return [both[s] for s in SEVEN if s in both]


def _bold(value: float, best: bool) -> str:
    return f"**{_number(value)}**" if best else _number(value)


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "∞"


def missing() -> str:
    """What a full table has and these do not yet."""
    found = runs()
    lines: dict[str, list[str]] = {}
    for name in CONTESTANTS:
        absent = [s for s in WHERE.get(name, THE_EIGHT) if (name, s) not in found]
        if absent:
            lines.setdefault(_systems(absent), []).append(name)
    for name, systems in _seeded().items():
        few = [s for s in systems if (name, s) in found and len(found[name, s]) < SEEDS]
        if few:
            lines.setdefault(f"{SEEDS} seeds on {_systems(few)}", []).append(name)
    return (
        "\n".join(f"- {', '.join(names)}: {what}" for what, names in lines.items()) or "- Nothing."
    )


def _systems(some: Sequence[str]) -> str:
    return "all" if len(some) == len(THE_EIGHT) else ", ".join(some)


def _seeded() -> dict[str, list[str]]:
    """Who is run with more than one seed, on which systems: WaveLiT, the patchify twin, the best
    rivals of each system.
    """
    models: dict[str, list[str]] = {"WaveLiT": [*THE_EIGHT], "patchify twin": [*THE_EIGHT]}
    best = {
        pair
        for score in (one_step, rollout)
        for pair in _best(typical_scores(score), RIVALS).items()
    }
    for system, name in sorted(best, key=lambda pair: THE_EIGHT.index(pair[0])):
        models.setdefault(name, []).append(system)
    return {name: models[name] for name in CONTESTANTS if name in models}


def seeds() -> str:
    """Lowest and highest score of who was run with several seeds, bold where WaveLiT's highest
    is below the lowest.
    """
    rows = []
    for (name, system), each in sorted(runs().items(), key=lambda item: _place(*item[0])):
        if len(each) == 1:
            continue
        cells = []
        for score in (one_step, rollout):
            values = sorted(map(score, each))
            text = f"{_number(values[0])} to {_number(values[-1])}"
            cells.append(f"**{text}**" if _apart(score, [name], system) else text)
        rows.append([system, name, str(len(each)), *cells])
    return markdown(["system", "model", "seeds", "one step", "rollout 1:20"], rows)


def _place(name: str, system: str) -> tuple[int, int]:
    return THE_EIGHT.index(system), list(CONTESTANTS).index(name)


def claims() -> str:
    """Each claim of the benchmark, what it asks for and what came out."""
    rows = []
    small = [*SMALL, *WITH_INCREMENTS, *AS_WAVELIT]
    patches, plain = ["patchify twin"], ["plain linear attention"]
    alone, alone_patches, alone_plain = TOKENS_ALONE
    for label, score, base, names, need, bar in (
        ("one step, best rival of any size", one_step, "WaveLiT", RIVALS, 8, 0.5),
        ("rollout 1:20, best rival of any size", rollout, "WaveLiT", RIVALS, 7, 0.5),
        ("one step, best rival of 0.5M parameters", one_step, "WaveLiT", small, None, 0.5),
        ("rollout 1:20, best rival of 0.5M parameters", rollout, "WaveLiT", small, None, 0.5),
        (
            "one step, small rivals trained as WaveLiT",
            one_step,
            "WaveLiT",
            [*AS_WAVELIT],
            None,
            None,
        ),
        (
            "rollout 1:20, small rivals trained as WaveLiT",
            rollout,
            "WaveLiT",
            [*AS_WAVELIT],
            None,
            None,
        ),
        ("one step, patchify twin", one_step, "WaveLiT", patches, None, 0.85),
        ("rollout 1:20, patchify twin", rollout, "WaveLiT", patches, None, 0.95),
        ("one step, plain linear attention", one_step, "WaveLiT", plain, None, 0.7),
        ("rollout 1:20, plain linear attention", rollout, "WaveLiT", plain, None, None),
        ("one step, tokens alone: patches", one_step, alone, [alone_patches], None, 0.85),
        ("rollout 1:20, tokens alone: patches", rollout, alone, [alone_patches], None, 0.95),
        (
            "one step, tokens alone: plain linear attention",
            one_step,
            alone,
            [alone_plain],
            None,
            0.7,
        ),
        (
            "rollout 1:20, tokens alone: plain linear attention",
            rollout,
            alone,
            [alone_plain],
            None,
            None,
        ),
    ):
        scores = typical_scores(score)
        both, rivals = _against_best(score, names, base), _best(scores, names)
        run = [name for name in names if any((name, s) in scores for s in THE_EIGHT)]
        wins = sum(ours < other for ours, other in both.values())
        repeated = [s for s in both if all(len(runs()[n, s]) > 1 for n in (base, rivals[s]))]
        apart = sum(_apart(score, names, s, base) for s in repeated)
        text = mean_ratio(_seven(both))
        missed = bar is not None and text != "" and (text == "∞" or float(text) > bar)
        ratio = text and (f"**{text}**" if missed else text) + _over(len(_seven(both)), len(SEVEN))
        rows.append(
            [
                label,
                ", ".join(run) if len(names) > 1 else "",
                "" if need is None else f"{need} of 8",
                f"{wins} of {len(both)}" if both else "",
                f"{apart} of {len(repeated)}" if repeated else "",
                "" if bar is None else f"{bar}",
                ratio,
            ]
        )
    largest = {s: max(map(worst, each)) for (name, s), each in runs().items() if name == "WaveLiT"}
    above = [f"{s} {_number(value)}" for s, value in largest.items() if value > DIVERGED]
    rows.append(
        [
            f"no trajectory above {DIVERGED:g} over any window",
            "",
            "8 of 8",
            f"{len(largest) - len(above)} of {len(largest)}",
            "",
            "",
            ", ".join(above),
        ]
    )
    head = ["against", "of which run", "lower on, aim", "lower on, found", "with every seed"]
    return markdown([*head, "ratio, aim", "ratio, found"], rows)


def _apart(score: Score, names: Sequence[str], system: str, base: str = "WaveLiT") -> bool:
    """Whether the base's highest score of all seeds is below the lowest of all of these; not if
    it was not run.
    """
    ours = runs().get((base, system), [])
    others = [run for name in names for run in runs().get((name, system), [])]
    return max(map(score, ours), default=math.inf) < min(map(score, others))


def windows() -> str:
    """WaveLiT's score over another's, further ahead and on both splits; in brackets on how many
    systems it is lower.
    """
    others = {"best rival of any size": RIVALS, **{name: [name] for name in TWINS}}
    rows = []
    for label, score in FURTHER.items():
        for split, called in (("valid", "validation"), ("test", "test")):
            cells = []
            for names in others.values():
                both = _against_best(partial(score, split=split), names)
                text = mean_ratio(_seven(both))
                cells.append(
                    text and f"{text} ({sum(a < b for a, b in both.values())} of {len(both)})"
                )
            rows.append([label, called, *cells])
    return markdown(["steps", "split", *others], rows)


def losses(
    others: Sequence[str] = (*OTHER_NETWORKS, "persistence"), splits: Sequence[str] = SPLITS
) -> str:
    """Where any of these is better than WaveLiT."""
    lines = []
    for split in splits:
        for label, score in FURTHER.items():
            scores = typical_scores(partial(score, split=split))
            for system in THE_EIGHT:
                ours = scores.get(("WaveLiT", system), -math.inf)
                better = [
                    (scores[n, system], n)
                    for n in others
                    if scores.get((n, system), math.inf) < ours
                ]
                if better:
                    named = ", ".join(f"{n} {_number(value)}" for value, n in sorted(better))
                    where = f"{system}, {label}" + (", validation" if split == "valid" else "")
                    lines.append(f"- {where}: WaveLiT {_number(ours)}; {named}")
    return "\n".join(lines) or "- Nowhere, among what has been run."


def ablations() -> str:
    """One-step and rollout VRMSE on three systems, and their ratio to the whole model's of the
    same seeds.
    """
    scores = {"one step": one_step, "1:20": rollout}
    tables = {what: typical_scores(score) for what, score in scores.items()}
    rows = []
    for name in ("WaveLiT", *TWINS, *ABLATIONS):
        if not any((name, s) in runs() for s in THREE):
            continue
        cells = []
        for what, score in scores.items():
            cells += [
                _number(tables[what][name, s]) if (name, s) in tables[what] else "" for s in THREE
            ]
            cells.append(_ratio(score, "WaveLiT", name, THREE))
        rows.append([name, *cells])
    first = {s: next(r for r in runs()["WaveLiT", s] if r["seed"] == 0) for s in THREE}
    cells = [
        cell
        for score in scores.values()
        for cell in (*(_number(score(first[s])) for s in THREE), "")
    ]
    rows.insert(1, ["WaveLiT, seed 0", *cells])
    head = [f"{s}, {what}" if s else f"ratio, {what}" for what in tables for s in (*THREE, "")]
    return markdown(["model", *head], rows)


def tokens_alone() -> str:
    """What the convolutions at full resolution add, and what wavelets and augmentation do
    without them.
    """
    scores = [one_step, rollout]
    names = ["WaveLiT", *TOKENS_ALONE]
    tables = [typical_scores(score) for score in scores]
    rows = [
        [s, *(_number(table[n, s]) if (n, s) in table else "" for table in tables for n in names)]
        for s in THE_EIGHT
    ]
    ratios = [_ratio(score, name, "tokens alone") for score in scores for name in names]
    rows.append(["**tokens alone over it, seven systems**", *ratios])
    return markdown(
        ["system", *(f"{n}, {what}" for what in ("one step", "1:20") for n in names)], rows
    )


def lasting() -> str:
    """Scores after a longer training beside those after the usual one, both of seed 0."""
    rows = []
    short = runs()
    for (name, system), (long, *_) in sorted(
        runs("30min").items(), key=lambda item: _place(*item[0])
    ):
        if (name, system) not in short:
            continue
        before = short[name, system][0]
        reference = runs("30min").get(("WaveLiT", system))
        cells = [_number(score(run)) for score in (one_step, rollout) for run in (before, long)]
        ratios = [
            _number(score(reference[0]) / score(long)) if reference and name != "WaveLiT" else ""
            for score in (one_step, rollout)
        ]
        rows.append([system, name, *cells, *ratios])
    head = [f"{what}, {minutes} min" for what in ("one step", "1:20") for minutes in (5, 30)]
    return markdown(["system", "model", *head, "WaveLiT over it, one step", "1:20"], rows)


def learning_rates() -> str:
    rows = []
    for name in CONTESTANTS:
        paths = [cell.path(RESULTS) for cell in search_cells(name)]
        if all(path.exists() for path in paths):
            values = [one_step(json.loads(path.read_text()), "valid") for path in paths]
            rows.append([name, *(f"{v:.3g}" for v in values), f"{best_lr(name, RESULTS):g}"])
    head = [f"{s}, {lr:g}" for s in LR_SYSTEMS for lr in LEARNING_RATES]
    return markdown(["model", *head, "taken"], rows)


def costs() -> str:
    """Parameters, milliseconds a training sample and samples of a run."""
    rows = []
    found = runs()
    for name in CONTESTANTS:
        each = [found[name, s][0] for s in THE_EIGHT if (name, s) in found]
        if each:
            low, high = (f(r["parameters"] for r in each) / 1e6 for f in (min, max))
            rate = [f(r["ms_per_sample"] for r in each) for f in (min, max)]
            samples = [f(r["samples"] for r in each) for f in (min, max)]
            size = f"{low:.2f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.2f} to {high:.2f}"
            rows.append(
                [
                    name,
                    f"{size}M",
                    f"{rate[0]:.0f} to {rate[1]:.0f}",
                    f"{samples[0]} to {samples[1]}",
                ]
            )
    return markdown(["model", "parameters", "ms a sample", "samples in 5 core-minutes"], rows)


def bands() -> str:
    """Error of one step by band of wavenumber; the last line has the geometric mean of WaveLiT's
    over the column's.
    """
    each = [partial(band, number=number) for number in range(3)]
    tables = [typical_scores(score) for score in each]
    models = [n for n in SHOWN if any((n, s) in runs() for s in THE_EIGHT)]
    rows = [
        [
            s,
            *(
                " / ".join(_number(t[m, s]) for t in tables) if (m, s) in runs() else ""
                for m in models
            ),
        ]
        for s in THE_EIGHT
    ]
    ratios = []
    for model in models:
        both = [_seven(pairs(score, "WaveLiT", model)) for score in each]
        text = " / ".join(map(mean_ratio, both)) + _over(len(both[0]), len(SEVEN))
        ratios.append("" if model == "WaveLiT" else text)
    rows.append(["**WaveLiT over it, seven systems**", *ratios])
    return markdown(["system", *models], rows)


SECTIONS = {
    "missing": missing,
    "losses": losses,
    "better variants": partial(losses, [*TWINS, *TOKENS_ALONE, *ABLATIONS], ["test"]),
    "claims": claims,
    "seeds": seeds,
    "windows": windows,
    "one step": lambda: compared(one_step),
    "rollout": lambda: compared(rollout),
    "bands": bands,
    "costs": costs,
    "learning rates": learning_rates,
    "ablations": ablations,
    "tokens alone": tokens_alone,
    "lasting": lasting,
}


def tables() -> list[str]:
    return [make() for make in SECTIONS.values()]


if __name__ == "__main__":
    for section, make in SECTIONS.items():
        put(PAGE, f"<!-- {section}: scripts/accuracy.py -->", f"<!-- end of {section} -->", make())
