"""Fourier pseudo-spectral tools: wave numbers, dealiasing, and the ETDRK4 step.

For v' = L v + N(v) with L diagonal, the exponential time differencing Runge-Kutta step of order
four integrates L exactly and N by four stages. Its coefficients are of the kind (e^z - 1) / z,
which cancel for small z = h L: they are means over a circle around z in the complex plane.
Quadratic products are kept free of aliases by dropping every mode above two thirds of the largest
wave number (Orszag's rule).

References: Cox, Matthews, Exponential time differencing for stiff systems, J. Comput. Phys. 176,
2002; Kassam, Trefethen, Fourth-order time-stepping for stiff PDEs, SIAM J. Sci. Comput. 26, 2005.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["ETDRK4", "FourierGrid"]

# Points on the upper half of the circle; the lower half gives the conjugates, as L is real.
CONTOUR = 32


class FourierGrid:
    """Wave numbers of a periodic box for real fields (..., H, W), and the way there and back.

    Args:
        shape: number of points along both axes.
        lengths: lengths of the box along both axes.
    """

    def __init__(self, shape: Sequence[int], lengths: Sequence[float]) -> None:
        self.shape = (int(shape[0]), int(shape[1]))
        index_x = torch.fft.fftfreq(self.shape[0], 1 / self.shape[0], dtype=torch.float64)[:, None]
        index_y = torch.fft.rfftfreq(self.shape[1], 1 / self.shape[1], dtype=torch.float64)[None]
        self.kx = index_x * (2 * math.pi / lengths[0])
        self.ky = index_y * (2 * math.pi / lengths[1])
        self.k2 = self.kx**2 + self.ky**2
        # 1 / k^2, zero for the mean, which the inverse Laplacian leaves free.
        self.inverse_k2 = torch.where(self.k2 > 0, 1 / self.k2.clamp_min(1e-300), 0.0)
        # Modes that a quadratic product leaves free of aliases.
        self.kept = ((index_x.abs() < self.shape[0] / 3) & (index_y < self.shape[1] / 3)).double()

    def forward(self, field: Tensor) -> Tensor:
        modes: Tensor = torch.fft.rfft2(field)
        return modes

    def backward(self, modes: Tensor) -> Tensor:
        field: Tensor = torch.fft.irfft2(modes, s=self.shape)
        return field


class ETDRK4:
    """Fourth-order exponential Runge-Kutta steps of v' = L v + N(v).

    Args:
        linear: the diagonal of L, real, any shape that v broadcasts with.
        dt: the step.
        nonlinear: N.
    """

    def __init__(self, linear: Tensor, dt: float, nonlinear: Callable[[Tensor], Tensor]) -> None:
        self.nonlinear = nonlinear
        angles = math.pi * (torch.arange(CONTOUR, dtype=torch.float64) + 0.5) / CONTOUR
        z = dt * linear[..., None] + torch.exp(1j * angles)
        growth = torch.exp(z)

        def mean(values: Tensor) -> Tensor:
            return dt * values.real.mean(-1)

        self.whole = torch.exp(dt * linear)
        self.half = torch.exp(dt * linear / 2)
        self.stage = mean((torch.exp(z / 2) - 1) / z)
        self.first = mean((-4 - z + growth * (4 - 3 * z + z**2)) / z**3)
        self.middle = mean((2 + z + growth * (z - 2)) / z**3) * 2
        self.last = mean((-4 - 3 * z - z**2 + growth * (4 - z)) / z**3)

    def step(self, v: Tensor) -> Tensor:
        """v(t) -> v(t + dt)."""
        start = self.nonlinear(v)
        a = self.half * v + self.stage * start
        at_a = self.nonlinear(a)
        at_b = self.nonlinear(self.half * v + self.stage * at_a)
        at_c = self.nonlinear(self.half * a + self.stage * (2 * at_b - start))
        return self.whole * v + self.first * start + self.middle * (at_a + at_b) + self.last * at_c
