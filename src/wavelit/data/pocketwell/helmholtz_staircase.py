"""Sound of a point source above an infinite sound-hard staircase, at one frequency.

    -(lap + omega^2) u = delta(x - x0) above y = -|x| continued with period 1,   du/dn = 0 on it,
    U(t, x) = u(x) exp(-i omega t)

The stairs guide waves: below omega = 2.55 a trapped wave runs along them to both sides without
loss, beside the sound that is radiated upwards. The spatial solution is computed to 3e-6 or better
(`helmholtz`), the time factor is exact; a step is 1/50 of a period whatever omega is, so that it
turns (re, im) by a fixed angle.

Departures from The Well's: 256 x 64 points in place of 1024 x 256; sources anywhere among The
Well's 32 positions instead of on them, so that none occurs twice; 60 snapshots in place of 50; time
is counted in periods. As in The Well's, `mask` is 1 on points inside the stairs, where the fields
are 0.

References: Ohana et al., The Well, 2024, arXiv:2412.00568 (helmholtz_staircase); Agocs, Barnett,
Trapped acoustic waves and raindrops, 2023, arXiv:2310.12486.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wavelit.data.pocketwell.helmholtz import Boundary, PeriodicSurface
from wavelit.data.pocketwell.system import System, Trajectories

__all__ = ["OMEGAS", "STAIRS", "SYSTEM", "draw_source", "surface_height"]

Array = npt.NDArray[Any]

# The Well's, in an order whose first four and first eight are spread: those occur in validation and
# test. They are the frequencies of trapped waves with wave numbers 0.02 pi (1, 4, 7, ... 46).
OMEGAS = (
    0.25123038,
    0.99856671,
    1.71501267,
    2.32367294,
    0.62675846,
    1.36324313,
    2.04282969,
    2.5110908,
    0.06283032,
    0.43929689,
    0.81330465,
    1.18207893,
    1.5412579,
    1.88295798,
    2.19133479,
    2.4331094,
)
STAIRS = ((-0.5, -0.5), (0.0, 0.0), (0.5, -0.5))
STEPS_PER_PERIOD = 50


def surface_height(x: Array) -> Array:
    """Height of the stairs: 0 at whole x, -1/2 half-way between."""
    height: Array = -np.abs(x - np.rint(x))
    return height


def draw_source(rng: np.random.Generator) -> Array:
    """A position (2,) over the middle stair, at least 0.15 above it, as far out as The Well's."""
    x = rng.uniform(-0.4, 0.4)
    return np.array([x, rng.uniform(max(-0.2, 0.15 - abs(x)), 0.4)])


def simulate(
    shape: tuple[int, ...],
    times: Array,
    parameters: Mapping[str, float],
    rngs: Sequence[np.random.Generator],
) -> Trajectories:
    """Solve one source per random generator."""
    x, y = np.meshgrid(*coordinates(shape).values(), indexing="ij")
    outside = y > surface_height(x)
    # Size tiny serves tests: four digits.
    panels, n_kappa = (8, 128) if shape[0] >= 256 else (4, 64)
    surface = PeriodicSurface(parameters["omega"], Boundary(STAIRS, panels))
    sources = np.stack([draw_source(rng) for rng in rngs])
    amplitude = np.zeros((len(rngs), *shape), dtype=np.complex128)
    amplitude[:, outside] = surface.solve(sources, np.stack([x[outside], y[outside]], -1), n_kappa)
    wave = amplitude[:, None] * np.exp(-2j * np.pi * times)[:, None, None]
    return Trajectories(
        {"pressure_re": wave.real.astype(np.float32), "pressure_im": wave.imag.astype(np.float32)},
        {"mask": np.tile(~outside, (len(rngs), 1, 1)).astype(np.float32)},
    )


def coordinates(shape: tuple[int, ...]) -> Mapping[str, Array]:
    """Points of [-8, 8] x [-1/2, 7/2): midpoints along x, so that none lies on the stairs."""
    nx, ny = shape
    return {"x": (np.arange(nx) + 0.5) * 16 / nx - 8, "y": np.arange(ny) * 4 / ny - 0.5}


def snapshot_times(shape: tuple[int, ...], n_snapshots: int) -> Array:
    """In periods 2 pi / omega."""
    return np.arange(n_snapshots) / STEPS_PER_PERIOD


SYSTEM = System(
    name="helmholtz_staircase",
    version=1,
    shapes={"tiny": (64, 16), "small": (256, 64), "large": (256, 64), "full": (1024, 256)},
    boundary_conditions=(("open", "open"), ("wall", "open")),
    parameters=tuple({"omega": omega} for omega in OMEGAS),
    batch=6,
    coordinates=coordinates,
    times=snapshot_times,
    simulate=simulate,
    mask_field="mask",
)
