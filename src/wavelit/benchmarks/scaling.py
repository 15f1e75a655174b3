"""Time and memory of a prediction against the number N of grid points, from 64^2 to 1024^2: slopes
of their logarithms.

Memory is that of `wavelit.benchmarks.inference`. The slope is by least squares over all sides; the
last one, between the two largest grids, is given too: small grids are dominated by the cost of
dispatch.
"""

from __future__ import annotations

import math

import numpy as np

from wavelit.benchmarks.inference import fresh_memory, prediction
from wavelit.benchmarks.timing import Row, medians
from wavelit.checks.arguments import require_name, require_whole, shown
from wavelit.errors import WavelitError
from wavelit.model.config import PRESETS

__all__ = ["exponent", "measure"]

SIDES = (64, 128, 256, 512, 1024)


def exponent(sizes: list[float], costs: list[float]) -> float:
    """Slope of log cost over log size.

    Raises:
        WavelitError: Fewer than two of each, or one that is not positive.
    """
    if len(sizes) != len(costs) or len(sizes) < 2 or not all(x > 0 for x in (*sizes, *costs)):
        raise WavelitError(
            f"sizes and costs must be two positive numbers each or more, not {shown(sizes)} and "
            f"{shown(costs)}"
        )
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def measure(sides: tuple[int, ...] = SIDES, preset: str = "nano", rounds: int = 5) -> list[Row]:
    """Milliseconds and megabytes on every grid, and the exponents in the number of points.

    Raises:
        WavelitError: Fewer than two grids, an unknown preset, or no round.
    """
    require_name("preset", preset, PRESETS)
    require_whole("rounds", rounds)
    if not isinstance(sides, list | tuple) or len(sides) < 2:
        raise WavelitError(f"sides must be those of two grids or more, not {shown(sides)}")
    for side in sides:
        require_whole("sides", side)
    sizes = [float(side * side) for side in sides]
    times = [medians({"predict": prediction(preset, side)}, rounds)["predict"] for side in sides]
    memory = [fresh_memory(preset, side) for side in sides]
    # A small grid needs no memory that the process did not hold already.
    grown = [(n, m) for n, m in zip(sizes, memory, strict=True) if m > 1]
    rows: list[Row] = []
    for i, side in enumerate(sides):
        last = (
            math.log(times[i] / times[i - 1]) / math.log(sizes[i] / sizes[i - 1]) if i else math.nan
        )
        rows.append(
            {
                "preset": preset,
                "side": side,
                "ms": round(times[i] * 1e3, 2),
                "memory_mb": round(memory[i], 1),
                "exponent_since_last": round(last, 3),
                "exponent_of_time": round(exponent(sizes, times), 3),
                "exponent_of_memory": round(exponent(*map(list, zip(*grown, strict=True))), 3),
                "rounds": rounds,
            }
        )
    return rows
