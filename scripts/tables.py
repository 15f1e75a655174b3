"""From a CSV in results/ to a Markdown table in docs/: what the scripts beside this one share."""

import argparse
import csv
import textwrap
from pathlib import Path


def read(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def paragraph(text: str) -> str:
    """Lines of at most 100 characters, broken between words alone."""
    return textwrap.fill(text, 100, break_on_hyphens=False, break_long_words=False)


def put(page: Path, begin: str, end: str, table: str) -> None:
    """Write a table between two markers of a page, which must be there once each."""
    before, rest = page.read_text().split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n{table}\n{end}{after}")


def asked(description: str | None) -> argparse.Namespace:
    """What the command line asks for: to measure or to render, and which systems."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["measure", "render"])
    parser.add_argument("systems", nargs="*")
    return parser.parse_args()
