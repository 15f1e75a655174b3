"""The words of a command line as options, for commands that read others' options."""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ["BEFORE", "option_groups"]

# What words before any option are called.
BEFORE = ""


def option_groups(words: Sequence[str], flags: Collection[str] = ()) -> list[tuple[str, list[str]]]:
    """Options without their dashes, each with the words that follow it; words before any option,
    or after one that takes none, stand under `BEFORE`.

    Args:
        words: Of a command.
        flags: Options that take no word.
    """
    found: list[tuple[str, list[str]]] = [(BEFORE, [])]
    for word in words:
        if not word.startswith("--"):
            found[-1][1].append(word)
            continue
        name, equals, value = word[2:].partition("=")
        found.append((name, [value] if equals else []))
        if name in flags:
            found.append((BEFORE, []))
    return [(name, values) for name, values in found if name or values]
