"""The command line."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command of `wavelit`.

    Args:
        arguments: Its words; those of the process if absent.

    Returns:
        The exit status: 2 where the user is told of a mistake.
    """
    from wavelit.cli.program import main as run

    return run(arguments)
