"""Token grids to half and twice their sides: means over cubes of 2 and copies of cells.

Sums and copies over cubes are each other's transpose, and so each is the other's gradient: autograd
would sum over axes between others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wavelit.ops.derivatives import are_plain

__all__ = ["coarsen", "refine"]


def coarsen(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Mean over cubes of 2: tokens (B, L, E) of a grid of even sides to (B, L / 2^d, E)."""
    if are_plain():
        return _cube_sums(x, shape) * 0.5 ** len(shape)
    y: Tensor = _Coarsen.apply(x, tuple(shape))  # type: ignore[no-untyped-call]
    return y


def refine(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Nearest neighbour: tokens (B, L, E) of a grid to (B, L 2^d, E) on the grid of twice the
    sides.
    """
    if are_plain():
        return _copies(x, shape)
    y: Tensor = _Refine.apply(x, tuple(shape))  # type: ignore[no-untyped-call]
    return y


class _Coarsen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        ctx.shape = shape
        return _cube_sums(x, shape).mul_(0.5 ** len(shape))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _copies(grad, [n // 2 for n in ctx.shape]).mul_(0.5 ** len(ctx.shape)), None


class _Refine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        ctx.shape = shape
        return _copies(x, shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _cube_sums(grad, [2 * n for n in ctx.shape]), None


def _cube_sums(x: Tensor, shape: Sequence[int]) -> Tensor:
    x = x.unflatten(1, [m for n in shape for m in (n // 2, 2)])
    # Pairs, axis by axis: a sum over axes between others takes fifteen times as long.
    for axis in range(len(shape)):
        x = x.select(2 + axis, 0) + x.select(2 + axis, 1)
    return x.flatten(1, -2)


def _copies(x: Tensor, shape: Sequence[int]) -> Tensor:
    cells = x.unflatten(1, [m for n in shape for m in (n, 1)])
    copies: Tensor = cells.expand(-1, *[m for n in shape for m in (n, 2)], -1).flatten(1, -2)
    # Of a single token flattening makes a view, whose entries share their memory.
    return copies.contiguous()
