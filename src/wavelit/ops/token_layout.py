"""Where the tokens of several grids stand in one sequence: one after another, finest first, each
row-major.

Whatever acts on single tokens is then one operation over all of them. Means over the tokens of a
grid, and the way back, are products with an averaging matrix (S, L) and a membership matrix (L, S).

`TokenGrids` holds all that depends on the shapes alone: this layout, the canvas of convolutions,
the heads' phases. It is computed once and kept.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from wavelit.ops.depthwise import ConvCanvas, conv_canvas
from wavelit.ops.kept import kept
from wavelit.ops.rotary import HeadTables, head_tables

__all__ = [
    "TokenGrids",
    "TokenLayout",
    "canvas_for",
    "split_grids",
    "spread",
    "to_tokens",
    "token_grids",
    "wide_canvas",
]

CPU = torch.device("cpu")


class TokenLayout(NamedTuple):
    """S grids in one sequence of L tokens.

    Attributes:
        shapes: Tokens along each axis, of each grid.
        sizes: Tokens of each grid.
        periodic: Whether each axis wraps.
        member: Number of the grid of each token, (L,).
        membership: 1 where a token belongs to a grid, (L, S).
        mean: Averages over the tokens of each grid, (S, L).
    """

    shapes: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]
    periodic: tuple[bool, ...]
    member: Tensor
    membership: Tensor
    mean: Tensor


class TokenGrids(NamedTuple):
    """The tables of S grids; `token_grids` makes them.

    Tuples and no classes with methods, so that a compiler can take them for constants.

    Attributes:
        layout: Where the tokens stand in the sequence.
        canvas: Where they stand when they are convolved.
        heads: Phases and heads of the attention among them.
    """

    layout: TokenLayout
    canvas: ConvCanvas
    heads: HeadTables


def split_grids(x: Tensor, layout: TokenLayout, dim: int = 1) -> tuple[Tensor, ...]:
    """The tokens of each grid, out of a tensor that holds them in turn along `dim`."""
    # One split, not a narrow for each: its gradient is one concatenation instead of zeros and sums.
    return x.split(layout.sizes, dim) if len(layout.sizes) > 1 else (x,)


def spread(x: Tensor, layout: TokenLayout) -> Tensor:
    """One row per grid, (S, E), to one per token, (L, E); to (1, E), which stands for them all,
    if there is one grid.
    """
    if len(layout.sizes) == 1:
        return x
    # A product, as the gradient of a gather is many small sums.
    # In float32 under autocast: gains and the residual stream are no matter for bfloat16.
    with torch.autocast(x.device.type, enabled=False):
        return layout.membership @ x


def to_tokens(x: Tensor, layout: TokenLayout) -> Tensor:
    """One row per sample and grid, (B, S, ...), to one per token, (B, L, ...); (B, 1, ...)
    stands for them if there is one grid.
    """
    return x.index_select(1, layout.member) if len(layout.sizes) > 1 else x


def canvas_for(kernel: tuple[int, ...], grids: TokenGrids) -> ConvCanvas:
    """The canvas of the grids for a kernel, padded at walls as that which they have.

    Args:
        kernel: Tokens along each axis, odd.
        grids: The grids.
    """
    own, layout = grids.canvas, grids.layout
    if kernel == tuple(side - left + 1 for side, left in zip(own.sides, own.valid, strict=True)):
        return own
    edge, live = own.kept is None, own.live
    return wide_canvas(layout.shapes, layout.periodic, kernel, edge, live.device, live.dtype)


@kept(16)
def token_grids(
    shapes: tuple[tuple[int, ...], ...],
    periodic: tuple[bool, ...],
    heads: tuple[int, int],
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
    edge: bool = True,
) -> TokenGrids:
    """Lay out token grids; what was asked for before is kept.

    Args:
        shapes: Tokens along each axis, of each grid.
        periodic: Whether each axis wraps.
        heads: Attention heads and channels of each.
        device: Where the tables live.
        dtype: Of phases and matrices.
        edge: Whether padding beyond other axes repeats the edge; else it is zero.
    """
    sizes = [math.prod(shape) for shape in shapes]
    member = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    membership = F.one_hot(member, len(sizes)).double()
    layout = TokenLayout(
        shapes,
        tuple(sizes),
        periodic,
        member.to(device),
        membership.to(device, dtype),
        (membership / torch.tensor(sizes)).T.contiguous().to(device, dtype),
    )
    return TokenGrids(
        layout,
        conv_canvas(shapes, periodic, device, dtype, edge=edge),
        head_tables(shapes, periodic, heads, device, dtype),
    )


@kept(64)
def wide_canvas(
    shapes: tuple[tuple[int, ...], ...],
    periodic: tuple[bool, ...],
    kernel: tuple[int, ...],
    edge: bool,
    device: torch.device,
    dtype: torch.dtype,
) -> ConvCanvas:
    """The canvas of those grids for another kernel or padding than `TokenGrids` has; what was asked
    for before is kept.

    Args:
        shapes: Tokens along each axis, of each grid.
        periodic: Whether each axis wraps.
        kernel: Tokens along each axis, odd.
        edge: Whether padding beyond walls repeats the edge; else it is zero.
        device: Where the tables live.
        dtype: Of the masks.
    """
    return conv_canvas(shapes, periodic, device, dtype, [n // 2 for n in kernel], edge)
