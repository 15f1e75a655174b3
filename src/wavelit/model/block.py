"""A block of the network: depthwise convolution, augmented linear attention or what is set in its
place (`wavelit.model.mixers`), gated feed-forward network.

    x += DWConv(x);   x += ls_1 Attention(norm(x));   x += ls_2 ConvGLU(norm(x))

The weights are the same at every scale of the pyramid; the gains of norms and of residual branches
are private to each.

References:
    Shazeer, GLU Variants Improve Transformer, 2020, arXiv 2002.05202.
    Touvron et al., Going deeper with Image Transformers, 2021, arXiv 2103.17239 (gains of the
    residual branches).
    Perez et al., FiLM, 2018, arXiv 1709.07871.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavelit.model.config import WaveLiTConfig
from wavelit.model.mixers import MixerKind, build_mixer
from wavelit.ops.depthwise import ConvCanvas, DepthwiseConv, depthwise
from wavelit.ops.norm import gated, scaled_rms_norm
from wavelit.ops.token_layout import TokenGrids, TokenLayout, spread

__all__ = ["ALL", "Block", "ConvGLU", "ScaledRMSNorm"]

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

    def forward(self, x: Tensor, layout: TokenLayout | None = None, scales: slice = ALL) -> Tensor:
        """x: (B, L, E), of scale `scales` of all; without a layout, of scale 0. Returns the
        shape of x.
        """
        gain = self.gain[0] if layout is None else spread(self.gain[scales], layout)
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

    def forward(self, x: Tensor, canvas: ConvCanvas) -> Tensor:
        """x: (B, L, E), the tokens of all grids in turn. Returns the same shape."""
        # Products of their own, not halves of one: whole rows are faster in all that follows.
        weights, biases = self.expand.weight.chunk(2), self.expand.bias.chunk(2)
        if self.local is None:
            u, w = (F.linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True))
        else:
            u, w = (
                depthwise(F.linear(x, weight), *kernel, canvas, bias)
                for weight, bias, kernel in zip(weights, biases, self.local.split(2), strict=True)
            )
        y: Tensor = self.contract(gated(u, w))
        return y


class Block(nn.Module):
    """Depthwise convolution, augmented linear attention and gated feed-forward, each a residual
    branch.

        x += DWConv(x);   x += ls_1 Attention(norm(x));   x += ls_2 ConvGLU(norm(x))

    with LayerScale gains ls and norm gains private to each scale. A condition modulates both
    normalised inputs, n (1 + a) + b, with (a, b) linear in the condition and zero at the start.

    Args:
        config: The model's; `local` covers all three convolutions.
        mixer: What mixes the tokens; augmented linear attention if absent.
    """

    def __init__(self, config: WaveLiTConfig, mixer: MixerKind | None = None) -> None:
        super().__init__()
        dim, spatial, scales, local = (
            config.embed_dim,
            config.spatial,
            config.num_scales,
            config.local,
        )
        self.local = DepthwiseConv(dim, spatial, residual=True) if local else None
        self.attention_norm = ScaledRMSNorm(dim, scales)
        # Or what stands in its place; the name is a key of trained weights.
        self.attention = build_mixer(
            mixer or MixerKind("attention", (3,) * spatial),
            dim,
            config.num_heads,
            config.feature_map,
            config.centre,
            config.gate,
            local,
        )
        self.attention_scale = nn.Parameter(torch.empty(scales, dim))
        self.mlp_norm = ScaledRMSNorm(dim, scales)
        self.mlp = ConvGLU(dim, round(config.mlp_ratio * dim), spatial, local)
        self.mlp_scale = nn.Parameter(torch.empty(scales, dim))
        condition_dim = config.condition_dim
        self.modulation = nn.Linear(condition_dim, 2 * dim) if condition_dim else None

    def forward(
        self, x: Tensor, grids: TokenGrids, scales: slice = ALL, condition: Tensor | None = None
    ) -> Tensor:
        """x: (B, L, E), the grids of the `scales` in turn; condition: (B, E_c). Returns the
        shape of x.
        """
        if self.local is not None:
            x = self.local(x, grids.canvas)
        layout = grids.layout
        gain = shift = None
        if self.modulation is not None and condition is not None:
            gain, shift = self.modulation(condition)[:, None].chunk(2, -1)
        n = self.attention_norm(x, layout, scales)
        n = n if gain is None or shift is None else torch.addcmul(shift, n, 1 + gain)
        x = torch.addcmul(x, spread(self.attention_scale[scales], layout), self.attention(n, grids))
        n = self.mlp_norm(x, layout, scales)
        n = n if gain is None or shift is None else torch.addcmul(shift, n, 1 + gain)
        x = torch.addcmul(x, spread(self.mlp_scale[scales], layout), self.mlp(n, grids.canvas))
        return x
