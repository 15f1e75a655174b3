"""Depthwise convolutions of token grids of several sizes at once.

The grids are laid side by side on one canvas, each with its padding: one gather to the canvas, one
convolution, one gather back.

    +--------+-----+
    | grid 0 |  1  |
    |        +-----+
    |        |  2  |
    +--------+-----+

Padding wraps along a periodic axis and repeats the edge along any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["ConvCanvas", "DepthwiseConv", "conv_canvas", "depthwise", "padded_tokens"]


class ConvCanvas(NamedTuple):
    """Where the tokens of S grids stand on the canvas; `conv_canvas` makes it.

    Attributes:
        n_grids: Their number S.
        sides: Of the canvas.
        valid: Sides of the convolved canvas, two less each.
        fill: Tokens that fill the canvas.
        take: Cells of the convolved canvas that hold the tokens' results, (L,).
        back: For each cell of the convolved canvas its token.
        live: For each cell of the convolved canvas whether it has a token, as 1 or 0.
        inner: Cells of the canvas that are the tokens' own, (L,).
        halo_cells: Cells of the padding.
        halo_tokens: The tokens that they copy.
    """

    n_grids: int
    sides: tuple[int, ...]
    valid: tuple[int, ...]
    fill: Tensor
    take: Tensor
    back: Tensor
    live: Tensor
    inner: Tensor
    halo_cells: Tensor
    halo_tokens: Tensor


def conv_canvas(
    shapes: Sequence[Sequence[int]],
    periodic: Sequence[bool],
    device: torch.device,
    dtype: torch.dtype,
) -> ConvCanvas:
    """Lay out token grids on a canvas.

    Args:
        shapes: Tokens along each axis, of each grid.
        periodic: Whether each axis wraps.
        device: Where the tables live.
        dtype: Of `live`.
    """
    padded = [[n + 2 for n in shape] for shape in shapes]
    # Grid 0 at the origin, the others one below another along the first axis, beside it along the
    # last.
    corners, height = [[0] * len(padded[0])], 0
    for side in padded[1:]:
        corner = [0] * len(side)
        corner[-1] = padded[0][-1]
        corner[0] += height
        corners.append(corner)
        height += side[0]
    canvas = tuple(
        max(c[axis] + p[axis] for c, p in zip(corners, padded, strict=True))
        for axis in range(len(padded[0]))
    )
    valid = tuple(n - 2 for n in canvas)
    # Where no grid lies, any token will do.
    fill = torch.zeros(canvas, dtype=torch.long)
    take, inner, halo_cells, halo_tokens = [], [], [], []
    start = 0
    for shape, side, corner in zip(shapes, padded, corners, strict=True):
        token = start + padded_tokens(shape, periodic)
        fill[tuple(slice(c, c + n) for c, n in zip(corner, side, strict=True))] = token
        cell = _ravel([c + torch.arange(n) for c, n in zip(corner, side, strict=True)], canvas)
        core = (slice(1, -1),) * len(shape)
        outside = torch.ones(tuple(side), dtype=torch.bool)
        outside[core] = False
        inner.append(cell[core].flatten())
        halo_cells.append(cell[outside])
        halo_tokens.append(token[outside])
        result = _ravel([c + torch.arange(n) for c, n in zip(corner, shape, strict=True)], valid)
        take.append(result.flatten())
        start += math.prod(shape)
    taken = torch.cat(take)
    back = torch.zeros(math.prod(valid), dtype=torch.long)
    live = torch.zeros(math.prod(valid), 1)
    back[taken], live[taken] = torch.arange(len(taken)), 1.0
    return ConvCanvas(
        len(shapes),
        canvas,
        valid,
        fill.flatten().to(device),
        taken.to(device),
        back.to(device),
        live.to(device, dtype),
        *(torch.cat(parts).to(device) for parts in (inner, halo_cells, halo_tokens)),
    )


def padded_tokens(shape: Sequence[int], periodic: Sequence[bool]) -> Tensor:
    """The tokens of a grid with one of padding on every side: those across a periodic axis,
    elsewhere the edge's own.
    """
    near = []
    for n, wraps in zip(shape, periodic, strict=True):
        along = torch.arange(-1, n + 1)
        near.append(along % n if wraps else along.clamp(0, n - 1))
    return _ravel(near, shape)


def _ravel(index: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Flat indices into an array of that shape, of the grid that the indices along each axis
    span.
    """
    flat = torch.zeros((1,) * len(shape), dtype=torch.long)
    stride = math.prod(shape)
    for axis, (along, n) in enumerate(zip(index, shape, strict=True)):
        stride //= n
        view = [1] * len(shape)
        view[axis] = -1
        flat = flat + (along * stride).view(view)
    return flat


class DepthwiseConv(nn.Module):
    """3^d depthwise convolution over token grids, padded per axis: circular where periodic,
    edge-replicating elsewhere.

    Args:
        dim: Channels.
        spatial: Grid axes, 1 to 3.
        residual: Return x + conv(x); the identity is added to the centre tap and costs nothing.
    """

    def __init__(self, dim: int, spatial: int, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.weight = nn.Parameter(torch.empty(dim, 1, *(3,) * spatial))
        self.bias = nn.Parameter(torch.empty(dim))
        identity = torch.zeros(3**spatial)
        identity[3**spatial // 2] = 1
        self.register_buffer("identity", identity.view(1, 1, *(3,) * spatial), persistent=False)
        self.identity: Tensor

    def forward(self, x: Tensor, canvas: ConvCanvas) -> Tensor:
        """x: (B, L, E), the tokens of all grids in turn. Returns the same shape."""
        ((weight, bias),) = self.split(1)
        return depthwise(x, weight, bias, canvas)

    def split(self, parts: int) -> list[tuple[Tensor, Tensor]]:
        """Kernels and biases of equal parts of the channels."""
        weight = self.weight + self.identity if self.residual else self.weight
        return list(zip(weight.chunk(parts), self.bias.chunk(parts), strict=True))


def depthwise(
    x: Tensor, weight: Tensor, bias: Tensor, canvas: ConvCanvas, shift: Tensor | None = None
) -> Tensor:
    """Convolve token grids channel by channel, padded as `DepthwiseConv` says.

    Args:
        x: Tokens of all grids in turn, (B, L, E).
        weight: Kernels, (E, 1, 3, ...).
        bias: (E,).
        canvas: Where the grids lie.
        shift: Added to x first, (E,).

    Returns:
        (B, L, E).
    """
    if shift is not None:
        # The padding repeats values, so a constant comes through as itself times the kernel's sum:
        # no pass over x.
        bias = bias + shift * weight.flatten(1).sum(1)
    if torch.is_autocast_enabled(x.device.type):
        low = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(low), weight.to(low), bias.to(low)
    y: Tensor = _Depthwise.apply(x, weight, bias, canvas)  # type: ignore[no-untyped-call]
    return y


class _Depthwise(torch.autograd.Function):
    """The convolution on the canvas; the gradient of the padding adds up the few padded cells
    alone.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, canvas: ConvCanvas) -> Tensor:
        padded = x.index_select(1, canvas.fill).unflatten(1, canvas.sides).movedim(-1, 1)
        ctx.save_for_backward(padded, weight)
        ctx.canvas = canvas
        spatial = len(canvas.sides)
        with torch.autocast(x.device.type, enabled=False):
            y = (F.conv1d, F.conv2d, F.conv3d)[spatial - 1](
                padded, weight, bias, groups=x.shape[-1]
            )
        cells = y.movedim(1, -1).flatten(1, -2)
        # A grid by itself is its convolved canvas.
        return cells if canvas.n_grids == 1 else cells.index_select(1, canvas.take)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (padded, weight), canvas = ctx.saved_tensors, ctx.canvas
        dim, spatial = grad.shape[-1], len(canvas.sides)
        on_canvas = grad
        if canvas.n_grids > 1:
            on_canvas = grad.index_select(1, canvas.back).mul_(canvas.live)
        one, zero = [1] * spatial, [0] * spatial
        dpadded, dweight, dbias = torch.ops.aten.convolution_backward(
            on_canvas.unflatten(1, canvas.valid).movedim(-1, 1),
            padded, weight, [dim], one, zero, one, False, zero, dim, [True, True, True],
        )  # fmt: skip
        cells = dpadded.movedim(1, -1).flatten(1, -2)
        dx = cells.index_select(1, canvas.inner)
        dx.index_add_(1, canvas.halo_tokens, cells.index_select(1, canvas.halo_cells))
        return dx, dweight, dbias, None
