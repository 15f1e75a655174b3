"""The acoustics solver against Clawpack's in a smooth variable medium.

A Gaussian pulse in [-1, 1]^2, K = 4, rho = 3 + 1.5 sin(pi x) cos(pi y); x sides reflect, y sides
are open; t = 1.5. Both codes on 64^2, 128^2 and 256^2 cells; relative L2 differences of (p, u, v),
and of each from Clawpack on 512^2. Clawpack compiles Fortran and needs an environment of its own:

    apt-get install -y gfortran
    python3 -m venv clawpack && clawpack/bin/pip install numpy meson-python meson ninja
    clawpack/bin/pip install clawpack==5.14.0

    clawpack/bin/python validation/acoustics_clawpack.py solve acoustics.npz python
    validation/acoustics_clawpack.py compare acoustics.npz
    results/validation/acoustics_clawpack.json
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

GRIDS = (64, 128, 256)
REFERENCE = 512
TIME, BULK_MODULUS = 1.5, 4.0


def problem(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Density and initial pressure on n x n cells."""
    c = (np.arange(n) + 0.5) * 2 / n - 1
    x, y = c[:, None], c[None, :]
    density = 3 + 1.5 * np.sin(np.pi * x) * np.cos(np.pi * y)
    return density, np.exp(-((x + 0.2) ** 2 + (y - 0.1) ** 2) / 0.15**2)


def clawpack(n: int) -> np.ndarray:
    """(p, u, v) at the end, (3, n, n), by the unsplit classic solver with the MC limiter."""
    from clawpack import pyclaw, riemann

    solver = pyclaw.ClawSolver2D(riemann.vc_acoustics_2D)
    solver.limiters = pyclaw.limiters.tvd.MC
    solver.dimensional_split = False
    for side in (solver.bc_lower, solver.bc_upper, solver.aux_bc_lower, solver.aux_bc_upper):
        side[0], side[1] = pyclaw.BC.wall, pyclaw.BC.extrap
    domain = pyclaw.Domain([-1.0, -1.0], [1.0, 1.0], [n, n])
    state = pyclaw.State(domain, 3, 2)
    density, pressure = problem(n)
    state.aux[0], state.aux[1] = density, np.sqrt(BULK_MODULUS / density)
    state.q[:] = 0.0
    state.q[0] = pressure
    run = pyclaw.Controller()
    run.solution, run.solver = pyclaw.Solution(state, domain), solver
    run.tfinal, run.num_output_times = TIME, 1
    run.keep_copy, run.output_format, run.verbosity = True, None, 0
    run.run()
    return run.frames[-1].q.copy()


def wavelit(n: int) -> np.ndarray:
    """The same by `wavelit.data.pocketwell.acoustics`."""
    import torch

    from wavelit.data.pocketwell.acoustics import Acoustics

    density, pressure = problem(n)
    state = torch.zeros(1, 3, n, n, dtype=torch.float64)
    state[0, 0] = torch.from_numpy(pressure)
    sides = (("wall", "wall"), ("open", "open"))
    solver = Acoustics(torch.from_numpy(density)[None], BULK_MODULUS, (2 / n, 2 / n), sides)
    return solver.solve(state, [TIME])[0, 0].numpy()


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def coarsened(fine: np.ndarray, n: int) -> np.ndarray:
    """Means over the cells of the n x n grid."""
    k = fine.shape[-1] // n
    return fine.reshape(3, n, k, n, k).mean((2, 4))


def compare(theirs: Path, report: Path) -> None:
    with np.load(theirs) as stored:
        solutions = {int(name): stored[name] for name in stored.files if name.isdigit()}
        release = str(stored["clawpack"])
    rows = []
    for n in GRIDS:
        ours, reference = wavelit(n), coarsened(solutions[REFERENCE], n)
        rows.append(
            {
                "cells": n,
                "wavelit_from_clawpack": difference(ours, solutions[n]),
                "wavelit_from_reference": difference(ours, reference),
                "clawpack_from_reference": difference(solutions[n], reference),
            }
        )
        print(rows[-1])
    versions = {name: version(name) for name in ("wavelit", "torch", "numpy")} | {
        "clawpack": release
    }
    record = {
        "command": "python validation/acoustics_clawpack.py compare <clawpack's npz> <this file>",
        "versions": versions,
        "measure": (
            f"relative L2 difference of (p, u, v) at t = {TIME}; reference: clawpack, {REFERENCE}^2"
        ),
        "rows": rows,
    }
    report.write_text(json.dumps(record, indent=2) + "\n", encoding="utf8")
    assert rows[1]["wavelit_from_clawpack"] < 0.06


if __name__ == "__main__":
    if sys.argv[1] == "solve":
        results = {str(n): clawpack(n) for n in (*GRIDS, REFERENCE)}
        np.savez(sys.argv[2], clawpack=version("clawpack"), **results)
    else:
        compare(Path(sys.argv[2]), Path(sys.argv[3]))
