"""The tables and pictures of docs/transfer.md, from results/transfer; the page says how those are
made.

    python scripts/transfer.py
"""

import math
from collections.abc import Callable
from pathlib import Path
from statistics import geometric_mean

import joint_tables
from tables import markdown, paragraph, put
from transfer_scores import CONFIGURATIONS, Run, found, pair, quotient, seeds

from wavelit.benchmarks.few_cells import ARMS, STARTED
from wavelit.benchmarks.protocol import THE_EIGHT
from wavelit.evaluation.diagnosis import known_systems
from wavelit.evaluation.relations import relations
from wavelit.evaluation.transfer import (
    ONE_STEP,
    chosen_counts,
    favoured,
    ratio,
    transfer_map,
    with_setting,
)
from wavelit.evaluation.transfer_figures import map_figure, profile_figure

PAGE = Path("docs/transfer.md")
PICTURES = Path("docs/images/transfer")
MAPPED = (ONE_STEP, "rollout 1:20")
# The map: its cells, and their trajectories and core-minutes.
MAP = CONFIGURATIONS["96 channels"]
PLAIN = CONFIGURATIONS["144 channels, symmetries"]
STABLE = CONFIGURATIONS["144 channels, symmetries, stability 0.1"]
# The model that ships is that run's.
SAME_START = ("40min/joint-0", "joint-1M")
SETTING = (4, 1.0)


def started(kind: str, folder: Path) -> list[Run]:
    """Runs on a few trajectories: "few" from a joint model, "pair" from a model of one system."""
    return [cell for cell in found("few/*/*.json", folder) if cell["kind"] == kind]


def mapped() -> list[Run]:
    """The pairs of the map."""
    cells = started("pair", MAP)
    return with_setting([cell for cell in cells if cell["source"] != cell["target"]], SETTING)


def finding() -> str:
    """Where the joint model loses, and what starting from it is worth on a few trajectories."""
    lines = []
    for (target, given), cells in _from_joint().items():
        ratios = [_over_scratch(cell["arms"][_favoured(cell)]["valid"], cell) for cell in cells]
        means = pair(geometric_mean(column) for column in zip(*ratios, strict=True))
        count = {None: "all trajectories", 1: "one trajectory"}.get(given, f"{given} trajectories")
        by_rule = sum(cell["chosen"] in STARTED for cell in cells)
        taken = ("it", "scratch")[by_rule == 0] if len(cells) == 1 else f"it in {by_rule} of them"
        left_out = any("without" in cell["source"] for cell in cells)
        model = "a joint model of the other seven" if left_out else "it"
        window = _window(cells[0])
        steps = "" if window == "1:20" else f"one step / {window}, "
        lines.append(
            f"**On {count} of {target}, which it has not seen, a start from {model} has {means} "
            f"times the error of the better start from scratch ({steps}{seeds(len(cells))}).** "
            f"There the [rule](#how-it-is-measured) takes {taken}."
        )
    return "\n\n".join([joint_tables.finding(), *map(paragraph, lines)])


def _from_joint() -> dict[tuple[str, int | None], list[Run]]:
    """Cells by target and trajectories: of the newest configuration."""
    for folder in CONFIGURATIONS.values():
        found: dict[tuple[str, int | None], list[Run]] = {}
        for cell in started("few", folder):
            found.setdefault((cell["target"], cell["trajectories"]), []).append(cell)
        if found:
            return found
    return {}


def _favoured(cell: Run) -> str:
    """The start from the joint model that held-out time favours."""
    return favoured({arm: cell["arms"][arm] for arm in STARTED})


def few() -> str:
    """A few trajectories: every arm's error over that of the better start from scratch."""
    rows = []
    cells = [
        (cell, name) for name, folder in CONFIGURATIONS.items() for cell in started("few", folder)
    ]
    for cell, name in cells:
        arms = cell["arms"]
        scratch = arms[cell["scratch"]]["valid"]
        row = [
            f"{cell['source']}, {name}",
            cell["target"],
            str(cell["trajectories"] or "all"),
            str(cell["seed"]),
            f"{cell['scratch']} {pair([scratch['one_step'], scratch['rollout'][_window(cell)]])}",
        ]
        for arm in ARMS:
            row.append(pair(_over_scratch(arms[arm]["valid"], cell), 2))
        rows.append([*row, cell["chosen"]])
    if not rows:
        return "Not run yet."
    head = ["from", "onto", "trajectories", "seed", "scratch, better on what was held out"]
    return markdown([*head, *ARMS, "chosen"], rows)


def pairs() -> str:
    """The map: what the best start from every source has, over the better start from scratch."""
    cells = mapped()
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
            row.append("" if any(map(math.isnan, values)) else pair(values, 2))
        rows.append(row)
    means = [each.by_target() for each in maps]
    rows.append(["**mean**", *(pair([mean[name] for mean in means], 2) for name in targets)])
    return markdown(["trained on", *targets], rows)


def map_finding() -> str:
    """What the map says, in a few sentences."""
    cells = mapped()
    if not cells:
        return "The map has not been run yet."
    one, far = (transfer_map(cells, measure, arm="started") for measure in MAPPED)
    taken = [transfer_map(cells, measure).mean() for measure in MAPPED]
    sources = one.by_source()
    best, worst = min(sources, key=lambda s: sources[s]), max(sources, key=lambda s: sources[s])
    counts = chosen_counts(cells)
    scratch = sum(n for arm, n in counts.items() if arm.startswith("scratch"))
    harmed = sum((ratio(cell, MAPPED[0], arm="started") or math.nan) > 1 for cell in cells)
    said = seeds(len({cell["seed"] for cell in cells}))
    first = (
        f"Over {len(cells)} pairs, a start from a model of one other system has "
        f"{pair([one.mean(), far.mean()])} times the error of the better start from scratch (one "
        f"step / 1:20, {said}). One step ahead it is worse in "
        f"{harmed} of them. By the rule, which chooses scratch in {scratch}, it is "
        f"{pair(taken)}."
    )
    lines = [first]
    if len(sources) > 1:
        lines.append(
            f"The best source is {best} ({sources[best]:.2f} one step ahead, mean over targets), "
            f"the worst {worst} ({sources[worst]:.2f})."
        )
    return "\n".join(paragraph(line) for line in lines)


def related() -> str:
    """Which descriptors go with the ratio of one step: all relations that were fixed."""
    cells = mapped()
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
    if cells := mapped():
        PICTURES.mkdir(parents=True, exist_ok=True)
        figures = {
            "map": map_figure(transfer_map(cells, MAPPED[0], arm="started")),
            "profiles": profile_figure(cells),
        }
        for name, figure in figures.items():
            figure.savefig(PICTURES / f"{name}.png", dpi=150, bbox_inches="tight")


def stable() -> str:
    """The arms without and with the term of the loss on the growth of the linear part."""
    rows = []
    for cell in started("few", STABLE):
        facts = ("target", "trajectories", "seed", "minutes")
        before = [
            each
            for each in started("few", PLAIN)
            if all(each[name] == cell[name] for name in facts) and each["source"] in SAME_START
        ]
        for arm in ARMS:
            errors = [
                pair(_errors(each["arms"][arm]["valid"])) if each else ""
                for each in (before[0] if before else None, cell)
            ]
            taken = [each["chosen"] == arm for each in (*before[:1], cell)]
            marked = [f"**{e}**" if t else e for e, t in zip(errors, taken, strict=True)]
            rows.append([cell["target"], str(cell["trajectories"] or "all"), arm, *marked])
    if not rows:
        return "Not run yet."
    return markdown(["onto", "trajectories", "arm", "without", "with it"], rows)


def _errors(scores: Run) -> list[float]:
    rollout = scores["rollout"]
    found = [scores["one_step"], rollout["1:20"], rollout["21:56"]]
    return [math.inf if each is None else each for each in found]


def _over_scratch(own: Run, cell: Run) -> list[float]:
    """Errors over those of the better start from scratch."""
    scratch, window = cell["arms"][cell["scratch"]]["valid"], _window(cell)
    return [
        quotient(own["one_step"], scratch["one_step"]),
        quotient(own["rollout"][window], scratch["rollout"][window]),
    ]


def _window(cell: Run) -> str:
    """The first steps of rollouts that were scored: 1:20, or all of them where there are fewer."""
    return str(next(iter(cell["arms"][cell["scratch"]]["valid"]["rollout"])))


SECTIONS: dict[str, Callable[[], str]] = {
    "finding": finding,
    "joint": joint_tables.by_system,
    "test": joint_tables.on_test,
    "configurations": joint_tables.configurations,
    "tuned": joint_tables.tuned,
    "few": few,
    "stable": stable,
    "map finding": map_finding,
    "map": pairs,
    "relations": related,
    "trials": joint_tables.trials,
}


def tables() -> list[str]:
    return [make() for make in SECTIONS.values()]


if __name__ == "__main__":
    draw()
    for section, make in SECTIONS.items():
        put(PAGE, f"<!-- {section}: scripts/transfer.py -->", f"<!-- end of {section} -->", make())
