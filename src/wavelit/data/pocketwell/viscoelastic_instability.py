"""Channel flow of a dilute polymer solution: FENE-P dumbbells that stretch, relax and push back.

    Re (u_t + u . grad u) + grad p = beta lap u + (1 - beta) div T + 2 e_x,   div u = 0
    C_t + u . grad C = C . grad u + (grad u)^T . C - T
    T = (f C - 1) / Wi,   f = 1 / (1 - (tr C - 3) / L^2)

on [0, 2 pi] x [-1, 1], periodic in x, no slip. What is stepped is Psi = log C, so that C = exp(Psi)
is positive definite whatever happens; epsilon lap Psi is added, not on the walls. With Psi = m +
[[p, q], [q, -p]] and r = |(p, q)| all is in closed form: C = e^m (cosh r + sinh r / r [[p, q], [q,
-p]]), and the gradient of the flow stretches and turns (p, q). The wall-normal axis is y here, z in
`Channel`; c_zz lies across the plane.

References: Fattal, Kupferman, Constitutive laws for the matrix-logarithm of the conformation
tensor, J. Non-Newton. Fluid Mech. 123, 2004; Beneitez, Page, Dubief, Kerswell, Multistability of
elasto-inertial two-dimensional channel flow, J. Fluid Mech. 981, 2024; Shekar, McMullen, McKeon,
Graham, Tollmien-Schlichting route to elastoinertial turbulence in channel flow, Phys. Rev. Fluids
6, 2021.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.optimize
import torch
from torch import Tensor

from wavelit.data.pocketwell.channel import GAMMA, CFLStepper, Channel, Integrator
from wavelit.data.pocketwell.system import SolverDivergedError, System, Trajectories

__all__ = ["SYSTEM", "Fluid", "Viscoelastic", "laminar_flow", "waves"]

Array = npt.NDArray[Any]

LENGTH = 2 * math.pi
# Time between snapshots, a quarter of The Well's usual one.
SNAPSHOT = 0.25
# The first one: by then the waves have bent the layers of stretched polymers. Size tiny saves that
# time.
START, START_TINY = 6.0, 1.0
# Time after which the step is chosen anew.
PIECE = 0.25
# The solver's points for one stored point, along x and y: enough where the nodes are Chebyshev's.
SOLVED = (1.0, 0.75)
# Order of the unknowns.
U, V, M = 0, 1, 2


@dataclass(frozen=True)
class Fluid:
    """What flows.

    Args:
        reynolds: with half the width, the laminar speed of a Newtonian fluid, and the whole
            viscosity.
        weissenberg: relaxation time in units of half the width by that speed.
        beta: the solvent's share of the viscosity.
        epsilon: diffusivity of log C.
        extension: L, largest length of the dumbbells.
    """

    reynolds: float
    weissenberg: float
    beta: float = 0.9
    epsilon: float = 2e-3
    extension: float = 70.0


class Viscoelastic:
    """One flow: X = (u, v, m, p, q, log c_zz) as modes (6, Z, K).

    Args:
        shape: points along x and y.
        fluid: what flows.
    """

    def __init__(self, shape: Sequence[int], fluid: Fluid) -> None:
        self.channel = Channel(shape, LENGTH, -1.0, 1.0)
        self.fluid = fluid
        self.stepper = CFLStepper(self.rate, self.integrator)

    def integrator(self, dt: float) -> Integrator:
        """Steps of dt."""
        flow = self.channel.stokes(self.fluid.beta / self.fluid.reynolds, GAMMA * dt)
        polymer = self.channel.helmholtz(self.fluid.epsilon, GAMMA * dt, walls=False)

        def solve(right: Tensor) -> Tensor:
            return torch.cat(
                [self.channel.solve_flow(flow, right[:M]), self.channel.solve(polymer, right[M:])]
            )

        return Integrator(self.explicit, solve, dt)

    def explicit(self, x: Tensor) -> Tensor:
        """All but the solvent's viscosity and the diffusion of log C."""
        fluid, channel = self.fluid, self.channel
        values, along, across = channel.gradient_to_fine(x)
        rates = -values[U] * along - values[V] * across
        rates[M:] += self.reaction(values[M:], along[U], across[U], along[V])
        change = channel.from_fine(torch.cat([rates, self.stress(values[M:])]))
        change, (xx, xy, yy) = change[:6], change[6:]
        factor = (1 - fluid.beta) / fluid.reynolds
        change[U] += factor * (channel.ik * xx + channel.slope(xy))
        change[V] += factor * (channel.ik * xy + channel.slope(yy))
        # The mean pressure gradient, which would drive a Newtonian fluid at 1 - y^2.
        change[U, :, 0] += 2 / fluid.reynolds
        return change

    def reaction(self, psi: Tensor, ux: Tensor, uy: Tensor, vx: Tensor) -> Tensor:
        """Stretching, turning and relaxation of psi = (m, p, q, log c_zz), (4, ...), under grad
        u.
        """
        m, p, q, s = psi
        r2, cosh, sinhc = _hyperbolic(p, q)
        wi = self.fluid.weissenberg
        spring = self.spring(psi)
        strain, turn = (uy + vx) / 2, uy - vx
        # The strain along (p, q) adds to r; what is across turns it r coth r times as fast as it
        # would.
        coth = cosh / sinhc
        curved = torch.where(r2 > 1e-4, (1 - coth) / r2.clamp_min(1e-4), -1 / 3 + r2 / 45)
        radial = 2 * (ux * p + strain * q) * curved - torch.exp(-m) * sinhc / wi
        return torch.stack(
            [
                (torch.exp(-m) * cosh - spring) / wi,
                2 * coth * ux + radial * p + turn * q,
                2 * coth * strain + radial * q - turn * p,
                (torch.exp(-s) - spring) / wi,
            ]
        )

    def conformation(self, psi: Tensor) -> Tensor:
        """(m, p, q, log c_zz) -> (c_xx, c_xy, c_yy, c_zz)."""
        m, p, q, s = psi
        _, cosh, sinhc = _hyperbolic(p, q)
        size = torch.exp(m)
        return torch.stack(
            [size * (cosh + sinhc * p), size * sinhc * q, size * (cosh - sinhc * p), torch.exp(s)]
        )

    def trace(self, psi: Tensor) -> Tensor:
        """tr C, c_zz included."""
        m, p, q, s = psi
        return 2 * torch.exp(m) * _hyperbolic(p, q)[1] + torch.exp(s)

    def spring(self, psi: Tensor) -> Tensor:
        """f."""
        return 1 / (1 - (self.trace(psi) - 3) / self.fluid.extension**2)

    def stress(self, psi: Tensor) -> Tensor:
        """T_xx, T_xy, T_yy."""
        xx, xy, yy, _ = self.conformation(psi)
        spring = self.spring(psi)
        return torch.stack([spring * xx - 1, spring * xy, spring * yy - 1]) / self.fluid.weissenberg

    def rate(self, x: Tensor) -> float:
        """The largest rate of advection with elastic waves, and of the spring; infinite beyond full
        extension.

        Steps that would stretch the dumbbells beyond it are therefore not kept.
        """
        values, fluid = self.channel.to_fine(x), self.fluid
        trace, spring = self.trace(values[M:]), self.spring(values[M:])
        if not bool((trace < fluid.extension**2 + 3).all()):
            return math.inf
        wave = ((1 - fluid.beta) * spring * trace / (fluid.reynolds * fluid.weissenberg)).sqrt()
        relaxation = float((2 * spring**2 * trace).max()) / (fluid.extension**2 * fluid.weissenberg)
        return max(self.channel.rate(values[U].abs() + wave, values[V]), relaxation)

    def pressure(self, x: Tensor) -> Tensor:
        """The periodic part of the pressure, mean zero, modes (Z, K)."""
        viscous = self.fluid.beta / self.fluid.reynolds * self.channel.laplacian(x[:M])
        return self.fluid.reynolds * self.channel.pressure(self.explicit(x)[:M] + viscous)


def laminar_flow(channel: Channel, fluid: Fluid) -> Tensor:
    """The steady flow along the walls, without diffusion of C: modes (6, Z, K).

    Under a shear g, c_yy = c_zz = 1 / f, c_xy = Wi g / f^2, c_xx = (1 + 2 (Wi g / f)^2) / f, and
    T_xy = g / f; f is the root of its own definition, g that of beta g + (1 - beta) g / f = -2 y.
    """

    def spring(shear: float) -> float:
        stretch = 2 * (fluid.weissenberg * shear) ** 2

        def excess(f: float) -> float:
            return (3 / f + stretch / f**3 - 3) / fluid.extension**2 - 1 + 1 / f

        return float(scipy.optimize.brentq(excess, 0.5, 1e6, xtol=1e-14))

    def shear_at(y: float) -> float:
        def balance(g: float) -> float:
            return fluid.beta * g + (1 - fluid.beta) * g / spring(g) + 2 * y

        return float(scipy.optimize.brentq(balance, -3 / fluid.beta, 3 / fluid.beta, xtol=1e-14))

    shear = np.array([shear_at(y) for y in channel.z])
    f = np.array([spring(g) for g in shear])
    stretched = fluid.weissenberg * shear / f
    tensor = np.stack([1 + 2 * stretched**2, stretched, stretched, np.ones_like(f)], -1).reshape(
        -1, 2, 2
    )
    lengths, axes = np.linalg.eigh(tensor / f[:, None, None])
    psi = (axes * np.log(lengths)[:, None]) @ axes.swapaxes(-1, -2)
    mean, half = (psi[:, 0, 0] + psi[:, 1, 1]) / 2, (psi[:, 0, 0] - psi[:, 1, 1]) / 2
    x = torch.zeros(6, channel.nz, channel.n_modes, dtype=torch.complex128)
    profile = np.stack([channel.integral @ shear, 0 * f, mean, half, psi[:, 0, 1], -np.log(f)])
    x[:, :, 0] = torch.from_numpy(profile)
    return x


def waves(channel: Channel, reynolds: float, k: int, count: int) -> tuple[Array, Array]:
    """The `count` least stable waves of Newtonian Poiseuille flow: speeds, and v (count, Z) of size
    1.

    Orr-Sommerfeld's equation with v = (1 - y^2) h, which meets both conditions at the walls.
    """
    y, first = channel.z, channel.derivative
    second, eye = first @ first, np.eye(channel.nz)
    inner = slice(1, -1)
    share = np.zeros(channel.nz)
    share[inner] = 1 / (1 - y[inner] ** 2)
    fourth = (
        (1 - y**2)[:, None] * second @ second - 8 * y[:, None] * first @ second - 12 * second
    ) * share
    laplacian = second - k**2 * eye
    viscous = (fourth - 2 * k**2 * second + k**4 * eye) / (1j * k * reynolds)
    inertia = (1 - y**2)[:, None] * laplacian + 2 * eye
    speeds, modes = scipy.linalg.eig((inertia - viscous)[inner, inner], laplacian[inner, inner])
    # Spurious ones are far off.
    order = np.argsort(np.where(np.abs(speeds) < 1.5, -speeds.imag, np.inf))[:count]
    found = np.zeros((count, channel.nz), complex)
    found[:, inner] = (modes[:, order] / np.abs(modes[:, order]).max(0)).T
    return speeds[order], found


def initial_state(flow: Viscoelastic, rng: np.random.Generator) -> Tensor:
    """Laminar flow and waves of one and two periods, the three least stable of each, (6, Z, K).

    The leading wave has v = U(0.06, 0.1) at its largest, the next ones up to 0.15 of it, those of
    two periods half as much again. C is laminar.
    """
    channel = flow.channel
    x = laminar_flow(channel, flow.fluid)
    size = rng.uniform(0.03, 0.05)
    for k in (1, 2):
        for number, wave in enumerate(waves(channel, flow.fluid.reynolds, k, 3)[1]):
            share = 1.0 if number == 0 else rng.uniform(0.0, 0.15)
            phase = np.exp(2j * math.pi * rng.uniform())
            x[V, :, k] += torch.from_numpy(size / k * share * phase * wave)
        x[U, :, k] = 1j / k * channel.slope(x[V])[:, k]
    return x


def simulate(
    shape: tuple[int, ...],
    times: Array,
    parameters: Mapping[str, float],
    rngs: Sequence[np.random.Generator],
) -> Trajectories:
    """Solve one flow per random generator, one after the other: each has its own steps."""
    solved = tuple(2 * round(share * n / 2) for share, n in zip(SOLVED, shape, strict=True))
    flow = Viscoelastic(solved, Fluid(parameters["Reynolds"], parameters["Weissenberg"]))
    runs = [_simulate_one(flow, shape, times, rng) for rng in rngs]
    return Trajectories({name: np.stack([run[name] for run in runs]) for name in runs[0]})


def _simulate_one(
    flow: Viscoelastic, shape: tuple[int, ...], times: Array, rng: np.random.Generator
) -> dict[str, Array]:
    points = flow.channel.at(coordinates(shape)["y"])
    x = initial_state(flow, rng)
    record: dict[str, list[Tensor]] = {"pressure": [], "c_zz": [], "velocity": [], "C": []}
    time, done = 0.0, 0
    for moment in times:
        while time < moment - PIECE / 2:
            try:
                x, steps = flow.stepper.advance(x, PIECE)
            except SolverDivergedError as error:
                raise SolverDivergedError(done + error.step) from error
            time, done = time + PIECE, done + steps
        modes = torch.cat([x, flow.pressure(x)[None]])
        fields = (points @ torch.fft.irfft(modes, n=shape[0], norm="forward")).transpose(-2, -1)
        xx, xy, yy, zz = flow.conformation(fields[M:6])
        record["pressure"].append(fields[6].float())
        record["c_zz"].append(zz.float())
        record["velocity"].append(fields[:M].movedim(0, -1).float())
        record["C"].append(torch.stack([xx, xy, xy, yy], -1).reshape(*shape, 2, 2).float())
    return {name: torch.stack(items).numpy() for name, items in record.items()}


def coordinates(shape: tuple[int, ...]) -> Mapping[str, Array]:
    """Evenly spaced points of [0, 2 pi) along x; along y the middles of even cells of [-1, 1]."""
    nx, ny = shape
    return {"x": np.arange(nx) * LENGTH / nx, "y": (np.arange(ny) + 0.5) * 2 / ny - 1}


def snapshot_times(shape: tuple[int, ...], n_snapshots: int) -> Array:
    return (START if shape[0] > 32 else START_TINY) + np.arange(n_snapshots) * SNAPSHOT


def _hyperbolic(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """r^2, cosh r and sinh(r) / r."""
    r2 = p * p + q * q
    r = r2.sqrt()
    up = torch.exp(r)
    down = 1 / up
    # The difference cancels for small r.
    sinhc = torch.where(r > 1e-2, (up - down) / (2 * r.clamp_min(1e-2)), 1 + r2 / 6 + r2 * r2 / 120)
    return r2, (up + down) / 2, sinhc


SYSTEM = System(
    name="viscoelastic_instability",
    version=1,
    shapes={"tiny": (32, 32), "small": (64, 64), "large": (64, 64)},
    boundary_conditions=(("periodic", "periodic"), ("wall", "wall")),
    parameters=(
        {"Reynolds": 6000.0, "Weissenberg": 4.0},
        {"Reynolds": 6000.0, "Weissenberg": 3.0},
        {"Reynolds": 3000.0, "Weissenberg": 4.0},
        {"Reynolds": 3000.0, "Weissenberg": 3.0},
    ),
    batch=2,
    coordinates=coordinates,
    times=snapshot_times,
    simulate=simulate,
)
