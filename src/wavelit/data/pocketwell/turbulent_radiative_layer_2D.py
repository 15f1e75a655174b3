"""A turbulent radiative mixing layer: hot thin gas slides over cold dense gas, mixes with it and
cools.

    E_t + div((E + p) v) = -rho^2 Lambda(T),   T = p / rho,   gamma = 5/3
    Lambda = Lambda_0 max(exp(-x^2 / 2 s^2) - exp(-x_0^2 / 2 s^2), 0),   x = ln(T / T_mix)

beside the Euler equations. Lambda is log-normal about T_mix = sqrt(T_cold T_hot), less its own
value at T_cold and T_hot (x = -+x_0), where heating balances cooling. tcool is the shortest of the
cooling times p / ((gamma - 1) rho^2 Lambda) at the initial pressure. Cooling is integrated exactly
in time at constant density (Townsend).

Departures from The Well's: 32 x 96 in place of 128 x 384; an interface and a seed noise of the size
of these cells; the record starts once the layer is mixing; no net flow through the lower side. Not
published, and set by the statistics of The Well's data: the shear, which time tcool is, that lower
side.

References: Fielding, Ostriker, Bryan, Jermyn, Multiphase gas and the fractal nature of radiative
turbulent mixing layers, 2020, arXiv:2003.08390, and its authors' public problem generator (curve,
interface); Ohana et al., The Well, 2024, arXiv:2412.00568; Townsend, Astrophys. J. Suppl. 181, 2009
(exact cooling).
"""

# The module bears The Well's name of the system.
# ruff: noqa: N999

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wavelit.data.pocketwell.euler import Euler, conserved, primitive
from wavelit.data.pocketwell.system import System, Trajectories

__all__ = ["SYSTEM", "Cooling", "initial_state"]

Array = npt.NDArray[Any]

GAMMA = 5 / 3
PRESSURE = 1.0
DENSITY_HOT, CONTRAST = 1.0, 100.0
# Of the hot gas along x, relative to the cold gas: Mach 0.08, from the spread of velocity in The
# Well's data.
SHEAR = 0.1
BOX = ((-0.5, 0.5), (-1.0, 2.0))
# Value of the log-normal at T_cold and T_hot that is taken off; its authors state 0.1 to 2 %.
FLOOR = 0.01
# Half-width of the interface in cells.
THICKNESS = 1.0
# Waves of the seed noise along x, and its strength in units of the shear.
WAVES, NOISE = 8, 0.5
# Nothing holds the cold gas from below when the cooling lowers the pressure: without a balance it
# would rise.
SIDES = (("periodic", "periodic"), ("balanced", "open"))
SNAPSHOT = 0.8
SKIPPED = 20


class Cooling:
    """Radiative cooling at constant density, T_t = -(gamma - 1) rho Lambda(T), integrated exactly.

    Y(T) = integral of dT' / Lambda(T') from T to T_mix grows at the rate (gamma - 1) rho, so T
    after a step is the inverse of Y; Y is tabulated, linear between nodes that crowd towards T_cold
    and T_hot, where it has logarithmic poles. Outside of the nodes, within a millionth of T_cold
    and T_hot, nothing cools.

    Args:
        tcool: shortest cooling time at the initial pressure.
        nodes: of the table.
    """

    def __init__(self, tcool: float, nodes: int = 4097) -> None:
        reach = 0.5 * math.log(CONTRAST)
        self.mixed = PRESSURE / DENSITY_HOT / math.sqrt(CONTRAST)
        self.variance = reach**2 / (-2 * math.log(FLOOR))
        self.peak = 1.0
        # The thermal energy P / (gamma - 1) over the cooling rate, at the initial pressure, where
        # it is least.
        t = self.mixed * np.exp(np.linspace(-reach, reach, 4001)[1:-1])
        self.peak = float((t**2 / self.rate(t)).min()) / ((GAMMA - 1) * PRESSURE * tcool)
        x = reach * np.tanh(np.linspace(-6, 6, nodes)) / np.tanh(6.01)
        # dY = -dT / Lambda by Gauss-Legendre in x, as T = T_mix e^x.
        points, weights = np.polynomial.legendre.leggauss(8)
        middle, half = 0.5 * (x[1:] + x[:-1]), 0.5 * np.diff(x)
        inside = self.mixed * np.exp(middle[:, None] + half[:, None] * points)
        pieces = half * (weights * inside / self.rate(inside)).sum(-1)
        # From the hot end, as Y must increase for the search.
        temperature = self.mixed * np.exp(x[::-1])
        self.temperature = torch.from_numpy(temperature.copy())
        self.time = torch.from_numpy(np.concatenate([[0.0], np.cumsum(pieces[::-1])]))

    def rate(self, temperature: Array) -> Array:
        """Lambda(T)."""
        x = np.log(temperature / self.mixed)
        curve: Array = np.exp(-(x**2) / (2 * self.variance)) - FLOOR
        return self.peak * np.maximum(curve, 0.0)

    def cool(self, temperature: Tensor, dose: Tensor) -> Tensor:
        """Temperatures after the dose (gamma - 1) rho dt."""
        inside = (temperature < self.temperature[0]) & (temperature > self.temperature[-1])
        start = _interpolate(-temperature, -self.temperature, self.time)
        return torch.where(
            inside, _interpolate(start + dose, self.time, self.temperature), temperature
        )

    def __call__(self, state: Tensor, dt: Tensor) -> Tensor:
        """The conserved state (B, 4, H, W) after cooling for dt (B, 1, 1, 1)."""
        rho, _, _, p = primitive(state, GAMMA).unbind(1)
        before = p / rho
        after = self.cool(before, (GAMMA - 1) * rho * dt[:, 0])
        loss = rho * (before - after) / (GAMMA - 1)
        return torch.cat([state[:, :3], (state[:, 3] - loss)[:, None]], 1)


def _interpolate(at: Tensor, nodes: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear through (nodes, values), constant outside; nodes increase."""
    at = at.contiguous().clamp(float(nodes[0]), float(nodes[-1]))
    upper = torch.searchsorted(nodes, at).clamp(min=1)
    low, high = nodes[upper - 1], nodes[upper]
    below, above = values[upper - 1], values[upper]
    return below + (at - low) / (high - low) * (above - below)


def initial_state(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Cold gas below y = 0, hot gas above, in shear and at one pressure: (rho, u, v, p), (4, H, W).

    Density and u follow tanh(y / d); v = NOISE SHEAR exp(-(y / 2 d)^2) n(x), n a sum of 8 waves of
    random phase and amplitude with unit variance.
    """
    x, y = (
        a.reshape(s) for a, s in zip(coordinates(shape).values(), ((-1, 1), (1, -1)), strict=True)
    )
    d = THICKNESS / shape[0]
    cold = 0.5 * (1 - np.tanh(y / d)) + 0 * x
    wave = 2 * math.pi * np.arange(1, WAVES + 1)
    amplitude = rng.normal(size=(2, WAVES))
    noise = np.cos(wave * x) @ amplitude[0] + np.sin(wave * x) @ amplitude[1]
    noise = noise[:, None] * math.sqrt(2 / (amplitude**2).sum())
    return np.stack(
        [
            DENSITY_HOT * (1 + (CONTRAST - 1) * cold),
            SHEAR * (0.5 - cold),
            NOISE * SHEAR * np.exp(-((y / (2 * d)) ** 2)) * noise,
            np.full(shape, PRESSURE),
        ]
    )


def simulate(
    shape: tuple[int, ...],
    times: Array,
    parameters: Mapping[str, float],
    rngs: Sequence[np.random.Generator],
) -> Trajectories:
    """Solve one seed noise per random generator."""
    start = torch.from_numpy(np.stack([initial_state(shape, rng) for rng in rngs]))
    spacing = tuple((high - low) / n for (low, high), n in zip(BOX, shape, strict=True))
    gas = Euler(GAMMA, spacing, SIDES, source=Cooling(parameters["tcool"]), courant=0.8)
    record = gas.solve(conserved(start, GAMMA), times.tolist())
    record = primitive(record.transpose(1, 2), GAMMA).float()
    return Trajectories(
        {
            "density": record[:, 0].numpy(),
            "pressure": record[:, 3].numpy(),
            "velocity": record[:, 1:3].movedim(1, -1).numpy(),
        }
    )


def coordinates(shape: tuple[int, ...]) -> Mapping[str, Array]:
    """Cell centres."""
    return {
        axis: low + (np.arange(n) + 0.5) * (high - low) / n
        for axis, n, (low, high) in zip("xy", shape, BOX, strict=True)
    }


def snapshot_times(shape: tuple[int, ...], n_snapshots: int) -> Array:
    return (SKIPPED + np.arange(n_snapshots)) * SNAPSHOT


SYSTEM = System(
    name="turbulent_radiative_layer_2D",
    version=1,
    shapes={"tiny": (16, 48), "small": (32, 96), "large": (32, 96)},
    boundary_conditions=(("periodic", "periodic"), ("open", "open")),
    # The Well's nine values, ordered so that the few trajectories of a small split spread over
    # them.
    parameters=tuple({"tcool": t} for t in (0.03, 0.32, 3.16, 0.1, 1.0, 0.06, 0.56, 0.18, 1.78)),
    batch=4,
    coordinates=coordinates,
    times=snapshot_times,
    simulate=simulate,
)
