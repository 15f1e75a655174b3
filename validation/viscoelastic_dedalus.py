"""FENE-P channel flow against Dedalus, which steps C itself where wavelit steps log C, without
diffusion.

    OMP_NUM_THREADS=1 python validation/viscoelastic_dedalus.py dedalus/bin/python

How to install Dedalus: see dedalus_runs.py. From the same start, laminar flow and a wave of one
period and one of two, at Reynolds 3000 and Weissenberg 3, in steps of 0.0125 and half that, up to t
= 2. Both codes hold the same modes, form products on 3/2 as many points, and are compared at
Dedalus's points. C = exp(log C) is no polynomial of log C's degree, so the two truncations are not
the same; what they leave must fall as points are added. In the last cases Dedalus steps log C too,
with the diffusion of the system: m, p, q, s stand for log C and log c_zz as in
viscoelastic_instability.py. Both take the steps of the same Runge-Kutta scheme, so that equations
and space are judged, not time: what halving the step changes in each code is recorded. Written to
results/validation/viscoelastic_dedalus.json: relative L2 differences |a - b| / |b - mean b|, of the
whole fields and, under "waves", without the mean over x, which is mostly the laminar flow.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from dedalus_runs import chebyshev_weights, dedalus_runs, difference, march, record, write

# Points and epsilon.
CASES = (((32, 48), 0.0), ((48, 64), 0.0), ((64, 96), 0.0), ((48, 64), 2e-3), ((64, 96), 2e-3))
REYNOLDS, WEISSENBERG, BETA, EXTENSION = 3000.0, 3.0, 0.9, 70.0
MOMENTS = (0.5, 1.0, 2.0)
STEPS = (0.0125, 0.00625)
FIELDS = ("u", "v", "p", "c_xx", "c_xy", "c_yy", "c_zz")
LOG_FIELDS = ("u", "v", "p", "log C: m", "log C: p", "log C: q", "log C: s")
NAME = "viscoelastic_dedalus"


def with_dedalus(dt, path, shape, epsilon, start):
    import dedalus
    import dedalus.public as d3

    coords = d3.CartesianCoordinates("x", "y")
    dist = d3.Distributor(coords, dtype=np.float64)
    xbasis = d3.RealFourier(coords["x"], size=shape[0], bounds=(0, 2 * np.pi), dealias=3 / 2)
    ybasis = d3.ChebyshevT(coords["y"], size=shape[1], bounds=(-1, 1), dealias=3 / 2)
    bases = (xbasis, ybasis)
    p, tau_p = dist.Field(name="p", bases=bases), dist.Field(name="tau_p")
    u = dist.VectorField(coords, name="u", bases=bases)
    tau_1, tau_2 = (dist.VectorField(coords, name=f"tau_{i}", bases=xbasis) for i in (1, 2))
    ex, ey = coords.unit_vector_fields(dist)
    names = {"p": p, "tau_p": tau_p, "u": u, "tau_1": tau_1, "tau_2": tau_2, "ex": ex}
    names |= {"Re": REYNOLDS, "Wi": WEISSENBERG, "beta": BETA, "eps": epsilon}
    names["lift"] = lambda tau: d3.Lift(tau, ybasis.derivative_basis(1), -1)
    names["grad_u"] = d3.grad(u) + ey * names["lift"](tau_1)
    equations = [
        "trace(grad_u) + tau_p = 0",
        (
            "dt(u) - beta/Re*div(grad_u) + grad(p)/Re + lift(tau_2) = - u@grad(u) + "
            "(1-beta)/Re*div(T) + 2/Re*ex"
        ),
        "u(y=-1) = 0",
        "u(y=1) = 0",
        "integ(p) = 0",
    ]
    polymer = log_conformation if epsilon else conformation
    unknowns, more, shown = polymer(d3, coords, dist, bases, u, names)
    problem = d3.IVP([p, u, tau_p, tau_1, tau_2, *unknowns], namespace=names)
    for equation in (*equations, *more):
        problem.add_equation(equation)
    solver = problem.build_solver(d3.RK443)
    with np.load(start) as given:
        for field in (u, *shown):
            field["g"] = given[field.name]
    fields, seconds = march(solver, dt, MOMENTS, [(field, 1) for field in (u, p, *shown)])
    np.savez(path, fields=fields, seconds=seconds, version=dedalus.__version__)


def conformation(d3, coords, dist, bases, u, names):
    """C as a tensor and c_zz, without diffusion: no condition at the walls."""
    c, zz = (
        dist.TensorField((coords, coords), name="c", bases=bases),
        dist.Field(name="zz", bases=bases),
    )
    eye = dist.TensorField((coords, coords), name="eye")
    eye["g"][0, 0] = eye["g"][1, 1] = 1
    spring = 1 / (1 - (d3.trace(c) + zz - 3) / EXTENSION**2)
    # Without the lifted terms, which are for the implicit part alone; slope[i, j] = d u_j / d x_i.
    names |= {"c": c, "zz": zz, "slope": d3.grad(u), "T": (spring * c - eye) / WEISSENBERG}
    names["T_zz"] = (spring * zz - 1) / WEISSENBERG
    equations = (
        "dt(c) = - u@grad(c) + c@slope + trans(c@slope) - T",
        "dt(zz) = - u@grad(zz) - T_zz",
    )
    return (c, zz), equations, (c, zz)


def log_conformation(d3, coords, dist, bases, u, names):
    """log C with its diffusion, in the interior; what moves it at the walls is all but the
    diffusion.
    """
    m, p, q, s = fields = [dist.Field(name=f"log_{name}", bases=bases) for name in "mpqs"]
    ex, ey = coords.unit_vector_fields(dist)
    xx, xy, yy = ex * ex, ex * ey + ey * ex, ey * ey
    # r does not vanish at the points: y = 0 is none of them.
    r = np.sqrt(p * p + q * q)
    cosh, sinhc, size = np.cosh(r), np.sinh(r) / r, np.exp(m)
    spring = 1 / (1 - (2 * size * cosh + np.exp(s) - 3) / EXTENSION**2)
    c = size * (cosh * (xx + yy) + sinhc * (p * (xx - yy) + q * xy))
    names["T"] = (spring * c - xx - yy) / WEISSENBERG
    slope = d3.grad(u)
    ux, uy, vx = ex @ slope @ ex, ey @ slope @ ex, ex @ slope @ ey
    strain, turn, coth = (uy + vx) / 2, uy - vx, cosh / sinhc
    radial = 2 * (ux * p + strain * q) * (1 - coth) / (r * r) - sinhc / size / WEISSENBERG
    rates = {
        "m": (cosh / size - spring) / WEISSENBERG,
        "p": 2 * coth * ux + radial * p + turn * q,
        "q": 2 * coth * strain + radial * q - turn * p,
        "s": (np.exp(-1 * s) - spring) / WEISSENBERG,
    }
    taus, equations, second = [], [], bases[1].derivative_basis(2)
    for (name, rate), field in zip(rates.items(), fields, strict=True):
        pair = [dist.Field(name=f"tau_{name}{i}", bases=bases[0]) for i in (1, 2)]
        taus += pair
        names |= {f"log_{name}": field, f"rate_{name}": rate - u @ d3.grad(field)}
        names[f"ends_{name}"] = d3.Lift(pair[0], second, -1) + d3.Lift(pair[1], second, -2)
        equations += [
            f"dt(log_{name}) - eps*lap(log_{name}) + ends_{name} = rate_{name}",
            f"dt(log_{name}(y=-1)) = rate_{name}(y=-1)",
            f"dt(log_{name}(y=1)) = rate_{name}(y=1)",
        ]
    return (*fields, *taus), equations, fields


def flow_and_start(shape, epsilon):
    import torch

    from wavelit.data.pocketwell.viscoelastic_instability import (
        Fluid,
        U,
        V,
        Viscoelastic,
        laminar_flow,
    )

    torch.set_num_threads(1)
    flow = Viscoelastic(shape, Fluid(REYNOLDS, WEISSENBERG, BETA, epsilon, EXTENSION))
    channel = flow.channel
    x, y = laminar_flow(channel, flow.fluid), torch.from_numpy(channel.z)
    # No slip and no divergence: v = a (1 - y^2)^2, with a bend so that no symmetry holds.
    for k, size in ((1, 0.04), (2, 0.02)):
        x[V, :, k] = size * (1 - y**2) ** 2 * (1 + 0.5 * y) * np.exp(1j * k)
        x[U, :, k] = 1j / k * channel.slope(x[V])[:, k]
    return flow, x


def values(flow, x, nodes):
    """u, v, p and C, or log C where it diffuses, at the nodes, (7, nx, ny)."""
    import torch

    modes = torch.cat([x, flow.pressure(x)[None]])
    fields = (nodes @ flow.channel.values(modes)).transpose(-2, -1)
    polymer = fields[2:6] if flow.fluid.epsilon else flow.conformation(fields[2:6])
    return torch.cat([fields[:2], fields[6:], polymer]).numpy()


def with_wavelit(shape, epsilon, dt):
    flow, x = flow_and_start(shape, epsilon)
    stepper, nodes = flow.integrator(dt), flow.channel.at(roots(shape[1]))
    found, done = [], 0
    begin = time.perf_counter()
    for moment in MOMENTS:
        while done < round(moment / dt):
            x, done = stepper.step(x), done + 1
        found.append(values(flow, x, nodes))
    return np.stack(found), time.perf_counter() - begin


def roots(n):
    return -np.cos(np.pi * (np.arange(n) + 0.5) / n)


def compare(python, shape, epsilon):
    flow, x = flow_and_start(shape, epsilon)
    u, v, _, *polymer = values(flow, x, flow.channel.at(roots(shape[1])))
    if epsilon:
        start = {f"log_{name}": field for name, field in zip("mpqs", polymer, strict=True)}
    else:
        xx, xy, yy, zz = polymer
        start = {"c": np.stack([[xx, xy], [xy, yy]]), "zz": zz}
    start["u"] = np.stack([u, v])
    runs = dedalus_runs(python, __file__, STEPS, *shape, epsilon, start=start)
    found = {}
    if not epsilon:
        # u, v, p, xx, xy, yx, yy, zz: C stays symmetric.
        last = runs[STEPS[1]]["fields"]
        found["largest |c_xy - c_yx| of dedalus"] = float(
            f"{np.abs(last[:, 4] - last[:, 5]).max():.2g}"
        )
        for run in runs.values():
            run["fields"] = np.delete(run["fields"], 5, axis=1)
    weight = chebyshev_weights(shape[1])

    def apart(a, b):
        return difference(a, b, MOMENTS, LOG_FIELDS if epsilon else FIELDS, weight)

    def waves(fields):
        return fields - fields.mean(-2, keepdims=True)

    coarse, fine = (runs[dt]["fields"] for dt in STEPS)
    ours = {dt: with_wavelit(shape, epsilon, dt) for dt in STEPS}
    last = ours[STEPS[1]][0]
    limit = apart(last, 2 * fine - coarse)
    waves_limit = apart(waves(last), waves(2 * fine - coarse))
    found |= {
        "relative_l2": {f"dt={dt}": apart(ours[dt][0], runs[dt]["fields"]) for dt in STEPS},
        "relative_l2, waves": {
            f"dt={dt}": apart(waves(ours[dt][0]), waves(runs[dt]["fields"])) for dt in STEPS
        },
        "relative_l2 of the two steps, waves": {
            "wavelit": apart(waves(ours[STEPS[0]][0]), waves(last)),
            "dedalus": apart(waves(coarse), waves(fine)),
        },
        # Dedalus's pressure is the multiplier of its last stage, of first order in the step.
        "relative_l2 of the pressure, dedalus's extrapolated to dt=0": {
            moment: {"whole": row["p"], "waves": waves_limit[moment]["p"]}
            for moment, row in limit.items()
        },
        "seconds": {
            f"dt={dt}": {
                "wavelit": round(ours[dt][1], 1),
                "dedalus": round(float(runs[dt]["seconds"]), 1),
            }
            for dt in STEPS
        },
    }
    return found, runs[STEPS[0]]["version"]


def main():
    if sys.argv[1] == "--dedalus":
        shape = (int(sys.argv[4]), int(sys.argv[5]))
        with_dedalus(float(sys.argv[2]), sys.argv[3], shape, float(sys.argv[6]), sys.argv[7])
        return
    cases = {}
    for shape, epsilon in CASES:
        name = f"{shape[0]} x {shape[1]} points, " + (
            f"log C, epsilon {epsilon:g}" if epsilon else "C"
        )
        cases[name], version = compare(sys.argv[1], shape, epsilon)
    setting = {
        "Reynolds": REYNOLDS,
        "Weissenberg": WEISSENBERG,
        "beta": BETA,
        "L": EXTENSION,
        "length": "2 pi",
    }
    write(NAME, {**record(NAME, setting, version), "cases": cases})


if __name__ == "__main__":
    main()
