"""Token grids: where the tokens of several scales sit in one sequence, and what acts on neighbours among them.

All scales stand in one sequence, finest first, so that whatever acts on single tokens is one operation over all of them. Means
over the tokens of a grid, and the way back, are products with an averaging matrix (S, L) and a membership matrix (L, S). For
convolutions the grids are laid side by side on one canvas, each with its padding:

    +--------+-----+
    | grid 0 |  1  |     one gather to the canvas, one convolution, one gather back
    |        +-----+
    |        |  2  |
    +--------+-----+

Indices, phases and matrices depend on the shapes alone and are kept.

References:
    Su et al., RoFormer, 2021, arXiv 2104.09864 (rotary phases).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = [
    "DepthwiseConv",
    "TokenGrids",
    "padded_tokens",
    "rotary_angles",
    "split_grids",
    "spread",
    "to_tokens",
    "token_grids",
]

CPU = torch.device("cpu")


class TokenGrids(NamedTuple):
    """Grids of tokens that stand in one sequence of L tokens, row-major, one grid after another; `token_grids` makes them.

    A tuple and no class with methods, so that a compiler can take it for a constant.

    Args:
        shapes: Tokens along each axis, of each of the S grids.
        sizes: Tokens of each grid.
        periodic: Whether each axis wraps.
        member: Number of the grid of each token, (L,).
        membership: 1 where a token belongs to a grid, (L, S).
        mean: Averages over the tokens of each grid, (S, L).
        angles: Rotary phases of each grid's tokens, (L_s, R).
        order: Queries' and keys' channels, head by head, so that the two of a pair that turns are neighbours, (2 E,).
        turn: cos and sin of the phases of these pairs, (L, E / 2, 2); 1 and 0 where nothing turns. Empty if a head has an odd
            number of channels.
        head: 1 where a channel belongs to an attention head, (E, A).
        same_head: 1 where two channels belong to one head, (E, E).
        canvas: Sides of the canvas.
        valid: Sides of the convolved canvas, two less each.
        fill: Tokens that fill the canvas.
        take: Cells of the convolved canvas that hold the tokens' results, (L,).
        back, live: For each cell of the convolved canvas its token, and whether it has one, as 1 or 0.
        inner: Cells of the canvas that are the tokens' own, (L,).
        halo_cells, halo_tokens: Cells of the padding, and the tokens that they copy.
    """

    shapes: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]
    periodic: tuple[bool, ...]
    member: Tensor
    membership: Tensor
    mean: Tensor
    angles: tuple[Tensor, ...]
    order: Tensor
    turn: Tensor
    head: Tensor
    same_head: Tensor
    canvas: tuple[int, ...]
    valid: tuple[int, ...]
    fill: Tensor
    take: Tensor
    back: Tensor
    live: Tensor
    inner: Tensor
    halo_cells: Tensor
    halo_tokens: Tensor


def split_grids(x: Tensor, grids: TokenGrids, dim: int = 1) -> tuple[Tensor, ...]:
    """The tokens of each grid, out of a tensor that holds them in turn along `dim`."""
    # One split, not a narrow for each: its gradient is one concatenation instead of zeros and sums.
    return x.split(grids.sizes, dim) if len(grids.sizes) > 1 else (x,)


def spread(x: Tensor, grids: TokenGrids) -> Tensor:
    """One row per grid, (S, E), to one per token, (L, E); to (1, E), which stands for them all, if there is one grid."""
    if len(grids.sizes) == 1:
        return x
    # A product, as the gradient of a gather is many small sums.
    # In float32 under autocast: gains and the residual stream are no matter for bfloat16.
    with torch.autocast(x.device.type, enabled=False):
        return grids.membership @ x


def to_tokens(x: Tensor, grids: TokenGrids) -> Tensor:
    """One row per sample and grid, (B, S, ...), to one per token, (B, L, ...); (B, 1, ...) stands for them if there is one grid."""
    return x.index_select(1, grids.member) if len(grids.sizes) > 1 else x


# Two functions, because a compiler that meets `lru_cache` traces what it wraps instead of calling it.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def token_grids(
    shapes: tuple[tuple[int, ...], ...],
    periodic: tuple[bool, ...],
    heads: tuple[int, int],
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
) -> TokenGrids:
    """Lay out token grids; what was asked for before is kept.

    Args:
        shapes: Tokens along each axis, of each grid.
        periodic: Whether each axis wraps; other axes repeat their edge.
        heads: Attention heads and channels of each.
        device: Where the tables live.
        dtype: Of phases and matrices.
    """
    return _cached_token_grids(shapes, periodic, heads, device, dtype)


@lru_cache(maxsize=16)
def _cached_token_grids(
    shapes: tuple[tuple[int, ...], ...],
    periodic: tuple[bool, ...],
    heads: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
) -> TokenGrids:
    # Tables made in inference mode could not serve a later training step.
    with torch.inference_mode(False), torch.no_grad():
        sizes = [math.prod(shape) for shape in shapes]
        member = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        membership = F.one_hot(member, len(sizes)).double()
        angles = [rotary_angles(shape, periodic, heads[1]).to(device, dtype) for shape in shapes]
        canvas, valid, tables = _lay_out(shapes, periodic)
        fill, take, back, live, inner, halo_cells, halo_tokens = (table.to(device) for table in tables)
        return TokenGrids(
            shapes,
            tuple(sizes),
            periodic,
            member.to(device),
            membership.to(device, dtype),
            (membership / torch.tensor(sizes)).T.contiguous().to(device, dtype),
            tuple(angles),
            *_pairs(torch.cat(angles), heads),
            torch.eye(heads[0]).repeat_interleave(heads[1], 0).to(device, dtype),
            # No product of the former with itself: a caller's autocast would round the table that is kept.
            torch.block_diag(*[torch.ones(heads[1], heads[1])] * heads[0]).to(device, dtype),
            canvas,
            valid,
            fill,
            take,
            back,
            live.to(dtype),
            inner,
            halo_cells,
            halo_tokens,
        )


def _pairs(angles: Tensor, heads: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Order of the channels of queries and keys, and cos and sin of the phases that their pairs turn by."""
    n_heads, head_dim = heads
    n_pairs = angles.shape[-1]
    pairs = torch.arange(2 * n_pairs).view(2, n_pairs).T.flatten()
    one = torch.cat([pairs, torch.arange(2 * n_pairs, head_dim)])
    order = (torch.arange(2 * n_heads)[:, None] * head_dim + one).flatten().to(angles.device)
    if head_dim % 2:
        return order, angles.new_empty(0)
    still = angles.new_zeros(len(angles), head_dim // 2 - n_pairs)
    phases = torch.cat([angles, still], 1).repeat(1, n_heads)
    return order, torch.stack([phases.cos(), phases.sin()], -1)


def _lay_out(
    shapes: Sequence[Sequence[int]], periodic: Sequence[bool]
) -> tuple[tuple[int, ...], tuple[int, ...], list[Tensor]]:
    """Sides of the canvas and of the convolved canvas, and [fill, take, back, live, inner, halo_cells, halo_tokens]."""
    padded = [[n + 2 for n in shape] for shape in shapes]
    # Grid 0 at the origin, the others one below another along the first axis, beside it along the last.
    corners, height = [[0] * len(padded[0])], 0
    for side in padded[1:]:
        corner = [0] * len(side)
        corner[-1] = padded[0][-1]
        corner[0] += height
        corners.append(corner)
        height += side[0]
    canvas = tuple(
        max(c[axis] + p[axis] for c, p in zip(corners, padded, strict=True)) for axis in range(len(padded[0]))
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
    adjoint = (torch.cat(parts) for parts in (inner, halo_cells, halo_tokens))
    return canvas, valid, [fill.flatten(), taken, back, live, *adjoint]


def padded_tokens(shape: Sequence[int], periodic: Sequence[bool]) -> Tensor:
    """The tokens of a grid with one of padding on every side: those across a periodic axis, elsewhere the edge's own."""
    near = []
    for n, wraps in zip(shape, periodic, strict=True):
        along = torch.arange(-1, n + 1)
        near.append(along % n if wraps else along.clamp(0, n - 1))
    return _ravel(near, shape)


def _ravel(index: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Flat indices into an array of that shape, of the grid that the indices along each axis span."""
    flat = torch.zeros((1,) * len(shape), dtype=torch.long)
    stride = math.prod(shape)
    for axis, (along, n) in enumerate(zip(index, shape, strict=True)):
        stride //= n
        view = [1] * len(shape)
        view[axis] = -1
        flat = flat + (along * stride).view(view)
    return flat


def _harmonics(count: int) -> list[int]:
    """The first `count` of 1, 2, 3, 4, 6, 8, 12, 16, 24, ...: two an octave."""
    ladder = [1]
    power = 2
    while len(ladder) < count:
        ladder += [power, power + power // 2]
        power *= 2
    return ladder[:count]


def rotary_angles(
    shape: Sequence[int], periodic: Sequence[bool], head_dim: int, device: torch.device | None = None
) -> Tensor:
    """Rotary phases of the tokens of a grid.

    Along a periodic axis of n tokens, token i has the phases 2 pi m (i + 1/2) / n with whole m, so that wrapping round is
    exact; along any other axis pi m (i + 1/2) / n, so that opposite walls differ. Harmonics m above n / 2 would alias: their
    phase is zero.

    Args:
        shape: Tokens along each axis.
        periodic: Whether each axis wraps.
        head_dim: Channels of a head; each axis gets head_dim // (2 * axes) of the harmonics, the rest stays unrotated.
        device: Where the result lives.

    Returns:
        (L, R) float32, tokens in row-major order.
    """
    n_harmonics = head_dim // (2 * len(shape))
    harmonics = torch.tensor(_harmonics(n_harmonics), dtype=torch.float32, device=device)
    per_axis = []
    for axis, (n, wraps) in enumerate(zip(shape, periodic, strict=True)):
        position = (torch.arange(n, dtype=torch.float32, device=device) + 0.5) / n
        turns = (2 * math.pi if wraps else math.pi) * harmonics * (harmonics <= n / 2)
        phases = position[:, None] * turns  # (n, n_harmonics)
        view = [1] * len(shape)
        view[axis] = n
        per_axis.append(phases.view(*view, n_harmonics).expand(*shape, n_harmonics))
    return torch.cat(per_axis, -1).flatten(0, -2)


class DepthwiseConv(nn.Module):
    """3^d depthwise convolution over token grids, padded per axis: circular where periodic, edge-replicating elsewhere.

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

    def forward(self, x: Tensor, grids: TokenGrids) -> Tensor:
        """x: (B, L, E), the tokens of all grids in turn. Returns the same shape."""
        ((weight, bias),) = self.split(1)
        return depthwise(x, weight, bias, grids)

    def split(self, parts: int) -> list[tuple[Tensor, Tensor]]:
        """Kernels and biases of equal parts of the channels."""
        weight = self.weight + self.identity if self.residual else self.weight
        return list(zip(weight.chunk(parts), self.bias.chunk(parts), strict=True))


def depthwise(
    x: Tensor, weight: Tensor, bias: Tensor, grids: TokenGrids, shift: Tensor | None = None
) -> Tensor:
    """Convolve token grids channel by channel, padded as `DepthwiseConv` says.

    Args:
        x: Tokens of all grids in turn, (B, L, E).
        weight: Kernels, (E, 1, 3, ...).
        bias: (E,).
        grids: The grids.
        shift: Added to x first, (E,).

    Returns:
        (B, L, E).
    """
    if shift is not None:
        # The padding repeats values, so a constant comes through as itself times the kernel's sum: no pass over x.
        bias = bias + shift * weight.flatten(1).sum(1)
    if torch.is_autocast_enabled(x.device.type):
        low = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(low), weight.to(low), bias.to(low)
    y: Tensor = _Depthwise.apply(x, weight, bias, grids)  # type: ignore[no-untyped-call]
    return y


class _Depthwise(torch.autograd.Function):
    """The convolution on the canvas; the gradient of the padding adds up the few padded cells alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, grids: TokenGrids) -> Tensor:
        padded = x.index_select(1, grids.fill).unflatten(1, grids.canvas).movedim(-1, 1)
        ctx.save_for_backward(padded, weight)
        ctx.grids = grids
        spatial = len(grids.canvas)
        with torch.autocast(x.device.type, enabled=False):
            y = (F.conv1d, F.conv2d, F.conv3d)[spatial - 1](padded, weight, bias, groups=x.shape[-1])
        cells = y.movedim(1, -1).flatten(1, -2)
        # A grid by itself is its convolved canvas.
        return cells if len(grids.sizes) == 1 else cells.index_select(1, grids.take)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (padded, weight), grids = ctx.saved_tensors, ctx.grids
        dim, spatial = grad.shape[-1], len(grids.canvas)
        on_canvas = grad
        if len(grids.sizes) > 1:
            on_canvas = grad.index_select(1, grids.back).mul_(grids.live)
        one, zero = [1] * spatial, [0] * spatial
        dpadded, dweight, dbias = torch.ops.aten.convolution_backward(
            on_canvas.unflatten(1, grids.valid).movedim(-1, 1),
            padded, weight, [dim], one, zero, one, False, zero, dim, [True, True, True],
        )  # fmt: skip
        cells = dpadded.movedim(1, -1).flatten(1, -2)
        dx = cells.index_select(1, grids.inner)
        dx.index_add_(1, grids.halo_tokens, cells.index_select(1, grids.halo_cells))
        return dx, dweight, dbias, None
