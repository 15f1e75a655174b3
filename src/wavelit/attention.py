"""Augmented linear attention: global mixing in O(N) tokens, sharpened by what a kernel average loses.

With positive features phi, linear attention is a weighted mean of the values,

    o_i = sum_j w_ij v_j,   w_ij = phi(q_i) . phi(k_j) / sum_j phi(q_i) . phi(k_j),

computed as phi(q_i) . (sum_j phi(k_j) v_j^T), so that the cost is linear in N. For phi = elu + 1 the weights are nearly
uniform: only about 7 % of the output varies between tokens. Hence the augmentations: values are centred and the result
rescaled per head; a rotary phase (numerator only) tells tokens where they are and wraps exactly on periodic axes; a
gate and depthwise convolutions supply the local, signed part.

The paper names an "augmented linear attention block" without its formula; the choices here are ours.

References:
    Katharopoulos et al., Transformers are RNNs, 2020, arXiv 2006.16236.
    Han et al., Demystify Mamba in Vision: A Linear Attention Perspective, 2024, arXiv 2405.16605 (rotary, gate, local path).
    Han et al., Bridging the Divide: Reconsidering Softmax and Linear Attention, 2024, arXiv 2412.06590.
    Su et al., RoFormer, 2021, arXiv 2104.09864.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from wavelit.norm import rms_norm

__all__ = [
    "FEATURE_MAPS",
    "AugmentedLinearAttention",
    "TokenGrid",
    "linear_attention",
    "naive_linear_attention",
    "rotary_angles",
    "rotate",
    "split_grids",
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


FEATURE_MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": _elu_plus_one,
    "relu": F.relu,
    "focused": _focused,
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


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate the channel pairs (i, i + R) of x (..., L, D) by the angles (L, R); channels from 2R on stay as they are."""
    n_pairs = angles.shape[-1]
    cos, sin = angles.cos(), angles.sin()
    first, second, rest = x.split([n_pairs, n_pairs, x.shape[-1] - 2 * n_pairs], -1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos, rest], -1)


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


class TokenGrid:
    """Where the tokens of one scale sit: their grid, how it wraps, their neighbours and their rotary phases.

    Args:
        shape: Tokens along each axis.
        periodic: Whether each axis wraps; other axes repeat their edge.
        head_dim: Channels of an attention head, for the rotary phases; None for no phases.
        start: Index of the grid's first token in a sequence that holds several grids.
        device: Where the index and the phases live.
    """

    def __init__(
        self,
        shape: Sequence[int],
        periodic: Sequence[bool],
        head_dim: int | None = None,
        start: int = 0,
        device: torch.device | None = None,
    ) -> None:
        self.shape = tuple(shape)
        self.n_tokens = math.prod(shape)
        self.angles = None if head_dim is None else rotary_angles(shape, periodic, head_dim, device)
        index = torch.full((1,) * len(self.shape), start, device=device)
        stride = self.n_tokens
        for axis, (n, wraps) in enumerate(zip(self.shape, periodic, strict=True)):
            stride //= n
            along = torch.arange(-1, n + 1, device=device)
            along = along % n if wraps else along.clamp(0, n - 1)
            view = [1] * len(self.shape)
            view[axis] = n + 2
            index = index + (along * stride).view(view)
        # Flat indices of the grid with one cell of padding all round.
        self.padded = index.flatten()


def split_grids(x: Tensor, grids: Sequence[TokenGrid]) -> tuple[Tensor, ...]:
    """The tokens of each grid out of a sequence (B, L, ...) that holds them in turn."""
    # One split, not a narrow for each: its gradient is one concatenation instead of zeros and sums.
    return x.split([grid.n_tokens for grid in grids], 1) if len(grids) > 1 else (x,)


class DepthwiseConv(nn.Module):
    """3^d depthwise convolution over token grids, padded per axis: circular where periodic, edge-replicating elsewhere.

    Padding is one gather in channels-last order: four times faster on a CPU than `F.pad`, whose circular mode falls back
    to channels-first copies.

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

    def forward(self, x: Tensor, grids: Sequence[TokenGrid]) -> Tensor:
        """x: (B, L, E), the tokens of all grids in turn. Returns the same shape."""
        weight = self.weight + self.identity if self.residual else self.weight
        conv = (F.conv1d, F.conv2d, F.conv3d)[weight.ndim - 3]
        out = []
        for grid in grids:
            padded = x.index_select(1, grid.padded).unflatten(1, [n + 2 for n in grid.shape])
            y = conv(padded.movedim(-1, 1), weight, self.bias, groups=x.shape[-1])
            out.append(y.movedim(1, -1).flatten(1, -2))
        return torch.cat(out, 1) if len(out) > 1 else out[0]


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
        self.project = nn.Linear(dim, (4 if gate else 3) * dim)
        self.out = nn.Linear(dim, dim)
        self.query_gain = nn.Parameter(torch.empty(dim // num_heads))
        self.key_gain = nn.Parameter(torch.empty(dim // num_heads))
        self.head_gain = nn.Parameter(torch.empty(dim))
        self.mean_gain = nn.Parameter(torch.empty(dim)) if centre else None
        self.local = DepthwiseConv(dim, spatial) if local else None

    def forward(self, x: Tensor, grids: Sequence[TokenGrid]) -> Tensor:
        """x: (B, L, E), the tokens of all grids in turn; tokens attend within their own grid. Returns the same shape."""
        q, k, v, *gate = self.project(x).chunk(4 if self.gate else 3, -1)
        wide = torch.promote_types(q.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            parts = zip(*(split_grids(t.to(wide), grids) for t in (q, k, v)), strict=True)
            out = [self._attend(grid, *part) for grid, part in zip(grids, parts, strict=True)]
        o = torch.cat(out, 1) if len(out) > 1 else out[0]  # (B, L, E)
        if self.local is not None:
            o = o + self.local(v, grids)
        if gate:
            o = o * F.silu(gate[0])
        y: Tensor = self.out(o)
        return y

    def _attend(self, grid: TokenGrid, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads = "b l (a d) -> b a l d"
        feature = FEATURE_MAPS[self.feature_map]
        q = feature(rms_norm(rearrange(q, heads, a=self.num_heads)) * self.query_gain)
        k = feature(rms_norm(rearrange(k, heads, a=self.num_heads)) * self.key_gain)
        mean = v.mean(1, keepdim=True)
        o = linear_attention(q, k, rearrange(v, heads, a=self.num_heads), grid.angles, self.centre)
        if self.centre:
            o = o * torch.rsqrt(o.square().mean((-2, -1), keepdim=True) + HEAD_EPS)
        o = rearrange(o, "b a l d -> b l (a d)") * self.head_gain
        return o if self.mean_gain is None else o + self.mean_gain * mean
