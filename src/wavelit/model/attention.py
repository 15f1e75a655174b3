"""Augmented linear attention: global mixing in O(N) tokens, sharpened by what a kernel average
loses.

With positive features phi, linear attention is a weighted mean of the values,

    o_i = sum_j w_ij v_j,   w_ij = phi(q_i) . phi(k_j) / sum_j phi(q_i) . phi(k_j),

computed as phi(q_i) . (sum_j phi(k_j) v_j^T), so that the cost is linear in N. For phi = elu + 1
the weights are nearly uniform: only about 7 % of the output varies between tokens. Hence the
augmentations: values are centred and the result rescaled per head; a rotary phase (numerator only)
tells tokens where they are and wraps exactly on periodic axes; a gate and depthwise convolutions
supply the local, signed part.

The paper names an "augmented linear attention block" without its formula; its form here is a
choice.

References:
    Katharopoulos et al., Transformers are RNNs, 2020, arXiv 2006.16236.
    Han et al., Demystify Mamba in Vision: A Linear Attention Perspective, 2024, arXiv 2405.16605
    (rotary, gate, local path).
    Han et al., Bridging the Divide: Reconsidering Softmax and Linear Attention, 2024, arXiv
    2412.06590.
    Su et al., RoFormer, 2021, arXiv 2104.09864.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from wavelit.ops.depthwise import DepthwiseConv
from wavelit.ops.derivatives import are_plain
from wavelit.ops.fused_attention import HEAD_EPS, NORMALISER_EPS, fused_attention
from wavelit.ops.norm import gated, rms_norm
from wavelit.ops.rotary import rotate
from wavelit.ops.token_layout import TokenGrids, canvas_for, split_grids

__all__ = [
    "FEATURE_MAPS",
    "AugmentedLinearAttention",
    "linear_attention",
    "naive_linear_attention",
    "softmax_attention",
]


def _elu_plus_one(x: Tensor) -> Tensor:
    return F.elu(x) + 1


def _focused(x: Tensor) -> Tensor:
    """relu(x)^3 rescaled to the norm of relu(x): a sharper direction (Han et al., FLatten, 2023,
    arXiv 2308.00442).
    """
    positive = F.relu(x) + 1e-6
    cubed = positive**3
    focused: Tensor = cubed * (
        positive.norm(dim=-1, keepdim=True) / cubed.norm(dim=-1, keepdim=True)
    )
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

    A model computes the same without them, by `linear_attention` or `fused_attention`.

    Args:
        q: Positive features of the queries, (B, A, L, D).
        k: Positive features of the keys, (B, A, L, D).
        v: Values, (B, A, L, D).
        angles: Rotary phases in radians, (L, R) with 2R <= D, or None.
        centre: Subtract the mean of the values over tokens first.

    Returns:
        (B, A, L, D): sum_j w_ij (v_j - v_mean), w_ij = (R_i q_i . R_j k_j) / (L (q_i . k_mean +
        eps)).
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

    The mean over tokens is split evenly between keys and values before the sum: a sum over 10^4
    tokens would leave the range of float16 and lose digits elsewhere. Arguments and result as in
    `naive_linear_attention`.
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
    """softmax(R_i q_i . R_j k_j / sqrt(D)) for the weights, in O(L^2) time: what the linear kind is
    compared with.

    Arguments and result as in `naive_linear_attention`, but queries and keys of any sign.
    """
    if angles is not None:
        q, k = rotate(q, angles), rotate(k, angles)
    if centre:
        v = v - v.mean(-2, keepdim=True)
    return F.scaled_dot_product_attention(q, k, v)


class AugmentedLinearAttention(nn.Module):
    """Linear attention with normalised queries and keys, centred values, rotary phases, a local
    path and a gate.

        o = gain * RMS_head[linear_attention(phi(q), phi(k), v - v_mean)] + alpha * v_mean
        y = W_o [(o + DWConv(v)) * SiLU(g)],     (q, k, v, g) = W x

    The kernel sums and the division run in float32 whatever the autocast type: their useful part is
    a few per cent of their size. Centring is exact without rotary phases (the weights sum to one);
    with them it also keeps the mean from leaking through weights that no longer do.

    Args:
        dim: Channels E.
        num_heads: Heads A; E must be a multiple of it.
        spatial: Grid axes.
        feature_map: A key of `FEATURE_MAPS`.
        centre: Centre the values and rescale the heads.
        gate: Multiply by SiLU(g).
        local: Add the depthwise convolution of the values.
        kernel: Of that convolution, tokens along each axis, odd; 3 if absent.
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
        kernel: Sequence[int] | None = None,
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
        self.local = DepthwiseConv(dim, spatial, kernel=kernel) if local else None

    def forward(self, x: Tensor, grids: TokenGrids) -> Tensor:
        """x: (B, L, E), the tokens of all grids in turn; tokens attend within their own grid.
        Returns the same shape.
        """
        e = x.shape[-1]
        sizes = [2 * e, e, e] if self.gate else [2 * e, e]
        # Products of their own, not views of one: whole rows are faster in all that follows.
        weights, biases = (
            list(self.project.weight.split(sizes)),
            list(self.project.bias.split(sizes)),
        )
        attend = self._reference_forward
        if self.fast and not are_plain():
            attend = self._fused_forward
            weights[0], biases[0] = (
                w[0].index_select(0, grids.heads.order) for w in (weights, biases)
            )
        qk, v, *gate = (
            F.linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True)
        )
        wide = torch.promote_types(qk.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            o = attend(qk.to(wide), v.to(wide), grids)  # (B, L, E)
        if self.local is not None:
            o = o + self.local(v, canvas_for(self.local.kernel, grids))
        if gate:
            o = gated(o, gate[0])
        y: Tensor = self.out(o)
        return y

    def _fused_forward(self, qk: Tensor, v: Tensor, grids: TokenGrids) -> Tensor:
        """What `_reference_forward` returns, of queries and keys in the order of `HeadTables`."""
        assert self.mean_gain is not None
        order = grids.heads.order[: len(self.query_gain)]
        gains = torch.stack([self.query_gain, self.key_gain])[:, order]
        return fused_attention(qk, v, gains, self.head_gain, self.mean_gain, grids)

    def _reference_forward(self, qk: Tensor, v: Tensor, grids: TokenGrids) -> Tensor:
        """Queries with keys (B, L, 2 E) and values (B, L, E) -> the normalised heads (B, L, E),
        as the formula has it.
        """
        heads = "b l (a d) -> b a l d"
        feature = FEATURE_MAPS[self.feature_map]
        mix = softmax_attention if self.feature_map == "softmax" else linear_attention
        q, k = (rearrange(t, heads, a=self.num_heads) for t in qk.chunk(2, -1))
        q = feature(rms_norm(q) * self.query_gain)
        k = feature(rms_norm(k) * self.key_gain)
        out = []
        layout = grids.layout
        parts = (
            split_grids(q, layout, 2),
            split_grids(k, layout, 2),
            split_grids(v, layout),
            grids.heads.angles,
        )
        for q_s, k_s, v_s, angles in zip(*parts, strict=True):
            o = mix(q_s, k_s, rearrange(v_s, heads, a=self.num_heads), angles, self.centre)
            if self.centre:
                o = o * torch.rsqrt(o.square().mean((-2, -1), keepdim=True) + HEAD_EPS)
            o = rearrange(o, "b a l d -> b l (a d)") * self.head_gain
            out.append(
                o if self.mean_gain is None else o + self.mean_gain * v_s.mean(1, keepdim=True)
            )
        return torch.cat(out, 1)
