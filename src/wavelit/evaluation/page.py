"""A report as a page: one HTML file with everything in it, that asks nothing of a network.

The page allows no request at all by its Content-Security-Policy, and no script but its own, which
is named by its digest.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from wavelit.errors import WavelitError, printable
from wavelit.evaluation.evaluate import Evaluation, Row, definitions, format_score
from wavelit.evaluation.player import Player
from wavelit.files.atomic import atomic_path

__all__ = ["MAX_PAGE", "embedded", "flat", "sections", "text_of", "write_page"]

# Characters of a name, and of any other text, that a page shows.
LONGEST_NAME, LONGEST_TEXT = 80, 5000
MAX_PAGE = 15_000_000
SCRIPTS = ("charts.js", "player.js")


@dataclass(frozen=True)
class _Line:
    """A line of a table: its headings, then one cell for each column; a cell is (emulator,
    score, worse) triples.
    """

    steps: str
    how: str
    protocol: str
    cells: list[list[tuple[str, str, bool]]]


def write_page(
    path: Path,
    evaluation: Evaluation,
    *,
    runs: Sequence[str],
    summary: str,
    player: Player,
    settings: Mapping[str, Mapping[str, str]],
    stills: Mapping[str, Markup] | None = None,
    curves: Markup | None = None,
) -> Path:
    """Write a page, whole or not at all.

    Args:
        path: the HTML file.
        evaluation: the scores of its tables.
        runs: the emulators that are judged, the first among them the evaluation's model.
        summary: a paragraph below the heading.
        player: the rollouts.
        settings: tables of text by title.
        stills: pictures of the first rollout by field, as `embedded` gives them.
        curves: a picture of the learning curves.

    Raises:
        WavelitError: the page would take more than 15 MB.
    """
    rows, n_fields = evaluation.rows(), len(evaluation.field_names)
    script = "\n".join(_template(name) for name in SCRIPTS)
    page = (
        _environment()
        .from_string(_template("report.html"))
        .render(
            evaluation=evaluation,
            runs=runs,
            summary=summary,
            emulators=list(evaluation.scores),
            overall=[_line(row, runs, [0], apart=True) for row in rows],
            by_field=[_line(row, runs, range(1, n_fields + 1), apart=False) for row in rows],
            diverged={name: (s.diverged, len(s.rollout)) for name, s in evaluation.scores.items()},
            player=player,
            stills=stills or {},
            curves=curves,
            sections=settings,
            definitions=definitions(),
            style=Markup(_template("report.css")),
            script=Markup(script),
            digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        )
    )
    content = page.encode("utf-8")
    if len(content) > MAX_PAGE:
        raise WavelitError(
            f"expected a report of at most {MAX_PAGE // 10**6} MB, got {len(content) // 10**6} "
            f"with tables of {n_fields} fields: evaluate fewer fields"
        )
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


def _template(name: str) -> str:
    return resources.files("wavelit").joinpath(f"templates/{name}").read_text(encoding="utf-8")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalized,
    )
    environment.filters["name"] = _name
    return environment


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


def _line(row: Row, runs: Sequence[str], positions: Sequence[int], apart: bool) -> _Line:
    """Scores at `positions` (0 all fields, then each field): a column for each emulator if
    `apart`, else for each field.
    """
    cells = []
    for position in positions:
        held = float(row.scores["persistence"][position])
        entries = []
        for name, averages in row.scores.items():
            value = float(averages[position])
            worse = name in runs and (value >= held or math.isinf(value))
            entries.append((name, format_score(value), worse))
        cells += [[entry] for entry in entries] if apart else [entries]
    return _Line(row.steps, row.how, row.protocol, cells)


def sections(run_info: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Settings to tables of text: plain values under "Run", each mapping under its own name,
    deeper ones with dots.
    """
    sections: dict[str, dict[str, str]] = {"Run": {}}
    for name, value in run_info.items():
        if isinstance(value, Mapping):
            sections[name] = dict(flat(value))
        else:
            sections["Run"][name] = text_of(value)
    return {name: lines for name, lines in sections.items() if lines}


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Settings as names and text, those within others after a dot."""
    lines: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            lines += flat(value, f"{prefix}{name}.")
        else:
            lines.append((f"{prefix}{name}", text_of(value)))
    return lines


def text_of(value: Any) -> str:
    """A setting's value as a table shows it."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000:
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(text_of(item) for item in value)
    return "none" if value is None else str(value)


def embedded(kind: str, content: bytes) -> Markup:
    """A picture as an address that holds it."""
    return Markup(f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}")
