"""Euler gas from random quadrants on a torus: shocks, rarefactions and contacts that meet again and
again.

    rho_t + div m = 0,  m_t + div(m m / rho) + grad p = 0,  E_t + div((E + p) m / rho) = 0

with E = p / (gamma - 1) + |m|^2 / (2 rho) on [0, 1]^2, periodic. A cross divides the torus into
blocks of constant density, velocity and pressure; each edge between two blocks is a Riemann
problem.

Departures from The Well's: 64 x 64 in place of 512 x 512 with refinement, no adaptive mesh; the
random law of the blocks is made up, since its own is not published, with spreads of its order; the
record starts once the jumps have moved apart, about a cell and a half into the first interval.

References: Ohana et al., The Well, 2024, arXiv:2412.00568 (euler_multi_quadrants_periodicBC); Lax
and Liu, Solution of two-dimensional Riemann problems of gas dynamics by positive schemes, SIAM J.
Sci. Comput. 19, 1998; Schulz-Rinne, Collins, Glaz, SIAM J. Sci. Comput. 14, 1993.
"""

# The module bears The Well's name of the system.
# ruff: noqa: N999

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from wavelit.data.pocketwell.euler import Euler, conserved, primitive
from wavelit.data.pocketwell.system import System, Trajectories

__all__ = ["SYSTEM", "quadrants"]

Array = npt.NDArray[Any]

SNAPSHOT = 0.015


def quadrants(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Blocks of constant state: (rho, u, v, p), (4, H, W).

    Two or three cuts a side at random, at least an eighth apart, give 4 to 9 blocks; in each ln rho
    and ln p are uniform between ln 0.2 and ln 2, u and v between -0.8 and 0.8.
    """
    blocks = []
    for n in shape:
        count = int(rng.integers(2, 4))
        while True:
            cuts = np.sort(rng.integers(n, size=count))
            if np.diff(cuts, append=cuts[0] + n).min() >= n // 8:
                break
        # Cells before the first cut belong to the block that wraps around.
        blocks.append(np.searchsorted(cuts, np.arange(n), side="right") % count)
    size = tuple(int(block.max()) + 1 for block in blocks)
    rho, p = np.exp(rng.uniform(np.log(0.2), np.log(2.0), (2, *size)))
    u, v = rng.uniform(-0.8, 0.8, (2, *size))
    return np.stack([rho, u, v, p])[:, blocks[0][:, None], blocks[1][None, :]]


def simulate(
    shape: tuple[int, ...],
    times: Array,
    parameters: Mapping[str, float],
    rngs: Sequence[np.random.Generator],
) -> Trajectories:
    """Solve one set of blocks per random generator."""
    gamma = parameters["gamma"]
    start = torch.from_numpy(np.stack([quadrants(shape, rng) for rng in rngs]))
    gas = Euler(gamma, tuple(1 / n for n in shape), SYSTEM.boundary_conditions)
    record = gas.solve(conserved(start, gamma), times.tolist())
    pressure = primitive(record.transpose(1, 2), gamma)[:, 3]
    return Trajectories(
        {
            "energy": record[:, :, 3].float().numpy(),
            "density": record[:, :, 0].float().numpy(),
            "pressure": pressure.float().numpy(),
            "momentum": record[:, :, 1:3].movedim(2, -1).float().numpy(),
        }
    )


def coordinates(shape: tuple[int, ...]) -> Mapping[str, Array]:
    """Cell centres of [0, 1]^2."""
    return {axis: (np.arange(n) + 0.5) / n for axis, n in zip("xy", shape, strict=True)}


def snapshot_times(shape: tuple[int, ...], n_snapshots: int) -> Array:
    return (1 + np.arange(n_snapshots)) * SNAPSHOT


SYSTEM = System(
    name="euler_multi_quadrants_periodicBC",
    version=1,
    shapes={"tiny": (32, 32), "small": (64, 64), "large": (64, 64)},
    boundary_conditions=(("periodic", "periodic"), ("periodic", "periodic")),
    # The Well's ten gases, ordered so that the few trajectories of a small split spread over them.
    parameters=tuple(
        {"gamma": gamma} for gamma in (1.4, 1.13, 1.76, 1.3, 1.22, 1.453, 1.365, 1.597, 1.33, 1.404)
    ),
    batch=4,
    coordinates=coordinates,
    times=snapshot_times,
    simulate=simulate,
    unseen=True,
)
