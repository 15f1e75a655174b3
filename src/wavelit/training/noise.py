"""Noise on what a model sees in training; what it should predict stays the clean next state.

    near   u + a eta sigma_D xi,   xi ~ N(0, 1) in every cell and frame,   a ~ U(0, 1)
    far    u + b eta sigma_D zeta,   ln b ~ U(0, ln 32),   zeta ~ N(0, 1) on blocks of 2^j cells

Every sample draws its own a, or b and j, a share of them far. Blocks have between one cell and the
shortest side of the grid. Of every other far sample all frames have the same zeta. Its error
goes into the loss times 1 / b, since what cannot be known grows with b.

Near noise is as large as the errors of a step. Those of a long rollout are larger, and of all
lengths and times: from far states the model learns the way back. eta may fall in the last third of
the budget, of near noise alone.

References:
    Sanchez-Gonzalez et al., Learning to Simulate Complex Physics with Graph Networks, 2020, arXiv
    2002.09405 (near noise).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wavelit.training.config import TrainConfig

__all__ = ["MOST", "Noise", "draw_noise"]

# The largest b.
MOST = 32.0


class Noise(NamedTuple):
    """What is added to a batch.

    Attributes:
        values: (B, T, C, *S), in physical units.
        weight: What the error of every sample is multiplied by, (B,); None where all count alike.
    """

    values: Tensor
    weight: Tensor | None


def draw_noise(
    fields: Tensor,
    spread: Tensor,
    config: TrainConfig,
    draw: np.random.Generator,
    progress: float,
) -> Noise:
    """The noise of a batch.

    Args:
        fields: History, (B, T, C, *S).
        spread: sigma_D, of the increments, (C,).
        config: How to train.
        draw: Where all of it comes from.
        progress: Share of the budget spent.
    """
    # CUDA's generator counts, as the processor's does not: a seed of its own for every step costs
    # nothing there, and the noise crosses no bus.
    source = fields.device if fields.is_cuda else torch.device("cpu")
    generator = torch.Generator(source).manual_seed(int(draw.integers(2**62)))
    xi = torch.randn(fields.shape, generator=generator, device=source).to(fields)
    size = (
        torch.rand(len(fields), generator=generator, device=source)
        .to(fields)
        .view(-1, *(1,) * (fields.ndim - 1))
    )
    shape = fields.shape[3:]
    spread = spread.view(-1, *(1,) * len(shape))
    near = size * config.noise_at(progress) * spread * xi
    if not config.far_noise:
        return Noise(near, None)
    n = len(fields)
    far = draw.random(n) < config.far_noise
    b = np.where(far, np.exp(draw.uniform(0, math.log(MOST), n)), 1.0)
    levels = draw.integers(int(math.log2(min(shape))) + 1, size=n)
    alike = draw.random(n) < 0.5
    for i in np.flatnonzero(far):
        coarse = [-(-side // 2 ** int(levels[i])) for side in shape]
        frames = 1 if alike[i] else fields.shape[1]
        zeta = torch.randn(
            (frames, fields.shape[2], *coarse), generator=generator, device=source
        ).to(fields)
        for axis, side in enumerate(shape):
            block = torch.arange(side, device=fields.device) // 2 ** int(levels[i])
            zeta = zeta.index_select(2 + axis, block)
        near[i] = config.noise * float(b[i]) * spread * zeta
    return Noise(near, torch.as_tensor(1 / b, dtype=fields.dtype, device=fields.device))
