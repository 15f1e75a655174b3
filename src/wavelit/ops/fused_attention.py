"""Augmented linear attention with its gradient written out; `wavelit.model.attention` has the
definition.

On a CPU a small model's step is spent on memory and on the dispatch of operations, not on
arithmetic: here all grids share every operation but the products over tokens, and rows of all heads
stay whole, as loops over the few channels of a head are slow. Heads are the diagonal blocks of one
E x E product.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wavelit.ops.norm import inverse_rms
from wavelit.ops.rotary import turn_pairs
from wavelit.ops.token_layout import TokenGrids, split_grids, to_tokens

__all__ = ["HEAD_EPS", "NORMALISER_EPS", "fused_attention"]

# Added to the normaliser phi(q) . mean phi(k), which is about the head width for normalised queries
# and keys.
NORMALISER_EPS = 1e-4
# Added to the mean square of a head's centred output before its root is taken.
HEAD_EPS = 1e-6


def fused_attention(
    qk: Tensor, v: Tensor, gains: Tensor, head_gain: Tensor, mean_gain: Tensor, grids: TokenGrids
) -> Tensor:
    """The normalised heads of augmented linear attention for phi = elu + 1 and centred values.

    Args:
        qk: Queries, then keys, their channels in the order of `HeadTables`, (B, L, 2 E).
        v: Values, (B, L, E).
        gains: Of the normalised queries and of the keys, in the same order, (2, D).
        head_gain: Of the heads' output, (E,).
        mean_gain: Of the mean of the values, (E,).
        grids: The grids; tokens attend within their own.

    Returns:
        (B, L, E).
    """
    o: Tensor = _FusedAttention.apply(qk, v, gains, head_gain, mean_gain, grids)  # type: ignore[no-untyped-call]
    return o


class _FusedAttention(torch.autograd.Function):
    """`fused_attention` and its gradient.

    The rotation f -> r is one of complex numbers, whose two channels the order of `HeadTables` has
    made neighbours. With n = x / RMS_head(x), f = phi(gain n), c = v - v_mean:

        w = f_q . mean f_k + eps,   M = mean r_k^T c,   y = r_q M,   o = y / w
        t = 1 / RMS_head(o)
        out = t head_gain o + mean_gain v_mean
    """

    @staticmethod
    def forward(
        ctx: Any,
        qk: Tensor,
        v: Tensor,
        gains: Tensor,
        head_gain: Tensor,
        mean_gain: Tensor,
        grids: TokenGrids,
    ) -> Tensor:
        (layout, _, heads), head_dim = grids, gains.shape[-1]
        mean, same_head = layout.mean, heads.same_head
        x = qk.unflatten(-1, (2, v.shape[-1]))  # (B, L, 2, E)
        gains = gains.repeat(1, v.shape[-1] // head_dim)  # (2, E)
        inverse = inverse_rms(x.unflatten(-1, (-1, head_dim))).squeeze(-1)  # (B, L, 2, A)
        f = _phi(_scale_heads(x, inverse).mul_(gains))
        r = turn_pairs(f, heads)
        k_mean, v_mean = mean @ f[:, :, 1], mean @ v  # (B, S, E)
        c = v - to_tokens(v_mean, layout)
        w = _head_sums(f[:, :, 0] * to_tokens(k_mean, layout), head_dim)  # (B, L, A)
        w.add_(NORMALISER_EPS).reciprocal_()
        ys, ms = [], []
        for r_s, c_s in zip(split_grids(r, layout), split_grids(c, layout), strict=True):
            m = (r_s[:, :, 1].mT @ c_s).mul_(same_head / c_s.shape[1])
            ms.append(m)
            ys.append(r_s[:, :, 0] @ m)
        o = _scale_heads(torch.cat(ys, 1), w)  # (B, L, E)
        t = torch.rsqrt((mean @ (o * o) @ same_head).div_(head_dim).add_(HEAD_EPS))  # (B, S, E)
        out = torch.addcmul(
            to_tokens(mean_gain * v_mean, layout), o, to_tokens(t * head_gain, layout)
        )
        ctx.save_for_backward(
            x,
            gains,
            head_gain,
            mean_gain,
            inverse,
            f,
            r,
            k_mean,
            v_mean,
            c,
            w,
            torch.stack(ms),
            o,
            t,
        )
        ctx.grids, ctx.head_dim = grids, head_dim
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gains, head_gain, mean_gain, inverse, f, r, k_mean, v_mean, c, w, ms, o, t = (
            ctx.saved_tensors
        )
        grids: TokenGrids = ctx.grids
        (layout, _, heads), head_dim = grids, ctx.head_dim
        mean, same_head = layout.mean, heads.same_head
        sizes = mean.new_tensor(layout.sizes)[:, None]
        # out = t head_gain o + mean_gain v_mean
        grad_mean = mean @ grad  # (B, S, E)
        d_mean_gain = (grad_mean * v_mean * sizes).sum((0, 1))
        along = mean @ (grad * o)
        d_head_gain = (along * t * sizes).sum((0, 1))
        shrink = ((along * head_gain) @ same_head).div_(head_dim).mul_(t**3)
        d_y = (grad * to_tokens(t * head_gain, layout)).addcmul_(
            o, to_tokens(shrink, layout), value=-1
        )
        # o = y / w
        d_y = _scale_heads(d_y, w)
        d_w = _head_sums(d_y * o, head_dim).neg_() @ heads.head.T  # (B, L, E)
        # y = r_q M, M = mean r_k^T c
        d_rs, d_cs = [], []
        for r_s, m, c_s, d_s in zip(
            split_grids(r, layout),
            ms,
            split_grids(c, layout),
            split_grids(d_y, layout),
            strict=True,
        ):
            d_m = (r_s[:, :, 0].mT @ d_s).mul_(same_head / c_s.shape[1])
            d_rs.append(torch.stack([d_s @ m.mT, c_s @ d_m.mT], 2))
            d_cs.append(r_s[:, :, 1] @ d_m)
        d_f, d_v = turn_pairs(torch.cat(d_rs, 1), heads, back=True), torch.cat(d_cs, 1)
        d_v.add_(to_tokens(mean_gain * grad_mean - mean @ d_v, layout))
        # w = f_q . mean f_k, then back through phi, gain and normalisation
        d_f[:, :, 0].addcmul_(d_w, to_tokens(k_mean, layout))
        d_f[:, :, 1].add_(to_tokens(mean @ d_w.mul_(f[:, :, 0]), layout))
        # phi' is 1 for positive arguments and phi itself for the others.
        d_n = d_f.mul_(f.clamp_max(1))
        n = _scale_heads(x, inverse)
        product = d_n * n
        d_gains = product.sum((0, 1)).unflatten(-1, (-1, head_dim)).sum(1)
        share = _head_sums(product.mul_(gains), head_dim).div_(head_dim)
        d_qk = _scale_heads(d_n.mul_(gains).sub_(_scale_heads(n, share)), inverse).flatten(2)
        return d_qk, d_v, d_gains, d_head_gain, d_mean_gain, None


def _head_sums(x: Tensor, head_dim: int) -> Tensor:
    """Sums over the channels of each head, (..., E) to (..., A)."""
    heads: Tensor = x.unflatten(-1, (-1, head_dim))
    return heads.sum(-1)


def _scale_heads(x: Tensor, scale: Tensor) -> Tensor:
    """Rows (..., E) of all heads, times one factor a head, (..., A)."""
    n_heads = scale.shape[-1]
    heads: Tensor = x.unflatten(-1, (n_heads, x.shape[-1] // n_heads))
    return (heads * scale[..., None]).flatten(-2)


def _phi(x: Tensor) -> Tensor:
    """elu(x) + 1 = exp(min(x, 0)) + max(x, 0), in place; several times faster than `F.elu` on a
    CPU.
    """
    low = x.clamp_max(0).exp_()
    return x.clamp_min_(0).add_(low)
