"""Root-mean-square normalisation, y = x / sqrt(mean x^2 + eps), with its gradient written out.

    dx = (g - x mean(g x) r^2) r,   r = 1 / sqrt(mean x^2 + eps)

PyTorch's own `rms_norm` has no fused gradient on the CPU and takes two to four times as long there.

References:
    Zhang, Sennrich, Root Mean Square Layer Normalization, 2019, arXiv 1910.07467.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["rms_norm"]

EPS = 1e-7


def rms_norm(x: Tensor) -> Tensor:
    """x (..., E) over its root mean square along the last dimension, eps = 1e-7 under the root."""
    y: Tensor = _RMSNorm.apply(x)  # type: ignore[no-untyped-call]
    return y


def _inverse(x: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.rsqrt(norm.square() / x.shape[-1] + EPS)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * _inverse(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # The root is taken anew, not saved: so the gradient can be differentiated too.
        (x,), (g,) = ctx.saved_tensors, grads
        inverse = _inverse(x)
        along = (g * x).mean(-1, keepdim=True) * inverse.square()
        return torch.addcmul(g, x, along, value=-1) * inverse
