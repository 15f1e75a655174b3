"""Periodic shear flow: incompressible layers that slide past each other, roll up and carry a
tracer.

    u_t + u . grad u + grad p = nu lap u,   div u = 0,   s_t + u . grad s = D lap s

with nu = 1 / Reynolds and D = nu / Schmidt,

on [0, 1] x [-1, 1], periodic. The vorticity omega = v_x - u_y and the tracer are stepped in Fourier
space by ETDRK4 with the two-thirds rule; the mean flow is conserved; the pressure follows from -lap
p = div(u . grad u), with mean zero.

Departures from The Well's: 64 x 128 in place of 256 x 512, hence Reynolds 1000 or 2000 in place of
10^4 to 5 x 10^5, Schmidt 0.5 or 1 in place of 0.1 to 10, and layers at least 2.25 cells thick; the
layers are summed over periodic images and the ripples have whole wavelengths, as The Well's
formulas leave kinks at the seams; every layer's ripples have phases of their own, so that no two
trajectories start alike; the initial velocity is made divergence-free.

References: Ohana et al., The Well, 2024, arXiv:2412.00568 (shear_flow); Burns et al., Dedalus,
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

from wavelit.data.pocketwell.spectral import ETDRK4, FourierGrid
from wavelit.data.pocketwell.system import SolverDivergedError, System, Trajectories

__all__ = ["SYSTEM", "ShearFlow", "initial_state"]

Array = npt.NDArray[Any]

LENGTHS = (1.0, 2.0)
# Time between snapshots: twice The Well's, so that 60 of them hold the roll-up and the pairing that
# follows.
SNAPSHOT = 0.2
# Steps between snapshots at 64 cells a unit length: |u| k_max dt stays below 2; ETDRK4 bears about
# 2.8.
STEPS = 10


class ShearFlow:
    """Vorticity and tracer on a Fourier grid; all trajectories share viscosity and diffusivity.

    Args:
        shape: points along x and y.
        viscosity: nu.
        diffusivity: D of the tracer.
        mean_velocity: (B, 2), conserved.
        dt: step of ETDRK4.
    """

    def __init__(
        self,
        shape: Sequence[int],
        viscosity: float,
        diffusivity: float,
        mean_velocity: Tensor,
        dt: float,
    ) -> None:
        self.grid = FourierGrid(shape, LENGTHS)
        self.mean_velocity = mean_velocity
        linear = torch.stack([-viscosity * self.grid.k2, -diffusivity * self.grid.k2])
        self.stepper = ETDRK4(linear, dt, self._advection)

    def modes(self, velocity: Tensor, tracer: Tensor) -> Tensor:
        """(B, 2, H, W) and (B, H, W) -> dealiased modes of (vorticity, tracer), (B, 2, H, W // 2
        + 1).
        """
        u, v = self.grid.forward(velocity).unbind(1)
        vorticity = 1j * (self.grid.kx * v - self.grid.ky * u)
        modes: Tensor = torch.stack([vorticity, self.grid.forward(tracer)], 1) * self.grid.kept
        return modes

    def velocity(self, modes: Tensor) -> Tensor:
        """The divergence-free velocity of the vorticity, (B, 2, H, W)."""
        stream = modes[:, 0] * self.grid.inverse_k2
        swirl = torch.stack([1j * self.grid.ky * stream, -1j * self.grid.kx * stream], 1)
        return self.grid.backward(swirl) + self.mean_velocity[..., None, None]

    def pressure(self, velocity: Tensor) -> Tensor:
        """The pressure of mean zero that keeps the velocity divergence-free, (B, H, W)."""
        u, v = velocity.unbind(1)
        kx, ky = self.grid.kx, self.grid.ky
        uu, uv, vv = (self.grid.forward(product) for product in (u * u, u * v, v * v))
        modes = (
            -(kx**2 * uu + 2 * kx * ky * uv + ky**2 * vv) * self.grid.inverse_k2 * self.grid.kept
        )
        return self.grid.backward(modes)

    def tracer(self, modes: Tensor) -> Tensor:
        return self.grid.backward(modes[:, 1])

    def _advection(self, modes: Tensor) -> Tensor:
        """-div(u q) for q = vorticity and tracer."""
        q = self.grid.backward(modes)
        u, v = self.velocity(modes).unbind(1)
        along_x, along_y = self.grid.forward(u[:, None] * q), self.grid.forward(v[:, None] * q)
        tendency: Tensor = -1j * (self.grid.kx * along_x + self.grid.ky * along_y) * self.grid.kept
        return tendency


def initial_state(shape: Sequence[int], rng: np.random.Generator) -> tuple[Array, Array]:
    """A random set of shear layers: velocity (2, H, W) before projection, and the tracer (H, W).

    n layers (2 or 4) of alternating sign, tanh((y - y_k) / delta) with delta = U(2.25, 4.5) cells,
    between speeds -1/2 and 1/2. Each is displaced across by ripples of one and of two waves, a
    sin(2 pi m x + phase) exp(-((y - y_k) / delta)^2): the leading one (m = 1 or 2, the same for all
    layers) has a = 0.1, the other a third of it. The tracer equals u.
    """
    x, y = (
        a.reshape(s)
        for a, s in zip(coordinates(tuple(shape)).values(), ((-1, 1), (1, -1)), strict=True)
    )
    n_shear = int(rng.choice([2, 4]))
    leading = int(rng.choice([1, 2]))
    delta = rng.uniform(2.25, 4.5) * LENGTHS[0] / shape[0]
    u = np.full(tuple(shape), 0.5)
    v = np.zeros(tuple(shape))
    for k in range(n_shear):
        centre = -LENGTHS[1] / 2 + (k + 0.5) * LENGTHS[1] / n_shear
        ripple = np.zeros_like(x)
        for m in (1, 2):
            ripple += (0.1 if m == leading else 0.1 / 3) * np.sin(
                2 * math.pi * m * x + rng.uniform(0, 2 * math.pi)
            )
        for image in (-1, 0, 1):
            distance = (y - centre - image * LENGTHS[1]) / delta
            u += (0.5 if k % 2 else -0.5) * np.tanh(distance)
            v += ripple * np.exp(-(distance**2))
    return np.stack([u, v]), u.copy()


def simulate(
    shape: tuple[int, ...],
    times: Array,
    parameters: Mapping[str, float],
    rngs: Sequence[np.random.Generator],
) -> Trajectories:
    """Solve one set of layers per random generator."""
    starts = [initial_state(shape, rng) for rng in rngs]
    velocity = torch.from_numpy(np.stack([start[0] for start in starts]))
    tracer = torch.from_numpy(np.stack([start[1] for start in starts]))
    viscosity = 1 / parameters["Reynolds"]
    # A coarser grid has a smaller k_max, the bound on the step grows with it.
    steps = max(1, math.ceil(STEPS * shape[0] / 64))
    flow = ShearFlow(
        shape,
        viscosity,
        viscosity / parameters["Schmidt"],
        velocity.mean((-2, -1)),
        SNAPSHOT / steps,
    )
    modes = flow.modes(velocity, tracer)
    record: dict[str, list[Tensor]] = {"tracer": [], "pressure": [], "velocity": []}
    for snapshot in range(len(times)):
        if snapshot:
            for _ in range(steps):
                modes = flow.stepper.step(modes)
        if not bool(modes.isfinite().all()):
            raise SolverDivergedError(snapshot * steps)
        now = flow.velocity(modes)
        record["tracer"].append(flow.tracer(modes).float())
        record["pressure"].append(flow.pressure(now).float())
        record["velocity"].append(now.movedim(1, -1).float())
    return Trajectories({name: torch.stack(items, 1).numpy() for name, items in record.items()})


def coordinates(shape: tuple[int, ...]) -> Mapping[str, Array]:
    """Points of [0, 1) x [-1, 1)."""
    nx, ny = shape
    return {
        "x": np.arange(nx) * LENGTHS[0] / nx,
        "y": np.arange(ny) * LENGTHS[1] / ny - LENGTHS[1] / 2,
    }


def snapshot_times(shape: tuple[int, ...], n_snapshots: int) -> Array:
    return np.arange(n_snapshots) * SNAPSHOT


SYSTEM = System(
    name="shear_flow",
    version=1,
    shapes={
        "tiny": (32, 64),
        "small": (64, 128),
        "large": (64, 128),
        "double": (128, 256),
        "full": (256, 512),
    },
    boundary_conditions=(("periodic", "periodic"), ("periodic", "periodic")),
    parameters=(
        {"Reynolds": 1000.0, "Schmidt": 0.5},
        {"Reynolds": 2000.0, "Schmidt": 1.0},
        {"Reynolds": 1000.0, "Schmidt": 1.0},
        {"Reynolds": 2000.0, "Schmidt": 0.5},
    ),
    batch=6,
    coordinates=coordinates,
    times=snapshot_times,
    simulate=simulate,
)
