"""Wrong arguments for the public functions and for every option of the command line.

A function is called with arguments that fit but for one. It may return, or raise the package's
error, or a TypeError or ValueError that names the argument or shows its value; another error says
that the wrong value was found out too late.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
from validation.faults.damage import HOSTILE_NAMES, choose
from validation.faults.processes import cli, judge, start, watch
from validation.faults.runs import copy_run, generation_words, train
from validation.faults.targets import TARGETS

__all__ = ["options_of", "trial"]

Record = dict[str, Any]
WORDS = (
    "-1",
    "0",
    "-0",
    "1",
    "2",
    "3",
    "7",
    "97",
    "1000000000",
    "9223372036854775808",
    "1e400",
    "-1e9",
    "1.5",
    "nan",
    "inf",
    "-inf",
    "",
    " ",
    "None",
    "null",
    "true",
    "abc",
    "[1,2]",
    "[]",
    "{}",
    "{a: 1}",
    "[nan]",
    "a/b",
    "../../escape",
    "/proc/nothing/here",
    "/proc/self/mem",
    "%s",
    "\x1b[31mred",
    "\u202ereversed",
    "é",
    "x" * 300,
    "x" * 5000,
    "a*[?]",
    "meta",
    "tpu",
    "cuda:99",
    "mps",
    "cpu:1",
    "file:///dev/zero",
    "nonsense://x",
    "memory://x",
    "http://127.0.0.1:1/x",
    "--force",
    "-h",
    "0x10",
    "1_000",
    "!!python/object/apply:os.system [true]",
    "class_path: os.system",
    "${HOME}",
    "$(id)",
    "a\nb",
)
# What Python raises of a value of another kind, somewhere inside.
WRONG_KIND = (
    "TypeError",
    "AttributeError",
    "ValueError",
    "RuntimeError",
    "KeyError",
    "IndexError",
    "AssertionError",
)
# What asks for more memory than a trial has, and rightly so: `wavelit info` measures at that size,
# and each device has a process.
LARGE = ("batch", "resolution", "fields", "devices")
# What asks for more time than a trial has, and rightly so.
PATIENT = (
    "steps",
    "samples",
    "minutes",
    "size",
    "n_workers",
    "processes",
    "systems",
    "system",
    "seed",
)


def trial(templates: Path, rng: np.random.Generator, number: int, folder: Path) -> Record:
    """Functions and options take turns."""
    return (_option if number % 2 else _function)(templates, rng, number // 2, folder)


def _values(rng: np.random.Generator, fits: Any) -> Any:
    """One hostile value; for an array or tensor that fits also one of another shape, dtype or
    content.
    """
    import torch

    values: list[Any] = [
        -1,
        0,
        1,
        3,
        97,
        2**31,
        2**63,
        10**12,
        -(10**12),
        1.5,
        -0.5,
        float("nan"),
        float("inf"),
        1e-320,
        True,
        None,
        1 + 2j,
        "nan",
        "abc",
        "1",
        "meta",
        "tpu",
        "cuda:99",
        "-1",
        "test",
        "unknown/split",
        b"bytes",
        [],
        {},
        (),
        set(),
        [1, 2],
        ["u"],
        ["u", "u"],
        {"a": 1},
        {0: ["u"]},
        {"u": [1, 2]},
        object(),
        np.zeros(0),
        np.full((2, 2), np.nan),
        np.array("text"),
        np.array([object()]),
        torch.zeros(0),
        torch.zeros(3, 4),
        torch.zeros(2, 2, dtype=torch.complex64),
        lambda *_: None,
        lambda *_: "text",
        Path("/nowhere"),
        Path("/proc/nothing"),
        np.int64(-3),
        np.float32(2.5),
        range(3),
        iter([1]),
        int,
        "../../escape",
        "/proc/nothing/here",
        *(name for name in HOSTILE_NAMES),
    ]
    if isinstance(fits, torch.Tensor | np.ndarray) and rng.random() < 0.7:
        x = torch.as_tensor(fits)
        changed = [
            x[0], x[..., 0], x[..., :5], x[:0], x[..., :0], x.unsqueeze(0), x.flatten(),
            x.to(torch.int32), x.to(torch.complex64),
            x * torch.nan, x * 1e38 * 10, x.to(torch.float16), x.to("meta"), x.transpose(-1, 0),
            x.bool(), x.repeat(2, *[1] * (x.ndim - 1)),
            x.to_sparse(), x.tolist(), x.double() * 1e300, x.clone().requires_grad_(),
        ]  # fmt: skip
        value = choose(rng, changed)
        numpy = (
            isinstance(fits, np.ndarray) and isinstance(value, torch.Tensor) and not value.is_sparse
        )
        return value.detach().numpy() if numpy and value.device.type == "cpu" else value
    if isinstance(fits, dict) and rng.random() < 0.5:
        key = choose(rng, list(fits))
        return {choose(rng, (key, key, "a/b", "", 3, None)): choose(rng, values)}
    return choose(rng, values)


def _is_kind(function: Any, name: str, arguments: dict[str, Any], value: Any) -> bool:
    """Whether a value is of the kind that an argument asks for, by its annotation or by what it
    usually gets.
    """
    usual = arguments.get(name)
    if usual is not None and isinstance(value, type(usual)):
        return True
    parameter = inspect.signature(function).parameters.get(name)
    kind = type(value).__name__
    alike = {
        "list": "Sequence",
        "tuple": "Sequence",
        "dict": "Mapping",
        "ndarray": "Array",
        "PosixPath": "Path",
    }
    text = str(parameter.annotation) if parameter else ""
    return any(re.search(rf"\b{word}\b", text) for word in (kind, alike.get(kind, kind)))


def _show(value: Any) -> str:
    if hasattr(value, "shape") and getattr(value, "ndim", 0):
        return f"{type(value).__name__} {tuple(value.shape)} {value.dtype}"
    return " ".join(repr(value).split())[:80]


def _function(templates: Path, rng: np.random.Generator, number: int, folder: Path) -> Record:
    name = list(TARGETS)[number % len(TARGETS)]
    function, arguments = TARGETS[name](folder, templates)
    parameters = [
        each.name
        for each in inspect.signature(function).parameters.values()
        if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    ]
    wrong = choose(rng, sorted({*parameters, *arguments} - {"self", "local_files_only"}))
    value = _values(rng, arguments.get(wrong))
    told = folder / "told.json"

    def call() -> int:
        from wavelit.errors import WavelitError

        try:
            function(**{**arguments, wrong: value})
            return 0
        except WavelitError as error:
            told.write_text(json.dumps(["refused", str(error)[:1000]]))
            return 0
        except Exception as error:
            told.write_text(json.dumps([type(error).__name__, str(error)[:1000]]))
            raise

    result = watch(start(call, folder), 60.0)
    what = f"{name}({wrong}={_show(value)})"
    outcome, why = judge(result, [])
    kind, text = json.loads(told.read_text()) if told.exists() else ("", "")
    shown = [wrong, wrong.replace("_", " "), str(value)[:60] or repr(value)]
    named = any(each in text for each in shown if each)
    if outcome == "hang" and wrong in PATIENT:
        outcome = "ok"
    elif outcome in ("ok", "warned") and kind == "refused":
        # The function and its argument are in the traceback: an error needs not name it, but what
        # was wrong.
        outcome, why = "refused", text[:200]
    elif (outcome == "traceback" and kind and named and "wavelit/" in result.err) or (
        outcome == "traceback" and kind == "TypeError" and "argument" in text and name in text
    ):
        outcome, why = "refused", f"{kind}: {text[:200]}"
    elif (
        outcome == "traceback"
        and kind in WRONG_KIND
        and not _is_kind(function, wrong, arguments, value)
    ):
        # Python's own way with what is of another kind than the annotation says.
        outcome = "type error"
    elif outcome == "traceback":
        outcome = "late error"
    return {"kind": "functions", "what": what, "outcome": outcome, "why": why}


def options_of(command: str) -> list[tuple[str, str]]:
    """(dest, option string or "") of every option of a command's own parser."""
    from jsonargparse import ArgumentParser

    from wavelit.cli import program as module

    class Seen(Exception):
        pass

    class Peek(ArgumentParser):
        def parse_args(self, *args: Any, **options: Any) -> Any:
            raise Seen

    parser = Peek(exit_on_error=False)
    with contextlib.suppress(Seen):
        module.COMMANDS[command](parser, [])
    found = []
    for action in parser._actions:
        long = [text for text in action.option_strings if text.startswith("--")]
        if action.dest not in ("help",) and not str(action.dest).endswith(".help"):
            found.append((str(action.dest), long[0] if long else ""))
    return found


COMMANDS = (
    "train",
    "train",
    "train",
    "evaluate",
    "rollout",
    "export",
    "data check",
    "data subset",
    "data info",
    "data generate",
    "info",
    "demo",
    "unknown",
)


def _option(templates: Path, rng: np.random.Generator, number: int, folder: Path) -> Record:
    command = COMMANDS[number % len(COMMANDS)]
    value = str(choose(rng, WORDS))
    if command == "unknown":
        group = choose(rng, ([], ["data"], ["benchmark"], ["train"], ["info"]))
        words, dest, option = [*group, value], "command", ""
    else:
        dest, option = choose(rng, options_of(command))
        words = _right(templates, command, folder)
        if option:
            words = _without(words, option)
            words += (
                [option]
                if rng.random() < 0.05
                else [f"{option}={value}"]
                if rng.random() < 0.5
                else [option, value]
            )
        else:
            words = [*command.split(), value, *words[len(command.split()) + 1 :]]
    result = watch(start(cli(words), folder), 60.0)
    names = [
        dest,
        dest.rpartition(".")[2],
        option,
        dest.replace("_", " "),
        "'none'",
        value[:60],
        str(folder),
        str(templates),
    ]
    if not value.strip():
        names.append(repr(value))
    if not value.isprintable():
        names.append(value.encode("unicode_escape").decode()[:40])
    outcome, why = judge(result, [name for name in names if name.strip()])
    asked = dest.rpartition(".")[2]
    if (outcome == "hang" and asked in PATIENT) or (outcome == "memory" and asked in LARGE):
        outcome = "ok"
    what = shlex.join(words).replace(str(folder), "").replace(str(templates), "")
    short = f"{command} {option or dest} {value[:60]!r}"
    return {
        "kind": f"{command} options",
        "what": short,
        "outcome": outcome,
        "why": why,
        "words": what[:600],
    }


def _without(words: list[str], option: str) -> list[str]:
    """The words without an option and its value."""
    kept, skip = [], False
    for word in words:
        if skip or word == option:
            skip = not skip and word == option
            continue
        kept.append(word)
    return kept


def _right(templates: Path, command: str, folder: Path) -> list[str]:
    """Words of a command that would do little and end well, or be refused early where that would
    take long.
    """
    if command == "train":
        return train(templates / "data2", folder / "run", train__steps=2)
    if command in ("evaluate", "rollout"):
        copy_run(templates / "ended2", folder / "run", templates / "data2")
        return [command, str(folder / "run")]
    if command == "export":
        copy_run(templates / "ended2", folder / "run", templates / "data2")
        return [command, str(folder / "run"), str(folder / "model.pt2")]
    if command == "data subset":
        data, small = str(templates / "data2"), str(folder / "small")
        return [*command.split(), data, "--to", small, "--steps", "6"]
    if command in ("data check", "data info"):
        return [*command.split(), str(templates / "data1")]
    if command == "data generate":
        return generation_words(folder / "root")
    if command == "demo":
        return [
            "demo",
            "shear_flow",
            "--size",
            "none",
            "--root",
            str(folder / "root"),
            "--run",
            str(folder / "run"),
        ]
    return ["info", "--preset", "nano", "--resolution", "32", "32"]
