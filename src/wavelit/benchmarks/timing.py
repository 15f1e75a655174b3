"""Timing that survives a noisy machine: the cases take turns, the figure is a median, and ratios
are formed within a run.

A slow moment then hits all cases alike. Every row of a result carries what it was measured with.
"""

from __future__ import annotations

import csv
import os
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

import wavelit
from wavelit.checks.arguments import require_whole, shown
from wavelit.errors import WavelitError
from wavelit.files.atomic import atomic_path

__all__ = ["Row", "environment", "medians", "peak_memory", "reset_peak_memory", "write_rows"]

Row = dict[str, str | int | float]


def medians(
    cases: Mapping[str, Callable[[], object]], rounds: int = 7, warm_up: int = 2
) -> dict[str, float]:
    """Median seconds of a call of each case, over rounds that visit all of them in turn.

    Raises:
        WavelitError: No case or round.
    """
    require_whole("rounds", rounds)
    require_whole("warm_up", warm_up, 0)
    if not isinstance(cases, Mapping) or not cases or not all(map(callable, cases.values())):
        raise WavelitError(f"cases must be functions by name, at least one, not {shown(cases)}")
    times: dict[str, list[float]] = {name: [] for name in cases}
    for index in range(rounds + warm_up):
        for name, call in cases.items():
            start = time.perf_counter()
            call()
            if index >= warm_up:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def environment() -> Row:
    """What a figure depends on beside the code under test."""
    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude", "*"],
        capture_output=True,
        text=True,
        check=False,
        cwd=here,
    )
    return {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "wavelit": wavelit.__version__,
        "commit": commit.stdout.strip(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
    }


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """A CSV of rows that all have the first one's columns, whole or absent.

    Raises:
        WavelitError: No rows, or one of other columns.
    """
    if not rows or any(row.keys() != rows[0].keys() for row in rows):
        raise WavelitError(
            f"rows of {path}: expected at least one, all of the same columns, got "
            f"{shown(list(rows))}"
        )
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def reset_peak_memory() -> None:
    """Let `peak_memory` count from now; without effect outside Linux."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        # Unlike getrusage's figure, which a new process takes over from its parent, this one can be
        # reset.
        clear.write_text("5", encoding="utf8")


def peak_memory() -> float:
    """The largest resident size since the last reset, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf8").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
