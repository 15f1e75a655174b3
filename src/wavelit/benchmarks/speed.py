"""The parts of `wavelit benchmark speed`, each a function from no arguments to rows, and the CSV
they are written to.

A part is measured in the calling process, on one thread unless told otherwise. Parts that compare
with The Well's models need the extra `baselines`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import torch

from wavelit.allocator import keep_freed_memory
from wavelit.benchmarks.timing import Row, environment, write_rows
from wavelit.checks.arguments import (
    most_threads,
    require_name,
    require_path,
    require_whole,
    shown,
)
from wavelit.errors import WavelitError

__all__ = ["PARTS", "run"]

PARTS: dict[str, str] = {
    "reader": "samples a second beside The Well's reader",
    "transforms": "wavelet transforms beside ptwt and a copy of the bytes",
    "training": "a training step beside The Well's models (extra baselines)",
    "compiled": "a training step through torch.compile beside eager",
    "inference": "a prediction and its memory beside CNextU-Net (extra baselines)",
    "scaling": "time and memory against the number of grid points",
    "solvers": "a rollout beside the classical solver that made the data",
    "startup": "wavelit --help and import wavelit",
}
"""The parts, in modules of this package of the same names, each with a function `measure() ->
list[Row]`.
"""


def run(
    parts: Sequence[str],
    output: str | Path = "results/speed",
    threads: int = 1,
    keep_memory: bool = True,
) -> list[Path]:
    """Measure parts and write <output>/<part>.csv of each.

    Args:
        parts: keys of `PARTS`; all if there are none.
        output: folder of the CSV files.
        threads: CPU threads.
        keep_memory: let the allocator keep what is freed, for all that is compared, as the command
            line does elsewhere.

    Raises:
        WavelitError: unknown part, or a part's extra is not installed.
    """
    if not isinstance(parts, list | tuple):
        raise WavelitError(f"parts must be a list of names, not {shown(parts)}")
    for part in parts:
        require_name("part", part, PARTS)
    require_whole("threads", threads, high=most_threads())
    output = require_path("output", output)
    torch.set_num_threads(threads)
    if keep_memory:
        keep_freed_memory()
    written = []
    for part in parts or PARTS:
        try:
            module = importlib.import_module(f"wavelit.benchmarks.{part}")
        except ImportError as error:
            raise WavelitError(f"the part '{part}' needs the extra `baselines`: {error}") from error
        rows: list[Row] = module.measure()
        path = output / f"{part}.csv"
        write_rows(path, [{**row, **environment()} for row in rows])
        written.append(path)
    return written
