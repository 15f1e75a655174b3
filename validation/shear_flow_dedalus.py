"""Shear flow against Dedalus, from the same starts: smooth vortices, and the system's own layers.

    OMP_NUM_THREADS=1 python validation/shear_flow_dedalus.py dedalus/bin/python

How to install Dedalus: see dedalus_runs.py. wavelit steps the vorticity on 64 x 128 points and
keeps 43 x 85 of the modes (two thirds); Dedalus steps velocity and pressure with as many modes, 44
x 86 in its own count, and products free of aliases. Both are therefore the same Galerkin method,
and only the time steps differ. In the last case Dedalus has all 64 x 128 modes: what is left then
is the truncation. The starts are made divergence-free and cut to the kept modes first. Written to
results/validation/shear_flow_dedalus.json: relative L2 differences |a - b| / |b - mean b| at the 64
x 128 points.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from dedalus_runs import dedalus_runs, difference, march, record, write

SHAPE, LENGTHS = (64, 128), (1.0, 2.0)
SAME = (44, 86)
SCHMIDT = 1.0
MOMENTS = (1.0, 2.0, 5.0)
# With all modes 0.02 is beyond what RK443 bears.
STEPS = {SAME: (0.02, 0.01), SHAPE: (0.01, 0.005)}
CASES = (
    ("smooth", 1000.0, SAME),
    ("smooth", 2000.0, SAME),
    ("layers", 1000.0, SAME),
    ("layers", 2000.0, SAME),
    ("layers", 2000.0, SHAPE),
)
NAME = "shear_flow_dedalus"


def smooth(x, y):
    """Two layers with vortices of one and two waves, from a stream function of few modes; the
    tracer is u.
    """
    a, b = 2 * np.pi * x, np.pi * y
    # u = psi_y, v = -psi_x.
    u = 0.5 * np.cos(b) + 0.3 * np.sin(a) * np.cos(2 * b + 1) + 0.1 * np.cos(2 * a) * np.sin(3 * b)
    v = -0.3 * np.cos(a) * np.sin(2 * b + 1) - (0.4 / 3) * np.sin(2 * a) * np.cos(3 * b) + 0.0 * b
    return np.stack([u, v]), u


def with_dedalus(dt, path, reynolds, modes, start):
    import dedalus
    import dedalus.public as d3

    # Dedalus rounds up.
    scales = tuple((n - 0.01) / m for n, m in zip(SHAPE, modes, strict=True))
    coords = d3.CartesianCoordinates("x", "y")
    dist = d3.Distributor(coords, dtype=np.float64)
    bounds = ((0, LENGTHS[0]), (-LENGTHS[1] / 2, LENGTHS[1] / 2))
    bases = tuple(
        d3.RealFourier(coords[axis], size=m, bounds=ends, dealias=3 / 2)
        for axis, m, ends in zip("xy", modes, bounds, strict=True)
    )
    s, p = dist.Field(name="s", bases=bases), dist.Field(name="p", bases=bases)
    u, tau_p = dist.VectorField(coords, name="u", bases=bases), dist.Field(name="tau_p")
    nu = 1 / reynolds
    names = {"s": s, "p": p, "u": u, "tau_p": tau_p, "nu": nu, "D": nu / SCHMIDT}
    problem = d3.IVP([s, p, u, tau_p], namespace=names)
    for equation in (
        "dt(s) - D*lap(s) = - u@grad(s)",
        "dt(u) - nu*lap(u) + grad(p) = - u@grad(u)",
        "div(u) + tau_p = 0",
        "integ(p) = 0",
    ):
        problem.add_equation(equation)
    solver = problem.build_solver(d3.RK443)
    with np.load(start) as given:
        for field, name in ((s, "tracer"), (u, "velocity")):
            field.change_scales(scales)
            field["g"] = given[name]
    fields, seconds = march(solver, dt, MOMENTS, [(field, scales) for field in (s, u, p)])
    np.savez(path, fields=fields, seconds=seconds, version=dedalus.__version__)


def flow_and_start(kind, reynolds, dt):
    import torch

    from wavelit.data.pocketwell.shear_flow import ShearFlow, coordinates, initial_state

    torch.set_num_threads(1)
    if kind == "smooth":
        points = coordinates(SHAPE)
        velocity, tracer = smooth(points["x"][:, None], points["y"][None])
    else:
        velocity, tracer = initial_state(SHAPE, np.random.default_rng(0))
    velocity, tracer = torch.from_numpy(velocity)[None], torch.from_numpy(tracer)[None]
    flow = ShearFlow(SHAPE, 1 / reynolds, 1 / (reynolds * SCHMIDT), velocity.mean((-2, -1)), dt)
    return flow, flow.modes(velocity, tracer)


def with_wavelit(kind, reynolds, dt):
    flow, modes = flow_and_start(kind, reynolds, dt)
    found, done = [], 0
    begin = time.perf_counter()
    for moment in MOMENTS:
        while done < round(moment / dt):
            modes, done = flow.stepper.step(modes), done + 1
        velocity = flow.velocity(modes)
        found.append(np.concatenate([flow.tracer(modes), velocity[0], flow.pressure(velocity)]))
    return np.stack(found), time.perf_counter() - begin


def compare(python, kind, reynolds, size):
    steps = STEPS[size]
    flow, modes = flow_and_start(kind, reynolds, steps[0])
    start = {"velocity": flow.velocity(modes)[0].numpy(), "tracer": flow.tracer(modes)[0].numpy()}
    runs = dedalus_runs(python, __file__, steps, reynolds, *size, start=start)
    coarse, fine = (runs[dt]["fields"] for dt in steps)
    found = {"relative_l2": {}, "seconds": {}}
    for dt in steps:
        fields, seconds = with_wavelit(kind, reynolds, dt)
        found["relative_l2"][f"dt={dt}"] = difference(fields, runs[dt]["fields"], MOMENTS, "suvp")
        found["seconds"][f"dt={dt}"] = {
            "wavelit": round(seconds, 1),
            "dedalus": round(float(runs[dt]["seconds"]), 1),
        }
    found["relative_l2 of dedalus's two steps"] = difference(coarse, fine, MOMENTS, "suvp")
    # Dedalus's pressure is the multiplier of its last stage, of first order in the step.
    limit = difference(fields, 2 * fine - coarse, MOMENTS, "suvp")
    found["relative_l2 of the pressure, dedalus's extrapolated to dt=0"] = {
        moment: values["p"] for moment, values in limit.items()
    }
    return found, runs[steps[0]]["version"]


def main():
    if sys.argv[1] == "--dedalus":
        size = (int(sys.argv[5]), int(sys.argv[6]))
        with_dedalus(float(sys.argv[2]), sys.argv[3], float(sys.argv[4]), size, sys.argv[7])
        return
    cases = {}
    for kind, reynolds, size in CASES:
        name = f"{kind}, Reynolds {reynolds:g}, dedalus {size[0]} x {size[1]}"
        cases[name], version = compare(sys.argv[1], kind, reynolds, size)
    setting = {"Schmidt": SCHMIDT, "points": SHAPE, "lengths": LENGTHS}
    write(NAME, {**record(NAME, setting, version), "cases": cases})


if __name__ == "__main__":
    main()
