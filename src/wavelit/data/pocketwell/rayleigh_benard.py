"""Rayleigh-Benard convection: a layer of fluid heated from below and cooled from above.

    b_t + u . grad b = kappa lap b,   u_t + u . grad u + grad p = nu lap u + b e_z,   div u = 0

with kappa = (Rayleigh Prandtl)^(-1/2), nu = (Rayleigh / Prandtl)^(-1/2), on [0, 4] x [0, 1],
periodic in x; b = 1, u = 0 at the lower wall, b = 0, u = 0 at the upper one. What is stepped is the
departure of b from 1 - z.

References: Ohana et al., The Well, 2024, arXiv:2412.00568 (rayleigh_benard); Burns et al., Dedalus,
Phys. Rev. Research 2, 2020.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wavelit.data.pocketwell.channel import GAMMA, CFLStepper, Channel, Integrator
from wavelit.data.pocketwell.system import SolverDivergedError, System, Trajectories

__all__ = ["SYSTEM", "Convection", "initial_buoyancy"]

Array = npt.NDArray[Any]

LENGTH, HEIGHT = 4.0, 1.0
# Time between snapshots, as in The Well.
SNAPSHOT = 0.25
# The first one: the first plumes have met the other wall by then. Size tiny saves that time.
START, START_TINY = 9.0, 2.0
# Time after which the step is chosen anew.
PIECE = 0.25


class Convection:
    """One flow: X = (departure of the buoyancy from 1 - z, u, w) as modes (3, Z, K).

    Args:
        shape: points along x and z.
        rayleigh: Rayleigh number.
        prandtl: Prandtl number.
        length: period along x, in heights of the layer.
    """

    def __init__(
        self, shape: Sequence[int], rayleigh: float, prandtl: float, length: float = LENGTH
    ) -> None:
        self.channel = Channel(shape, length, 0.0, HEIGHT)
        self.diffusivity = (rayleigh * prandtl) ** -0.5
        self.viscosity = (rayleigh / prandtl) ** -0.5
        self.stepper = CFLStepper(self.rate, self.integrator)

    def integrator(self, dt: float) -> Integrator:
        """Steps of dt."""
        heat = self.channel.helmholtz(self.diffusivity, GAMMA * dt)
        flow = self.channel.stokes(self.viscosity, GAMMA * dt)

        def solve(right: Tensor) -> Tensor:
            buoyancy = self.channel.solve(heat, right[:1])
            return torch.cat([buoyancy, self.channel.solve_flow(flow, right[1:])])

        return Integrator(self.explicit, solve, dt)

    def explicit(self, x: Tensor) -> Tensor:
        """Advection and buoyancy."""
        values, along, across = self.channel.gradient_to_fine(x)
        change = self.channel.from_fine(-values[1] * along - values[2] * across)
        # The conduction profile has slope -1.
        change[0] += x[2]
        change[2] += x[0]
        return change

    def rate(self, x: Tensor) -> float:
        """Advection's rate, see `Channel.rate`."""
        u, w = self.channel.to_fine(x[1:])
        return self.channel.rate(u, w)

    def pressure(self, x: Tensor) -> Tensor:
        """The pressure, mean zero, modes (Z, K); hydrostatic part included."""
        change = self.explicit(x)[1:] + self.viscosity * self.channel.laplacian(x[1:])
        change[1, :, 0] += 1 - torch.from_numpy(self.channel.z)
        return self.channel.pressure(change)


def initial_buoyancy(channel: Channel, rng: np.random.Generator) -> Array:
    """A random start, (Z, nx): a hot layer below a gentler slope, and smooth noise that sets it
    going.

    The slope delta is U(0.2, 1), as in The Well; there the lower wall jumps to 1, here the rest
    decays within 0.1. The noise has 12 waves along x and 3 across, 0.03 each at most, and vanishes
    at the walls.
    """
    z = channel.z[:, None]
    x = np.arange(channel.nx) * channel.length / channel.nx
    delta = rng.uniform(0.2, 1.0)
    buoyancy = delta * (1 - z) + (1 - delta) * (1 - z) * np.exp(-((z / 0.1) ** 2)) + 0 * x
    for m in range(1, 13):
        for q in range(1, 4):
            phase = 2 * math.pi * (m * x / channel.length + rng.uniform())
            buoyancy += 0.03 * rng.uniform() * np.sin(q * math.pi * z) * np.cos(phase)
    return buoyancy


def simulate(
    shape: tuple[int, ...],
    times: Array,
    parameters: Mapping[str, float],
    rngs: Sequence[np.random.Generator],
) -> Trajectories:
    """Solve one convection per random generator, one after the other: each has its own steps."""
    flow = Convection(shape, parameters["Rayleigh"], parameters["Prandtl"])
    runs = [_simulate_one(flow, times, rng) for rng in rngs]
    return Trajectories({name: np.stack([run[name] for run in runs]) for name in runs[0]})


def _simulate_one(flow: Convection, times: Array, rng: np.random.Generator) -> dict[str, Array]:
    channel = flow.channel
    nodes = channel.at(stored_nodes(channel.nz))
    profile = torch.from_numpy(1 - channel.z)[:, None]
    x = torch.zeros(3, channel.nz, channel.n_modes, dtype=torch.complex128)
    x[0] = channel.modes(torch.from_numpy(initial_buoyancy(channel, rng)) - profile)
    record: dict[str, list[Tensor]] = {"buoyancy": [], "pressure": [], "velocity": []}
    time, done = 0.0, 0
    for moment in times:
        while time < moment - PIECE / 2:
            try:
                x, steps = flow.stepper.advance(x, PIECE)
            except SolverDivergedError as error:
                raise SolverDivergedError(done + error.step) from error
            time, done = time + PIECE, done + steps
        fields = torch.cat([x, flow.pressure(x)[None]])
        buoyancy, u, w, pressure = (nodes @ channel.values(fields)).transpose(-2, -1)
        record["buoyancy"].append(
            (buoyancy + 1 - torch.from_numpy(stored_nodes(channel.nz))).float()
        )
        record["pressure"].append(pressure.float())
        record["velocity"].append(torch.stack([u, w], -1).float())
    return {name: torch.stack(items).numpy() for name, items in record.items()}


def stored_nodes(n: int) -> Array:
    """Chebyshev's roots, as The Well stores: closer near the walls, none on them."""
    return np.asarray(HEIGHT / 2 * (1 - np.cos(math.pi * (np.arange(n) + 0.5) / n)))


def coordinates(shape: tuple[int, ...]) -> Mapping[str, Array]:
    """Evenly spaced points of [0, 4) along x, Chebyshev's roots between the walls."""
    return {"x": np.arange(shape[0]) * LENGTH / shape[0], "y": stored_nodes(shape[1])}


def snapshot_times(shape: tuple[int, ...], n_snapshots: int) -> Array:
    return (START if shape[0] > 64 else START_TINY) + np.arange(n_snapshots) * SNAPSHOT


SYSTEM = System(
    name="rayleigh_benard",
    version=1,
    shapes={"tiny": (48, 24), "small": (128, 32), "large": (128, 32)},
    boundary_conditions=(("periodic", "periodic"), ("wall", "wall")),
    parameters=(
        {"Rayleigh": 1e6, "Prandtl": 1.0},
        {"Rayleigh": 1e6, "Prandtl": 0.5},
        {"Rayleigh": 1e6, "Prandtl": 2.0},
        {"Rayleigh": 2e6, "Prandtl": 1.0},
    ),
    batch=2,
    coordinates=coordinates,
    times=snapshot_times,
    simulate=simulate,
)
