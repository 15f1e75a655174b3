"""Scores beside published figures of The Well's benchmarks, protocol by protocol.

published.csv beside this module names the source of every figure. A figure is shown only where the
scores are of the same data: dataset, grid, test split, history and first predicted state.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rich.table import Table
from rich.text import Text

from wavelit.errors import printable
from wavelit.evaluation.scores import Evaluation, format_score

__all__ = ["PROTOCOLS", "Figure", "Protocol", "beside_published", "published"]


@dataclass(frozen=True)
class Protocol:
    """How the figures of a publication were made.

    Args:
        history: States that a model sees.
        start: True states before the first that is predicted.
        how: The average over trajectories.
        windows: Labels of its rollout steps.
    """

    history: int
    start: int
    how: str
    windows: tuple[str, ...]


PROTOCOLS = {
    "The Well": Protocol(4, 4, "mean", ("6:12", "13:30")),
    "Walrus": Protocol(6, 17, "median", ("1:20", "21:60")),
}
"""Ohana et al., 2024, arXiv 2412.00568; McCabe et al., 2025, arXiv 2511.15684."""


@dataclass(frozen=True)
class Figure:
    """A published VRMSE on a test split.

    Args:
        protocol: A key of `PROTOCOLS`.
        dataset: The Well's name.
        resolution: Points along each axis, as in 256x256.
        steps: "one step", or rollout steps as in 6:12.
        model: Its name.
        parameters: As in 18.6M.
        vrmse: As it is printed; ">10" where no more is said.
        source: Where it stands.
        note: What must be known of it; empty if nothing.
    """

    protocol: str
    dataset: str
    resolution: str
    steps: str
    model: str
    parameters: str
    vrmse: str
    source: str
    note: str


@cache
def published() -> tuple[Figure, ...]:
    """All figures, in the order of the file."""
    path = Path(__file__).with_name("published.csv")
    with path.open(encoding="utf8", newline="") as file:
        return tuple(Figure(**row) for row in csv.DictReader(file))


def beside_published(
    evaluation: Evaluation, resolution: Sequence[int], sizes: Mapping[str, int]
) -> Iterator[Table | str]:
    """A table for each protocol that the scores follow, a line for each that they do not.

    Args:
        evaluation: The scores.
        resolution: Points along each axis of the data.
        sizes: Parameters of the models that are shown, by name.
    """
    grid = "x".join(map(str, resolution))
    known = [
        figure
        for figure in published()
        if (figure.dataset, figure.resolution) == (evaluation.dataset, grid)
    ]
    if not known:
        name = printable(evaluation.dataset, 60)
        yield f"no published figure is of {name} on {grid} points"
        return
    for name, protocol in PROTOCOLS.items():
        figures = [figure for figure in known if figure.protocol == name]
        due = {
            "the test split": evaluation.split == "test",
            f"history {protocol.history}": evaluation.history == protocol.history,
            f"start {protocol.start}": evaluation.start == protocol.start,
        }
        if lacking := [what for what, holds in due.items() if not holds]:
            yield f"{name}'s figures are of {', '.join(due)}; not so here: {', '.join(lacking)}"
        else:
            yield _table(name, protocol, figures, evaluation, sizes)


def _table(
    name: str,
    protocol: Protocol,
    figures: Sequence[Figure],
    evaluation: Evaluation,
    sizes: Mapping[str, int],
) -> Table:
    columns = ("one step", *protocol.windows)
    own = {
        row.steps: row.scores
        for row in evaluation.rows()
        if row.how == protocol.how and row.steps in columns
    }
    rows: list[tuple[str, str, dict[str, str]]] = []
    for model, size in sizes.items():
        cells = {steps: format_score(float(scores[model][0])) for steps, scores in own.items()}
        rows.append((printable(model, 60), f"{size / 1e6:.3g}M", cells))
    notes: dict[str, str] = {}
    for model in dict.fromkeys(figure.model for figure in figures):
        of_model = [figure for figure in figures if figure.model == model]
        cells = {}
        for figure in of_model:
            mark = notes.setdefault(figure.note, f"[{len(notes) + 1}]") if figure.note else ""
            cells[figure.steps] = f"{figure.vrmse} {mark}".strip()
        rows.append((model, of_model[0].parameters, cells))
    sources = "; ".join(dict.fromkeys(figure.source for figure in figures))
    table = Table(
        title=Text(
            f"{evaluation.dataset}, test, as in {name}: {protocol.how}, history "
            f"{protocol.history}, from state {protocol.start}",
            "table.title",
        ),
        caption=Text("\n".join([*(f"{m} {note}" for note, m in notes.items()), sources])),
        caption_justify="left",
    )
    for heading in ("model", "parameters", *columns):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for model, size_text, cells in rows:
        table.add_row(Text(model), size_text, *(Text(cells.get(c, "")) for c in columns))
    return table
