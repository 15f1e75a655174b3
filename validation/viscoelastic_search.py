"""Which flows of viscoelastic_instability last: runs over parameters, starts and resolutions.

    OMP_NUM_THREADS=1 python validation/viscoelastic_search.py            all rows, in order
    OMP_NUM_THREADS=1 python validation/viscoelastic_search.py NAME ...   these rows

Every row is written to results/validation/viscoelastic_search.json when it ends, in the place of an
older one of its name. Starts:

- waves: laminar flow and the system's own Orr-Sommerfeld waves (seed 0), times `size`; - stress:
laminar flow, and log C shaken by smooth waves of 1 to 4 periods, `size` at most each; - centre:
laminar flow and the least stable wave of the whole linear problem that travels at 0.9 or more, with
  log C changed by `size` at its largest; its growth rate is recorded;
- a Weissenberg number from which it is raised linearly between two times ("ramp": Wi, from, until).

Recorded at six times: rms of v, of its part of one period, and of log C's waves (m); largest tr C /
L^2. Tails are the amplitudes of the last tenth of the wave numbers along x and of the polynomials
along y, in the waves (k >= 1) of u, v, m, p, q: the largest in the last half of the run. The rate
is that of rms v over the last third of the run: "lasts" above -0.001 a unit of time, "fades" above
-0.01, "decays" below.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch

from wavelit.data.pocketwell.system import SolverDivergedError
from wavelit.data.pocketwell.viscoelastic_instability import (
    PIECE,
    SOLVED,
    Fluid,
    Viscoelastic,
    initial_state,
    laminar_flow,
)

RESULT = Path(__file__).parent.parent / "results" / "validation" / "viscoelastic_search.json"
# The set's own points.
REFERENCE = tuple(round(64 * share) for share in SOLVED)
FIELDS = ("u", "v", "m", "p", "q")
# Name: Reynolds, Weissenberg, epsilon, points, start, size, until, ramp.
ROWS = {
    "Re6000-Wi4-48x36": (6000, 4, 2e-3, (48, 36), "waves", 1, 60, None),
    "Re6000-Wi4-64x64": (6000, 4, 2e-3, (64, 64), "waves", 1, 60, None),
    "Re6000-Wi4-96x72": (6000, 4, 2e-3, (96, 72), "waves", 1, 60, None),
    "Re6000-Wi4-64x48": (6000, 4, 2e-3, (64, 48), "waves", 1, 180, None),
    "Re6000-Wi20-64x48": (6000, 20, 2e-3, (64, 48), "waves", 1, 90, None),
    "Re5000-Wi4-64x64": (5000, 4, 2e-3, (64, 64), "waves", 1, 90, None),
    "Re4000-Wi4-64x64": (4000, 4, 2e-3, (64, 64), "waves", 1, 90, None),
    "Re3000-Wi4-64x64": (3000, 4, 2e-3, (64, 64), "waves", 1, 60, None),
    "Re6000-ramp4to20-96x96": (6000, 20, 2e-3, (96, 96), "waves", 1, 90, (4, 20, 50)),
    "Re6000-ramp4to50-96x96": (6000, 50, 1e-3, (96, 96), "waves", 1, 150, (4, 20, 50)),
    "Re3000-ramp4to20-96x96": (3000, 20, 1e-3, (96, 96), "waves", 1, 60, (4, 6, 30)),
    "Re1000-Wi20-waves-96x96": (1000, 20, 1e-3, (96, 96), "waves", 2, 60, None),
    "Re1000-Wi20-stress-96x96": (1000, 20, 1e-3, (96, 96), "stress", 0.1, 60, None),
    "Re1000-Wi50-waves-96x96": (1000, 50, 5e-4, (96, 96), "waves", 1, 60, None),
    "Re1000-Wi50-centre-96x96": (1000, 50, 1e-3, (96, 96), "centre", 1, 90, None),
    "Re1000-Wi50-centre-128x128": (1000, 50, 2e-4, (128, 128), "centre", 2, 60, None),
    "Re60-Wi40-centre-128x128": (60, 40, 2e-4, (128, 128), "centre", 1, 50, None),
}


def waves(flow, size):
    """The system's waves as they are on its own points, so that the start is one at every
    resolution.
    """
    reference = Viscoelastic(REFERENCE, flow.fluid)
    x = laminar_flow(flow.channel, flow.fluid)
    wave = initial_state(reference, np.random.default_rng(0))[:2, :, 1:3]
    parts = torch.view_as_real(wave).flatten(-2)
    moved = reference.channel.at(flow.channel.z) @ parts
    x[:2, :, 1:3] += size * torch.view_as_complex(moved.reshape(2, -1, 2, 2))
    return x, {}


def stress(flow, size):
    x, rng = laminar_flow(flow.channel, flow.fluid), np.random.default_rng(0)
    y = flow.channel.z
    for k in range(1, 5):
        for degree in range(1, 5):
            phase = np.exp(2j * np.pi * rng.uniform(size=(3, 1)))
            shape = np.sin(degree * np.pi * (y + 1) / 2) * rng.uniform(size=(3, 1))
            x[2:5, :, k] += torch.from_numpy(size / 2 * phase * shape)
    return x, {}


def centre(flow, size, dt=0.02, amplitude=1e-6):
    """From the linear map of one step, column by column: exact for what is stepped, diffusion
    and all.
    """
    nz = flow.channel.nz
    narrow = Viscoelastic((4, nz), flow.fluid)
    rest = laminar_flow(narrow.channel, flow.fluid)
    integrator = narrow.integrator(dt)
    base = integrator.step(rest)
    columns = np.zeros((6 * nz, 6 * nz), complex)
    for column in range(6 * nz):
        x = rest.clone()
        x[column // nz, column % nz, 1] = amplitude
        columns[:, column] = ((integrator.step(x) - base)[:, :, 1] / amplitude).reshape(-1).numpy()
    values, vectors = np.linalg.eig(columns)
    rates = np.log(np.where(np.abs(values) > 1e-12, values, 1e-12)) / dt
    speeds = -rates.imag
    best = int(np.argmax(np.where((speeds > 0.9) & (speeds < 1.1), rates.real, -np.inf)))
    mode = vectors[:, best].reshape(6, nz)
    mode /= 2 * np.abs(mode[2:5]).max()
    x = laminar_flow(flow.channel, flow.fluid)
    x[:, :, 1] += size * torch.from_numpy(mode)
    return x, {"growth": float(rates.real[best]), "speed": float(speeds[best])}


def rms(channel, modes):
    """Root mean square over the channel of modes (Z, k >= 1)."""
    return float((channel.average @ (2 * modes.abs() ** 2).sum(-1)).sqrt())


def tails(channel, x):
    """Shares of amplitude in the last tenth of the wave numbers and of the polynomials, per
    field.
    """
    wave = x[:5, :, 1:]
    weight = channel.average[:, None]
    power = (weight * wave.abs() ** 2).sum(1)
    last = power[:, -max(1, channel.n_modes // 10) :].sum(1)
    parts = torch.view_as_real(wave).flatten(-2)
    degrees = (torch.from_numpy(channel._coefficients) @ parts).square().sum(-1)
    high = degrees[:, -max(1, channel.nz // 10) :].sum(1)
    return torch.stack([(last / power.sum(1)).sqrt(), (high / degrees.sum(1)).sqrt()]).numpy()


def run(reynolds, weissenberg, epsilon, points, start, size, until, ramp):
    fluid = Fluid(float(reynolds), float(ramp[0] if ramp else weissenberg), epsilon=epsilon)
    flow = Viscoelastic(points, fluid)
    x, found = {"waves": waves, "stress": stress, "centre": centre}[start](flow, size)
    moments = [until * part / 6 for part in range(1, 7)]
    record, worst, count, reached = {}, np.zeros((2, 5)), 0, 0.0
    begin = time.perf_counter()
    while reached < until - PIECE / 2:
        if ramp:
            part = min(1.0, max(0.0, (reached - ramp[1]) / (ramp[2] - ramp[1])))
            now = ramp[0] + part * (weissenberg - ramp[0])
            flow.fluid = dataclasses.replace(fluid, weissenberg=float(now))
        try:
            x, steps = flow.stepper.advance(x, PIECE)
        except SolverDivergedError:
            break
        reached, count = reached + PIECE, count + steps
        if reached > until / 2:
            worst = np.maximum(worst, tails(flow.channel, x))
        if reached > moments[len(record)] - PIECE / 2:
            trace = float(flow.trace(flow.channel.to_fine(x[2:])).max())
            record[f"t={reached:g}"] = {
                "rms v": rms(flow.channel, x[1, :, 1:]),
                "rms v, one period": rms(flow.channel, x[1, :, 1:2]),
                "rms waves of log C": rms(flow.channel, x[2, :, 1:]),
                "largest trace / L^2": trace / fluid.extension**2,
            }
            print(f"t={reached:g}", record[f"t={reached:g}"], flush=True)
    if reached < until - PIECE / 2:
        outcome = f"no step short enough at t={reached:g}"
    else:
        sizes = [row["rms v"] for row in record.values()]
        rate = float(np.log(sizes[5] / sizes[3]) / (moments[5] - moments[3]))
        outcome = "lasts" if rate > -1e-3 else "fades" if rate > -1e-2 else "decays"
        found["rate"] = rate
    return {
        "Reynolds": reynolds,
        "Weissenberg": weissenberg,
        "epsilon": epsilon,
        "points": points,
        "start": start,
        "size": size,
        "ramp": ramp,
        "until": until,
        **{name: float(f"{value:.4g}") for name, value in found.items()},
        "outcome": outcome,
        "at": {
            moment: {name: float(f"{value:.3g}") for name, value in row.items()}
            for moment, row in record.items()
        },
        "tails": {
            axis: {name: float(f"{value:.2g}") for name, value in zip(FIELDS, row, strict=True)}
            for axis, row in zip(("x", "y"), worst, strict=True)
        },
        "steps per unit of time": round(count / max(reached, PIECE)),
        "seconds": round(time.perf_counter() - begin),
    }


def main():
    torch.set_num_threads(1)
    for name in sys.argv[1:] or ROWS:
        print(name, flush=True)
        row = run(*ROWS[name])
        # Read anew: another process may have added its rows meanwhile.
        record = json.loads(RESULT.read_text(encoding="utf8")) if RESULT.exists() else {"rows": {}}
        record["command"] = "OMP_NUM_THREADS=1 python validation/viscoelastic_search.py"
        record["versions"] = {
            "numpy": np.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        }
        record["machine"] = platform.machine()
        record["rows"][name] = row
        record["rows"] = {key: record["rows"][key] for key in ROWS if key in record["rows"]}
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf8")
        print(json.dumps(row, indent=2), flush=True)


if __name__ == "__main__":
    main()
