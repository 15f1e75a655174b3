"""Joint models beside models of one system: sections of docs/transfer.md, which
scripts/transfer.py writes."""

from statistics import geometric_mean

from tables import markdown, paragraph
from transfer_scores import (
    CONFIGURATIONS,
    SCORES,
    Run,
    bespoke,
    error,
    found,
    mean,
    mean_over,
    over,
    pair,
    quotient,
    rival,
    second,
    seeds,
)

from wavelit.benchmarks.protocol import THE_EIGHT

# What the first paragraph and the table by system speak of, and where controls were run.
PRESENT = "144 channels, symmetries"
CONTROLLED = "96 channels"
# Ratios up to this one are level.
LEVEL = 1.01
BASES = {"The Well's best": rival, "bespoke": bespoke, "bespoke 0.2": second}


def runs_of(configuration: str, kind: str, minutes: str = "*") -> list[Run]:
    return found(f"{minutes}min/{kind}-[0-9]*.json", CONFIGURATIONS[configuration])


def finding() -> str:
    """Where the joint model loses, then where it wins: mean over its seeds, on validation."""
    runs = runs_of(PRESENT, "joint", "40")
    if not runs:
        return "No joint model has been trained to its full budget yet."
    ratios = {system: over(runs, system, bespoke) for system in THE_EIGHT}
    order = sorted(THE_EIGHT, key=lambda system: -ratios[system][0])
    loses = [f"{s} ({pair(ratios[s])})" for s in order if max(ratios[s]) > LEVEL]
    wins = [f"{s} ({pair(ratios[s])})" for s in order if max(ratios[s]) <= LEVEL]
    means, over_second, over_rival, lower = _beside_others(runs)
    lines = [
        f"**At equal time one joint model has {means} times the error of one model for each system"
        + f" (one step / 1:20, geometric mean over seven systems, {seeds(len(runs))}).** The "
        + "models for each system are WaveLiT 0.1. Against WaveLiT 0.2, whose recipe the joint "
        + f"model has, it is {over_second}, at equal time too.",
        f"It loses on {', '.join(loses) or 'none of them'}.",
        f"It is level or better on {', '.join(wins) or 'none of them'}.",
        "It is ahead of The Well's models by the [first protocol](results_first.md): "
        + f"{over_rival} of the error of the best of them for each system, and lower on {lower}.",
        *_longer(),
        *_sharing(),
    ]
    return "\n\n".join(map(paragraph, lines))


def _beside_others(runs: list[Run], split: str = "valid") -> list[str]:
    """Means over bespoke, over bespoke 0.2 and over the best of The Well's models, and on how many
    systems runs are lower than the last in both scores.
    """
    means = [pair(mean_over(runs, base, split)) for base in (bespoke, second, rival)]
    lower = sum(max(over(runs, system, rival, split)) < 1 for system in THE_EIGHT)
    return [*means, f"{lower} of {len(THE_EIGHT)}"]


def _longer() -> list[str]:
    """Of the same model with four times the budget."""
    runs = runs_of(PRESENT, "joint", "160")
    if not runs:
        return []
    return [
        f"**In four times the time it has {pair(mean_over(runs, bespoke))} of the error of those "
        + f"eight models ({seeds(len(runs))}).**"
    ]


def _sharing() -> list[str]:
    """What is gained by sharing: joint runs over controls of the same seeds."""
    shared, controls = (
        {run["seed"]: run for run in runs_of(CONTROLLED, kind, "40")}
        for kind in ("joint", "control")
    )
    both = sorted(shared.keys() & controls.keys())
    if not both:
        return []

    def control(seed: int):
        return lambda system, window, split: error(controls[seed], system, window, split)

    each = [mean_over([shared[seed]], control(seed)) for seed in both]
    means = [geometric_mean(column) for column in zip(*each, strict=True)]
    spread = [f"{min(column):.3g} to {max(column):.3g}" for column in zip(*each, strict=True)]
    said = "one seed" if len(both) == 1 else f"seeds {spread[0]} / {spread[1]}"
    alone = over([shared[both[0]]], "helmholtz_staircase", control(both[0]))
    return [
        f"**Sharing the trunk has {pair(means)} times the error of a trunk for each system, with "
        + f"the same code and time ({said}, {CONTROLLED}).**",
        f"On helmholtz_staircase, which has a quarter of the windows, it has {pair(alone)}.",
    ]


def by_system(split: str = "valid") -> str:
    """Errors on every system: models of one system, then of all."""
    columns = {
        "joint, 40 min": runs_of(PRESENT, "joint", "40"),
        "joint, 160 min": runs_of(PRESENT, "joint", "160"),
        f"private trunks, 40 min, {CONTROLLED}": runs_of(CONTROLLED, "control", "40"),
    }
    columns = {title: [run for run in runs if split in run] for title, runs in columns.items()}
    columns = {title: runs for title, runs in columns.items() if runs}
    if not columns:
        return "Not run yet."
    rows = []
    for system in THE_EIGHT:
        known = [[base(system, window, split) for window in SCORES] for base in BASES.values()] + [
            [mean(error(run, system, window, split) for run in runs) for window in SCORES]
            for runs in columns.values()
        ]
        rows.append([system, *(pair(each) for each in known)])
    for name, base in BASES.items():
        ratios = [pair(mean_over(runs, base, split)) for runs in columns.values()]
        rows.append([f"**over {name}, seven systems**", *([""] * len(BASES)), *ratios])
    titles = [f"{title} ({seeds(len(runs))})" for title, runs in columns.items()]
    return markdown(["system", *BASES, *titles], rows)


def on_test() -> str:
    """The joint model on the test split, which was read when all choices had been made."""
    runs = [run for run in runs_of(PRESENT, "joint", "40") if "test" in run]
    if not runs:
        return "Not read yet."
    means, over_second, over_rival, lower = _beside_others(runs, "test")
    line = (
        f"On the test split ({seeds(len(runs))}) the joint model has {means} times the error of "
        f"bespoke, {over_second} times that of bespoke 0.2, and {over_rival} of that of the best "
        f"of The Well's models. It is lower than those on {lower}."
    )
    longer = [run for run in runs_of(PRESENT, "joint", "160") if "test" in run]
    if longer:
        means, over_second, over_rival, lower = _beside_others(longer, "test")
        line += (
            f" In four times the time ({seeds(len(longer))}) it has {means}, {over_second} and "
            f"{over_rival}, and is lower on {lower}."
        )
    return paragraph(line)


def configurations(split: str = "valid") -> str:
    """Every joint configuration and control, at every budget: means over the seven systems."""
    rows = []
    for name in CONFIGURATIONS:
        for kind, trunk in (("joint", "shared"), ("control", "private")):
            runs = [run for run in runs_of(name, kind) if split in run]
            for minutes in sorted({run["minutes"] for run in runs}):
                same = [run for run in runs if run["minutes"] == minutes]
                each = [pair(mean_over([run], bespoke, split)) for run in same]
                means = [pair(mean_over(same, base, split)) for base in (bespoke, second)]
                rows.append([name, trunk, f"{minutes:g}", *means, ", ".join(each)])
    if not rows:
        return "Not run yet."
    head = ["configuration", "trunk", "core-minutes", "over bespoke", "over bespoke 0.2"]
    return markdown([*head, "over bespoke, by seed"], rows)


def tuned() -> str:
    """A joint model trained on with one of its systems: errors, and over those of bespoke."""
    rows = []
    for cell in found("tuned/*/*.json"):
        own = [score({"valid": cell["valid"]}, "valid") for score in SCORES.values()]
        base = [bespoke(cell["target"], window) for window in SCORES]
        ratios = [quotient(value, known) for value, known in zip(own, base, strict=True)]
        rows.append([cell["source"], cell["target"], f"{cell['lr']:g}", pair(own), pair(ratios)])
    if not rows:
        return "Not run yet."
    return markdown(["from", "onto", "learning rate", "error", "over bespoke"], rows)


def trials() -> str:
    """What was tried, grouped by what may be compared: the same systems and windows."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for trial in found("trials/*.json"):
        groups.setdefault(tuple(trial["systems"]), []).append(trial)
    rows = []
    for systems, group in groups.items():
        for trial in sorted(group, key=lambda each: each["geometric mean"]["one_step"]):
            model, train = trial["model"], trial["train"]
            windows = f"{max(trial['windows of each system'].values()):,} windows"
            parts = [
                f"{len(systems)} systems, {'up to ' if trial.get('shares') else ''}{windows}"
                + (f", {model['embed_dim']} channels" if "embed_dim" in model else "")
                + (", symmetries" if train.get("system_symmetries") else "")
                + (", units of the history" if trial.get("normalise") == "history" else ""),
                str(model.get("depth", 4)),
                model.get("trunk", "shared"),
                model.get("adapters", "field"),
                ", ".join(model.get("own", [])) or ("" if not model.get("rank") else "rank"),
                str(trial.get("batch_size", 4)),
                "0.2" if train.get("field_loss") == "rmse" else "0.1",
                f"{train.get('lr', 8e-3):g}",
                train.get("balance", "running"),
                *(f"{trial['geometric mean'][key]:.3g}" for key in ("one_step", "1:20")),
            ]
            rows.append(parts)
    head = ["what", "blocks", "trunk", "adapters", "own", "batch", "recipe of", "learning rate"]
    return markdown([*head, "balance", "one step", "1:20"], rows)
