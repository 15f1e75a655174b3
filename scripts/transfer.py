"""The tables of docs/transfer.md, from results/transfer; the page says how those are made.

    python scripts/transfer.py

A ratio is an error over that of a model trained on the system alone for five core-minutes, the
median of its seeds; below one the joint model is better. That model is `nano-0.1`, or WaveLiT 0.2
where it is said, which has the same time by the rates of the second protocol. Means are geometric,
over the seven systems without helmholtz_staircase. What was run with the recipe of WaveLiT 0.1
stands in results/transfer/first, joint models of 144 channels for 96 in results/transfer/wide.
"""

import json
import math
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from accuracy_scores import SEVEN, one_step, rollout
from accuracy_scores import runs as bespoke_runs
from second_scores import WINDOWS
from second_scores import runs as second_runs
from tables import markdown, paragraph, put

from wavelit.benchmarks.few_cells import ARMS
from wavelit.benchmarks.joint_cells import cost_of
from wavelit.benchmarks.protocol import REFERENCE, THE_EIGHT, read_rates
from wavelit.evaluation.diagnosis import known_systems
from wavelit.evaluation.relations import relations
from wavelit.evaluation.transfer import (
    ONE_STEP,
    chosen_counts,
    ratio,
    transfer_map,
    with_setting,
)
from wavelit.evaluation.transfer_figures import map_figure, profile_figure

RESULTS = Path("results/transfer")
FIRST, WIDE = RESULTS / "first", RESULTS / "wide"
PAGE = Path("docs/transfer.md")
PICTURES = Path("docs/images/transfer")
SCORES = {"one step": one_step, "1:20": rollout}
MAPPED = (ONE_STEP, "rollout 1:20")
# Trajectories and core-minutes of the map.
SETTING = (4, 1.0)
# Core-minutes of WaveLiT 0.2, by the rates of its protocol, that are an eighth of a joint run's.
SECOND_MINUTES = 3.5


def found(pattern: str, folder: Path | None = None) -> list[dict[str, Any]]:
    """The results in a folder, that of the present recipe if none is named."""
    return [json.loads(path.read_text()) for path in sorted((folder or RESULTS).glob(pattern))]


def started(kind: str, folder: Path | None = None) -> list[dict[str, Any]]:
    """Runs on a few trajectories: "few" from a joint model, "pair" from a model of one system."""
    cells = [cell for cell in found("few/*/*.json", folder) if cell["kind"] == kind]
    if kind != "pair":
        return cells
    there = [cell for cell in cells if cell["source"] != cell["target"]]
    return with_setting(there, SETTING)


def bespoke(system: str, window: str, split: str) -> float:
    """Median of the seeds of `nano-0.1` trained on one system for five core-minutes."""
    return median(SCORES[window](run, split) for run in bespoke_runs()[REFERENCE, system])


def an_eighth(run: dict[str, Any]) -> float:
    """Core-minutes that an eighth of a joint run takes by the rates of the second protocol."""
    rates = read_rates(Path("results/accuracy2"))
    steps = sum(n * rates["WaveLiT 0.1", system] for system, n in run["windows"].items())
    return cost_of(RESULTS) * steps / 60e3 / len(run["windows"])


def second(system: str, window: str, split: str) -> float:
    """Of WaveLiT 0.2 in an eighth of a joint run's time, by the rates of its own protocol."""
    place = WINDOWS.index(window)
    return median(
        errors[place]
        for (minutes, where, _, model), errors in second_runs(split).items()
        if (minutes, where, model) == (SECOND_MINUTES, system, "WaveLiT 0.2")
    )


def trials() -> str:
    """What was tried, grouped by what may be compared: the same systems and windows."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
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
                + (", symmetries" if train.get("system_symmetries") else ""),
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


def joint(split: str = "valid") -> str:
    """Every joint run and control, system by system, as error / ratio to bespoke."""
    titles, columns = [], []
    kinds = ((WIDE, ", 144 channels"), (RESULTS, ""), (FIRST, ", recipe of 0.1"))
    for folder, recipe in kinds:
        for kind in ("joint", "control"):
            there = [run for run in found(f"*min/{kind}-[0-9]*.json", folder) if split in run]
            columns += there
            titles += [_title(run) + recipe for run in there]
    if not columns:
        return "Not run yet."
    rows = []
    for system in THE_EIGHT:
        row = [
            system,
            _pair([bespoke(system, window, split) for window in SCORES]),
            _pair([second(system, window, split) for window in SCORES]),
        ]
        for each in columns:
            row.append(
                _pair([score({split: each[split][system]}, split) for score in SCORES.values()])
            )
        rows.append(row)
    means = [
        [f"**over bespoke{name}, seven systems**", "", ""]
        + [_pair([_mean_ratio(run, window, split, base) for window in SCORES]) for run in columns]
        for name, base in (("", bespoke), (" 0.2", second))
    ]
    return markdown(["system", "bespoke", "bespoke 0.2", *titles], [*rows, *means])


def finding() -> str:
    """Where the joint model loses, then where it wins: mean over its seeds, on validation."""
    wide, narrow = (found("40min/joint-[0-9]*.json", folder) for folder in (WIDE, RESULTS))
    runs = wide or narrow
    if not runs:
        return "No joint model has been trained to its full budget yet."
    ratios = {
        system: [
            geometric_mean(
                score({"valid": run["valid"][system]}, "valid") / bespoke(system, window, "valid")
                for run in runs
            )
            for window, score in SCORES.items()
        ]
        for system in THE_EIGHT
    }
    order = sorted(THE_EIGHT, key=lambda system: -ratios[system][0])
    loses = [f"{s} ({_pair(ratios[s], 3)})" for s in order if max(ratios[s]) > 1]
    wins = [f"{s} ({_pair(ratios[s], 3)})" for s in order if max(ratios[s]) <= 1]
    means, over_second = (_over_base(runs, base) for base in (bespoke, second))
    seeds = _seeds(len(runs))
    lines = [
        f"**At equal time one joint model has {means} times the error of one model for each system"
        + f" (one step / 1:20, geometric mean over seven systems, {seeds}).** These are WaveLiT "
        + f"0.1. Against WaveLiT 0.2, whose recipe the joint model has, it is {over_second}, at "
        + f"equal time too.{_narrow(narrow if wide else [])}",
        f"It loses on {', '.join(loses) or 'none of them'}.",
        f"It is level or better on {', '.join(wins) or 'none of them'}.",
        *_sharing(),
        *_starts(),
    ]
    return "\n\n".join(paragraph(line) for line in lines)


def _over_base(runs: list[dict[str, Any]], base: Any) -> str:
    return _pair(
        [geometric_mean(_mean_ratio(r, window, "valid", base) for r in runs) for window in SCORES]
    )


def _narrow(runs: list[dict[str, Any]]) -> str:
    """Of the narrower trunk beside the one that is reported."""
    if not runs:
        return ""
    return (
        f" Its trunk has 144 channels. With 96, and a third more windows in the same time, it is "
        f"{_over_base(runs, bespoke)} and {_over_base(runs, second)} ({_seeds(len(runs))})."
    )


def _starts() -> list[str]:
    """What starting from the joint model is worth on a few trajectories of each target."""
    by_target: dict[tuple[str, int | None], list[list[float]]] = {}
    for cell in started("few"):
        ratios = _over_scratch(cell["valid"], cell)
        by_target.setdefault((cell["target"], cell["trajectories"]), []).append(ratios)
    lines = []
    for (target, given), each in by_target.items():
        means = _pair([geometric_mean(column) for column in zip(*each, strict=True)])
        count = "all trajectories" if given is None else f"{given} trajectories"
        seeds = _seeds(len(each))
        lines.append(
            f"**On {count} of {target}, which it has not seen, the start that held-out time "
            f"favours has {means} of the error of the better one from scratch ({seeds}).**"
        )
    return lines


def _sharing(folder: Path = RESULTS) -> list[str]:
    """What is gained by sharing: joint runs over controls of the same seeds; by the earlier recipe
    where the present one has no control yet.
    """
    shared, controls = (
        {run["seed"]: run for run in found(f"40min/{kind}-[0-9]*.json", folder)}
        for kind in ("joint", "control")
    )
    seeds = sorted(shared.keys() & controls.keys())
    if not seeds:
        return [] if folder == FIRST else _sharing(FIRST)
    recipe = ", recipe of 0.1" if folder == FIRST else ""

    def over(seed: int, systems: list[str], score: Any) -> float:
        parts = [
            [score({"valid": run[seed]["valid"][system]}, "valid") for run in (shared, controls)]
            for system in systems
        ]
        return geometric_mean(mine / theirs for mine, theirs in parts)

    each = [[over(seed, list(SEVEN), score) for score in SCORES.values()] for seed in seeds]
    means = _pair([geometric_mean(pair[i] for pair in each) for i in range(2)], 3)
    spread = [f"{min(pair[i] for pair in each):.3g} to {max(pair[i] for pair in each):.3g}"
              for i in range(2)]  # fmt: skip
    said = "one seed" if len(seeds) == 1 else f"seeds {spread[0]} / {spread[1]}"
    alone = [over(seeds[0], ["helmholtz_staircase"], score) for score in SCORES.values()]
    return [
        f"**Sharing the trunk has {means} times the error of a trunk for each system, with the "
        + f"same code and time ({said}{recipe or ', 96 channels'}).**",
        f"On helmholtz_staircase, which has a quarter of the windows, it has {_pair(alone, 3)}.",
    ]


def tuned() -> str:
    """A joint model trained on with one of its systems: errors, and over those of bespoke."""
    rows = []
    for cell in found("tuned/*/*.json"):
        own = [score({"valid": cell["valid"]}, "valid") for score in SCORES.values()]
        base = [bespoke(cell["target"], window, "valid") for window in SCORES]
        ratio = [_over(value, known) for value, known in zip(own, base, strict=True)]
        rows.append([cell["source"], cell["target"], f"{cell['lr']:g}", _pair(own), _pair(ratio)])
    if not rows:
        return "Not run yet."
    return markdown(["from", "onto", "learning rate", "error", "over bespoke"], rows)


def _mean_ratio(run: dict[str, Any], window: str, split: str, base: Any) -> float:
    ratios = [SCORES[window]({split: run[split][s]}, split) / base(s, window, split) for s in SEVEN]
    return geometric_mean(ratios) if all(map(math.isfinite, ratios)) else math.inf


def _title(run: dict[str, Any]) -> str:
    kind = "joint" if run["trunk"] == "shared" else "private trunks"
    return f"{kind}, {run['minutes']:g} min, seed {run['seed']}"


def few() -> str:
    """A few trajectories: every arm's error over that of the better start from scratch."""
    rows = []
    cells = [(cell, "") for cell in started("few")]
    cells += [(cell, ", recipe of 0.1") for cell in started("few", FIRST)]
    for cell, recipe in cells:
        arms = cell["arms"]
        scratch = arms[cell["scratch"]]["valid"]
        row = [
            cell["source"] + recipe,
            cell["target"],
            str(cell["trajectories"] or "all"),
            str(cell["seed"]),
            f"{cell['scratch']} {_pair([scratch['one_step'], scratch['rollout']['1:20']])}",
        ]
        for arm in ARMS:
            row.append(_pair(_over_scratch(arms[arm]["valid"], cell), 2))
        rows.append([*row, cell["chosen"]])
    if not rows:
        return "Not run yet."
    head = ["from", "onto", "trajectories", "seed", "scratch, better on what was held out"]
    return markdown([*head, *ARMS, "chosen"], rows)


def pairs() -> str:
    """The map: what the best start from every source has, over the better start from scratch."""
    cells = started("pair")
    if not cells:
        return "Not run yet."
    maps = [transfer_map(cells, measure, arm="started") for measure in MAPPED]
    targets = [name for name in THE_EIGHT if name in maps[0].targets]
    rows = []
    for source in (name for name in THE_EIGHT if name in maps[0].sources):
        row = [source]
        for target in targets:
            i, j = maps[0].sources.index(source), maps[0].targets.index(target)
            values = [float(each.ratios[i, j]) for each in maps]
            row.append("" if any(map(math.isnan, values)) else _pair(values, 2))
        rows.append(row)
    means = [each.by_target() for each in maps]
    rows.append(["**mean**", *(_pair([mean[name] for mean in means], 2) for name in targets)])
    return markdown(["trained on", *targets], rows)


def map_finding() -> str:
    """What the map says, in a few sentences."""
    cells = started("pair")
    if not cells:
        return "The map has not been run yet."
    one, far = (transfer_map(cells, measure, arm="started") for measure in MAPPED)
    taken = [transfer_map(cells, measure).mean() for measure in MAPPED]
    sources = one.by_source()
    best, worst = min(sources, key=lambda s: sources[s]), max(sources, key=lambda s: sources[s])
    counts = chosen_counts(cells)
    scratch = sum(n for arm, n in counts.items() if arm.startswith("scratch"))
    harmed = sum((ratio(cell, MAPPED[0], arm="started") or math.nan) > 1 for cell in cells)
    seeds = _seeds(len({cell["seed"] for cell in cells}))
    first = (
        f"Over {len(cells)} pairs, a start from a model of one other system has "
        f"{_pair([one.mean(), far.mean()])} times the error of the better start from scratch (one "
        f"step / 1:20, {seeds}). One step ahead it is worse in "
        f"{harmed} of them. By the rule, which chooses scratch in {scratch}, it is "
        f"{_pair(taken)}."
    )
    lines = [first]
    if len(sources) > 1:
        lines.append(
            f"The best source is {best} ({sources[best]:.2f} one step ahead, mean over targets), "
            f"the worst {worst} ({sources[worst]:.2f})."
        )
    return "\n".join(paragraph(line) for line in lines)


def _seeds(n: int) -> str:
    return "one seed" if n == 1 else f"{n} seeds"


def related() -> str:
    """Which descriptors go with the ratio of one step: all relations that were fixed."""
    cells = started("pair")
    if not cells:
        return "The map has not been run yet."
    found = relations(transfer_map(cells, ONE_STEP, arm="started"), known_systems())
    known = {name: each for name, each in found.items() if not math.isnan(each.rho)}
    if not known:
        return "Too few pairs have been run."
    order = sorted(known, key=lambda name: (known[name].p, -abs(known[name].rho)))
    first = known[order[0]]
    chance = len(known) * first.p
    said = (
        f"Of {len(known)} relations the one that chance gives least often is with "
        f"{_descriptor(*order[0])}: rank correlation {first.rho:.2f}, p = {first.p:.2g}. By chance "
        f"{chance:.1f} of {len(known)} have such a p or a lower one."
    )
    rows = []
    for name in order:
        each = known[name]
        beyond = f"{each.low:.2f} to {each.high:.2f}"
        rows.append([_descriptor(*name), f"{each.rho:.2f}", beyond, f"{each.p:.2g}",
                     str(each.n_systems), str(each.n_pairs)])  # fmt: skip
    head = ["descriptor", "rank correlation", "95 % of permuted", "p", "systems", "pairs"]
    return f"{paragraph(said)}\n\n{markdown(head, rows)}"


def _descriptor(name: str, form: str) -> str:
    said = name.replace("_", " ")
    return f"difference of {said}" if form == "difference" else f"{said} of the target"


def draw() -> None:
    """The pictures of the map, and by lead time and band."""
    if cells := started("pair"):
        PICTURES.mkdir(parents=True, exist_ok=True)
        figures = {
            "map": map_figure(transfer_map(cells, MAPPED[0], arm="started")),
            "profiles": profile_figure(cells),
        }
        for name, figure in figures.items():
            figure.savefig(PICTURES / f"{name}.png", dpi=150, bbox_inches="tight")


def _over_scratch(own: dict[str, Any], cell: dict[str, Any]) -> list[float]:
    """Errors over those of the better start from scratch."""
    scratch = cell["arms"][cell["scratch"]]["valid"]
    return [
        _over(own["one_step"], scratch["one_step"]),
        _over(own["rollout"]["1:20"], scratch["rollout"]["1:20"]),
    ]


def _over(value: float | None, base: float | None) -> float:
    return math.inf if value is None or base is None else value / base


def _pair(values: list[float], digits: int = 3) -> str:
    return " / ".join(_number(value, digits) for value in values)


def _number(value: float, digits: int) -> str:
    return "?" if math.isnan(value) else f"{value:.{digits}g}" if math.isfinite(value) else "∞"


SECTIONS = {
    "finding": finding,
    "joint": joint,
    "tuned": tuned,
    "few": few,
    "map finding": map_finding,
    "map": pairs,
    "relations": related,
    "trials": trials,
}


def tables() -> list[str]:
    return [make() for make in SECTIONS.values()]


if __name__ == "__main__":
    draw()
    for section, make in SECTIONS.items():
        put(PAGE, f"<!-- {section}: scripts/transfer.py -->", f"<!-- end of {section} -->", make())
