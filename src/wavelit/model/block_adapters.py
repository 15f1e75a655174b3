"""What a system has of its own in blocks that it shares with others.

    W_system = W + U D,   U (rows, r) zero at the start, D (r, columns)

for every linear map of the blocks (rank r), and copies of their own of the depthwise kernels
("stencils": what tells one differential operator from another), of the gains of norms, heads and
residual branches ("gains"), or of the maps that write back into the residual stream ("outputs":
what is made of features that all read alike). None of it costs a further product over tokens.

References:
    Hu et al., LoRA, 2021, arXiv 2106.09685.
    Morel, Han, Oyallon, DISCO, 2025, arXiv 2504.19496, whose operators differ between systems in
    their stencils.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavelit.model.attention import AugmentedLinearAttention
from wavelit.model.block import Block, ScaledRMSNorm
from wavelit.model.pyramid import Pyramid
from wavelit.ops.depthwise import DepthwiseConv

__all__ = ["LowRankLinear", "own_blocks"]


class LowRankLinear(nn.Module):
    """A linear map that others share, and a term of low rank of one's own.

    Args:
        shared: The map.
        rank: Of the term.
    """

    def __init__(self, shared: nn.Linear, rank: int) -> None:
        super().__init__()
        self.shared = shared
        bound = shared.in_features**-0.5
        self.down = nn.Parameter(torch.empty(rank, shared.in_features).uniform_(-bound, bound))
        self.up = nn.Parameter(torch.zeros(shared.out_features, rank))

    @property
    def weight(self) -> Tensor:
        """Of the sum, (rows, columns)."""
        return torch.addmm(self.shared.weight, self.up, self.down)

    @property
    def bias(self) -> Tensor:
        """The shared one."""
        return self.shared.bias

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., columns). Returns (..., rows)."""
        return F.linear(x, self.weight, self.bias)


def own_blocks(shared: Pyramid, rank: int, own: tuple[str, ...]) -> Pyramid:
    """Blocks that share their parameters with `shared` but for those of one system.

    Args:
        shared: Of all systems.
        rank: Of the terms added to every linear map of the blocks; 0: none.
        own: What is copied, of `wavelit.model.joint_config.OWN`.
    """
    mine = {id(p) for module in shared.modules() for p in _own_parameters(module, own)}
    # What a copy finds in its memo it takes as it is.
    memo = {id(p): p for p in shared.parameters() if id(p) not in mine}
    pyramid = copy.deepcopy(shared, memo)
    if rank:
        for block in pyramid.modules():
            if isinstance(block, Block):
                for holder in (block.attention, block.mlp):
                    for name, module in list(holder.named_children()):
                        if isinstance(module, nn.Linear):
                            setattr(holder, name, LowRankLinear(module, rank))
    return pyramid


def _own_parameters(module: nn.Module, own: tuple[str, ...]) -> list[nn.Parameter]:
    found: list[nn.Parameter | None] = []
    if "stencils" in own and isinstance(module, DepthwiseConv):
        found += [module.weight, module.bias]
    if "gains" in own:
        if isinstance(module, ScaledRMSNorm):
            found += [module.gain]
        elif isinstance(module, AugmentedLinearAttention):
            found += [module.query_gain, module.key_gain, module.head_gain, module.mean_gain]
        elif isinstance(module, Block):
            found += [module.attention_scale, module.mlp_scale]
    if "outputs" in own and isinstance(module, Block):
        for linear in (module.attention.out, module.mlp.contract):
            found += linear.parameters()
    return [p for p in found if p is not None]
