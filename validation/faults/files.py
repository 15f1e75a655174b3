"""One damaged file or folder through one command; what is accepted is compared with an
independent reading.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from validation.faults.damage import CONTENT, choose
from validation.faults.folders import spoil_configuration, spoil_run, spoil_statistics
from validation.faults.processes import Result, cli, judge, start, watch
from validation.faults.runs import BUDGET, TINY, copy_run, train
from validation.faults.samples import STYLES, compare, write_sample
from validation.faults.storage import STORAGE

__all__ = ["KINDS", "trial"]

Record = dict[str, Any]
DATA = CONTENT | STORAGE
KINDS = (*DATA, "statistics", "run folders", "configurations")
# A budget that is spoilt may last for ever, and rightly so.
LONG = ("steps", "samples", "minutes", "validate_every", "compile = True")


def trial(templates: Path, rng: np.random.Generator, number: int, folder: Path) -> Record:
    """Kinds take turns; the generator decides the rest."""
    kind = KINDS[number % len(KINDS)]
    spatial, flag = int(rng.integers(1, 3)), folder / "executed"
    data = write_sample(folder / "data", spatial, choose(rng, STYLES), int(rng.integers(1000)))
    run = folder / "run"
    if kind == "configurations":
        words, what = _configured(rng, data, run, flag)
        names = [str(folder), *(f"{name}" for name in (*TINY, *BUDGET)), *_words(what)]
    elif kind == "run folders":
        copy_run(templates / f"{choose(rng, ('ended', 'stopped'))}{spatial}", run, data)
        what = spoil_run(rng, run, flag)
        words = choose(rng, _on_run(run, data))
        names = [str(folder), *_words(what)]
    else:
        words = choose(rng, _on_data(templates, spatial, data, run, rng))
        what = spoil_statistics(rng, data, flag) if kind == "statistics" else DATA[kind](rng, data)
        # A grid that a model cannot take is named by the model's entries.
        names = [str(folder), "num_scales"]
    result = watch(start(cli(words), folder), 60.0)
    outcome, why = judge(result, names, [flag])
    if outcome == "hang" and any(word in what for word in LONG):
        outcome = "ok"
    record = {
        "kind": kind,
        "what": f"{spatial}-D; {what}",
        "command": _short(words),
        "outcome": outcome,
    }
    if outcome in ("ok", "warned") and kind in DATA:
        return record | _compared(rng, data, folder, outcome, why)
    return record | {"why": why}


def _words(what: str) -> list[str]:
    """The entry that was spoilt: config: train.lr = 3 or config.yaml: steps missing."""
    words = what.partition(": ")[2].removeprefix("b'").replace(":", " ").replace(".", " ").split()
    return ["config", *(word.strip("'\"") for word in words[:2])]


def _short(words: Sequence[str]) -> str:
    return " ".join(
        words[:2] if words[0] == "data" or "--resume" in words or "--config" in words else words[:1]
    )


def _on_data(
    templates: Path, spatial: int, data: Path, run: Path, rng: np.random.Generator
) -> list[list[str]]:
    ended, stopped = templates / f"ended{spatial}", templates / f"stopped{spatial}"
    which = choose(rng, ("check", "data", "train", "ended", "stopped"))
    masked = ["--mask_field", "mask"] if rng.random() < 0.3 else []
    if which == "check":
        return [
            ["data", "check", str(data), *masked],
            ["data", "check", str(data), "--write-statistics"],
        ]
    if which == "data":
        return [["data", "info", str(data), *masked]]
    if which == "train":
        with_mask = {"data__mask_field": "mask"} if masked else {}
        return [
            train(data, run, train__steps=2, **with_mask),
            train(data, run, train__steps=2, data__cache_bytes=0),
        ]
    copy_run(ended if which == "ended" else stopped, run, data)
    if which == "stopped":
        return [["train", "--resume", str(run)]]
    other = ["evaluate", str(run), "--data", str(data), "--split", choose(rng, ("valid", "test"))]
    return [
        ["evaluate", str(run)],
        other,
        ["rollout", str(run), "--trajectory", "1"],
        ["rollout", str(run)],
    ]


def _on_run(run: Path, data: Path) -> list[list[str]]:
    folder = str(run)
    commands = [
        ["evaluate", folder],
        ["evaluate", folder, "--weights", "best"],
        ["rollout", folder],
    ]
    commands += [["train", "--resume", folder], ["evaluate", folder, "--data", str(data)]]
    return commands[3:4] if not (run / "weights").exists() else commands


def _configured(
    rng: np.random.Generator, data: Path, run: Path, flag: Path
) -> tuple[list[str], str]:
    valid: dict[str, Any] = {
        "run": str(run),
        "seed": 0,
        "data": {"path": str(data)},
        "train": {},
        "trainer": {},
    }
    for name, value in {**TINY, **BUDGET, "train.steps": 2}.items():
        part, _, key = name.partition(".")
        valid.setdefault(part, {})[key] = value
    path = flag.with_name("train.yaml")
    what = spoil_configuration(rng, path, valid, flag)
    return ["train", "--config", str(path)], what


def _compared(rng: np.random.Generator, data: Path, folder: Path, outcome: str, why: str) -> Record:
    """What the package reads from an accepted folder, or the error it then raises."""
    found = folder / "compared.json"

    def read() -> int:
        from wavelit.errors import WavelitError

        try:
            found.write_text(json.dumps(compare(data, rng)))
        except WavelitError as error:
            print(f"wavelit: error: {' '.join(str(error).split())}", flush=True)
            found.write_text("[0, []]")
        return 0

    result: Result = watch(start(read, folder, "compare"), 60.0)
    if result.status == 0 and not result.stopped:
        compared, different = json.loads(found.read_text())
        record = {"outcome": "silent difference" if different else outcome, "compared": compared}
        return record | {"why": "; ".join(different)[:300] or why}
    late, reason = judge(result, [str(folder)])
    # What the independent reading refuses is no number; the package took it for some.
    late = "accepted beyond reading" if "in _window" in result.err else late
    return {"outcome": late, "why": f"reading samples: {reason}"}
