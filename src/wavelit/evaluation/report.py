"""The report of a run: one HTML file that holds its tables, pictures, settings and definitions, and
asks nothing of a network.

Every number comes from the `Evaluation`, every picture from `wavelit.evaluation.figures`; the
pictures are kept as files beside the report and embedded in it. The summary is put together by
rule, from the same scores as the tables: it names what the model does better and what it does worse
than predicting no change.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from wavelit.checks.arguments import require_instance, require_path
from wavelit.errors import printable
from wavelit.evaluation.evaluate import Evaluation, Row, definitions, format_score
from wavelit.evaluation.figures import animation, rollout_figure, training_figure
from wavelit.evaluation.pictures import png, write_bytes
from wavelit.files.atomic import atomic_path

__all__ = ["summary", "write_report"]

# Characters of a name, and of any other text, that a page shows.
LONGEST_NAME, LONGEST_TEXT = 80, 5000


@dataclass(frozen=True)
class _Line:
    """A line of a table: its headings, then one cell for each column; a cell is (emulator,
    score, worse) triples.
    """

    steps: str
    how: str
    protocol: str
    cells: list[list[tuple[str, str, bool]]]


def write_report(
    path: str | Path,
    evaluation: Evaluation,
    *,
    truth: Any,
    prediction: Any,
    run_info: Mapping[str, Any],
    metrics_csv: str | Path | None = None,
    field: str | None = None,
    fields: Sequence[str] | None = None,
    valid: Any = None,
) -> Path:
    """Write the report, and its pictures into `figures` beside it.

    Args:
        path: the HTML file.
        evaluation: the scores.
        truth: one trajectory of the split from the first predicted step on, (steps, C, *S).
        prediction: the model's rollout of it, of the same shape.
        run_info: what was run, by name: numbers and text, or mappings of them, which become
            sections of their own (parameters, training samples, wall-clock, threads, versions,
            seed, configuration).
        metrics_csv: the CSV logger's file, for the learning curves.
        field: the field of the still pictures; the first if absent.
        fields: the fields of the animation, three at most; `field` alone if absent.
        valid: cells inside the domain, bool (*S).

    Returns:
        The path written.

    Raises:
        WavelitError: arrays, fields or the metrics file do not fit.
    """
    path = require_path("path", path, is_file=True)
    require_instance(
        "evaluation", evaluation, Evaluation, "get one from wavelit.evaluation.evaluate"
    )
    require_instance("run_info", run_info, Mapping, "give names and values")
    folder = path.parent / "figures"
    names = evaluation.field_names
    field = names[0] if field is None else field
    fields = [field] if fields is None else fields
    still = png(
        rollout_figure(truth, prediction, names, field=field, evaluation=evaluation, valid=valid)
    )
    curves = None if metrics_csv is None else png(training_figure(metrics_csv))
    film = animation(folder / "rollout.gif", truth, prediction, names, fields=fields, valid=valid)
    # What is embedded is not read back: another report of the run may have written these files
    # since.
    pictures = {"animation": _embedded("gif", film.content), "rollout": _embedded("png", still)}
    write_bytes(folder / "rollout.png", still)
    if curves is not None:
        pictures["training"] = _embedded("png", curves)
        write_bytes(folder / "training.png", curves)

    rows = evaluation.rows()
    template = (
        resources.files("wavelit").joinpath("templates/report.html").read_text(encoding="utf-8")
    )
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalized,
    )
    environment.filters["name"] = _name
    page = environment.from_string(template).render(
        evaluation=evaluation,
        summary=summary(evaluation),
        emulators=list(evaluation.scores),
        overall=[_line(row, evaluation, [0], apart=True) for row in rows],
        by_field=[_line(row, evaluation, range(1, len(names) + 1), apart=False) for row in rows],
        diverged={name: (s.diverged, len(s.rollout)) for name, s in evaluation.scores.items()},
        field=field,
        animated=", ".join(map(_name, fields)),
        film=film,
        pictures=pictures,
        sections=_sections(run_info),
        definitions=definitions(),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _name(text: object) -> str:
    return printable(text, LONGEST_NAME)


def _finalized(value: Any) -> Any:
    """What the page shows of a value: text without control characters and invalid Unicode; jinja
    escapes it afterwards.
    """
    return (
        printable(value, LONGEST_TEXT)
        if isinstance(value, str) and not isinstance(value, Markup)
        else value
    )


def summary(evaluation: Evaluation) -> str:
    """One paragraph: scores of one step and of the last window beside persistence's, where the
    model is the worse.
    """
    require_instance(
        "evaluation", evaluation, Evaluation, "get one from wavelit.evaluation.evaluate"
    )
    scores = evaluation.scores[evaluation.model]
    rows = [row for row in evaluation.rows() if row.how == "mean"]
    n_windows, n_trajectories = len(scores.one_step), len(scores.rollout)
    judged = (
        f"{_count(n_windows, 'window')} and {_count(n_trajectories, 'trajectory', 'trajectories')}"
    )
    steps, known = _count(evaluation.n_steps, "step"), _count(evaluation.history, "known state")
    parts = [
        f"Judged on {judged} of the {evaluation.split} split, rolled out over {steps} from {known}."
    ]
    shown = [rows[0], rows[-1]] if len(rows) > 1 else rows
    for row in shown:
        model, held = (float(row.scores[name][0]) for name in (evaluation.model, "persistence"))
        where = "One step ahead" if row is rows[0] else f"Over rollout steps {row.steps}"
        parts.append(
            f"{where} the mean VRMSE is {format_score(model)}, that of persistence "
            f"{format_score(held)}."
        )
    worse = [
        row.steps for row in rows if row.scores[evaluation.model][0] >= row.scores["persistence"][0]
    ]
    if worse:
        parts.append(f"The model is no better than persistence on: {', '.join(worse)}.")
    else:
        parts.append(
            "The model is better than persistence on every window of the table, all fields taken "
            "together."
        )
    curve = scores.rollout.mean((0, 2))
    beyond = np.flatnonzero(curve >= 1)
    if beyond.size:
        parts.append(
            "Its mean VRMSE first reaches 1, the score of the true spatial mean, at step "
            f"{beyond[0] + 1}."
        )
    if scores.diverged:
        parts.append(f"{_count(scores.diverged, 'rollout')} of {n_trajectories} diverged.")
    if "exact rotation" in evaluation.scores:
        parts.append(
            "The next state of this dataset is a fixed rotation of its two fields, so that the "
            "score measures the precision of a fit, not the modelling of waves."
        )
    return " ".join(parts)


def _count(n: int, one: str, many: str | None = None) -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"


def _line(row: Row, evaluation: Evaluation, positions: Sequence[int], apart: bool) -> _Line:
    """Scores at `positions` (0 all fields, then each field): a column for each emulator if
    `apart`, else for each field.
    """
    cells = []
    for position in positions:
        held = float(row.scores["persistence"][position])
        entries = []
        for name, averages in row.scores.items():
            value = float(averages[position])
            worse = name == evaluation.model and (value >= held or math.isinf(value))
            entries.append((name, format_score(value), worse))
        cells += [[entry] for entry in entries] if apart else [entries]
    return _Line(row.steps, row.how, row.protocol, cells)


def _sections(run_info: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Settings to tables of text: plain values under "Run", each mapping under its own name,
    deeper ones with dots.
    """
    sections: dict[str, dict[str, str]] = {"Run": {}}
    for name, value in run_info.items():
        if isinstance(value, Mapping):
            sections[name] = dict(_flat(value))
        else:
            sections["Run"][name] = _text(value)
    return {name: lines for name, lines in sections.items() if lines}


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            lines += _flat(value, f"{prefix}{name}.")
        else:
            lines.append((f"{prefix}{name}", _text(value)))
    return lines


def _text(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000:
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    return "none" if value is None else str(value)


def _embedded(kind: str, content: bytes) -> Markup:
    return Markup(f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}")
