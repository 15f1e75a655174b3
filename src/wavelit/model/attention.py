"""Augmented linear attention: global mixing in O(N) tokens, sharpened by what a kernel average loses.

With positive features phi, linear attention is a weighted mean of the values,

    o_i = sum_j w_ij v_j,   w_ij = phi(q_i) . phi(k_j) / sum_j phi(q_i) . phi(k_j),

computed as phi(q_i) . (sum_j phi(k_j) v_j^T), so that the cost is linear in N. For phi = elu + 1 the weights are nearly
uniform: only about 7 % of the output varies between tokens. Hence the augmentations: values are centred and the result
rescaled per head; a rotary phase (numerator only) tells tokens where they are and wraps exactly on periodic axes; a
gate and depthwise convolutions supply the local, signed part.

The paper names an "augmented linear attention block" without its formula; its form here is a choice.

References:
    Katharopoulos et al., Transformers are RNNs, 2020, arXiv 2006.16236.
    Han et al., Demystify Mamba in Vision: A Linear Attention Perspective, 2024, arXiv 2405.16605 (rotary, gate, local path).
    Han et al., Bridging the Divide: Reconsidering Softmax and Linear Attention, 2024, arXiv 2412.06590.
    Su et al., RoFormer, 2021, arXiv 2104.09864.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from wavelit.ops.norm import gated, inverse_rms, rms_norm
from wavelit.ops.token_layout import DepthwiseConv, TokenGrids, split_grids, to_tokens

__all__ = [
    "FEATURE_MAPS",
    "AugmentedLinearAttention",
    "linear_attention",
    "naive_linear_attention",
    "rotate",
    "softmax_attention",
]

# Added to the normaliser phi(q) . mean phi(k), which is about the head width for normalised queries and keys.
NORMALISER_EPS = 1e-4
# Added to the mean square of a head's centred output before its root is taken.
HEAD_EPS = 1e-6


def _elu_plus_one(x: Tensor) -> Tensor:
    return F.elu(x) + 1


def _focused(x: Tensor) -> Tensor:
    """relu(x)^3 rescaled to the norm of relu(x): a sharper direction (Han et al., FLatten, 2023, arXiv 2308.00442)."""
    positive = F.relu(x) + 1e-6
    cubed = positive**3
    focused: Tensor = cubed * (positive.norm(dim=-1, keepdim=True) / cubed.norm(dim=-1, keepdim=True))
    return focused


def _as_it_is(x: Tensor) -> Tensor:
    return x


FEATURE_MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": _elu_plus_one,
    "relu": F.relu,
    "focused": _focused,
    # Softmax attention, O(L^2): the control.
    "softmax": _as_it_is,
}


def naive_linear_attention(
    q: Tensor, k: Tensor, v: Tensor, angles: Tensor | None = None, centre: bool = True
) -> Tensor:
    """The definition, through the explicit (L, L) weights: O(L^2) time and memory.

    Args:
        q: Positive features of the queries, (B, A, L, D).
        k: Positive features of the keys, (B, A, L, D).
        v: Values, (B, A, L, D).
        angles: Rotary phases in radians, (L, R) with 2R <= D, or None.
        centre: Subtract the mean of the values over tokens first.

    Returns:
        (B, A, L, D): sum_j w_ij (v_j - v_mean), w_ij = (R_i q_i . R_j k_j) / (L (q_i . k_mean + eps)).
    """
    n_tokens = q.shape[-2]
    normaliser = torch.einsum("b a i d, b a j d -> b a i", q, k) / n_tokens + NORMALISER_EPS
    if angles is not None:
        q, k = rotate(q, angles), rotate(k, angles)
    if centre:
        v = v - v.mean(-2, keepdim=True)
    weights = torch.einsum("b a i d, b a j d -> b a i j", q, k) / (n_tokens * normaliser[..., None])
    return torch.einsum("b a i j, b a j e -> b a i e", weights, v)


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, angles: Tensor | None = None, centre: bool = True
) -> Tensor:
    """What `naive_linear_attention` defines, in O(L D^2) time and O(L D) memory.

    The mean over tokens is split evenly between keys and values before the sum: a sum over 10^4 tokens would leave the
    range of float16 and lose digits elsewhere. Arguments and result as in `naive_linear_attention`.
    """
    n_tokens = q.shape[-2]
    normaliser = q @ k.mean(-2)[..., None] + NORMALISER_EPS  # (B, A, L, 1)
    if angles is not None:
        q, k = rotate(q, angles), rotate(k, angles)
    if centre:
        v = v - v.mean(-2, keepdim=True)
    scale = n_tokens**-0.5
    key_values = (k * scale).transpose(-2, -1) @ (v * scale)  # (B, A, D, D)
    out: Tensor = (q @ key_values) / normaliser
    return out


def softmax_attention(
    q: Tensor, k: Tensor, v: Tensor, angles: Tensor | None = None, centre: bool = True
) -> Tensor:
    """softmax(R_i q_i . R_j k_j / sqrt(D)) for the weights, in O(L^2) time: what the linear kind is compared with.

    Arguments and result as in `naive_linear_attention`, but queries and keys of any sign.
    """
    if angles is not None:
        q, k = rotate(q, angles), rotate(k, angles)
    if centre:
        v = v - v.mean(-2, keepdim=True)
    return F.scaled_dot_product_attention(q, k, v)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate the channel pairs (i, i + R) of x (..., L, D) by the angles (L, R); channels from 2R on stay as they are."""
    n_pairs = angles.shape[-1]
    cos, sin = angles.cos(), angles.sin()
    first, second, rest = x.split([n_pairs, n_pairs, x.shape[-1] - 2 * n_pairs], -1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos, rest], -1)


class AugmentedLinearAttention(nn.Module):
    """Linear attention with normalised queries and keys, centred values, rotary phases, a local path and a gate.

        o = gain * RMS_head[linear_attention(phi(q), phi(k), v - v_mean)] + alpha * v_mean
        y = W_o [(o + DWConv(v)) * SiLU(g)],     (q, k, v, g) = W x

    The kernel sums and the division run in float32 whatever the autocast type: their useful part is a few per cent of
    their size. Centring is exact without rotary phases (the weights sum to one); with them it also keeps the mean from
    leaking through weights that no longer do.

    Args:
        dim: Channels E.
        num_heads: Heads A; E must be a multiple of it.
        spatial: Grid axes.
        feature_map: A key of `FEATURE_MAPS`.
        centre: Centre the values and rescale the heads.
        gate: Multiply by SiLU(g).
        local: Add the depthwise convolution of the values.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        spatial: int,
        feature_map: str = "elu",
        centre: bool = True,
        gate: bool = True,
        local: bool = True,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.feature_map = feature_map
        self.centre = centre
        self.gate = gate
        # Whether the gradient is written out; a rotating pair must not lie across two heads.
        self.fast = feature_map == "elu" and centre and dim // num_heads % 2 == 0
        self.project = nn.Linear(dim, (4 if gate else 3) * dim)
        self.out = nn.Linear(dim, dim)
        self.query_gain = nn.Parameter(torch.empty(dim // num_heads))
        self.key_gain = nn.Parameter(torch.empty(dim // num_heads))
        self.head_gain = nn.Parameter(torch.empty(dim))
        self.mean_gain = nn.Parameter(torch.empty(dim)) if centre else None
        self.local = DepthwiseConv(dim, spatial) if local else None

    def forward(self, x: Tensor, grids: TokenGrids) -> Tensor:
        """x: (B, L, E), the tokens of all grids in turn; tokens attend within their own grid. Returns the same shape."""
        e = x.shape[-1]
        sizes = [2 * e, e, e] if self.gate else [2 * e, e]
        # Products of their own, not views of one: whole rows are faster in all that follows.
        weights, biases = list(self.project.weight.split(sizes)), list(self.project.bias.split(sizes))
        attend = self.define
        if self.fast:
            attend = self._attend
            weights[0], biases[0] = (w[0].index_select(0, grids.order) for w in (weights, biases))
        qk, v, *gate = (F.linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True))
        wide = torch.promote_types(qk.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            o = attend(qk.to(wide), v.to(wide), grids)  # (B, L, E)
        if self.local is not None:
            o = o + self.local(v, grids)
        if gate:
            o = gated(o, gate[0])
        y: Tensor = self.out(o)
        return y

    def _attend(self, qk: Tensor, v: Tensor, grids: TokenGrids) -> Tensor:
        """What `define` returns, of queries and keys in the order of `TokenGrids`."""
        order = grids.order[: len(self.query_gain)]
        gains = torch.stack([self.query_gain, self.key_gain])[:, order]
        o: Tensor = _Attend.apply(qk, v, gains, self.head_gain, self.mean_gain, grids)  # type: ignore[no-untyped-call]
        return o

    def define(self, qk: Tensor, v: Tensor, grids: TokenGrids) -> Tensor:
        """Queries with keys (B, L, 2 E) and values (B, L, E) -> the normalised heads (B, L, E), as the formula has it."""
        heads = "b l (a d) -> b a l d"
        feature = FEATURE_MAPS[self.feature_map]
        mix = softmax_attention if self.feature_map == "softmax" else linear_attention
        q, k = (rearrange(t, heads, a=self.num_heads) for t in qk.chunk(2, -1))
        q = feature(rms_norm(q) * self.query_gain)
        k = feature(rms_norm(k) * self.key_gain)
        out = []
        parts = (split_grids(q, grids, 2), split_grids(k, grids, 2), split_grids(v, grids), grids.angles)
        for q_s, k_s, v_s, angles in zip(*parts, strict=True):
            o = mix(q_s, k_s, rearrange(v_s, heads, a=self.num_heads), angles, self.centre)
            if self.centre:
                o = o * torch.rsqrt(o.square().mean((-2, -1), keepdim=True) + HEAD_EPS)
            o = rearrange(o, "b a l d -> b l (a d)") * self.head_gain
            out.append(o if self.mean_gain is None else o + self.mean_gain * v_s.mean(1, keepdim=True))
        return torch.cat(out, 1)


class _Attend(torch.autograd.Function):
    """`AugmentedLinearAttention.define` for phi = elu + 1 and centred values, with its gradient written out.

    On a CPU a small model's step is spent on memory and on the dispatch of operations, not on arithmetic: here all grids
    share every operation but the products over tokens, and rows of all heads stay whole, as loops over the few channels
    of a head are slow. Heads are the diagonal blocks of one E x E product; the rotation f -> r is one of complex numbers,
    whose two channels the order of `TokenGrids` has made neighbours. With n = x / RMS_head(x), f = phi(gain n), c = v - v_mean:

        w = f_q . mean f_k + eps,   M = mean r_k^T c,   y = r_q M,   o = y / w,   t = 1 / RMS_head(o)
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
        mean, same_head, head_dim = grids.mean, grids.same_head, gains.shape[-1]
        x = qk.unflatten(-1, (2, v.shape[-1]))  # (B, L, 2, E)
        gains = gains.repeat(1, v.shape[-1] // head_dim)  # (2, E)
        inverse = inverse_rms(x.unflatten(-1, (-1, head_dim))).squeeze(-1)  # (B, L, 2, A)
        f = _phi(_scale_heads(x, inverse).mul_(gains))
        r = _turn(f, grids)
        k_mean, v_mean = mean @ f[:, :, 1], mean @ v  # (B, S, E)
        c = v - to_tokens(v_mean, grids)
        w = _head_sums(f[:, :, 0] * to_tokens(k_mean, grids), head_dim)  # (B, L, A)
        w.add_(NORMALISER_EPS).reciprocal_()
        ys, ms = [], []
        for r_s, c_s in zip(split_grids(r, grids), split_grids(c, grids), strict=True):
            m = (r_s[:, :, 1].mT @ c_s).mul_(same_head / c_s.shape[1])
            ms.append(m)
            ys.append(r_s[:, :, 0] @ m)
        o = _scale_heads(torch.cat(ys, 1), w)  # (B, L, E)
        t = torch.rsqrt((mean @ (o * o) @ same_head).div_(head_dim).add_(HEAD_EPS))  # (B, S, E)
        out = torch.addcmul(to_tokens(mean_gain * v_mean, grids), o, to_tokens(t * head_gain, grids))
        ctx.save_for_backward(
            x, gains, head_gain, mean_gain, inverse, f, r, k_mean, v_mean, c, w, torch.stack(ms), o, t
        )
        ctx.grids, ctx.head_dim = grids, head_dim
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gains, head_gain, mean_gain, inverse, f, r, k_mean, v_mean, c, w, ms, o, t = ctx.saved_tensors
        grids: TokenGrids = ctx.grids
        mean, same_head, head_dim = grids.mean, grids.same_head, ctx.head_dim
        sizes = mean.new_tensor(grids.sizes)[:, None]
        # out = t head_gain o + mean_gain v_mean
        grad_mean = mean @ grad  # (B, S, E)
        d_mean_gain = (grad_mean * v_mean * sizes).sum((0, 1))
        along = mean @ (grad * o)
        d_head_gain = (along * t * sizes).sum((0, 1))
        shrink = ((along * head_gain) @ same_head).div_(head_dim).mul_(t**3)
        d_y = (grad * to_tokens(t * head_gain, grids)).addcmul_(o, to_tokens(shrink, grids), value=-1)
        # o = y / w
        d_y = _scale_heads(d_y, w)
        d_w = _head_sums(d_y * o, head_dim).neg_() @ grids.head.T  # (B, L, E)
        # y = r_q M, M = mean r_k^T c
        d_rs, d_cs = [], []
        for r_s, m, c_s, d_s in zip(
            split_grids(r, grids), ms, split_grids(c, grids), split_grids(d_y, grids), strict=True
        ):
            d_m = (r_s[:, :, 0].mT @ d_s).mul_(same_head / c_s.shape[1])
            d_rs.append(torch.stack([d_s @ m.mT, c_s @ d_m.mT], 2))
            d_cs.append(r_s[:, :, 1] @ d_m)
        d_f, d_v = _turn(torch.cat(d_rs, 1), grids, back=True), torch.cat(d_cs, 1)
        d_v.add_(to_tokens(mean_gain * grad_mean - mean @ d_v, grids))
        # w = f_q . mean f_k, then back through phi, gain and normalisation
        d_f[:, :, 0].addcmul_(d_w, to_tokens(k_mean, grids))
        d_f[:, :, 1].add_(to_tokens(mean @ d_w.mul_(f[:, :, 0]), grids))
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
    """elu(x) + 1 = exp(min(x, 0)) + max(x, 0), in place; several times faster than `F.elu` on a CPU."""
    low = x.clamp_max(0).exp_()
    return x.clamp_min_(0).add_(low)


def _turn(x: Tensor, grids: TokenGrids, back: bool = False) -> Tensor:
    """Rotate the pairs of neighbours in the rows of all heads (B, L, 2, E) by the grids' phases."""
    pairs, phases = x.unflatten(-1, (-1, 2)), grids.turn[:, None]
    if torch.compiler.is_compiling():
        # A compiler fuses real arithmetic alone.
        (first, second), (cos, sin) = pairs.unbind(-1), phases.unbind(-1)
        sin = -sin if back else sin
        return torch.stack([first * cos - second * sin, first * sin + second * cos], -1).flatten(-2)
    turn = torch.view_as_complex(phases)
    turned = torch.view_as_complex(pairs) * (turn.conj() if back else turn)
    return torch.view_as_real(turned).flatten(-2)
