"""Gray-Scott: two chemicals that react and diffuse into spots, worms, mazes, spirals and gliders.

    A_t = d_A lap A - A B^2 + F (1 - A),   B_t = d_B lap B + A B^2 - (F + k) B

with d_A = 2e-5 and d_B = 1e-5, periodic. Diffusion and the linear reactions are integrated exactly, the rest
by ETDRK4 in Fourier space; the cubic product is taken on the grid, without truncation: fronts of four cells
need every mode, and the spectrum has fallen far enough at the end for aliases to be small.

Departures from The Well's: the cells are as large and the box is a quarter, [0, 1]^2 in place of [-1, 1]^2;
the record begins at t = START, when the pattern is there, and ends before most of it stands still.

References: Pearson, Complex patterns in a simple system, Science 261, 1993; Ohana et al., The Well, 2024,
arXiv:2412.00568 (gray_scott_reaction_diffusion).
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
from wavelit.data.pocketwell.system import DivergedError, System, Trajectories

__all__ = ["SYSTEM", "GrayScott", "initial_state", "steady_state"]

Array = npt.NDArray[Any]

DIFFUSIVITIES = (2e-5, 1e-5)
# The Well's spacing of points: a front of B is about four of them wide.
SPACING = 1 / 64
START = 400.0
SNAPSHOT = 40.0
DT = 2.0


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
    """The uniform state (A, B) with B > 0 and the larger B, if there is one: F >= 4 (F + k)^2."""
    root = 1 - 4 * (feed + kill) ** 2 / feed
    if root < 0:
        return None
    a = (1 - math.sqrt(root)) / 2
    return a, feed * (1 - a) / (feed + kill)


def initial_state(shape: Sequence[int], feed: float, kill: float, rng: np.random.Generator) -> Array:
    """Random A and B, (2, H, W): of two kinds, each as likely.

    Clusters: 3 to 25 Gaussians exp(-s r^2), s = U(150, 300), of heights U(1, 3), drawn for A and B, scaled to
    [0, 1]; A is one minus its own. Series: random Fourier series with wave lengths from 2/16 of the unit box.
    """
    if rng.random() < 0.5:
        return np.stack([1 - _clusters(shape, rng), _clusters(shape, rng)])
    about = steady_state(feed, kill)
    centre = np.array(about if about else (0.75, 0.25))
    reach = np.minimum(centre, 1 - centre) * 0.9
    noise = np.stack([_series(shape, rng) for _ in range(2)])
    return centre[:, None, None] + reach[:, None, None] * (2 * noise - 1)


def _clusters(shape: Sequence[int], rng: np.random.Generator) -> Array:
    count = int(rng.integers(3, 26))
    height, sharpness = rng.uniform(1, 3, count), rng.uniform(150, 300, count)
    total = np.ones(tuple(shape))
    total = np.zeros(tuple(shape))
    lines = [np.arange(n) * SPACING for n in shape]
    for i in range(count):
        bells = []
        for line, n in zip(lines, shape, strict=True):
            length = n * SPACING
            distance = (line - rng.uniform(0, length) + length / 2) % length - length / 2
            bells.append(np.exp(-sharpness[i] * distance**2))
        total += height[i] * bells[0][:, None] * bells[1][None]
    return _scaled(total)


def _series(shape: Sequence[int], rng: np.random.Generator) -> Array:
    few = [n // 4 for n in shape]
    modes = np.fft.fft2(rng.random(few))
    kx, ky = (np.fft.fftfreq(n, 1 / n) for n in few)
    inside = (np.abs(kx)[:, None] < few[0] / 2) & (np.abs(ky)[None] < few[1] / 2)
    padded = np.zeros(tuple(shape), complex)
    padded[np.ix_(kx.astype(int), ky.astype(int))] = modes * inside
    return _scaled(np.fft.ifft2(padded).real)


def _scaled(field: Array) -> Array:
    scaled: Array = (field - field.min()) / (field.max() - field.min())
    return scaled
