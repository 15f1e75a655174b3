"""Depthwise convolutions of token grids of several sizes at once.

The grids are laid side by side on one canvas, each with its padding: one gather to the canvas, one
convolution, one gather back.

    +--------+-----+
    | grid 0 |  1  |
    |        +-----+
    |        |  2  |
    +--------+-----+

Padding wraps along a periodic axis, more than once where the kernel is longer than the period.
Along any other it repeats the edge, or is zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from wavelit.ops.derivatives import are_plain

__all__ = ["ConvCanvas", "DepthwiseConv", "conv_canvas", "depthwise", "padded_tokens"]


class ConvCanvas(NamedTuple):
    """Where the tokens of S grids stand on the canvas; `conv_canvas` makes it.

    Attributes:
        n_grids: Their number S.
        sides: Of the canvas.
        valid: Sides of the convolved canvas, less by twice the radius.
        fill: Tokens that fill the canvas.
        take: Cells of the convolved canvas that hold the tokens' results, (L,).
        back: For each cell of the convolved canvas its token.
        live: For each cell of the convolved canvas whether it has a token, as 1 or 0.
        inner: Cells of the canvas that are the tokens' own, (L,).
        halo_cells: Cells of the padding.
        halo_tokens: The tokens that they copy.
        kept: For each cell of the canvas whether it is none beyond a wall, as 1 or 0; None where
            padding repeats the edge.
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
    kept: Tensor | None = None


def conv_canvas(
    shapes: Sequence[Sequence[int]],
    periodic: Sequence[bool],
    device: torch.device,
    dtype: torch.dtype,
    radius: Sequence[int] | None = None,
    edge: bool = True,
) -> ConvCanvas:
    """Lay out token grids on a canvas.

    Args:
        shapes: Tokens along each axis, of each grid.
        periodic: Whether each axis wraps.
        device: Where the tables live.
        dtype: Of `live` and `kept`.
        radius: Of the kernel along each axis, as in 2 radius + 1; 1 if absent.
        edge: Whether padding beyond walls repeats the edge; else it is zero.
    """
    radius = radius or (1,) * len(periodic)
    padded = [[n + 2 * r for n, r in zip(shape, radius, strict=True)] for shape in shapes]
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
    valid = tuple(n - 2 * r for n, r in zip(canvas, radius, strict=True))
    # Where no grid lies, any token will do.
    fill = torch.zeros(canvas, dtype=torch.long)
    kept = torch.ones(canvas)
    take, inner, halo_cells, halo_tokens = [], [], [], []
    start = 0
    for shape, side, corner in zip(shapes, padded, corners, strict=True):
        token = start + padded_tokens(shape, periodic, radius)
        place = tuple(slice(c, c + n) for c, n in zip(corner, side, strict=True))
        fill[place] = token
        beyond = torch.zeros(()) if edge else _beyond_walls(shape, periodic, radius)
        kept[place] = 1 - beyond
        cell = _ravel([c + torch.arange(n) for c, n in zip(corner, side, strict=True)], canvas)
        core = tuple(slice(r, r + n) for n, r in zip(shape, radius, strict=True))
        outside = torch.ones(tuple(side), dtype=torch.bool)
        outside[core] = False
        outside &= beyond == 0
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
        torch.cat(inner).to(device),
        torch.cat(halo_cells).to(device),
        torch.cat(halo_tokens).to(device),
        None if edge or all(periodic) else kept.view(-1, 1).to(device, dtype),
    )


def padded_tokens(
    shape: Sequence[int], periodic: Sequence[bool], radius: Sequence[int] | None = None
) -> Tensor:
    """The tokens of a grid with padding on every side, one if no radius is given: those across a
    periodic axis, elsewhere the edge's own.
    """
    near = []
    for n, wraps, r in zip(shape, periodic, radius or (1,) * len(shape), strict=True):
        along = torch.arange(-r, n + r)
        near.append(along % n if wraps else along.clamp(0, n - 1))
    return _ravel(near, shape)


def _beyond_walls(shape: Sequence[int], periodic: Sequence[bool], radius: Sequence[int]) -> Tensor:
    """1 where the padding of a grid lies beyond an axis that does not wrap, else 0."""
    beyond = torch.zeros(tuple(n + 2 * r for n, r in zip(shape, radius, strict=True)))
    for axis, (n, wraps, r) in enumerate(zip(shape, periodic, radius, strict=True)):
        if not wraps:
            along = beyond.movedim(axis, 0)
            along[:r] = along[r + n :] = 1
    return beyond


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
    """Depthwise convolution over token grids, padded per axis: circular where periodic, elsewhere
    as the canvas has it.

    Args:
        dim: Channels.
        spatial: Grid axes, 1 to 3.
        residual: Return x + conv(x); the identity is added to the centre tap and costs nothing.
        kernel: Tokens along each axis, odd, which the canvas is laid out for; 3 if absent.
    """

    def __init__(
        self, dim: int, spatial: int, residual: bool = False, kernel: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.residual = residual
        sides = tuple(kernel or (3,) * spatial)
        self.weight = nn.Parameter(torch.empty(dim, 1, *sides))
        self.bias = nn.Parameter(torch.empty(dim))
        identity = torch.zeros(math.prod(sides))
        identity[len(identity) // 2] = 1
        self.register_buffer("identity", identity.view(1, 1, *sides), persistent=False)
        self.identity: Tensor

    @property
    def kernel(self) -> tuple[int, ...]:
        """Tokens along each axis."""
        return tuple(self.weight.shape[2:])

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
        weight: Kernels, (E, 1, 3, ...), of the canvas's radius.
        bias: (E,).
        canvas: Where the grids lie.
        shift: Added to x first, (E,).

    Returns:
        (B, L, E).
    """
    if shift is not None:
        if canvas.kept is None:
            # The padding repeats values, so a constant comes through as itself times the kernel's
            # sum: no pass over x.
            bias = bias + shift * weight.flatten(1).sum(1)
        else:
            x = x + shift
    if torch.is_autocast_enabled(x.device.type):
        low = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(low), weight.to(low), bias.to(low)
    if are_plain():
        return _plain(x, weight, bias, canvas)
    y: Tensor = _Depthwise.apply(x, weight, bias, canvas)  # type: ignore[no-untyped-call]
    return y


def _plain(x: Tensor, weight: Tensor, bias: Tensor, canvas: ConvCanvas) -> Tensor:
    """What `_Depthwise` computes, of operations of PyTorch's own."""
    padded = x.index_select(1, canvas.fill)
    padded = padded if canvas.kept is None else padded * canvas.kept
    return _convolved(padded.unflatten(1, canvas.sides).movedim(-1, 1), weight, bias, canvas)


def _convolved(padded: Tensor, weight: Tensor, bias: Tensor, canvas: ConvCanvas) -> Tensor:
    """The tokens (B, L, E) of convolved canvases (B, E, *sides)."""
    with torch.autocast(padded.device.type, enabled=False):
        y = (F.conv1d, F.conv2d, F.conv3d)[len(canvas.sides) - 1](
            padded, weight, bias, groups=padded.shape[1]
        )
    cells = y.movedim(1, -1).flatten(1, -2)
    # A grid by itself is its convolved canvas.
    return cells if canvas.n_grids == 1 else cells.index_select(1, canvas.take)


class _Depthwise(torch.autograd.Function):
    """The convolution on the canvas; the gradient of the padding adds up the few padded cells
    alone.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, canvas: ConvCanvas) -> Tensor:
        padded = x.index_select(1, canvas.fill)
        if canvas.kept is not None:
            padded.mul_(canvas.kept)
        padded = padded.unflatten(1, canvas.sides).movedim(-1, 1)
        ctx.save_for_backward(padded, weight)
        ctx.canvas = canvas
        return _convolved(padded, weight, bias, canvas)

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
