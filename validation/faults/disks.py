"""Full and read-only disks: small tmpfs mounts, seen by the trial alone, or made-up errors where
mounting is not allowed.

What fails must say so in one line that names a file; once there is room, the same command must end
well, and a training with the weights of the run that had room from the start.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from validation.faults.damage import choose
from validation.faults.hooks import install
from validation.faults.processes import cli, judge, start, watch
from validation.faults.runs import copy_run, finish, generation_words, train
from validation.faults.samples import write_sample

__all__ = ["private_mounts", "remount", "tmpfs", "trial"]

Record = dict[str, Any]
CLONE_NEWNS, MS_RDONLY, MS_REMOUNT, MS_REC, MS_PRIVATE = 0x20000, 1, 32, 16384, 1 << 18
UNMOUNTED = "WAVELIT_FAULTS_UNMOUNTED"
COMMANDS = ("train", "train", "resume", "evaluate", "rollout", "check", "write_dataset", "generate")
# Bytes that a command writes, about.
SIZES = {
    "train": 500_000,
    "resume": 400_000,
    "evaluate": 400_000,
    "rollout": 300_000,
    "check": 6_000,
}


@cache
def private_mounts() -> bool:
    """Give this process its own view of mounts, which ends with it; whether that is allowed."""
    if os.environ.get(UNMOUNTED):
        return False
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return (
            libc.unshare(CLONE_NEWNS) == 0
            and libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0
        )
    except (OSError, AttributeError):
        return False


def tmpfs(folder: Path, size: int) -> None:
    """Mount a disk of so many bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount(b"tmpfs", folder, 0, size)


def remount(folder: Path, size: int, read_only: bool = False) -> None:
    """Give a mounted disk another size."""
    _mount(None, folder, MS_REMOUNT | (MS_RDONLY if read_only else 0), size)


def _mount(kind: bytes | None, folder: Path, flags: int, size: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", os.fsencode(folder), kind, flags, f"size={size}".encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(folder))


def trial(templates: Path, rng: np.random.Generator, number: int, folder: Path) -> Record:
    """Commands take turns; every fourth disk is read-only, every second one holds the temporary
    folder too.
    """
    which = COMMANDS[number % len(COMMANDS)]
    facts = json.loads((templates / "training.json").read_text())
    disk, mounted = folder / "disk", private_mounts()
    read_only = mounted and number % 4 == 3
    if mounted:
        tmpfs(disk, 2**28)
    disk.mkdir(exist_ok=True)
    run, words = disk / "run", _prepare(templates, which, disk)
    environment = {}
    if rng.random() < 0.5:
        (disk / "tmp").mkdir()
        environment["TMPDIR"] = str(disk / "tmp")
    if mounted:
        used = shutil.disk_usage(disk).used
        room = int(max(0.0, rng.uniform(-0.2, 1)) * SIZES.get(which, 400_000))
        # A size of 0 would be no limit.
        remount(disk, max(4096, used + room), read_only)
        what = f"{which}, read-only" if read_only else f"{which}, {room} bytes free"
    else:
        at, place = int(rng.integers(1, 40)), choose(rng, ("before", "half"))
        what = f"{which}, made-up error {place} operation {at}"
    what += ", with TMPDIR" if environment else ""

    def full() -> int:
        if not mounted:
            install(at, "full", place)
        return _dataset(disk) if which == "write_dataset" else cli(words)()

    result = watch(start(full, folder, **environment), 120)
    record = {
        "kind": f"{which}, {'read-only' if read_only else 'full' if mounted else 'made up'}",
        "what": what,
    }
    outcome, why = judge(result, [str(disk)])
    if outcome not in ("ok", "warned", "refused"):
        # Whether the run is lost as well is told beside it.
        record |= {"outcome": outcome, "why": why}
    if mounted:
        remount(disk, 2**28)
    after = ("ok", "")
    if which in ("train", "resume"):
        if not (run / "weights" / "model.safetensors").exists() or outcome not in ("ok", "warned"):
            after = finish(
                train(templates / "data2", run), run, facts["digest"], folder, **environment
            )
    elif outcome not in ("ok", "warned"):
        once_more = (lambda: _dataset(disk)) if which == "write_dataset" else cli(words)
        result = watch(start(once_more, folder, "again", **environment), 120)
        after = judge(result, [str(disk)])
        if after[0] == "refused":
            after = ("lost", after[1])
    if after[0] not in ("ok", "warned") and (
        outcome in ("ok", "warned", "refused") or after[0] == "lost"
    ):
        return record | {
            "outcome": after[0],
            "why": f"after freeing: {after[1]}; before: {outcome}, {why}",
        }
    return record | {"outcome": outcome, "why": why}


def _prepare(templates: Path, which: str, disk: Path) -> list[str]:
    """What the command needs on the disk, and its words."""
    data, run = templates / "data2", disk / "run"
    if which == "train":
        return train(data, run)
    if which in ("resume", "evaluate", "rollout"):
        copy_run(templates / ("stopped2" if which == "resume" else "ended2"), run, data)
        return {
            "resume": ["train", "--resume", str(run)],
            "evaluate": ["evaluate", str(run)],
            "rollout": ["rollout", str(run)],
        }[which]
    if which == "check":
        # Full of the dataset itself: room for the new stats.yaml is what is left.
        write_sample(disk / "data", 2)
        return ["data", "check", str(disk / "data"), "--write-statistics"]
    if which == "generate":
        return generation_words(disk / "root")
    return []


def _dataset(disk: Path) -> int:
    """`write_dataset` as a program would call it, an error of the package as the command line
    shows it.
    """
    import sys

    from wavelit import WavelitError, write_dataset

    fields = {"u": np.random.default_rng(0).standard_normal((6, 10, 32, 32))}
    try:
        splits = {"train": 4, "valid": 1, "test": 1}
        write_dataset(
            disk / "made",
            fields,
            splits=splits,
            name="made",
            boundary_conditions=["periodic", "wall"],
        )
    except (WavelitError, OSError) as error:
        # A function may pass the system's own error on, if it names what the caller named.
        print(f"wavelit: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0
