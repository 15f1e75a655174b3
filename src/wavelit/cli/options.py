"""The options of `wavelit train`: those of the architecture, and what a file of them may hold."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_type_hints

import yaml
from docstring_parser import parse
from jsonargparse import DefaultHelpFormatter

from wavelit.checks.arguments import shown
from wavelit.checks.settings import current_names
from wavelit.cli.words import FLAGS, NAMES, as_list, takes_names
from wavelit.errors import WavelitError, printable
from wavelit.files.plain import load_yaml, read_yaml

__all__ = [
    "TYPED",
    "TypeNames",
    "architecture",
    "budgets",
    "expand",
    "mapping",
    "rename_options",
    "require_plain",
    "value_of",
    "without",
]

BUDGETS = frozenset(("steps", "samples", "minutes"))

# Options that are typed alone: a file that starts from a model or replaces a run would surprise.
TYPED = frozenset(("config", "resume", "from", "overwrite", "keep_statistics"))
# Options that take several values.
LISTS = tuple(f"data.{name}" for name in NAMES)


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


class TypeNames(DefaultHelpFormatter):
    """Help with the types of options as a user writes them."""

    def _get_type_str(self, action: Any) -> str | None:
        text = super()._get_type_str(action)
        if text is None:
            return None
        text = re.sub(r"<function (\w+) at 0x[0-9a-f]+>", r"\1", text)
        if union := re.fullmatch(r"Union\[(.*)\]", text):
            text = " | ".join(union[1].split(", "))
        text = text.replace(" | Literal['preset']", "").replace(" | PathLike[str]", "")
        return re.sub(
            r"Literal\[(.*?)\]", lambda names: re.sub(", ", " | ", names[1].replace("'", "")), text
        )


def expand(words: Sequence[str], groups: Mapping[str, Any]) -> list[str]:
    """The command line with every option under its full name: DATA is --data.path DATA, and
    --minutes is --train.minutes.

    Args:
        words: The command line.
        groups: The class of each group of options.
    """
    homes: dict[str, list[str]] = {"preset": ["model"]}
    for group, kind in groups.items():
        names = list(inspect.signature(kind).parameters)
        if group == "model":
            names = names[names.index("wavelet") :]
        decided = {"seed", "n_steps_output"} if group == "data" else set()
        for name in set(names) - decided:
            homes.setdefault(name, []).append(group)
    found: list[str] = []
    listed: list[str] = []
    for before, word in itertools.pairwise(["", *words]):
        option, equals, value = word.partition("=")
        value_due = before.startswith("--") and "=" not in before and before[2:] not in FLAGS
        if word.startswith("-"):
            listed = []
        name = option.removeprefix("--")
        if equals and takes_names(option):
            value = as_list([value])
            word = f"{option}={value}"
        if word.startswith("--") and len(homes.get(name, ())) == 1:
            word = f"--{homes[name][0]}.{name}{equals}{value}"
        elif value_due and takes_names(before):
            listed = [word]
            word = as_list(listed)
        elif listed and "--data.path" in found and not word.startswith("-"):
            # The dataset is named already, so it is another name.
            listed.append(word)
            found[-1] = as_list(listed)
            continue
        elif word and not word.startswith("-") and not value_due:
            found.append("--data.path")
        found.append(word)
    return found


def value_of(words: Sequence[str], option: str) -> str | None:
    """What the last such option of a command line says; None if there is none."""
    found = None
    for word, following in itertools.pairwise([*words, ""]):
        if word == option:
            found = following
        elif word.startswith(f"{option}="):
            found = word.split("=", 1)[1]
    return found


def without(words: Sequence[str], option: str) -> list[str]:
    """A command line without an option and its value."""
    kept: list[str] = []
    for before, word in itertools.pairwise(["", *words]):
        if word != option and not word.startswith(f"{option}=") and before != option:
            kept.append(word)
    return kept


def budgets(words: Sequence[str]) -> set[str]:
    """Budgets that a later --config file or option of the command line goes before."""
    kept: set[str] = set()
    typed = False
    for before, word in itertools.pairwise(["", *words]):
        option, equals, value = word.partition("=")
        is_file = before == "--config" or (option == "--config" and equals)
        if is_file:
            # Also the text of one, under the names of now.
            given = _content(word if before == "--config" else value).get("train") or {}
            named = set(BUDGETS & given.keys())
        else:
            short = option.removeprefix("--train.")
            named = {short} & BUDGETS if short != option else set()
        if named:
            kept = kept | named if typed and not is_file else set(named)
            typed = not is_file
    return set(BUDGETS - kept) if kept else set()


def rename_options(words: Sequence[str], groups: Mapping[str, Any]) -> list[str]:
    """The command line with the names that entries of `train` have now, where it or its --config
    files have older ones, and with whole numbers such as 1e4 spelled out.

    Args:
        words: The command line, which `require_plain` has accepted.
        groups: The class of each group of options.
    """
    found: list[str] = []
    for before, word in itertools.pairwise(["", *words]):
        option, equals, value = word.partition("=")
        if option.startswith("--train."):
            name = option.removeprefix("--train.")
            (name,) = current_names(groups["train"], {name: None}, "--train")
            word = f"--train.{name}{equals}{value}"
        elif before == "--config":
            word = _as_of_now(word, groups)
        elif option == "--config" and equals:
            word = f"--config={_as_of_now(value, groups)}"
        if equals and _is_numeric(option, groups):
            word = f"{word.partition('=')[0]}={_spelled_out(value)}"
        elif _is_numeric(before, groups):
            word = str(_spelled_out(word))
        found.append(word)
    return found


def _as_of_now(path: str, groups: Mapping[str, Any]) -> str:
    """A --config file, or its text as it is written now, which the parser takes as well."""
    content = read_yaml(path)
    now = dict(content)
    if "train" in content:
        now["train"] = current_names(groups["train"], content["train"], path)
    for group in groups.keys() & now.keys():
        now[group] = {
            name: _spelled_out(value) if _is_numeric(f"--{group}.{name}", groups) else value
            for name, value in now[group].items()
        }
    return path if now == content else yaml.safe_dump(now, sort_keys=False)


def _content(path: str) -> dict[str, Any]:
    content = load_yaml(path, "--config") if "\n" in path else read_yaml(path)
    return content if isinstance(content, dict) else {}


def _is_numeric(option: str, groups: Mapping[str, Any]) -> bool:
    """Whether numbers alone are due there."""
    group, _, name = option.removeprefix("--").partition(".")
    if group not in groups or name not in inspect.signature(groups[group]).parameters:
        return option == "--seed"
    kinds = str(inspect.signature(groups[group]).parameters[name].annotation).split(" | ")
    return not {"int", "float"}.isdisjoint(kinds) and "str" not in kinds


def _spelled_out(value: Any) -> Any:
    """1e4 as 10000, which neither YAML nor the parser takes for a whole number."""
    if not isinstance(value, str) or not re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d{1,2}", value):
        return value
    number = float(value)
    return int(number) if number.is_integer() else value


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
            if name in TYPED and value in (None, False):
                # As --print_config writes what was not typed.
                continue
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
