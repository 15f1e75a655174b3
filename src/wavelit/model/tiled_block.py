"""A block's prediction strip by strip, so that what a strip of tokens needs stays in the processor's cache.

Without gradients nothing has to be kept, and on a large grid most of a block's time goes into arrays of all tokens on their way to
memory and back. Here only x, the values v and the attention's output o have the size of the grid; all else has that of a strip of
rows. What needs all tokens divides the block into four passes over each grid (names as in `attention`):

    1  x += DWConv(x);  v is kept, mean f_k, mean v and M are summed up
    2  o = (r_q M) / w is kept, its mean square a head is summed up
    3  x += ls_1 W_o [(t head_gain o + mean_gain v_mean + DWConv(v)) * SiLU(g)]
    4  x += ls_2 ConvGLU(norm(x));  two rows of hidden channels are handed on from strip to strip

Gains, shifts and scales of whole channels are folded into the matrices. The result is that of `Block.forward` up to rounding.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from wavelit.model.attention import HEAD_EPS, NORMALISER_EPS
from wavelit.ops.norm import inverse_rms
from wavelit.ops.token_layout import TokenGrids, padded_tokens

if TYPE_CHECKING:
    from wavelit.model.pyramid import Block

__all__ = ["block_in_strips", "pays"]

# Numbers in a strip of x, 1 MB; half and twice as many take up to a tenth longer with 2 MB of L2.
STRIP = 2**18
# Numbers in a sample's x from which on strips pay.
LARGE = 2**18


class _Grid(NamedTuple):
    """One grid, cut into strips along its first axis.

    Args:
        tokens: Where it stands in the sequence.
        shape: Tokens along each axis.
        rows: Of a strip; the last one may have fewer.
        padded: Its tokens with one of padding on every side, flat.
        turn: Rotary phases of the pairs of all heads in turn, as complex numbers (L_s, E / 2).
    """

    tokens: slice
    shape: tuple[int, ...]
    rows: int
    padded: Tensor
    turn: Tensor

    def strips(self) -> list[tuple[int, int]]:
        """First row and one past the last of each."""
        return [(row, min(row + self.rows, self.shape[0])) for row in range(0, self.shape[0], self.rows)]

    def part(self, first: int, last: int) -> slice:
        """The tokens of some rows."""
        width = math.prod(self.shape[1:])
        return slice(first * width, last * width)

    def padded_rows(self, x: Tensor, first: int, last: int) -> Tensor:
        """Rows of x (L_s, E) with padding, also before and behind: the padded grid's first row is number -1."""
        width = self.padded_width
        return x.index_select(0, self.padded[(first + 1) * width : (last + 1) * width])

    @property
    def padded_width(self) -> int:
        """Tokens of a row with its padding."""
        return math.prod(n + 2 for n in self.shape[1:])

    def convolve(self, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """3^d depthwise convolution of padded rows, two more than the result has."""
        # The batch of one goes in front before the channels move: behind, its stride would hide that channels are last.
        canvas = rows.unflatten(0, (1, -1, *(n + 2 for n in self.shape[1:]))).movedim(-1, 1)
        conv = (F.conv1d, F.conv2d, F.conv3d)[len(self.shape) - 1]
        y: Tensor = conv(canvas, weight, bias, groups=len(weight))
        return y.movedim(1, -1).flatten(0, -2)


@lru_cache(maxsize=16)
def _cut(grids: TokenGrids, strip: int) -> list[_Grid]:
    dim = len(grids.head)
    cut, start = [], 0
    for shape, size in zip(grids.shapes, grids.sizes, strict=True):
        tokens = slice(start, start + size)
        # Two rows at least: so many are handed on, if there is another strip.
        rows = min(shape[0], max(2, strip // (dim * math.prod(shape[1:]))))
        padded = padded_tokens(shape, grids.periodic).flatten().to(grids.head.device)
        cut.append(_Grid(tokens, shape, rows, padded, torch.view_as_complex(grids.turn[tokens])))
        start += size
    return cut


def pays(x: Tensor) -> bool:
    """Whether tokens x (B, L, E) are better predicted in strips: on a CPU, without gradients, on a large grid."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and x.shape[1] * x.shape[2] >= LARGE
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


def block_in_strips(
    block: Block, x: Tensor, grids: TokenGrids, scales: slice, condition: Tensor | None, strip: int = STRIP
) -> Tensor:
    """What `block(x, grids, scales, condition)` returns, for a block that is `whole`.

    Args:
        block: The block.
        x: (B, L, E), the grids of the `scales` in turn; is left as it is.
        grids: The grids.
        scales: Scales of the pyramid that the grids are.
        condition: (B, E_c), or None.
        strip: Numbers in a strip of x.
    """
    cut, order = _cut(grids, strip), grids.order[: x.shape[2]]
    gain = shift = None
    if block.modulation is not None and condition is not None:
        gain, shift = block.modulation(condition).chunk(2, -1)
    out = torch.empty_like(x)
    for sample in range(len(x)):
        modulation = None if gain is None or shift is None else (1 + gain[sample], shift[sample])
        for number, grid in enumerate(cut):
            scale = range(*scales.indices(len(block.mlp_scale)))[number]
            y = out[sample, grid.tokens]
            mixed = _mix(block, x[sample, grid.tokens], grid, order, scale, modulation)
            _feed_forward(block, mixed, y, grid, scale, modulation)
    return out


Modulation = tuple[Tensor, Tensor]


def _folded(
    weight: Tensor, bias: Tensor, gain: Tensor, modulation: Modulation | None
) -> tuple[Tensor, Tensor]:
    """W and b that read x / RMS(x), for those that read it times a gain and modulated; W transposed."""
    if modulation is not None:
        gain, bias = gain * modulation[0], bias + weight @ modulation[1]
    return (weight * gain).T, bias


def _mix(
    block: Block, x: Tensor, grid: _Grid, order: Tensor, scale: int, modulation: Modulation | None
) -> Tensor:
    """Passes 1 to 3 on the tokens (L_s, E) of one grid."""
    attention, e = block.attention, x.shape[1]
    assert block.local is not None
    assert attention.local is not None
    assert attention.mean_gain is not None
    n_heads, size = attention.num_heads, len(x)
    norm_gain = block.attention_norm.gain[scale]
    weights, biases = attention.project.weight.split(e), attention.project.bias.split(e)
    (wq, bq), (wk, bk), (wv, bv), (wg, bg) = (
        _folded(weight, bias, norm_gain, modulation) for weight, bias in zip(weights, biases, strict=True)
    )
    wq, bq, wk, bk = wq[:, order], bq[order], wk[:, order], bk[order]
    q_gain, k_gain = (g.repeat(n_heads)[order] for g in (attention.query_gain, attention.key_gain))
    # Room for what a strip needs: the same memory each time is still in the cache.
    room = x.new_empty(2, grid.part(0, grid.rows).stop, e)

    ((kernel, bias),) = block.local.split(1)
    local, values, inverse = torch.empty_like(x), torch.empty_like(x), x.new_empty(size, 1)
    k_sum, r_sum, v_sum = x.new_zeros(3, e)
    product = x.new_zeros(n_heads, e // n_heads, e // n_heads)
    for first, last in grid.strips():
        part = grid.part(first, last)
        n, k = room[:, : part.stop - part.start]
        y = grid.convolve(grid.padded_rows(x, first - 1, last + 1), kernel, bias)
        local[part] = y
        inverse[part] = inverse_rms(y)
        torch.mul(y, inverse[part], out=n)
        if first == 0:
            # Values count from about their mean, so that little is lost when it is taken out of the sums at the end.
            about = torch.addmv(bv, wv.T, n.mean(0))
            bv = bv - about
        v = torch.addmm(bv, n, wv, out=values[part])
        torch.addmm(bk, n, wk, out=k)
        _features(k, k_gain, n_heads, n)
        k_sum += k.sum(0)
        _turn(k, grid.turn[part])
        r_sum += k.sum(0)
        v_sum += v.sum(0)
        product.baddbmm_(_by_head(k, n_heads).mT, _by_head(v, n_heads))
    k_mean, v_mean = k_sum / size, v_sum / size
    product.baddbmm_(_by_head(r_sum[None], n_heads).mT, _by_head(v_mean[None], n_heads), alpha=-1).div_(size)

    mixed, squares = torch.empty_like(x), x.new_zeros(e)
    for first, last in grid.strips():
        part = grid.part(first, last)
        n, q = room[:, : part.stop - part.start]
        torch.mul(local[part], inverse[part], out=n)
        torch.addmm(bq, n, wq, out=q)
        _features(q, q_gain, n_heads, n)
        w = torch.mul(q, k_mean, out=n).unflatten(1, (n_heads, -1)).sum(-1, keepdim=True)
        _turn(q, grid.turn[part])
        o = mixed[part].zero_()
        _by_head(o, n_heads).baddbmm_(_by_head(q, n_heads), product)
        o.unflatten(1, (n_heads, -1)).mul_(w.add_(NORMALISER_EPS).reciprocal_())
        squares += torch.mul(o, o, out=n).sum(0)
    mean_square = squares.view(n_heads, -1).mean(1) / size
    o_gain = torch.rsqrt(mean_square + HEAD_EPS).repeat_interleave(e // n_heads) * attention.head_gain

    # The padding repeats values, so that a constant comes through the convolution as itself times the kernel's sum.
    ((kernel, bias),) = attention.local.split(1)
    bias = bias + about * kernel.flatten(1).sum(1) + (about + v_mean) * attention.mean_gain
    wo = (block.attention_scale[scale][:, None] * attention.out.weight).T
    bo = block.attention_scale[scale] * attention.out.bias
    for first, last in grid.strips():
        part = grid.part(first, last)
        n, g = room[:, : part.stop - part.start]
        y = grid.convolve(grid.padded_rows(values, first - 1, last + 1), kernel, bias)
        y.addcmul_(mixed[part], o_gain)
        torch.mul(local[part], inverse[part], out=n)
        torch.addmm(bg, n, wg, out=g)
        local[part].addmm_(y.mul_(F.silu(g, inplace=True)), wo).add_(bo)
    return local


def _by_head(x: Tensor, n_heads: int) -> Tensor:
    """Rows (T, E) as (A, T, D)."""
    heads: Tensor = x.unflatten(1, (n_heads, -1)).transpose(0, 1)
    return heads


def _features(x: Tensor, gain: Tensor, n_heads: int, room: Tensor) -> None:
    """phi(gain x / RMS_head(x)) of rows (T, E), in place."""
    heads = x.unflatten(1, (n_heads, -1))
    heads.mul_(inverse_rms(heads))
    x.mul_(gain)
    low = torch.clamp_max(x, 0, out=room).exp_()
    x.clamp_min_(0).add_(low)


def _turn(x: Tensor, turn: Tensor) -> None:
    """Rotate the pairs of neighbours in rows (T, E), in place."""
    torch.view_as_complex(x.unflatten(1, (-1, 2))).mul_(turn)


def _feed_forward(
    block: Block, x: Tensor, out: Tensor, grid: _Grid, scale: int, modulation: Modulation | None
) -> None:
    """Pass 4, from x to out, both (L_s, E)."""
    mlp, width = block.mlp, grid.padded_width
    assert mlp.local is not None
    gain = block.mlp_norm.gain[scale]
    weights, biases = mlp.expand.weight.chunk(2), mlp.expand.bias.chunk(2)
    branches = []
    for weight, bias, kernel in zip(weights, biases, mlp.local.split(2), strict=True):
        rows = x.new_empty((grid.rows + 2) * width, len(weight))
        branches.append((*_folded(weight, bias, gain, modulation), kernel, rows))
    contract = (block.mlp_scale[scale][:, None] * mlp.contract.weight).T
    offset = block.mlp_scale[scale] * mlp.contract.bias
    for first, last in grid.strips():
        # Of the rows first - 1 to last the strip before has had the first two.
        new = first - 1 if first == 0 else first + 1
        n = grid.padded_rows(x, new, last + 1)
        n *= inverse_rms(n)
        filled, end = (new - first + 1) * width, (last - first + 2) * width
        hidden = []
        for weight, bias, kernel, rows in branches:
            if filled:
                kept = grid.rows * width
                rows[:filled] = rows[kept : kept + filled]
            torch.addmm(bias, n, weight, out=rows[filled:end])
            hidden.append(grid.convolve(rows[:end], *kernel))
        part = grid.part(first, last)
        u, w = hidden
        y = F.silu(w, inplace=True).mul_(u)
        torch.addmm(x[part], y, contract, out=out[part]).add_(offset)
