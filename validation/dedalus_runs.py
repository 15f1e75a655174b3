"""What the comparisons with Dedalus share: the runs in its own environment, the differences, the
record.

    apt-get install libopenmpi-dev openmpi-bin libfftw3-mpi-dev libfftw3-dev
    python -m venv dedalus && CC=mpicc dedalus/bin/pip install dedalus
    OMP_NUM_THREADS=1 python validation/NAME_dedalus.py dedalus/bin/python

A script starts itself in Dedalus's Python as `script --dedalus STEP RESULT.npz [ARGUMENTS]`.
"""

from __future__ import annotations

import json
import platform
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent.parent / "results" / "validation"


def dedalus_runs(python, script, steps, *arguments, start=None):
    """{dt: arrays that the script has stored}; `start` are arrays for the script to read, its
    last argument.
    """
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        if start is not None:
            np.savez(f"{folder}/start.npz", **start)
            arguments = (*arguments, f"{folder}/start.npz")
        for dt in steps:
            path = f"{folder}/{dt}.npz"
            subprocess.run(
                [python, script, "--dedalus", str(dt), path, *map(str, arguments)], check=True
            )
            with np.load(path) as stored:
                runs[dt] = {key: stored[key] for key in stored.files}
    return runs


def march(solver, dt, moments, fields):
    """Dedalus's solver through the moments: the fields' values, (moments, components, nx, ny),
    and seconds.
    """
    found = []
    begin = time.perf_counter()
    for moment in moments:
        while solver.sim_time < moment - dt / 2:
            solver.step(dt)
        values = []
        for field, scale in fields:
            field.change_scales(scale)
            values.append(field["g"].reshape(-1, *field["g"].shape[-2:]))
        found.append(np.concatenate(values))
    return np.stack(found), time.perf_counter() - begin


def difference(a, b, moments, names, weight=1.0):
    """|a - b| / |b - mean b| per moment and field of (moments, fields, nx, ny); weighted means
    taken off.
    """
    weight = np.broadcast_to(weight, a.shape[-2:])
    weight = weight / weight.sum()

    def mean(v):
        return (v * weight).sum((-2, -1), keepdims=True)

    # The pressures' zero differs by how the integral is taken.
    a, b = a - mean(a), b - mean(b)
    values = np.sqrt(mean((a - b) ** 2) / mean(b**2))[..., 0, 0]
    return {
        f"t={moment:g}": {name: float(f"{v:.3g}") for name, v in zip(names, row, strict=True)}
        for moment, row in zip(moments, values, strict=True)
    }


def chebyshev_weights(n):
    """Heights of the cells around Chebyshev's roots."""
    return np.sin(np.pi * (np.arange(n) + 0.5) / n)


def record(name, setting, version):
    """The head of a record."""
    return {
        "command": f"OMP_NUM_THREADS=1 python validation/{name}.py dedalus/bin/python",
        "setting": setting,
        "versions": {
            "dedalus": str(version),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": platform.machine(),
    }


def write(name, found):
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=2) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf8")
    print(text)
