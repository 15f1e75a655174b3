"""Bingham's closure in the plane: the fourth moment of an angle from its second.

Rods of concentration c have Q = c <e^{2 i theta}>; their evolution asks for R = c <e^{4 i theta}>.
Among all distributions with that Q the one of greatest entropy is Bingham's, exp(b cos 2(theta -
theta_0)) up to a factor. With the modified Bessel functions, |Q| / c = I_1(b) / I_0(b) and |R| / c
= I_2(b) / I_0(b), hence

    R = h(s^2) Q^2 / c,   s = |Q| / c,   h from 1/2 (isotropic) to 1 (perfectly aligned),

where h is a smooth function, tabulated once; linear interpolation in the table is exact to 1e-9.

References: Bingham, An antipodally symmetric distribution on the sphere, Ann. Stat. 2, 1974;
Chaubal, Leal, A closure approximation for liquid-crystalline polymer models based on parametric
density estimation, J. Rheol. 42, 1998.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from scipy.special import i0e, i1e, ive
from torch import Tensor

__all__ = ["fourth_moment"]

INTERVALS = 2**15


def fourth_moment(c: Tensor, q: Tensor) -> Tensor:
    """R = c <e^{4 i theta}> of Bingham's distribution with Q = c <e^{2 i theta}>.

    Where |Q| > c, which no distribution has and truncated Fourier series overshoot to by a percent,
    h stays 1.

    Args:
        c: concentration > 0, (B, H, W).
        q: real and imaginary part of Q, (B, 2, H, W).

    Returns:
        Real and imaginary part of R, (B, 2, H, W).
    """
    x, y = q.unbind(1)
    square = x * x + y * y
    place = (square / (c * c)).mul_(INTERVALS).clamp_(max=INTERVALS - 1e-6)
    # A diverged state's NaN has no place; R is NaN there all the same.
    below = place.long().clamp_(0, INTERVALS - 1)
    values, slopes = _table()
    h = values[below] + (place - below) * slopes[below]
    h /= c
    return torch.stack([(x * x - y * y) * h, 2 * x * y * h], 1)


@cache
def _table() -> tuple[Tensor, Tensor]:
    """h at the lower ends of equal intervals of s^2 in [0, 1], and its increments over them."""
    b = np.geomspace(1e-3, 1e6, 20_000)
    squares = np.concatenate([[0], (i1e(b) / i0e(b)) ** 2, [1]])
    ratios = np.concatenate([[0.5], ive(2, b) * i0e(b) / i1e(b) ** 2, [1]])
    values = torch.from_numpy(PchipInterpolator(squares, ratios)(np.linspace(0, 1, INTERVALS + 1)))
    return values[:-1].contiguous(), values.diff()
