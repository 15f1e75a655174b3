"""Seconds from nothing: `wavelit --help`, and what `import wavelit` costs beyond `import torch`.

Every figure is the median over processes of their own, which take turns. The help is the console
script's function in a fresh interpreter, whole process; the imports are timed inside theirs. The
targets are 0.5 s and 2 s.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from wavelit.benchmarks.timing import Row

__all__ = ["measure"]

HELP = "from wavelit.cli.program import main; main(['--help'])"
IMPORT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
NAMES = (
    "import time; start = time.perf_counter(); import torch, wavelit; [getattr(wavelit, name) for "
    "name in {}]; print(time.perf_counter() - start)"
)
PROCESSES = 5


def measure() -> list[Row]:
    """Median, smallest and largest seconds of each case."""
    return _rows(PROCESSES)


def _rows(n_processes: int) -> list[Row]:
    cases: dict[str, list[float]] = {
        "wavelit --help": [],
        "import wavelit, beyond import torch": [],
        "wavelit.load and rollout, beyond import torch": [],
        "all of wavelit's names, beyond import torch": [],
        "import torch": [],
    }
    for _ in range(n_processes):
        seconds, torch_seconds = _whole(HELP), _inside(IMPORT.format("torch"))
        rest = [
            _inside(code) - torch_seconds
            for code in (
                IMPORT.format("torch, wavelit"),
                NAMES.format(("load", "rollout")),
                NAMES.format("wavelit.__all__"),
            )
        ]
        values = (seconds, *rest, torch_seconds)
        for case, value in zip(cases.values(), values, strict=True):
            case.append(value)
    return [
        {
            "case": name,
            "seconds": round(statistics.median(values), 3),
            "smallest": round(min(values), 3),
            "largest": round(max(values), 3),
            "processes": n_processes,
        }
        for name, values in cases.items()
    ]


def _whole(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - start


def _inside(code: str) -> float:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout)
