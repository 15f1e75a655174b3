"""Acoustic waves in two smooth media that meet at a straight line, with ellipses of other densities
within.

Either side of the line has a Gaussian bump, a bilinear gradient, a constant or smoothed noise for
its density, between about 1 and 7; up to 14 rotated ellipses have ln rho = U(-1, 10), so that most
of them reflect like walls. K = 4. One to three pressure rings start each trajectory, cut off in the
ellipses.

Departures from The Well's: 64 x 64 in place of 256 x 256, with noise smoothed over the same
lengths; rings and ellipses at least 2.6 and 3 of these cells wide; rings that fall within the
ellipses are drawn anew; the record starts once waves run, since a velocity that is still zero has
no variance to measure an error against. The x sides reflect and the y sides are open, as its
description says.

References: Ohana et al., The Well, 2024, arXiv:2412.00568 (acoustic_scattering_inclusions).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter

from wavelit.data.pocketwell.acoustics import Acoustics
from wavelit.data.pocketwell.system import System, Trajectories

__all__ = ["SYSTEM", "medium", "rings"]

Array = npt.NDArray[Any]

BULK_MODULUS = 4.0
LENGTH = 2.0
LOW, HIGH = 1.0, 7.0
# The Well's grid, in whose cells the smoothing of its noise is given.
WELL_CELLS = 256
# Least width of an ellipse and least half-width of a ring: 3 and 2.6 cells of 64.
ELLIPSE, RING = 0.1, 0.08
# Least share of the rings' pressure outside of the ellipses.
SHARE = 0.3
SNAPSHOT = 0.02
# Snapshots skipped at the start, while the velocity grows from zero.
SKIPPED = 5


def bump(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """A Gaussian, exp(-r^2 / s) with s = U(0.1, 5), between two densities."""
    base, peak = rng.uniform(LOW, HIGH, 2)
    centre = rng.uniform(x.min(), x.max()), rng.uniform(y.min(), y.max())
    squared = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
    density: Array = base + (peak - base) * np.exp(-squared / rng.uniform(0.1, 5.0))
    return density


def gradient(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Bilinear between four corners."""
    corners = rng.uniform(LOW, HIGH, (2, 2))
    a, b = (x - x.min()) / np.ptp(x), (y - y.min()) / np.ptp(y)
    density: Array = (1 - a) * ((1 - b) * corners[0, 0] + b * corners[0, 1])
    density = density + a * ((1 - b) * corners[1, 0] + b * corners[1, 1])
    return density


def constant(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """One density."""
    return np.full(np.broadcast_shapes(x.shape, y.shape), rng.uniform(LOW, HIGH))


def noise(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """A density plus white noise smoothed over 5 to 10 cells of The Well."""
    shape = np.broadcast_shapes(x.shape, y.shape)
    coarser = WELL_CELLS / shape[0]
    base, sigma = rng.uniform(LOW, HIGH), rng.uniform(5.0, 10.0)
    # Coarser cells average the white noise.
    white = rng.standard_normal(shape) / coarser
    smooth: Array = base + gaussian_filter(white, sigma / coarser)
    return smooth


BACKGROUNDS: tuple[Callable[[Array, Array, np.random.Generator], Array], ...] = (
    bump,
    gradient,
    constant,
    noise,
)


def medium(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Array, Array]:
    """Density (H, W), and where the ellipses are, (H, W) bool."""
    x, y = _axes(shape)
    along_x = bool(rng.integers(2))
    line = rng.uniform(-0.8, 0.8)
    first = (x if along_x else y) < line
    density = np.empty(shape)
    for side in (first, ~first):
        density_here = BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))]
        where = np.broadcast_to(side, shape)
        part = (x[side[:, 0]], y) if along_x else (x, y[:, side[0]])
        density[where] = density_here(*part, rng).ravel()
    inside = np.zeros(shape, bool)
    for _ in range(int(rng.integers(1, 15))):
        centre = rng.uniform(-0.95, 0.95, 2)
        width, height = rng.uniform(ELLIPSE, 0.6, 2)
        angle = np.radians(rng.uniform(-45, 45))
        dx, dy = x - centre[0], y - centre[1]
        a = dx * np.cos(angle) + dy * np.sin(angle)
        b = dy * np.cos(angle) - dx * np.sin(angle)
        ellipse = (2 * a / width) ** 2 + (2 * b / height) ** 2 <= 1
        density[ellipse] = np.exp(rng.uniform(-1.0, 10.0))
        inside |= ellipse
    return density, inside


def rings(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """One to three rings of pressure I + cos(pi (r - R) / w) for |r - R| <= w, I = U(0.5, 2):
    (H, W).
    """
    x, y = _axes(shape)
    pressure = np.zeros(shape)
    for _ in range(int(rng.integers(1, 4))):
        centre = rng.uniform(-0.95, 0.95, 2)
        width = rng.uniform(RING, 0.15)
        radius = rng.uniform(width + 0.01, 0.3)
        away = np.hypot(x - centre[0], y - centre[1]) - radius
        pressure += (np.abs(away) <= width) * (rng.uniform(0.5, 2.0) + np.cos(np.pi * away / width))
    return pressure


def simulate(
    shape: tuple[int, ...],
    times: Array,
    parameters: Mapping[str, float],
    rngs: Sequence[np.random.Generator],
) -> Trajectories:
    """Solve one medium per random generator, each alone: its fastest inclusion sets its time
    step.
    """
    records, densities = [], []
    spacing = tuple(LENGTH / n for n in shape)
    for rng in rngs:
        density, inside = medium(shape, rng)
        pressure = rings(shape, rng)
        # Rings that fall within the ellipses are drawn anew: next to nothing would be left to run.
        while np.abs(pressure[~inside]).sum() < SHARE * np.abs(pressure).sum():
            pressure = rings(shape, rng)
        state = torch.zeros(1, 3, *shape, dtype=torch.float64)
        state[0, 0] = torch.from_numpy(pressure * ~inside)
        solver = Acoustics(
            torch.from_numpy(density)[None], BULK_MODULUS, spacing, SYSTEM.boundary_conditions
        )
        records.append(solver.solve(state, times.tolist()).float())
        densities.append(density)
    record, media = torch.cat(records), np.stack(densities)
    return Trajectories(
        fields={
            "pressure": record[:, :, 0].numpy(),
            "velocity": record[:, :, 1:].movedim(2, -1).numpy(),
        },
        constant_fields={
            "density": media.astype(np.float32),
            "speed_of_sound": np.sqrt(BULK_MODULUS / media).astype(np.float32),
        },
    )


def coordinates(shape: tuple[int, ...]) -> Mapping[str, Array]:
    """Cell centres of [-1, 1]^2."""
    return {
        axis: (np.arange(n) + 0.5) * LENGTH / n - 1 for axis, n in zip("xy", shape, strict=True)
    }


def snapshot_times(shape: tuple[int, ...], n_snapshots: int) -> Array:
    return (SKIPPED + np.arange(n_snapshots)) * SNAPSHOT


def _axes(shape: tuple[int, ...]) -> tuple[Array, Array]:
    """x as a column (H, 1), y as a row (1, W)."""
    x, y = coordinates(shape).values()
    return x[:, None], y[None, :]


SYSTEM = System(
    name="acoustic_scattering_inclusions",
    version=1,
    shapes={"tiny": (32, 32), "small": (64, 64), "large": (64, 64)},
    boundary_conditions=(("wall", "wall"), ("open", "open")),
    parameters=({},),
    batch=4,
    coordinates=coordinates,
    times=snapshot_times,
    simulate=simulate,
    unseen=True,
)
