"""The words of a command line as options, for commands that read others' options."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from wavelit.errors import WavelitError

__all__ = [
    "ALL",
    "BEFORE",
    "FLAGS",
    "NAMES",
    "as_list",
    "named_systems",
    "option_groups",
    "refuse_given",
    "takes_names",
]

# Stands for every system of PocketWell.
ALL = "pocketwell"
# What words before any option are called.
BEFORE = ""
# Options of training that take no word.
FLAGS = frozenset(("overwrite", "keep_statistics", "help", "print_config"))
# Options of the data that take several names.
NAMES = ("fields", "forcings", "log_constants")


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


def takes_names(option: str) -> bool:
    """Whether an option takes several names, with or without dashes and group."""
    return option.removeprefix("--").removeprefix("data.") in NAMES


def as_list(values: Sequence[str]) -> str:
    """Names as the text of a list: a b, a and [a, b] are lists, null is none. A plain word is a
    name, whatever YAML would read in it.
    """
    if len(values) == 1 and (values[0].startswith("[") or values[0] in ("null", "~", "")):
        return values[0]
    return json.dumps(list(values), ensure_ascii=False)


def refuse_given(parser: Any, options: Any, names: Sequence[str], why: str) -> None:
    """Refuse options that would have no effect.

    Args:
        parser: Of the command, for its defaults.
        options: As they were parsed.
        names: Those without an effect.
        why: What an error says after the option's name.

    Raises:
        WavelitError: One is given.
    """
    defaults = parser.get_defaults()
    for name in names:
        if getattr(options, name) != getattr(defaults, name):
            raise WavelitError(f"--{name.replace('_', '-')} {why}: leave it out")


def named_systems(names: Sequence[str]) -> list[str]:
    """Systems by name, each once, with those that `ALL` stands for."""
    if ALL not in names:
        return list(dict.fromkeys(names))
    from wavelit.data.pocketwell import SYSTEMS

    return list(dict.fromkeys(s for name in names for s in (SYSTEMS if name == ALL else [name])))
