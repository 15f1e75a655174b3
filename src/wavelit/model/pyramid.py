"""A feature pyramid over the token grid whose blocks are shared by all scales.

Scale s holds the tokens averaged over cubes of 2^s. The same blocks run at every scale, told apart by private gains and
a level embedding; after each group of blocks neighbouring scales exchange features,

    x_{s+1} += g_down W_down avg(x_s),   then   x_s += g_up W_up nearest(x_{s+1}),

the synthesis and analysis of a Haar step without details. Tokens of all scales stand in one sequence, so every linear
map is a single matrix product; only convolutions and attention look at one grid at a time.

The paper names a "shared-weight multiscale feature pyramid"; depth, exchange and gains are choices made here.

References:
    Aich et al., Multi-Scale Weight Sharing Network for Image Recognition, 2020, arXiv 2001.02816.
    Ke et al., Multigrid Neural Architectures, 2017, arXiv 1611.07661.
    Shazeer, GLU Variants Improve Transformer, 2020, arXiv 2002.05202.
    Perez et al., FiLM, 2018, arXiv 1709.07871.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from wavelit.model.attention import AugmentedLinearAttention
from wavelit.model.tiled_block import block_in_strips, pays
from wavelit.ops.norm import gated, scaled_rms_norm
from wavelit.ops.token_layout import DepthwiseConv, TokenGrids, depthwise, split_grids, spread, token_grids

__all__ = ["Block", "ConvGLU", "Pyramid", "ScaledRMSNorm", "coarsen", "refine"]


# The scales of a pyramid that a sequence of tokens holds.
ALL = slice(None)


class ScaledRMSNorm(nn.Module):
    """x / RMS(x) over channels, times a gain of its own for every scale.

    Args:
        dim: Channels E.
        num_scales: Scales with private gains.
    """

    def __init__(self, dim: int, num_scales: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(num_scales, dim))

    def forward(self, x: Tensor, grids: TokenGrids | None = None, scales: slice = ALL) -> Tensor:
        """x: (B, L, E), of scale `scales` of all; without grids, of scale 0. Returns the shape of x."""
        gain = self.gain[0] if grids is None else spread(self.gain[scales], grids)
        return scaled_rms_norm(x, gain)


class ConvGLU(nn.Module):
    """Gated feed-forward network with a residual depthwise convolution on its hidden channels.

        y = W_2 [u * SiLU(w)],   (u, w) = h + DWConv(h),   h = W_1 x

    Args:
        dim: Channels E.
        hidden: Channels of u and of w.
        spatial: Grid axes.
        local: Include the convolution.
    """

    def __init__(self, dim: int, hidden: int, spatial: int, local: bool = True) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, 2 * hidden)
        self.local = DepthwiseConv(2 * hidden, spatial, residual=True) if local else None
        self.contract = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, grids: TokenGrids) -> Tensor:
        """x: (B, L, E), the tokens of all grids in turn. Returns the same shape."""
        # Products of their own, not halves of one: whole rows are faster in all that follows.
        weights, biases = self.expand.weight.chunk(2), self.expand.bias.chunk(2)
        if self.local is None:
            u, w = (F.linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True))
        else:
            u, w = (
                depthwise(F.linear(x, weight), *kernel, grids, bias)
                for weight, bias, kernel in zip(weights, biases, self.local.split(2), strict=True)
            )
        y: Tensor = self.contract(gated(u, w))
        return y


class Block(nn.Module):
    """Depthwise convolution, augmented linear attention and gated feed-forward, each a residual branch.

        x += DWConv(x);   x += ls_1 Attention(norm(x));   x += ls_2 ConvGLU(norm(x))

    with LayerScale gains ls and norm gains private to each scale. A condition modulates both normalised inputs,
    n (1 + a) + b, with (a, b) linear in the condition and zero at the start.

    Args:
        dim: Channels E.
        num_heads: Attention heads.
        mlp_ratio: Hidden channels of the feed-forward network over E.
        spatial: Grid axes.
        num_scales: Scales with private gains.
        condition_dim: Channels of the condition; 0 for none.
        feature_map, centre, gate, local: See `AugmentedLinearAttention`; `local` covers all three convolutions.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        spatial: int,
        num_scales: int,
        condition_dim: int = 0,
        *,
        feature_map: str = "elu",
        centre: bool = True,
        gate: bool = True,
        local: bool = True,
    ) -> None:
        super().__init__()
        self.local = DepthwiseConv(dim, spatial, residual=True) if local else None
        self.attention_norm = ScaledRMSNorm(dim, num_scales)
        self.attention = AugmentedLinearAttention(dim, num_heads, spatial, feature_map, centre, gate, local)
        # Lacks nothing: strips are for no other.
        self.whole = self.attention.fast and gate and local
        self.attention_scale = nn.Parameter(torch.empty(num_scales, dim))
        self.mlp_norm = ScaledRMSNorm(dim, num_scales)
        self.mlp = ConvGLU(dim, round(mlp_ratio * dim), spatial, local)
        self.mlp_scale = nn.Parameter(torch.empty(num_scales, dim))
        self.modulation = nn.Linear(condition_dim, 2 * dim) if condition_dim else None

    def forward(
        self, x: Tensor, grids: TokenGrids, scales: slice = ALL, condition: Tensor | None = None
    ) -> Tensor:
        """x: (B, L, E), the grids of the `scales` in turn; condition: (B, E_c). Returns the shape of x."""
        if self.whole and pays(x):
            return block_in_strips(self, x, grids, scales, condition)
        if self.local is not None:
            x = self.local(x, grids)
        gain = shift = None
        if self.modulation is not None and condition is not None:
            gain, shift = self.modulation(condition)[:, None].chunk(2, -1)
        n = self.attention_norm(x, grids, scales)
        n = n if gain is None or shift is None else torch.addcmul(shift, n, 1 + gain)
        x = torch.addcmul(x, spread(self.attention_scale[scales], grids), self.attention(n, grids))
        n = self.mlp_norm(x, grids, scales)
        n = n if gain is None or shift is None else torch.addcmul(shift, n, 1 + gain)
        x = torch.addcmul(x, spread(self.mlp_scale[scales], grids), self.mlp(n, grids))
        return x


def coarsen(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Mean over cubes of 2: tokens (B, L, E) of a grid of even sides to (B, L / 2^d, E)."""
    y: Tensor = _Coarsen.apply(x, tuple(shape))  # type: ignore[no-untyped-call]
    return y


def refine(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Nearest neighbour: tokens (B, L, E) of a grid to (B, L 2^d, E) on the grid of twice the sides."""
    y: Tensor = _Refine.apply(x, tuple(shape))  # type: ignore[no-untyped-call]
    return y


class _Coarsen(torch.autograd.Function):
    """Sums and copies over cubes are each other's transpose; autograd would sum over axes between others."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        ctx.shape = shape
        return _cube_sums(x, shape).mul_(0.5 ** len(shape))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _copies(grad, [n // 2 for n in ctx.shape]).mul_(0.5 ** len(ctx.shape)), None


class _Refine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        ctx.shape = shape
        return _copies(x, shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _cube_sums(grad, [2 * n for n in ctx.shape]), None


def _cube_sums(x: Tensor, shape: Sequence[int]) -> Tensor:
    x = x.unflatten(1, [m for n in shape for m in (n // 2, 2)])
    # Pairs, axis by axis: a sum over axes between others takes fifteen times as long.
    for axis in range(len(shape)):
        x = x.select(2 + axis, 0) + x.select(2 + axis, 1)
    return x.flatten(1, -2)


def _copies(x: Tensor, shape: Sequence[int]) -> Tensor:
    cells = x.unflatten(1, [m for n in shape for m in (n, 1)])
    copies: Tensor = cells.expand(-1, *[m for n in shape for m in (n, 2)], -1).flatten(1, -2)
    # Of a single token flattening makes a view, whose entries share their memory.
    return copies.contiguous()


class Exchange(nn.Module):
    """One sweep down and one up between neighbouring scales, each behind a learned gate that starts at 0.1.

    Args:
        dim: Channels E.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, dim)
        self.up = nn.Linear(dim, dim)
        self.down_gate = nn.Parameter(torch.empty(()))
        self.up_gate = nn.Parameter(torch.empty(()))

    def forward(self, x: Tensor, grids: TokenGrids) -> Tensor:
        """x: (B, L, E) of all grids in turn, finest first. Returns the same shape."""
        levels, shapes = list(split_grids(x, grids)), grids.shapes
        for s in range(len(shapes) - 1):
            mean = coarsen(levels[s], shapes[s])
            levels[s + 1] = levels[s + 1] + self.down_gate * self.down(mean)
        for s in reversed(range(len(shapes) - 1)):
            # The linear map commutes with the copies: apply it on the coarse grid.
            levels[s] = levels[s] + refine(self.up_gate * self.up(levels[s + 1]), shapes[s + 1])
        return torch.cat(levels, 1)


class Pyramid(nn.Module):
    """Groups of blocks over all scales of a token grid, with an exchange after each group.

    Args:
        dim: Channels E.
        num_heads: Attention heads.
        depth: Blocks in all, spread evenly over the exchanges.
        mlp_ratio: See `Block`.
        spatial: Grid axes.
        num_scales: Scales, 1 (no pyramid) or more; the grid must divide by 2^(num_scales - 1).
        num_exchanges: Groups of blocks; `depth` must be a multiple of it.
        shared: One set of blocks for every scale, or one each.
        condition_dim: See `Block`.
        block_options: `feature_map`, `centre`, `gate`, `local` of `Block`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        depth: int,
        mlp_ratio: float,
        spatial: int,
        num_scales: int = 3,
        num_exchanges: int = 2,
        shared: bool = True,
        condition_dim: int = 0,
        block_options: dict[str, str | bool] | None = None,
    ) -> None:
        super().__init__()
        # Keep a block's input alone and compute the rest anew in the backward pass.
        self.recompute = False
        self.heads = (num_heads, dim // num_heads)
        self.num_scales = num_scales
        self.level_embedding = nn.Parameter(torch.empty(num_scales, dim))
        options = block_options or {}
        self.towers = nn.ModuleList(
            nn.ModuleList(
                Block(dim, num_heads, mlp_ratio, spatial, num_scales, condition_dim, **options)  # type: ignore[arg-type]
                for _ in range(depth)
            )
            for _ in range(1 if shared else num_scales)
        )
        self.exchanges = nn.ModuleList(Exchange(dim) for _ in range(num_exchanges if num_scales > 1 else 0))

    def forward(
        self, x: Tensor, shape: Sequence[int], periodic: Sequence[bool], condition: Tensor | None = None
    ) -> Tensor:
        """x: tokens (B, L, E) of the finest grid `shape`, row-major; condition: (B, E_c). Returns the shape of x."""
        # `index` fixes sides that a compiler holds as symbolic: the tables depend on them.
        levels, shapes, periodic = [x], [tuple(index(n) for n in shape)], tuple(periodic)
        for _ in range(1, self.num_scales):
            levels.append(coarsen(levels[-1], shapes[-1]))
            shapes.append(tuple(n // 2 for n in shapes[-1]))
        tables = (periodic, self.heads, x.device, torch.promote_types(x.dtype, torch.float32))
        every = token_grids(tuple(shapes), *tables)
        x = torch.cat(levels, 1) + spread(self.level_embedding, every)
        parts = [(every, ALL)]
        if len(self.towers) > 1:
            parts = [(token_grids((shape,), *tables), slice(s, s + 1)) for s, shape in enumerate(shapes)]
        sizes = [sum(grids.sizes) for grids, _ in parts]
        n_groups = max(1, len(self.exchanges))
        for group in range(n_groups):
            out = []
            for tower, (grids, scales), part in zip(self.towers, parts, x.split(sizes, 1), strict=True):
                blocks = list(tower)  # type: ignore[call-overload]
                step = len(blocks) // n_groups
                for block in blocks[group * step : (group + 1) * step]:
                    if self.recompute and torch.is_grad_enabled():
                        part = checkpoint(block, part, grids, scales, condition, use_reentrant=False)
                    else:
                        part = block(part, grids, scales, condition)
                out.append(part)
            x = torch.cat(out, 1) if len(out) > 1 else out[0]
            if len(self.exchanges):
                x = self.exchanges[group](x, every)
        return x[:, : every.sizes[0]]
