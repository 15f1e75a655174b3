"""Which stages there are, and what is asked of them."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from validation.gpu import agreement, full_maze, profile, throughput
from validation.gpu.models import Size

__all__ = ["STAGES", "main"]


# Where tests that need CUDA are: what else is collected imports more than such a machine has.
MARKED = ("tests/test_given.py", "tests/test_model.py")


def tests(size: Size) -> dict[str, Any]:
    """The tests that need CUDA."""
    if size.device == "cpu":
        return {"skipped": "there is no CUDA device"}
    try:
        import h5py  # noqa: F401
        import pytest  # noqa: F401
        import the_well  # noqa: F401
    except ImportError as error:
        return {"skipped": f"{error.name} is not installed"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *MARKED], capture_output=True, text=True, check=False)
    tail = done.stdout.splitlines()[-5:]
    if done.returncode:
        raise RuntimeError("\n".join([f"pytest ended with status {done.returncode}", *tail]))
    return {"tail": tail}


STAGES: dict[str, Callable[[Size], dict[str, Any]]] = {
    "agreement": agreement.measure,
    "throughput": throughput.measure,
    "profile": profile.measure,
    "tests": tests,
    "maze": full_maze.measure,
}


def environment(device: str) -> dict[str, Any]:
    """What the figures depend on."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    found: dict[str, Any] = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or os.environ.get("COMMIT"),
        "device": "cpu",
    }
    if device != "cpu":
        card = torch.cuda.get_device_properties(device)
        found |= {
            "device": card.name,
            "gigabytes": round(card.total_memory / 1e9, 1),
            "cuda": torch.version.cuda,
            "capability": f"{card.major}.{card.minor}",
        }
    return found


def main(words: Sequence[str]) -> int:
    """Run what is missing, every stage in a process of its own: one that fails leaves the device
    and their time to the others. The data of the last are simulated meanwhile. The status is 1 if
    one failed; its file says why.
    """
    parser = argparse.ArgumentParser(prog="validation.gpu")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--output", type=Path, default=Path("results/gpu"))
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--seconds", type=float, default=360, help="of the longest stage")
    parser.add_argument("--short", action="store_true", help="small grids and few steps")
    parser.add_argument("--again", action="store_true", help="run what is there once more")
    parser.add_argument("--alone", choices=list(STAGES), help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --device cpu --short rehearses")
    options.output.mkdir(parents=True, exist_ok=True)
    size = Size(options.device, options.short, options.seconds, options.output)
    if options.alone is not None:
        _write(options.output, options.alone, STAGES[options.alone](size), options.device)
        return 0
    missing = [stage for stage in options.stages if options.again or not _is_there(size, stage)]
    data = full_maze.prepare(size) if "maze" in missing else None
    failed = 0
    for stage in missing:
        path = options.output / f"{stage}.json"
        if stage == "maze" and data is not None:
            data.wait()
        began = time.perf_counter()
        command = [sys.executable, "-m", "validation.gpu", *words, "--alone", stage]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            failure = {"status": done.returncode, "failure": done.stderr.splitlines()[-12:]}
            _write(options.output, stage, failure, options.device)
            failed = 1
        print(f"{path}: {time.perf_counter() - began:.0f} s", flush=True)
    return failed


def _is_there(size: Size, stage: str) -> bool:
    """Whether a stage has its result, or had no way to one."""
    path = size.output / f"{stage}.json"
    if not path.exists():
        return False
    found = json.loads(path.read_text())
    whole = not {"failure", "unfinished"} & found.keys()
    if whole:
        print(f"{path} is there", flush=True)
    return whole


def _write(output: Path, stage: str, found: dict[str, Any], device: str) -> None:
    path = output / f"{stage}.json"
    temporary = path.with_suffix(".tmp")
    result = {"stage": stage, **environment(device), **found}
    temporary.write_text(json.dumps(result, indent=1) + "\n")
    temporary.replace(path)
