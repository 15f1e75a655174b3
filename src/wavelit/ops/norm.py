"""Root-mean-square normalisation and gating with their gradients written out.

    y = x gain r,   r = 1 / sqrt(mean x^2 + eps),   dx = (g gain - x mean(g gain x) r^2) r
    y = u SiLU(w)

PyTorch's own `rms_norm` has no fused gradient on the CPU and takes two to four times as long there.

References:
    Zhang, Sennrich, Root Mean Square Layer Normalization, 2019, arXiv 1910.07467.
    Shazeer, GLU Variants Improve Transformer, 2020, arXiv 2002.05202.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from wavelit.ops.derivatives import are_plain

__all__ = ["gated", "inverse_rms", "rms_norm", "scaled_rms_norm"]

EPS = 1e-7


def rms_norm(x: Tensor) -> Tensor:
    """x (..., E) over its root mean square along the last dimension, eps = 1e-7 under the root."""
    return scaled_rms_norm(x, x.new_ones(x.shape[-1]))


def scaled_rms_norm(x: Tensor, gain: Tensor) -> Tensor:
    """x (B, ..., E) over its root mean square along the last dimension, times a gain of the
    shape of x's last dimensions.
    """
    if are_plain():
        return x * inverse_rms(x) * gain
    y: Tensor = _ScaledRMSNorm.apply(x, gain)  # type: ignore[no-untyped-call]
    return y


def gated(u: Tensor, w: Tensor) -> Tensor:
    """u SiLU(w)."""
    if are_plain():
        return u * F.silu(w)
    y: Tensor = _Gated.apply(u, w)  # type: ignore[no-untyped-call]
    return y


def inverse_rms(x: Tensor) -> Tensor:
    """1 / sqrt(mean x^2 + eps) along the last dimension, kept."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.rsqrt(norm.square() / x.shape[-1] + EPS)


class _ScaledRMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor) -> Tensor:
        inverse = inverse_rms(x)
        ctx.save_for_backward(x, gain, inverse)
        return (x * inverse).mul_(gain)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, gain, inverse = ctx.saved_tensors
        n = x * inverse
        d_gain = (grad * n).sum_to_size(gain.shape)
        d_n = grad * gain
        along = (d_n * n).mean(-1, keepdim=True)
        return d_n.addcmul_(n, along, value=-1).mul_(inverse), d_gain


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(u, w)
        return F.silu(w).mul_(u)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        u, w = ctx.saved_tensors
        return F.silu(w).mul_(grad), torch.ops.aten.silu_backward(grad * u, w)
