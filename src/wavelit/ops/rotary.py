"""Rotary phases: each pair of channels turns with a token's position, exactly round on a periodic
axis.

    R_i (a, b) = (a cos t_i - b sin t_i, a sin t_i + b cos t_i)

so that the product of a query and a key depends on where both are. `rotate` is the definition;
`turn_pairs` does the same to rows of all heads, whose channels `HeadTables.order` has brought side
by side.

References:
    Su et al., RoFormer, 2021, arXiv 2104.09864.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["HeadTables", "head_tables", "rotary_angles", "rotate", "turn_pairs"]


class HeadTables(NamedTuple):
    """Attention heads and their phases on S grids of L tokens; `head_tables` makes them.

    Attributes:
        angles: Rotary phases of each grid's tokens, (L_s, R).
        order: Queries' and keys' channels, head by head, so that the two of a pair that turns are
            neighbours, (2 E,).
        turn: cos and sin of the phases of these pairs, (L, E / 2, 2); 1 and 0 where nothing turns.
            Empty if a head has an odd number of channels.
        head: 1 where a channel belongs to an attention head, (E, A).
        same_head: 1 where two channels belong to one head, (E, E).
    """

    angles: tuple[Tensor, ...]
    order: Tensor
    turn: Tensor
    head: Tensor
    same_head: Tensor


def head_tables(
    shapes: Sequence[Sequence[int]],
    periodic: Sequence[bool],
    heads: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
) -> HeadTables:
    """Tables for so many heads of so many channels each.

    Args:
        shapes: Tokens along each axis, of each grid.
        periodic: Whether each axis wraps.
        heads: Attention heads and channels of each.
        device: Where the tables live.
        dtype: Of phases and matrices.
    """
    angles = [rotary_angles(shape, periodic, heads[1]).to(device, dtype) for shape in shapes]
    return HeadTables(
        tuple(angles),
        *_pairs(torch.cat(angles), heads),
        torch.eye(heads[0]).repeat_interleave(heads[1], 0).to(device, dtype),
        # No product of the former with itself: a caller's autocast would round the table that is
        # kept.
        torch.block_diag(*[torch.ones(heads[1], heads[1])] * heads[0]).to(device, dtype),
    )


def _pairs(angles: Tensor, heads: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Order of the channels of queries and keys, and cos and sin of the phases that their pairs
    turn by.
    """
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


def _harmonics(count: int) -> list[int]:
    """The first `count` of 1, 2, 3, 4, 6, 8, 12, 16, 24, ...: two an octave."""
    ladder = [1]
    power = 2
    while len(ladder) < count:
        ladder += [power, power + power // 2]
        power *= 2
    return ladder[:count]


def rotary_angles(
    shape: Sequence[int],
    periodic: Sequence[bool],
    head_dim: int,
    device: torch.device | None = None,
) -> Tensor:
    """Rotary phases of the tokens of a grid.

    Along a periodic axis of n tokens, token i has the phases 2 pi m (i + 1/2) / n with whole m, so
    that wrapping round is exact; along any other axis pi m (i + 1/2) / n, so that opposite walls
    differ. Harmonics m above n / 2 would alias: their phase is zero.

    Args:
        shape: Tokens along each axis.
        periodic: Whether each axis wraps.
        head_dim: Channels of a head; each axis gets head_dim // (2 * axes) of the harmonics, the
            rest stays unrotated.
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


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate the channel pairs (i, i + R) of x (..., L, D) by the angles (L, R); channels from
    2R on stay as they are.
    """
    n_pairs = angles.shape[-1]
    cos, sin = angles.cos(), angles.sin()
    first, second, rest = x.split([n_pairs, n_pairs, x.shape[-1] - 2 * n_pairs], -1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos, rest], -1)


def turn_pairs(x: Tensor, heads: HeadTables, back: bool = False) -> Tensor:
    """Rotate the pairs of neighbours in the rows of all heads (B, L, 2, E) by the phases, or
    back.
    """
    pairs, phases = x.unflatten(-1, (-1, 2)), heads.turn[:, None]
    if torch.compiler.is_compiling():
        # A compiler fuses real arithmetic alone.
        (first, second), (cos, sin) = pairs.unbind(-1), phases.unbind(-1)
        sin = -sin if back else sin
        return torch.stack([first * cos - second * sin, first * sin + second * cos], -1).flatten(-2)
    turn = torch.view_as_complex(phases)
    turned = torch.view_as_complex(pairs) * (turn.conj() if back else turn)
    return torch.view_as_real(turned).flatten(-2)
