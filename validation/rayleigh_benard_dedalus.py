"""Rayleigh-Benard convection at Ra = 10^5 against Dedalus, from the same smooth start.

    OMP_NUM_THREADS=1 python validation/rayleigh_benard_dedalus.py dedalus/bin/python

How to install Dedalus: see dedalus_runs.py. Both codes use 64 x 32 modes, products on 96 x 48
points, and hold the fields at the same points. Written to
results/validation/rayleigh_benard_dedalus.json: relative L2 differences |a - b| / |b - mean b|.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from dedalus_runs import chebyshev_weights, dedalus_runs, difference, march, record, write

SHAPE, LENGTH = (64, 32), 4.0
RAYLEIGH, PRANDTL = 1e5, 1.0
MOMENTS = (2.0, 4.0, 8.0)
NAME = "rayleigh_benard_dedalus"


def start(x, z):
    """Conduction and a few waves: buoyancy on the grid (nx, nz)."""
    waves = sum(
        a * np.cos(2 * np.pi * m * x / LENGTH + m * m) for m, a in ((1, 0.05), (2, 0.1), (3, 0.04))
    )
    return (
        1
        - z
        + waves * np.sin(np.pi * z)
        + 0.03 * np.cos(2 * np.pi * x / LENGTH) * np.sin(2 * np.pi * z)
    )


def with_dedalus(dt, path):
    import dedalus
    import dedalus.public as d3

    coords = d3.CartesianCoordinates("x", "z")
    dist = d3.Distributor(coords, dtype=np.float64)
    xbasis = d3.RealFourier(coords["x"], size=SHAPE[0], bounds=(0, LENGTH), dealias=3 / 2)
    zbasis = d3.ChebyshevT(coords["z"], size=SHAPE[1], bounds=(0, 1), dealias=3 / 2)
    bases = (xbasis, zbasis)
    p, b = dist.Field(name="p", bases=bases), dist.Field(name="b", bases=bases)
    u = dist.VectorField(coords, name="u", bases=bases)
    tau_p = dist.Field(name="tau_p")
    tau_b1, tau_b2 = (dist.Field(name=f"tau_b{i}", bases=xbasis) for i in (1, 2))
    tau_u1, tau_u2 = (dist.VectorField(coords, name=f"tau_u{i}", bases=xbasis) for i in (1, 2))
    x, z = dist.local_grids(*bases)
    _, ez = coords.unit_vector_fields(dist)
    lift_basis = zbasis.derivative_basis(1)
    names = {
        "p": p,
        "b": b,
        "u": u,
        "tau_p": tau_p,
        "kappa": (RAYLEIGH * PRANDTL) ** -0.5,
        "nu": (RAYLEIGH / PRANDTL) ** -0.5,
        "ez": ez,
        "tau_b2": tau_b2,
        "tau_u2": tau_u2,
    }
    names["lift"] = lambda tau: d3.Lift(tau, lift_basis, -1)
    names["grad_u"] = d3.grad(u) + ez * names["lift"](tau_u1)
    names["grad_b"] = d3.grad(b) + ez * names["lift"](tau_b1)
    problem = d3.IVP([p, b, u, tau_p, tau_b1, tau_b2, tau_u1, tau_u2], namespace=names)
    for equation in (
        "trace(grad_u) + tau_p = 0",
        "dt(b) - kappa*div(grad_b) + lift(tau_b2) = - u@grad(b)",
        "dt(u) - nu*div(grad_u) + grad(p) - b*ez + lift(tau_u2) = - u@grad(u)",
        "b(z=0) = 1",
        "u(z=0) = 0",
        "b(z=1) = 0",
        "u(z=1) = 0",
        "integ(p) = 0",
    ):
        problem.add_equation(equation)
    solver = problem.build_solver(d3.RK443)
    b["g"] = start(x, z)
    fields, seconds = march(solver, dt, MOMENTS, [(b, 1), (u, 1), (p, 1)])
    np.savez(path, fields=fields, z=z.ravel(), seconds=seconds, version=dedalus.__version__)


def with_wavelit(dt):
    import torch

    from wavelit.data.pocketwell.rayleigh_benard import Convection, coordinates

    torch.set_num_threads(1)
    flow = Convection(SHAPE, RAYLEIGH, PRANDTL, LENGTH)
    channel = flow.channel
    points = coordinates(SHAPE)
    x = torch.zeros(3, channel.nz, channel.n_modes, dtype=torch.complex128)
    buoyancy = start(points["x"][None], channel.z[:, None])
    x[0] = channel.modes(torch.from_numpy(buoyancy - 1 + channel.z[:, None]))
    stepper, nodes = flow.integrator(dt), channel.at(points["y"])
    found, done = [], 0
    begin = time.perf_counter()
    for moment in MOMENTS:
        while done < round(moment / dt):
            x, done = stepper.step(x), done + 1
        fields = (
            (nodes @ channel.values(torch.cat([x, flow.pressure(x)[None]])))
            .transpose(-2, -1)
            .numpy()
        )
        fields[0] += 1 - points["y"]
        found.append(fields)
    return np.stack(found), points["y"], time.perf_counter() - begin


def main():
    if sys.argv[1] == "--dedalus":
        with_dedalus(float(sys.argv[2]), sys.argv[3])
        return

    def apart(a, b):
        return difference(a, b, MOMENTS, "buwp", chebyshev_weights(SHAPE[1]))

    runs = dedalus_runs(sys.argv[1], __file__, (0.02, 0.01))
    setting = {"Rayleigh": RAYLEIGH, "Prandtl": PRANDTL, "modes": SHAPE, "length": LENGTH}
    found = {
        **record(NAME, setting, runs[0.01]["version"]),
        "seconds": {},
        "relative_l2": {},
        "relative_l2 of dedalus's two steps": apart(runs[0.02]["fields"], runs[0.01]["fields"]),
    }
    for dt in (0.02, 0.01):
        fields, z, seconds = with_wavelit(dt)
        if not np.allclose(z, runs[dt]["z"]):
            raise SystemExit("the two grids differ: use Chebyshev's roots in both")
        found["relative_l2"][f"dt={dt}"] = apart(fields, runs[dt]["fields"])
        found["seconds"][f"dt={dt}"] = {
            "wavelit": round(seconds, 1),
            "dedalus": round(float(runs[dt]["seconds"]), 1),
        }
    # Dedalus's pressure is the multiplier of its last stage, of first order in the step.
    limit = 2 * runs[0.01]["fields"] - runs[0.02]["fields"]
    found["relative_l2 of the pressure, dedalus's extrapolated to dt=0"] = {
        moment: values["p"] for moment, values in apart(fields, limit).items()
    }
    write(NAME, found)


if __name__ == "__main__":
    main()
