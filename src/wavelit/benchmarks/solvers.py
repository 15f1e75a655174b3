"""A rollout beside the classical solver that made the data: seconds of computing per unit of
simulated time, on one thread.

The solver's time is that of one of its own batches over the whole record, from the initial state to
the last snapshot, over that time and the batch. The emulator's is a step of a rollout of the same
batch, over the interval between snapshots; it does not depend on the weights, so an untrained model
is timed. helmholtz_staircase is no time-stepper: its solver finds the whole record at once; its
unit of time is a period.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch

from wavelit.benchmarks.timing import Row, medians
from wavelit.checks.arguments import require_name, require_names, require_whole
from wavelit.data.pocketwell import SYSTEMS, System
from wavelit.model.config import PRESETS, WaveLiTConfig
from wavelit.model.wavelit import WaveLiT

__all__ = ["measure"]

HISTORY = 4


def measure(
    systems: tuple[str, ...] = tuple(SYSTEMS),
    size: str = "small",
    preset: str = "nano",
    rounds: int = 5,
) -> list[Row]:
    """Seconds per unit of simulated time of solver and emulator, for every system.

    Raises:
        WavelitError: An unknown system, size or preset, or no round.
    """
    for name in require_names("systems", systems):
        require_name("size", size, SYSTEMS[require_name("system", name, SYSTEMS)].shapes)
    require_name("preset", preset, PRESETS)
    require_whole("rounds", rounds)
    rows: list[Row] = []
    for name in systems:
        system = SYSTEMS[name]
        shape = system.shapes[size]
        times = system.times(shape, system.size(size).n_snapshots)
        solver, n_fields, n_constants = _solver(system, shape, times, rounds)
        step = _emulator(system, shape, preset, n_fields, n_constants, rounds)
        interval = float(times[1] - times[0])
        simulated = float(times[-1])
        rows.append(
            {
                "system": name,
                "grid": "x".join(map(str, shape)),
                "batch": system.batch,
                "preset": preset,
                "interval": round(interval, 4),
                "solver_s_per_time": float(f"{solver / simulated:.4g}"),
                "emulator_s_per_time": float(f"{step / interval:.4g}"),
                "speed_up": float(f"{solver / simulated / (step / interval):.3g}"),
                "rounds": rounds,
            }
        )
    return rows


def _solver(
    system: System, shape: tuple[int, ...], times: np.ndarray, rounds: int
) -> tuple[float, int, int]:
    """Median seconds a trajectory, and the channels of fields and of constant fields."""
    seconds = []
    for _ in range(rounds):
        rngs = [np.random.default_rng(number) for number in range(system.batch)]
        start = time.perf_counter()
        solved = system.simulate(shape, times, system.parameters[0], rngs)
        seconds.append((time.perf_counter() - start) / system.batch)
    per_point = system.batch * int(np.prod(shape))
    n_fields = sum(field.size for field in solved.fields.values()) // (per_point * len(times))
    n_constants = sum(field.size for field in solved.constant_fields.values()) // per_point
    return statistics.median(seconds), n_fields, n_constants


def _emulator(
    system: System,
    shape: tuple[int, ...],
    preset: str,
    n_fields: int,
    n_constants: int,
    rounds: int,
) -> float:
    """Median seconds of a step and trajectory."""
    config = WaveLiTConfig.preset(
        preset,
        n_fields=n_fields,
        n_constant_fields=n_constants,
        n_scalars=len(system.parameters[0]),
        spatial=len(shape),
        boundary_conditions=system.boundary_conditions,
    )
    model = WaveLiT(config).eval()
    fields = torch.randn(system.batch, HISTORY, n_fields, *shape)
    constants = torch.randn(system.batch, n_constants, *shape) if n_constants else None
    scalars = torch.rand(system.batch, config.n_scalars) if config.n_scalars else None
    with torch.no_grad():
        step = medians({"step": lambda: model(fields, constants, scalars)}, rounds)["step"]
    return step / system.batch
