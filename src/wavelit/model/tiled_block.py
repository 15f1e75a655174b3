"""A block's prediction tile by tile, so that what a tile of tokens needs stays in the processor's
cache.

Without gradients nothing has to be kept, and on a large grid most of a block's time goes into
arrays of all tokens on their way to memory and back. Here only x, the values v and, with attention,
its output o have the size of the grid; all else has that of a tile, some rows of the grid. What
needs all tokens divides the block into passes over each grid, with attention (names as there)

    x += DWConv(x);  v is kept, mean f_k, mean v and M are summed up
    o = (r_q M) / w is kept, its mean square a head is summed up
    x += ls_1 W_o [(t head_gain o + mean_gain v_mean + DWConv(v)) * SiLU(g)]

or with a convolution in its place

    x += DWConv(x);  v is kept
    x += ls_1 W_o [DWConv(v) * SiLU(g)]

and at the end

    x += ls_2 ConvGLU(norm(x));  two rows of hidden channels are handed on from tile to tile

Gains, shifts and scales of whole channels are folded into the matrices. The result is that of
`Block.forward` up to rounding.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavelit.model.attention import AugmentedLinearAttention
from wavelit.model.block import Block
from wavelit.model.mixers import GatedConv
from wavelit.ops.depthwise import padded_tokens
from wavelit.ops.fused_attention import HEAD_EPS, NORMALISER_EPS
from wavelit.ops.norm import inverse_rms
from wavelit.ops.pieces import may_divide
from wavelit.ops.token_layout import TokenGrids

__all__ = ["should_tile", "supports_tiling", "tiled_forward"]

# Numbers in a tile of x, 1 MB; half and twice as many take up to a tenth longer with 2 MB of L2.
TILE = 2**18
# Numbers in a sample's x from which on tiles pay.
LARGE = 2**18


class _Padding(NamedTuple):
    """A grid with padding on every side.

    Args:
        tokens: Its tokens, flat.
        shape: Of the grid without padding.
        radius: Tokens of padding along each axis, those that a kernel reaches.
    """

    tokens: Tensor
    shape: tuple[int, ...]
    radius: tuple[int, ...]

    @property
    def sides(self) -> list[int]:
        """Tokens along each axis but the first, padding counted."""
        return [n + 2 * r for n, r in zip(self.shape[1:], self.radius[1:], strict=True)]

    @property
    def width(self) -> int:
        """Tokens of a row."""
        return math.prod(self.sides)

    def rows(self, x: Tensor, first: int, last: int) -> Tensor:
        """Rows of x (L_s, E), also before and behind: the first one's number is -radius[0]."""
        before = self.radius[0]
        return x.index_select(
            0, self.tokens[(first + before) * self.width : (last + before) * self.width]
        )

    def convolve(self, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Depthwise convolution of rows, more than the result has by twice the radius."""
        # The batch of one goes in front before the channels move: behind, its stride would hide
        # that channels are last.
        canvas = rows.unflatten(0, (1, -1, *self.sides)).movedim(-1, 1)
        conv = (F.conv1d, F.conv2d, F.conv3d)[len(self.shape) - 1]
        y: Tensor = conv(canvas, weight, bias, groups=len(weight))
        return y.movedim(1, -1).flatten(0, -2)

    def convolved(self, x: Tensor, first: int, last: int, weight: Tensor, bias: Tensor) -> Tensor:
        """Rows of the depthwise convolution of x (L_s, E)."""
        return self.convolve(
            self.rows(x, first - self.radius[0], last + self.radius[0]), weight, bias
        )


class _Grid(NamedTuple):
    """One grid, cut into tiles along its first axis.

    Args:
        tokens: Where it stands in the sequence.
        rows: Of a tile; the last one may have fewer.
        near: Its tokens with one of padding on every side.
        periodic: Whether each axis wraps.
        turn: Rotary phases of the pairs of all heads in turn, (L_s, E / 2, 2), for attention.
    """

    tokens: slice
    rows: int
    near: _Padding
    periodic: tuple[bool, ...]
    turn: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Tokens along each axis."""
        return self.near.shape

    def tiles(self) -> list[tuple[int, int]]:
        """First row and one past the last of each."""
        return [
            (row, min(row + self.rows, self.shape[0])) for row in range(0, self.shape[0], self.rows)
        ]

    def part(self, first: int, last: int) -> slice:
        """The tokens of some rows."""
        width = math.prod(self.shape[1:])
        return slice(first * width, last * width)


@lru_cache(maxsize=16)
def _padding(
    shape: tuple[int, ...],
    periodic: tuple[bool, ...],
    radius: tuple[int, ...],
    device: torch.device,
) -> _Padding:
    return _Padding(padded_tokens(shape, periodic, radius).flatten().to(device), shape, radius)


@lru_cache(maxsize=16)
def _cut(grids: TokenGrids, tile: int) -> list[_Grid]:
    layout, heads = grids.layout, grids.heads
    dim = len(heads.head)
    cut, start = [], 0
    for shape, size in zip(layout.shapes, layout.sizes, strict=True):
        tokens = slice(start, start + size)
        # Two rows at least: so many are handed on, if there is another tile.
        rows = min(shape[0], max(2, tile // (dim * math.prod(shape[1:]))))
        near = _padding(shape, layout.periodic, (1,) * len(shape), heads.head.device)
        cut.append(_Grid(tokens, rows, near, layout.periodic, heads.turn[tokens]))
        start += size
    return cut


def supports_tiling(block: Block) -> bool:
    """Whether a block has attention or a short convolution and lacks nothing: tiles are for no
    other.
    """
    mixer = block.attention
    if block.local is None or not mixer.gate:
        return False
    if isinstance(mixer, GatedConv):
        return True
    return (
        isinstance(mixer, AugmentedLinearAttention)
        and mixer.fast
        and mixer.local is not None
        and set(mixer.local.kernel) == {3}
    )


def _attention(block: Block) -> AugmentedLinearAttention:
    attention = block.attention
    assert isinstance(attention, AugmentedLinearAttention)
    return attention


def should_tile(x: Tensor) -> bool:
    """Whether tokens x (B, L, E) are better predicted in tiles: on a CPU, without gradients, on
    a large grid.
    """
    return x.shape[1] * x.shape[2] >= LARGE and may_divide(x)


def tiled_forward(
    block: Block,
    x: Tensor,
    grids: TokenGrids,
    scales: slice,
    condition: Tensor | None,
    tile: int = TILE,
) -> Tensor:
    """What `block(x, grids, scales, condition)` returns, for a block that supports it.

    Args:
        block: The block.
        x: (B, L, E), the grids of the `scales` in turn; is left as it is.
        grids: The grids.
        scales: Scales of the pyramid that the grids are.
        condition: (B, E_c), or None.
        tile: Numbers in a tile of x.
    """
    cut, order = _cut(grids, tile), grids.heads.order[: x.shape[2]]
    gain = shift = None
    if block.modulation is not None and condition is not None:
        gain, shift = block.modulation(condition).chunk(2, -1)
    out = torch.empty_like(x)
    for sample in range(len(x)):
        modulation = None if gain is None or shift is None else (1 + gain[sample], shift[sample])
        for number, grid in enumerate(cut):
            scale = range(*scales.indices(len(block.mlp_scale)))[number]
            tokens = x[sample, grid.tokens]
            # What a tile needs: the same memory each time is still in the cache.
            scratch = x.new_empty(2, grid.part(0, grid.rows).stop, x.shape[2])
            if isinstance(block.attention, GatedConv):
                local = _mix_by_convolution(
                    block, block.attention, tokens, grid, scale, modulation, scratch
                )
            else:
                local = _mix_by_attention(block, tokens, grid, scale, modulation, order, scratch)
            _feed_forward(block, local, out[sample, grid.tokens], grid, scale, modulation)
    return out


Modulation = tuple[Tensor, Tensor]


def _folded(
    weight: Tensor, bias: Tensor, gain: Tensor, modulation: Modulation | None
) -> tuple[Tensor, Tensor]:
    """W and b that read x / RMS(x), for those that read it times a gain and modulated; W
    transposed.
    """
    if modulation is not None:
        gain, bias = gain * modulation[0], bias + weight @ modulation[1]
    return (weight * gain).T, bias


def _mix_by_convolution(
    block: Block,
    mixer: GatedConv,
    x: Tensor,
    grid: _Grid,
    scale: int,
    modulation: Modulation | None,
    scratch: Tensor,
) -> Tensor:
    """The passes before the last of a block with a convolution in attention's place, on the tokens
    x (L_s, E) of one grid.
    """
    assert block.local is not None
    norm_gain, e = block.attention_norm.gain[scale], x.shape[1]
    (wv, bv), (wg, bg) = (
        _folded(weight, bias, norm_gain, modulation)
        for weight, bias in zip(
            mixer.project.weight.split(e), mixer.project.bias.split(e), strict=True
        )
    )
    local, values, inverse = torch.empty_like(x), torch.empty_like(x), x.new_empty(len(x), 1)
    ((kernel, bias),) = block.local.split(1)
    for first, last in grid.tiles():
        part = grid.part(first, last)
        n = scratch[0, : part.stop - part.start]
        y = grid.near.convolved(x, first, last, kernel, bias)
        local[part], inverse[part] = y, inverse_rms(y)
        torch.mul(y, inverse[part], out=n)
        torch.addmm(bv, n, wv, out=values[part])
    radius = tuple(side // 2 for side in mixer.local.kernel)
    wide = _padding(grid.shape, grid.periodic, radius, x.device)
    ((kernel, bias),) = mixer.local.split(1)
    wo, bo = _scaled(mixer.out, block.attention_scale[scale])
    for first, last in grid.tiles():
        part = grid.part(first, last)
        n, g = scratch[:, : part.stop - part.start]
        y = wide.convolved(values, first, last, kernel, bias)
        torch.mul(local[part], inverse[part], out=n)
        torch.addmm(bg, n, wg, out=g)
        local[part].addmm_(y.mul_(F.silu(g, inplace=True)), wo).add_(bo)
    return local


def _scaled(linear: nn.Linear, gain: Tensor) -> tuple[Tensor, Tensor]:
    """W and b of a gain times what a linear map gives; W transposed."""
    return (gain[:, None] * linear.weight).T, gain * linear.bias


def _mix_by_attention(
    block: Block,
    x: Tensor,
    grid: _Grid,
    scale: int,
    modulation: Modulation | None,
    order: Tensor,
    scratch: Tensor,
) -> Tensor:
    """The passes before the last of a block with attention, on the tokens x (L_s, E) of a grid."""
    maps = _fold_maps(block, scale, modulation, order)
    means = _sum_keys_and_values(block, x, grid, maps, scratch)
    mixed, mean_square = _attend(means, grid, maps, _attention(block).num_heads, scratch)
    _write_attention(block, means, mixed, mean_square, grid, maps, scale, scratch)
    return means.local


class _Maps(NamedTuple):
    """The linear maps of a block's attention, which read x / RMS(x): matrices transposed,
    biases, gains of q and k.
    """

    query: tuple[Tensor, Tensor]
    key: tuple[Tensor, Tensor]
    value: tuple[Tensor, Tensor]
    gate: tuple[Tensor, Tensor]
    query_gain: Tensor
    key_gain: Tensor


def _fold_maps(block: Block, scale: int, modulation: Modulation | None, order: Tensor) -> _Maps:
    attention = _attention(block)
    e = attention.out.in_features
    norm_gain = block.attention_norm.gain[scale]
    weights, biases = attention.project.weight.split(e), attention.project.bias.split(e)
    (wq, bq), (wk, bk), value, gate = (
        _folded(weight, bias, norm_gain, modulation)
        for weight, bias in zip(weights, biases, strict=True)
    )
    gains = (
        g.repeat(attention.num_heads)[order] for g in (attention.query_gain, attention.key_gain)
    )
    return _Maps((wq[:, order], bq[order]), (wk[:, order], bk[order]), value, gate, *gains)


class _Means(NamedTuple):
    """What the first pass leaves: x after its convolution (L_s, E) and 1 / RMS of it (L_s, 1), the
    values less `about` (L_s, E), and the means over the tokens, of the keys' features (E,), of the
    values less `about` (E,), and of their products (A, D, D).
    """

    local: Tensor
    inverse: Tensor
    values: Tensor
    about: Tensor
    key: Tensor
    value: Tensor
    product: Tensor


def _sum_keys_and_values(
    block: Block, x: Tensor, grid: _Grid, maps: _Maps, scratch: Tensor
) -> _Means:
    """The first pass on the tokens x (L_s, E) of one grid."""
    assert block.local is not None
    n_heads, (size, e) = _attention(block).num_heads, x.shape
    ((kernel, bias),) = block.local.split(1)
    (wk, bk), (wv, bv) = maps.key, maps.value
    local, values, inverse = torch.empty_like(x), torch.empty_like(x), x.new_empty(size, 1)
    k_sum, r_sum, v_sum = x.new_zeros(3, e)
    about = k_sum
    product = x.new_zeros(n_heads, e // n_heads, e // n_heads)
    for first, last in grid.tiles():
        part = grid.part(first, last)
        n, k = scratch[:, : part.stop - part.start]
        y = grid.near.convolved(x, first, last, kernel, bias)
        local[part] = y
        inverse[part] = inverse_rms(y)
        torch.mul(y, inverse[part], out=n)
        if first == 0:
            # Values count from about their mean, so that little is lost when it is taken out of the
            # sums at the end.
            about = torch.addmv(bv, wv.T, n.mean(0))
            bv = bv - about
        v = torch.addmm(bv, n, wv, out=values[part])
        torch.addmm(bk, n, wk, out=k)
        _features(k, maps.key_gain, n_heads, n)
        k_sum += k.sum(0)
        _turn(k, grid.turn[part])
        r_sum += k.sum(0)
        v_sum += v.sum(0)
        product.baddbmm_(_by_head(k, n_heads).mT, _by_head(v, n_heads))
    k_mean, v_mean = k_sum / size, v_sum / size
    product.baddbmm_(
        _by_head(r_sum[None], n_heads).mT, _by_head(v_mean[None], n_heads), alpha=-1
    ).div_(size)
    return _Means(local, inverse, values, about, k_mean, v_mean, product)


def _attend(
    means: _Means, grid: _Grid, maps: _Maps, n_heads: int, scratch: Tensor
) -> tuple[Tensor, Tensor]:
    """The second pass: o (L_s, E) and its mean square a head (A,)."""
    wq, bq = maps.query
    mixed = torch.empty_like(means.local)
    squares = mixed.new_zeros(mixed.shape[1])
    for first, last in grid.tiles():
        part = grid.part(first, last)
        n, q = scratch[:, : part.stop - part.start]
        torch.mul(means.local[part], means.inverse[part], out=n)
        torch.addmm(bq, n, wq, out=q)
        _features(q, maps.query_gain, n_heads, n)
        w = torch.mul(q, means.key, out=n).unflatten(1, (n_heads, -1)).sum(-1, keepdim=True)
        _turn(q, grid.turn[part])
        o = mixed[part].zero_()
        _by_head(o, n_heads).baddbmm_(_by_head(q, n_heads), means.product)
        o.unflatten(1, (n_heads, -1)).mul_(w.add_(NORMALISER_EPS).reciprocal_())
        squares += torch.mul(o, o, out=n).sum(0)
    return mixed, squares.view(n_heads, -1).mean(1) / len(mixed)


def _write_attention(
    block: Block,
    means: _Means,
    mixed: Tensor,
    mean_square: Tensor,
    grid: _Grid,
    maps: _Maps,
    scale: int,
    scratch: Tensor,
) -> None:
    """The third pass, added to `means.local`."""
    attention, (wg, bg) = _attention(block), maps.gate
    assert attention.local is not None
    assert attention.mean_gain is not None
    head_dim = mixed.shape[1] // attention.num_heads
    o_gain = torch.rsqrt(mean_square + HEAD_EPS).repeat_interleave(head_dim) * attention.head_gain
    # The padding repeats values, so that a constant comes through the convolution as itself times
    # the kernel's sum.
    ((kernel, bias),) = attention.local.split(1)
    bias = (
        bias
        + means.about * kernel.flatten(1).sum(1)
        + (means.about + means.value) * attention.mean_gain
    )
    wo, bo = _scaled(attention.out, block.attention_scale[scale])
    for first, last in grid.tiles():
        part = grid.part(first, last)
        n, g = scratch[:, : part.stop - part.start]
        y = grid.near.convolved(means.values, first, last, kernel, bias)
        y.addcmul_(mixed[part], o_gain)
        torch.mul(means.local[part], means.inverse[part], out=n)
        torch.addmm(bg, n, wg, out=g)
        means.local[part].addmm_(y.mul_(F.silu(g, inplace=True)), wo).add_(bo)


def _by_head(x: Tensor, n_heads: int) -> Tensor:
    """Rows (T, E) as (A, T, D)."""
    heads: Tensor = x.unflatten(1, (n_heads, -1)).transpose(0, 1)
    return heads


def _features(x: Tensor, gain: Tensor, n_heads: int, scratch: Tensor) -> None:
    """phi(gain x / RMS_head(x)) of rows (T, E), in place."""
    heads = x.unflatten(1, (n_heads, -1))
    heads.mul_(inverse_rms(heads))
    x.mul_(gain)
    low = torch.clamp_max(x, 0, out=scratch).exp_()
    x.clamp_min_(0).add_(low)


def _turn(x: Tensor, turn: Tensor) -> None:
    """Rotate the pairs of neighbours in rows (T, E), in place."""
    torch.view_as_complex(x.unflatten(1, (-1, 2))).mul_(torch.view_as_complex(turn))


def _feed_forward(
    block: Block, x: Tensor, out: Tensor, grid: _Grid, scale: int, modulation: Modulation | None
) -> None:
    """The last pass, from x to out, both (L_s, E)."""
    mlp, width = block.mlp, grid.near.width
    assert mlp.local is not None
    gain = block.mlp_norm.gain[scale]
    weights, biases = mlp.expand.weight.chunk(2), mlp.expand.bias.chunk(2)
    branches = []
    for weight, bias, kernel in zip(weights, biases, mlp.local.split(2), strict=True):
        rows = x.new_empty((grid.rows + 2) * width, len(weight))
        branches.append((*_folded(weight, bias, gain, modulation), kernel, rows))
    contract, offset = _scaled(mlp.contract, block.mlp_scale[scale])
    for first, last in grid.tiles():
        # Of the rows first - 1 to last the tile before has had the first two.
        new = first - 1 if first == 0 else first + 1
        n = grid.near.rows(x, new, last + 1)
        n *= inverse_rms(n)
        filled, end = (new - first + 1) * width, (last - first + 2) * width
        hidden = []
        for weight, bias, kernel, rows in branches:
            if filled:
                kept = grid.rows * width
                rows[:filled] = rows[kept : kept + filled]
            torch.addmm(bias, n, weight, out=rows[filled:end])
            hidden.append(grid.near.convolve(rows[:end], *kernel))
        part = grid.part(first, last)
        u, w = hidden
        y = F.silu(w, inplace=True).mul_(u)
        torch.addmm(x[part], y, contract, out=out[part]).add_(offset)
