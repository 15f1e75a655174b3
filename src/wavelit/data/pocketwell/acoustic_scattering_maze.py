"""Acoustic waves in mazes: pressure rings burst in the corridors, walls 300,000 times denser
reflect them.

Corridors carve a random spanning tree (depth-first search with backtracking) of m x m rooms, 3 <= m
<= 7; doors in both y sides let waves out, the x sides reflect. K = 4, rho = 3 in corridors and 10^6
in walls. One to six rings of amplitude U(3, 5) start each trajectory, cut off at the walls.

Departures from The Well's: 64 x 64 in place of 256 x 256; rings 2.5 to 5 cells in radius and 2
wide, as its rings of 1 to 5 of its cells would fall between these; the record starts once waves
run, since a velocity that is still zero has no variance to measure an error against.

References: Ohana et al., The Well, 2024, arXiv:2412.00568 (acoustic_scattering_maze).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from wavelit.data.pocketwell.acoustics import Acoustics
from wavelit.data.pocketwell.system import System, Trajectories

__all__ = ["SYSTEM", "maze", "rings"]

Array = npt.NDArray[Any]

BULK_MODULUS = 4.0
DENSITY_PATH, DENSITY_WALL = 3.0, 1e6
LENGTH = 2.0
# Narrowest corridor, in cells of the small grid: four carry a wave front, two do not.
CORRIDOR = 4
# Points of that grid along an axis. A finer one has the same mazes, rings and times on more cells;
# on a coarser one they have as many cells, as fewer would not carry them.
SMALL = 64
ROOMS = 3
# Time between snapshots in units of that cell: 0.02, The Well's; a wave runs 0.74 cells.
SNAPSHOT = 0.64
# Snapshots skipped at the start, while the velocity grows from zero.
SKIPPED = 5


def maze(n: int, rng: np.random.Generator) -> Array:
    """A maze: (n, n) bool, true in the corridors, which are connected and reach both y sides."""
    most = (n // _finer(n) // CORRIDOR - 1) // 2
    rooms = int(rng.integers(ROOMS, max(ROOMS, most) + 1))
    # Rooms at even x and odd y, walls between; the x sides of the domain reflect, the y sides get a
    # wall.
    plan = np.zeros((2 * rooms - 1, 2 * rooms + 1), bool)
    room = tuple(int(i) for i in rng.integers(rooms, size=2))
    plan[2 * room[0], 2 * room[1] + 1] = True
    trail = [room]
    while trail:
        i, j = trail[-1]
        ahead = [(i + di, j + dj) for di, dj in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        ahead = [
            (a, b)
            for a, b in ahead
            if 0 <= a < rooms and 0 <= b < rooms and not plan[2 * a, 2 * b + 1]
        ]
        if not ahead:
            trail.pop()
            continue
        a, b = ahead[int(rng.integers(len(ahead)))]
        plan[i + a, j + b + 1] = True
        plan[2 * a, 2 * b + 1] = True
        trail.append((a, b))
    for side in (0, -1):
        doors = rng.choice(rooms, size=int(rng.integers(1, rooms)), replace=False)
        plan[2 * doors, side] = True
    rows, columns = (np.arange(n) * size // n for size in plan.shape)
    return plan[np.ix_(rows, columns)]


def rings(paths: Array, rng: np.random.Generator) -> Array:
    """One to six pressure rings centred in corridors, zero in walls: (n, n)."""
    n, finer = len(paths), _finer(len(paths))
    pressure = np.zeros((n, n))
    places = np.argwhere(paths)
    cells = np.arange(n)
    for _ in range(int(rng.integers(1, 7))):
        x, y = places[int(rng.integers(len(places)))]
        radius, width = rng.uniform(2.5, 5.0) * finer, 2.0 * finer
        distance = np.hypot(cells[:, None] - x, cells[None, :] - y)
        pressure += rng.uniform(3.0, 5.0) * np.exp(-(((distance - radius) / width) ** 2))
    return pressure * paths


def simulate(
    shape: tuple[int, ...],
    times: Array,
    parameters: Mapping[str, float],
    rngs: Sequence[np.random.Generator],
) -> Trajectories:
    """Solve one maze per random generator."""
    paths = np.stack([maze(shape[0], rng) for rng in rngs])
    pressure = np.stack([rings(paths[i], rng) for i, rng in enumerate(rngs)])
    density = torch.from_numpy(np.where(paths, DENSITY_PATH, DENSITY_WALL))
    state = torch.zeros(len(rngs), 3, *shape, dtype=torch.float64)
    state[:, 0] = torch.from_numpy(pressure)
    spacing = tuple(LENGTH / n for n in shape)
    record = Acoustics(density, BULK_MODULUS, spacing, SYSTEM.boundary_conditions).solve(
        state, times.tolist()
    )
    record = record.float()
    return Trajectories(
        fields={
            "pressure": record[:, :, 0].numpy(),
            "velocity": record[:, :, 1:].movedim(2, -1).numpy(),
        },
        constant_fields={
            "density": density.float().numpy(),
            "speed_of_sound": (BULK_MODULUS / density).sqrt().float().numpy(),
        },
    )


def coordinates(shape: tuple[int, ...]) -> Mapping[str, Array]:
    """Cell centres of [-1, 1]^2."""
    return {
        axis: (np.arange(n) + 0.5) * LENGTH / n - 1 for axis, n in zip("xy", shape, strict=True)
    }


def snapshot_times(shape: tuple[int, ...], n_snapshots: int) -> Array:
    cell = LENGTH / shape[0] * _finer(shape[0])
    return (SKIPPED + np.arange(n_snapshots)) * SNAPSHOT * cell


def _finer(n: int) -> int:
    """How many times more cells an axis has than that of the small grid."""
    return max(1, n // SMALL)


SYSTEM = System(
    name="acoustic_scattering_maze",
    version=1,
    shapes={
        "tiny": (32, 32),
        "small": (64, 64),
        "large": (64, 64),
        "double": (128, 128),
        "full": (256, 256),
    },
    boundary_conditions=(("wall", "wall"), ("open", "open")),
    parameters=({},),
    batch=4,
    coordinates=coordinates,
    times=snapshot_times,
    simulate=simulate,
)
