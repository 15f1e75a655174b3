"""Plain data from files that others wrote: text of a bounded size, YAML that is no larger than it
looks.

YAML may name a list and repeat it by that name, so that ten lines stand for a billion entries; and
its loaders build objects. Here the entries are counted as if written out, before any is built, and
nothing but plain data is.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import yaml

from wavelit.checks.arguments import shown
from wavelit.errors import WavelitError, one_line, printable

__all__ = [
    "LONGEST_TEXT",
    "decode_text",
    "load_yaml",
    "read_json",
    "read_text",
    "read_yaml",
    "whole_lines",
]

# Bytes of a text file, and entries of a YAML file with its aliases written out.
LONGEST_TEXT = 16 * 1024**2
MOST_NODES = 100_000
# Of a whole number, signs and underscores counted: a float has an exponent of at most 308.
MOST_DIGITS = 300


def read_text(path: str | os.PathLike[str], longest: int = LONGEST_TEXT) -> str:
    """The text of a regular local file.

    Raises:
        WavelitError: it is no regular file, holds more than `longest` bytes, or is not UTF-8.
        OSError: the system cannot open or read it.
    """
    # A pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise WavelitError(
                f"{printable(path)}: not a regular file; move it away, or name another"
            )
        with open(descriptor, "rb", closefd=False) as stream:
            return decode_text(stream.read(longest + 1), printable(path), longest)
    finally:
        os.close(descriptor)


def whole_lines(text: str) -> list[str]:
    """The lines of a file that lines are added to; what a kill left of the last one is dropped."""
    lines = text.splitlines(keepends=True)
    return lines[:-1] if lines and not lines[-1].endswith("\n") else lines


def decode_text(content: bytes, where: str, longest: int = LONGEST_TEXT) -> str:
    """UTF-8 as text.

    Args:
        content: the bytes read, one more than `longest` if there are more.
        where: the file, as messages name it.
        longest: how many bytes there may be.

    Raises:
        WavelitError: there are more, or they are not UTF-8.
    """
    if len(content) > longest:
        raise WavelitError(
            f"{where}: larger than {longest} bytes, which no file of this kind is; name the right "
            "one"
        )
    try:
        return content.decode("utf8")
    except UnicodeDecodeError as error:
        raise WavelitError(
            f"{where}: byte {error.start} is not UTF-8; write it again as UTF-8 text"
        ) from error


def read_yaml(path: str | os.PathLike[str], longest: int = LONGEST_TEXT) -> Any:
    """The plain data in a local YAML file.

    Raises:
        WavelitError: as `read_text` and `load_yaml`.
        OSError: the system cannot open or read it.
    """
    return load_yaml(read_text(Path(path), longest), printable(path), longest)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        WavelitError: The file is missing, too large, not JSON, or holds something else.
    """
    try:
        value = json.loads(read_text(path), parse_int=_whole)
    except WavelitError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise WavelitError(f"{path} cannot be read: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise WavelitError(f"{path} cannot be used: it holds no JSON object but {shown(value)}")
    return value


def load_yaml(text: str, where: str, longest: int = LONGEST_TEXT) -> Any:
    """The plain data that a YAML text stands for.

    Args:
        text: one YAML document.
        where: the file, as messages name it.
        longest: how many characters there may be.

    Raises:
        WavelitError: the text is longer, not YAML or not plain data, or has more than 100,000
            entries, what aliases repeat counted as often as it is repeated.
    """
    if len(text) > longest:
        raise WavelitError(
            f"{where}: larger than {longest} characters, which no file of this kind is; name the "
            "right one"
        )
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:
        raise WavelitError(
            f"{where}: not a YAML file ({one_line(error)}); write it again"
        ) from error
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _count(node, {}) > MOST_NODES:
            raise _TooManyError
        return loader.construct_document(node)
    except _TooManyError as error:
        raise WavelitError(
            f"{where}: more than {MOST_NODES} entries, aliases written out; write it again without "
            "them"
        ) from error
    except RecursionError as error:
        raise WavelitError(
            f"{where}: nested too deeply, or within itself; write it again"
        ) from error
    # What a loader says to a value that is not of the type its tag names: an integer of 5000
    # digits, `!!bool maybe`.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise WavelitError(
            f"{where}: not a YAML file ({one_line(error)}); write it again"
        ) from error
    finally:
        loader.dispose()


class _TooManyError(Exception):
    pass


class _Loader(yaml.SafeLoader):
    """The safe loader, which stops at too many entries instead of reading them all."""

    n_nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.n_nodes += 1
        if self.n_nodes > MOST_NODES:
            raise _TooManyError
        return super().compose_node(parent, index)


def _whole(digits: str) -> int:
    """A whole number that can be made a float: what follows takes it for one."""
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def _construct_whole(loader: _Loader, node: Any) -> int:
    _whole(node.value)
    value: int = loader.construct_yaml_int(node)
    return value


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_whole)


def _count(node: Any, known: dict[int, int]) -> int:
    """Entries of a node, aliases written out."""
    if id(node) not in known:
        # Met again within itself, it has no end.
        known[id(node)] = MOST_NODES + 1
        children = [] if isinstance(node, yaml.ScalarNode) else node.value
        flat = [
            child
            for entry in children
            for child in (entry if isinstance(entry, tuple) else (entry,))
        ]
        known[id(node)] = 1 + sum(_count(child, known) for child in flat)
    return known[id(node)]
