"""A feature pyramid over the token grid whose blocks are shared by all scales.

Scale s holds the tokens averaged over cubes of 2^s. The same blocks run at every scale, told apart
by private gains and a level embedding; after each group of blocks neighbouring scales exchange
features,

    x_{s+1} += g_down W_down avg(x_s),   then   x_s += g_up W_up nearest(x_{s+1}),

the synthesis and analysis of a Haar step without details. Tokens of all scales stand in one
sequence, so every linear map is a single matrix product; only convolutions and attention look at
one grid at a time.

The paper names a "shared-weight multiscale feature pyramid"; depth, exchange and gains are choices
made here.

References:
    Aich et al., Multi-Scale Weight Sharing Network for Image Recognition, 2020, arXiv 2001.02816.
    Ke et al., Multigrid Neural Architectures, 2017, arXiv 1611.07661.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from wavelit.model.block import ALL, Block
from wavelit.model.config import WaveLiTConfig
from wavelit.model.tiled_block import should_tile, supports_tiling, tiled_forward
from wavelit.ops.resample import coarsen, refine
from wavelit.ops.token_layout import TokenGrids, TokenLayout, split_grids, spread, token_grids

__all__ = ["Exchange", "Pyramid"]


class Exchange(nn.Module):
    """One sweep down and one up between neighbouring scales, each behind a learned gate that starts
    at 0.1.

    Args:
        dim: Channels E.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, dim)
        self.up = nn.Linear(dim, dim)
        self.down_gate = nn.Parameter(torch.empty(()))
        self.up_gate = nn.Parameter(torch.empty(()))

    def forward(self, x: Tensor, layout: TokenLayout) -> Tensor:
        """x: (B, L, E) of all grids in turn, finest first. Returns the same shape."""
        scales, shapes = list(split_grids(x, layout)), layout.shapes
        for s in range(len(shapes) - 1):
            mean = coarsen(scales[s], shapes[s])
            scales[s + 1] = scales[s + 1] + self.down_gate * self.down(mean)
        for s in reversed(range(len(shapes) - 1)):
            # The linear map commutes with the copies: apply it on the coarse grid.
            scales[s] = scales[s] + refine(self.up_gate * self.up(scales[s + 1]), shapes[s + 1])
        return torch.cat(scales, 1)


class Pyramid(nn.Module):
    """Groups of blocks over all scales of a token grid, with an exchange after each group.

    Args:
        config: The model's; the token grid must divide by 2^(num_scales - 1).
    """

    def __init__(self, config: WaveLiTConfig) -> None:
        super().__init__()
        dim, num_scales = config.embed_dim, config.num_scales
        # Keep a block's input alone and compute the rest anew in the backward pass.
        self.activation_checkpointing = False
        self.heads = (config.num_heads, dim // config.num_heads)
        self.num_scales = num_scales
        self.edge = config.wall_padding == "edge"
        # An embedding of the scales; its name is a key of trained weights.
        self.level_embedding = nn.Parameter(torch.empty(num_scales, dim))
        self.towers = nn.ModuleList(
            nn.ModuleList(Block(config, mixer) for mixer in config.block_mixers)
            for _ in range(1 if config.shared else num_scales)
        )
        n_exchanges = config.num_exchanges if num_scales > 1 else 0
        self.exchanges = nn.ModuleList(Exchange(dim) for _ in range(n_exchanges))

    def forward(
        self,
        x: Tensor,
        shape: Sequence[int],
        periodic: Sequence[bool],
        condition: Tensor | None = None,
    ) -> Tensor:
        """x: tokens (B, L, E) of the finest grid `shape`, row-major; condition: (B, E_c).
        Returns the shape of x.
        """
        # `index` fixes sides that a compiler holds as symbolic: the tables depend on them.
        scales, shapes, periodic = [x], [tuple(index(n) for n in shape)], tuple(periodic)
        for _ in range(1, self.num_scales):
            scales.append(coarsen(scales[-1], shapes[-1]))
            shapes.append(tuple(n // 2 for n in shapes[-1]))
        tables = (periodic, self.heads, x.device, torch.promote_types(x.dtype, torch.float32))
        every = token_grids(tuple(shapes), *tables, self.edge)
        x = torch.cat(scales, 1) + spread(self.level_embedding, every.layout)
        parts = [(every, ALL)]
        if len(self.towers) > 1:
            parts = [
                (token_grids((shape,), *tables, self.edge), slice(s, s + 1))
                for s, shape in enumerate(shapes)
            ]
        sizes = [sum(grids.layout.sizes) for grids, _ in parts]
        n_groups = max(1, len(self.exchanges))
        for group in range(n_groups):
            out = []
            for tower, (grids, held), part in zip(
                self.towers, parts, x.split(sizes, 1), strict=True
            ):
                blocks = list(tower)  # type: ignore[call-overload]
                step = len(blocks) // n_groups
                for block in blocks[group * step : (group + 1) * step]:
                    part = self._apply_block(block, part, grids, held, condition)
                out.append(part)
            x = torch.cat(out, 1) if len(out) > 1 else out[0]
            if len(self.exchanges):
                x = self.exchanges[group](x, every.layout)
        return x[:, : every.layout.sizes[0]]

    def _apply_block(
        self, block: Block, x: Tensor, grids: TokenGrids, scales: slice, condition: Tensor | None
    ) -> Tensor:
        """What `block` makes of x, whole, in tiles, or without keeping what the backward pass
        can compute anew.
        """
        if supports_tiling(block) and grids.canvas.kept is None and should_tile(x):
            return tiled_forward(block, x, grids, scales, condition)
        if self.activation_checkpointing and torch.is_grad_enabled():
            y: Tensor = checkpoint(block, x, grids, scales, condition, use_reentrant=False)
        else:
            y = block(x, grids, scales, condition)
        return y
