"""The Euler solver against Clawpack's on periodic quadrants, gamma = 1.4.

Four blocks of constant state on the unit torus; t = 0.1, 0.3 and 0.6. Both codes on 64^2, 128^2 and
256^2 cells; relative L1 and L2 differences of (rho, rho u, rho v, E), and of each from Clawpack on
512^2. Shocks and contacts allow at most first order in L1 and half that in L2; slip lines roll up
and never converge pointwise. Clawpack compiles Fortran and needs an environment of its own:

    apt-get install -y gfortran
    python3 -m venv clawpack && clawpack/bin/pip install numpy meson-python meson ninja
    clawpack/bin/pip install clawpack==5.14.0

    clawpack/bin/python validation/euler_clawpack.py solve euler.npz
    python validation/euler_clawpack.py compare euler.npz results/validation/euler_clawpack.json
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

GRIDS = (64, 128, 256)
REFERENCE = 512
TIMES = (0.1, 0.3, 0.6)
GAMMA = 1.4
# Density, velocities and pressure of the blocks cut at x, y = 1/4 and 3/4.
BLOCKS = (
    ((1.0, 0.1, -0.3, 1.0), (0.4, -0.5, 0.2, 0.5)),
    ((0.6, 0.4, 0.5, 0.3), (1.5, -0.2, -0.4, 1.6)),
)


def problem(n: int) -> np.ndarray:
    """(rho, rho u, rho v, E) on n x n cells."""
    block = ((np.arange(n) + 0.5) / n > 0.25) & ((np.arange(n) + 0.5) / n < 0.75)
    rho, u, v, p = np.moveaxis(np.array(BLOCKS)[block.astype(int)][:, block.astype(int)], -1, 0)
    return np.stack([rho, rho * u, rho * v, p / (GAMMA - 1) + 0.5 * rho * (u**2 + v**2)])


def clawpack(n: int) -> np.ndarray:
    """States at the times, (3, 4, n, n), by the unsplit classic solver, Roe's solver and the MC
    limiter.
    """
    from clawpack import pyclaw, riemann

    solver = pyclaw.ClawSolver2D(riemann.euler_4wave_2D)
    solver.limiters = pyclaw.limiters.tvd.MC
    solver.all_bcs = pyclaw.BC.periodic
    domain = pyclaw.Domain([0.0, 0.0], [1.0, 1.0], [n, n])
    state = pyclaw.State(domain, 4)
    state.problem_data["gamma"] = GAMMA
    state.q[:] = problem(n)
    run = pyclaw.Controller()
    run.solution, run.solver = pyclaw.Solution(state, domain), solver
    run.output_style, run.out_times = 2, [0.0, *TIMES]
    run.keep_copy, run.output_format, run.verbosity = True, None, 0
    run.run()
    return np.stack([frame.q for frame in run.frames[1:]])


def wavelit(n: int) -> np.ndarray:
    """The same by `wavelit.data.pocketwell.euler`."""
    import torch

    from wavelit.data.pocketwell.euler import Euler

    periodic = (("periodic", "periodic"), ("periodic", "periodic"))
    gas = Euler(GAMMA, (1 / n, 1 / n), periodic)
    return gas.solve(torch.from_numpy(problem(n))[None], TIMES)[0].numpy()


def differences(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Over the fields, after dividing each by its mean magnitude."""
    scale = np.abs(b).mean((-2, -1), keepdims=True)
    e, b = (a - b) / scale, b / scale
    return {
        "L1": float(np.abs(e).mean() / np.abs(b).mean()),
        "L2": float(np.sqrt((e**2).mean() / (b**2).mean())),
    }


def coarsened(fine: np.ndarray, n: int) -> np.ndarray:
    """Means over the cells of the n x n grid."""
    k = fine.shape[-1] // n
    return fine.reshape(4, n, k, n, k).mean((2, 4))


def compare(theirs: Path, report: Path) -> None:
    with np.load(theirs) as stored:
        solutions = {int(name): stored[name] for name in stored.files if name.isdigit()}
        release = str(stored["clawpack"])
    rows = []
    for n in GRIDS:
        ours = wavelit(n)
        for i, time in enumerate(TIMES):
            reference = coarsened(solutions[REFERENCE][i], n)
            rows.append(
                {
                    "cells": n,
                    "time": time,
                    "wavelit_from_clawpack": differences(ours[i], solutions[n][i]),
                    "wavelit_from_reference": differences(ours[i], reference),
                    "clawpack_from_reference": differences(solutions[n][i], reference),
                }
            )
            print(rows[-1])
    versions = {name: version(name) for name in ("wavelit", "torch", "numpy")} | {
        "clawpack": release
    }
    record = {
        "command": "python validation/euler_clawpack.py compare <clawpack's npz> <this file>",
        "versions": versions,
        "measure": (
            f"relative differences of the four fields; reference: clawpack, {REFERENCE}^2 cells"
        ),
        "rows": rows,
    }
    report.write_text(json.dumps(record, indent=2) + "\n", encoding="utf8")


if __name__ == "__main__":
    if sys.argv[1] == "solve":
        results = {str(n): clawpack(n) for n in (*GRIDS, REFERENCE)}
        np.savez(sys.argv[2], clawpack=version("clawpack"), **results)
    else:
        compare(Path(sys.argv[2]), Path(sys.argv[3]))
