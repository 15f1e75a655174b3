"""Gray-Scott: two chemicals that react and diffuse into spots, worms, mazes, spirals and gliders.

    A_t = d_A lap A - A B^2 + F (1 - A),   B_t = d_B lap B + A B^2 - (F + k) B

with d_A = 2e-5 and d_B = 1e-5, periodic. Diffusion and the linear reactions are integrated exactly,
the rest by ETDRK4 in Fourier space; the cubic product is taken on the grid, without truncation:
fronts of four cells need every mode, and the spectrum has fallen far enough at the end for aliases
to be small.

Departures from The Well's: the cells are as large and the box is a quarter, [0, 1]^2 in place of
[-1, 1]^2; the record begins at t = START, when the pattern is there, and ends before most of it
stands still; starts are clusters of Gaussians, Fourier series only where a uniform state with B > 0
exists; those that die out are drawn again.

References: Pearson, Complex patterns in a simple system, Science 261, 1993; Ohana et al., The Well,
2024, arXiv:2412.00568 (gray_scott_reaction_diffusion).
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
from wavelit.errors import WavelitError

__all__ = ["SYSTEM", "GrayScott", "initial_state", "steady_state"]

Array = npt.NDArray[Any]

DIFFUSIVITIES = (2e-5, 1e-5)
# The Well's spacing of points: a front of B is about four of them wide.
SPACING = 1 / 64
# The blots of the start have become fronts by then.
START = 100.0
# Three times The Well's, so that 60 snapshots hold the growth of the slower patterns.
SNAPSHOT = 30.0
# Where A and B are both near 1, which is at the start alone, the reaction asks for a shorter step.
DT_BEFORE_START = 0.5
DT = 2.0
# Of the gliders' starts one in four dies out, in the smaller box of size tiny one in two.
DRAWS = 50


class GrayScott:
    """A and B on a Fourier grid; all trajectories share F and k.

    Args:
        shape: points along both axes, SPACING apart.
        feed: F.
        kill: k.
        dt: step of ETDRK4.
    """

    def __init__(self, shape: Sequence[int], feed: float, kill: float, dt: float) -> None:
        self.grid = FourierGrid(shape, [n * SPACING for n in shape])
        self.feed = feed
        self.dt = dt
        diffusion = torch.stack([-d * self.grid.k2 for d in DIFFUSIVITIES])
        loss = torch.tensor([feed, feed + kill], dtype=torch.float64)[:, None, None]
        self.stepper = ETDRK4(diffusion - loss, dt, self._reaction)

    def modes(self, fields: Tensor) -> Tensor:
        """(B, 2, H, W) -> (B, 2, H, W // 2 + 1)."""
        return self.grid.forward(fields)

    def fields(self, modes: Tensor) -> Tensor:
        """A and B, (B, 2, H, W)."""
        return self.grid.backward(modes)

    def _reaction(self, modes: Tensor) -> Tensor:
        """F - A B^2 and A B^2."""
        a, b = self.fields(modes).unbind(1)
        made = a * b * b
        return self.grid.forward(torch.stack([self.feed - made, made], 1))


def steady_state(feed: float, kill: float) -> tuple[float, float] | None:
    """The uniform state (A, B) of larger B > 0: A^2 - A + (F + k)^2 / F = 0, B = F (1 - A) / (F
    + k).
    """
    root = 1 - 4 * (feed + kill) ** 2 / feed
    if root < 0:
        return None
    a = (1 - math.sqrt(root)) / 2
    return a, feed * (1 - a) / (feed + kill)


def initial_state(
    shape: Sequence[int], feed: float, kill: float, rng: np.random.Generator
) -> Array:
    """Random A and B, (2, H, W), between 0 and 1.

    Clusters of Gaussians: B is `_clusters`, A one minus another draw of it. Where a uniform state
    with B > 0 exists, every second start on average is instead a random Fourier series about it,
    from it up and down by at most 0.9 of the way to 0 or 1.
    """
    centre = steady_state(feed, kill)
    if centre is None or rng.random() < 0.5:
        return np.stack([1 - _clusters(shape, rng), _clusters(shape, rng)])
    states = []
    for value in centre:
        noise = _series(shape, rng)
        states.append(value + 0.9 * min(value, 1 - value) * noise / np.abs(noise).max())
    return np.stack(states)


def _clusters(shape: Sequence[int], rng: np.random.Generator) -> Array:
    """The sum of 10 to 100 Gaussians per 128 x 128 cells, scaled to [0, 1].

    h exp(-s r^2) with h = U(1, 3) and s = U(150, 300), summed over the nearest periodic images.
    """
    quarters = math.prod(shape) / 64**2
    count = int(rng.integers(round(2.5 * quarters) + 1, round(25 * quarters) + 1))
    total = np.zeros(tuple(shape))
    for _ in range(count):
        height, sharpness = rng.uniform(1, 3), rng.uniform(150, 300)
        bells = []
        for n in shape:
            length = n * SPACING
            offset = np.arange(n) * SPACING - rng.uniform(0, length)
            distance = (offset + length / 2) % length - length / 2
            bells.append(np.exp(-sharpness * distance**2))
        total += height * bells[0][:, None] * bells[1]
    scaled: Array = (total - total.min()) / (total.max() - total.min())
    return scaled


def _series(shape: Sequence[int], rng: np.random.Generator) -> Array:
    """A random field of mean zero without waves shorter than 8 cells."""
    waves = np.stack(np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij"))
    modes = np.fft.fft2(rng.uniform(-1, 1, tuple(shape))) * (np.abs(waves).max(0) < 1 / 8)
    modes[0, 0] = 0
    field: Array = np.fft.ifft2(modes).real
    return field


def simulate(
    shape: tuple[int, ...],
    times: Array,
    parameters: Mapping[str, float],
    rngs: Sequence[np.random.Generator],
) -> Trajectories:
    """Solve one start per random generator; a start whose pattern dies out is drawn again.

    Raises:
        WavelitError: a generator gave DRAWS starts and none lasted.
    """
    feed, kill = parameters["F"], parameters["k"]
    record = np.empty((len(rngs), len(times), 2, *shape), np.float32)
    pending = list(range(len(rngs)))
    for _ in range(DRAWS):
        starts = np.stack([initial_state(shape, feed, kill, rngs[i]) for i in pending])
        record[pending], lasts = _solve(feed, kill, times, starts)
        pending = [i for i, last in zip(pending, lasts, strict=True) if not last]
        if not pending:
            return Trajectories({"A": record[:, :, 0], "B": record[:, :, 1]})
    raise WavelitError(
        f"gray_scott_reaction_diffusion: no pattern outlived t = {times[-1]:g} in {DRAWS} draws at "
        f"F = {feed:g}, k = {kill:g} on {shape[0]} x {shape[1]} points: choose a larger grid or "
        "other parameters"
    )


def _solve(feed: float, kill: float, times: Array, starts: Array) -> tuple[Array, Array]:
    """(B, 2, H, W) at t = 0 -> (B, T, 2, H, W) at the given times, and (B,) whether the pattern
    lasts.

    It does while B ranges over F + k or more. Once B < F + k everywhere, A B^2 < (F + k) B as A <=
    1, and B falls to zero; the bubbles may also close until B is uniform. The solution ends when no
    pattern lasts, and what follows in the record is void.
    """
    solver = GrayScott(starts.shape[-2:], feed, kill, DT_BEFORE_START)
    modes = solver.modes(torch.from_numpy(starts))
    record = np.empty((len(starts), len(times), *starts.shape[1:]), np.float32)
    lasts = np.ones(len(starts), dtype=bool)
    now, done = 0.0, 0
    for index, time in enumerate(times):
        dt = DT if now >= START else DT_BEFORE_START
        if dt != solver.dt:
            solver = GrayScott(starts.shape[-2:], feed, kill, dt)
        steps = round((float(time) - now) / dt)
        for _ in range(steps):
            modes = solver.stepper.step(modes)
        now, done = float(time), done + steps
        if not bool(modes.isfinite().all()):
            raise SolverDivergedError(done)
        record[:, index] = solver.fields(modes).numpy()
        lasts &= np.ptp(record[:, index, 1], axis=(1, 2)) >= feed + kill
        if not lasts.any():
            break
    return record, lasts


def coordinates(shape: tuple[int, ...]) -> Mapping[str, Array]:
    return {axis: np.arange(n) * SPACING for axis, n in zip("xy", shape, strict=True)}


def snapshot_times(shape: tuple[int, ...], n_snapshots: int) -> Array:
    return START + np.arange(n_snapshots) * SNAPSHOT


SYSTEM = System(
    name="gray_scott_reaction_diffusion",
    version=1,
    shapes={"tiny": (48, 48), "small": (64, 64), "large": (64, 64), "full": (128, 128)},
    boundary_conditions=(("periodic", "periodic"), ("periodic", "periodic")),
    # Gliders, bubbles, maze, worms, spirals, spots.
    parameters=(
        {"F": 0.014, "k": 0.054},
        {"F": 0.098, "k": 0.057},
        {"F": 0.029, "k": 0.057},
        {"F": 0.058, "k": 0.065},
        {"F": 0.018, "k": 0.051},
        {"F": 0.03, "k": 0.062},
    ),
    # Every regime occurs in every split equally often.
    trajectories={
        "small": {"train": 24, "valid": 6, "test": 12},
        "full": {"train": 24, "valid": 6, "test": 12},
    },
    batch=4,
    coordinates=coordinates,
    times=snapshot_times,
    simulate=simulate,
)
