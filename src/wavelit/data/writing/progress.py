"""A bar on a terminal for records that take a while to write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

__all__ = ["writing_bar"]

# Bytes that are written before anybody looks.
SMALL = 64 * 1024**2


@contextmanager
def writing_bar(
    what: str, total: int, console: Console | None = None
) -> Iterator[Callable[[int], None]]:
    """A function to be called with the number of bytes of each piece that is written; it draws a
    bar where there is a terminal and much to write.

    Args:
        what: what is written.
        total: bytes of it.
        console: where it is drawn; standard error if absent.
    """
    console = console or Console(stderr=True)
    if total < SMALL or not console.is_terminal:
        yield lambda size: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(what, total=total)
        yield lambda size: bar.advance(task, size)
