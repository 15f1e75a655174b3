"""Two processes at once on one folder: at least one ends well, the other too or is refused, and
what they leave is whole.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from validation.faults.kills import SYSTEM, due_tree, generation, tree
from validation.faults.processes import cli, judge, start, watch
from validation.faults.runs import copy_run, finish, tensors, train

__all__ = ["trial"]

Record = dict[str, Any]
KINDS = (
    "train",
    "resume",
    "rollout",
    "evaluate",
    "train",
    "resume",
    "rollout",
    "evaluate",
    "check",
    "generate",
)


def trial(templates: Path, rng: np.random.Generator, number: int, folder: Path) -> Record:
    """The second begins up to half a second after the first."""
    which = KINDS[number % len(KINDS)]
    facts = json.loads((templates / "training.json").read_text())
    run, data, delay = (
        folder / "run",
        templates / "data2",
        float(rng.choice([0, 0, rng.uniform(0, 0.5)])),
    )
    again = train(data, run)
    if which == "train":
        words = again
    elif which == "check":
        from validation.faults.samples import write_sample

        words = ["data", "check", str(write_sample(folder / "data", 2)), "--write-statistics"]
    elif which != "generate":
        copy_run(templates / ("stopped2" if which == "resume" else "ended2"), run, data)
        words = ["train", "--resume", str(run)] if which == "resume" else [which, str(run)]

    processes = []
    for stem in ("one", "two"):
        if which == "generate":
            due_tree(templates)
            processes.append(generation(folder, folder / "root", stem, 1))
        else:
            processes.append(start(cli(words), folder, stem))
        time.sleep(delay)
    results = [watch(process, 150) for process in processes]
    ends = [judge(result, [str(folder)]) for result in results]
    record = {"kind": f"two {which}", "what": f"{delay:.2f} s apart: {ends[0][0]}, {ends[1][0]}"}
    for outcome, why in ends:
        if outcome not in ("ok", "warned", "refused"):
            return record | {"outcome": outcome, "why": why}
    if all(outcome == "refused" for outcome, _ in ends):
        return record | {"outcome": "both refused", "why": "; ".join(why for _, why in ends)}
    outcome, why = "ok", ""
    if which == "generate":
        if tree(folder / "root" / "tiny" / SYSTEM) != due_tree(templates):
            outcome, why = "other bytes", "the dataset is not that of a single process"
    elif which in ("train", "resume"):
        if tensors(run) != facts["digest"]:
            outcome, why = finish(again, run, facts["digest"], folder)
    elif which in ("rollout", "evaluate"):
        outcome, why = _whole(run)
    return record | {"outcome": outcome, "why": why}


def _whole(run: Path) -> tuple[str, str]:
    """Whether the files that an evaluation or a rollout leaves can be read, and nothing
    temporary stands beside them.
    """
    try:
        for path in run.glob("evaluation-*.json"):
            json.loads(path.read_text())
        for path in run.glob("rollout-*.hdf5"):
            with h5py.File(path, "r") as file:
                np.asarray(file["t0_fields"]["density"][()])
        for path in [*run.glob("*.png"), *run.glob("*.gif"), *run.glob("*.html")]:
            if path.stat().st_size < 100:
                raise ValueError(f"{path.name} is empty")
    except Exception as error:  # noqa: BLE001
        return "broken file", f"{path.name}: {error}"
    return (
        ("leftovers", ", ".join(p.name for p in run.glob(".*.tmp")))
        if any(run.glob(".*.tmp"))
        else ("ok", "")
    )
