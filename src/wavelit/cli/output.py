"""What commands print: errors of one line, tables of scores."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wavelit.errors import printable

__all__ = ["LONGEST", "complaint", "print_error", "print_lines", "print_scores", "print_tables"]

# Characters of an error or a finding.
LONGEST = 1000
# Python's types as users know them.
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list",
    "dict": "a mapping",
}


def print_error(message: str) -> None:
    # Names from files may hold what a terminal obeys; where they are long, the reason and the fix
    # stand at the end.
    if len(message) > LONGEST:
        message = f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}"
    print(f"wavelit: error: {printable(message, 8 * LONGEST)}", file=sys.stderr)


def complaint(error: BaseException) -> str:
    """What jsonargparse says of an option, in a line and without the names of Python's types."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not (found := re.match(r'Parser key "(.+?)":', lines[0])):
        said = " ".join(lines[:2])
        return said + " '', an empty word" if said.endswith("arguments:") else said
    text = " ".join(lines)
    names = re.search(r"Literal\[(.+?)\]", text)
    due = names[1].replace("'", "").split(", ") if names else []
    for kind in re.findall(r"Expected a <class '(\w+)'>", text):
        if kind in KINDS and KINDS[kind] not in due:
            due.append(KINDS[kind])
    if not due:
        return " ".join(lines[:2])
    given = re.search(r"(?:Got|Given) value: ?(.*)", lines[-1])
    allowed = " or ".join([", ".join(due[:-1]), due[-1]] if len(due) > 1 else due)
    said = f"--{found[1]} takes {allowed}"
    return said if given is None else f"{said}, not {printable(given[1], 60) or 'nothing'}"


def print_lines(text: object) -> None:
    """What a command found or wrote: names from files and paths may hold what a terminal obeys."""
    for line in str(text).split("\n"):
        print(printable(line, 8 * LONGEST), flush=True)


def print_tables(tables: Sequence[Any]) -> None:
    """Tables of rich, and lines of text."""
    from rich.console import Console

    console = Console()
    for table in tables:
        if isinstance(table, str):
            console.print(printable(table), markup=False, highlight=False)
        else:
            console.print(table)


def print_scores(evaluation: Any, report: str | Path | None) -> None:
    from rich.console import Console

    from wavelit.evaluation.evaluate import format_table

    console = Console()
    console.print(format_table(evaluation))
    for remark in evaluation.remarks():
        # Names may hold what markup is made of.
        console.print(remark, markup=False, highlight=False)
    if report is not None:
        print_lines(f"report: {report}")
