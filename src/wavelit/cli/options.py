"""The options of `wavelit train`: those of the architecture, and what a file of them may hold."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, Literal, get_type_hints

import yaml
from docstring_parser import parse

from wavelit.checks.arguments import shown
from wavelit.checks.settings import current_names
from wavelit.errors import WavelitError, printable
from wavelit.files.plain import load_yaml, read_yaml

__all__ = ["architecture", "mapping", "rename_options", "require_plain"]

# Options that take several values.
LISTS = ("data.fields", "data.forcings")


def architecture(config: Any) -> dict[str, tuple[Any, str]]:
    """The entries of the model's configuration that the data do not decide: their types, and
    what its docstring says of them.
    """
    hints = get_type_hints(config)
    meanings = {
        each.arg_name: " ".join((each.description or "").split())
        for each in parse(config.__doc__).params
    }
    names = [field.name for field in dataclasses.fields(config)]
    return {
        name: (hints[name] | Literal["preset"], meanings[name])
        for name in names[names.index("wavelet") :]
    }


def rename_options(words: Sequence[str], kind: type[Any]) -> list[str]:
    """The command line with the names that entries of `train` have now, where it or its --config
    files have older ones.

    Args:
        words: The command line, which `require_plain` has accepted.
        kind: The dataclass of these entries.
    """
    found = []
    for before, word in itertools.pairwise(["", *words]):
        option, equals, value = word.partition("=")
        if option.startswith("--train."):
            (name,) = current_names(kind, {option.removeprefix("--train."): None}, "--train")
            word = f"--train.{name}{equals}{value}"
        elif before == "--config":
            word = _with_current_names(word, kind)
        elif option == "--config" and equals:
            word = f"--config={_with_current_names(value, kind)}"
        found.append(word)
    return found


def _with_current_names(path: str, kind: type[Any]) -> str:
    """A --config file, or its text under the names of now, which the parser takes as well."""
    content = read_yaml(path)
    train = content.get("train", {})
    renamed = current_names(kind, train, path)
    if renamed == train:
        return path
    return yaml.safe_dump({**content, "train": renamed}, sort_keys=False)


def require_plain(words: Sequence[str], known: set[str]) -> None:
    """Refuse what the parser would take for more than data: given a mapping or a file for a group
    of options, it imports what their `class_path` names.

    Args:
        words: The command line.
        known: Names of all options, with dots.

    Raises:
        WavelitError: A --config file is not plain YAML of known options and single values, or an
            option is a group.
    """
    groups = {name.split(".")[0] for name in known if "." in name}
    given = [word.split("=", 1)[0].removeprefix("--") for word in words if word.startswith("--")]
    if whole := [name for name in given if name in groups]:
        raise WavelitError(
            f"--{whole[0]} is a group of options: set one of them, --{whole[0]}.NAME"
        )
    pairs = itertools.pairwise(words)
    files = [word.split("=", 1)[1] for word in words if word.startswith("--config=")]
    for path in files + [value for option, value in pairs if option == "--config"]:
        if not path.strip():
            raise WavelitError("--config names no file")
        content = read_yaml(path)
        if not isinstance(content, dict):
            raise WavelitError(
                f"{path}: groups of options are due, such as train: and data:; see configs/ for "
                "examples"
            )
        for name, value in content.items():
            if (name in groups) != isinstance(value, dict):
                due = "a group of options" if name in groups else "one value"
                raise WavelitError(
                    f"{path}: entry '{printable(name, 80)}' is {shown(value)}; {due} is due"
                )
        entries = {
            f"{name}.{entry}" if name in groups else str(name): inner
            for name, value in content.items()
            for entry, inner in (value.items() if name in groups else [("", value)])
        }
        for name, value in entries.items():
            if name not in known:
                raise WavelitError(
                    f"{path}: unknown entry '{printable(name, 80)}'; see `wavelit train --help`"
                )
            if isinstance(value, list) and name in LISTS:
                continue
            if isinstance(value, dict | list) and name != "data.storage_options":
                raise WavelitError(f"{path}: entry '{name}' is {shown(value)}; one value is due")


def mapping(value: Any) -> dict[str, Any] | None:
    """A mapping of names to plain values, from the command line as YAML."""
    content = load_yaml(value, "--data.storage_options") if isinstance(value, str) else value
    if content is not None and not isinstance(content, dict):
        raise WavelitError(f"a mapping is due, not {shown(content)}")
    return content
