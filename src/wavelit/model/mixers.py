"""What mixes the tokens of a block: attention, or a convolution in its place.

    attention     augmented linear attention
    attention:7   the same with a 7 x 7 depthwise convolution of the values in place of its 3 x 3
    conv:7        depthwise convolution of 7 tokens along each axis; conv:7x3 names them one by one
    long_conv     gated convolution as long as the grid, by the fast Fourier transform

Both convolutions are attention less what attends: the same linear maps, the same gate.

    y = W_o [mix(v) * SiLU(g)],   (v, g) = W x

The kernel of the long one is, for every channel, a small network of the offset of two places,

    mix(v)_i = gain * sum_j f(x_i - x_j) w(x_i - x_j) v_j / sum_j w(x_i - x_j) + DWConv(v)_i

with w a Gaussian of the channel's own reach. Offsets are fractions of the domain, so that another
resolution of the same domain has the same kernel. It wraps along periodic axes; beyond walls there
is nothing.

References:
    Liu et al., A ConvNet for the 2020s, 2022, arXiv 2201.03545 (7 x 7 depthwise).
    Poli et al., Hyena Hierarchy, 2023, arXiv 2302.10866; Romero et al., CKConv, 2021, arXiv
    2102.02611 (kernels that are networks of the offset, long convolution by FFT with a gate).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavelit.checks.arguments import shown
from wavelit.errors import WavelitError
from wavelit.model.attention import AugmentedLinearAttention
from wavelit.ops.depthwise import DepthwiseConv
from wavelit.ops.kept import kept
from wavelit.ops.norm import gated
from wavelit.ops.token_layout import TokenGrids, canvas_for, split_grids

__all__ = [
    "GatedConv",
    "GatedLongConv",
    "Mixer",
    "MixerKind",
    "build_mixer",
    "naive_long_conv",
    "read_mixers",
]

KINDS = ("attention", "conv", "long_conv")
LONGEST_KERNEL = 63
# Harmonics of the offset along each axis that the kernel's network reads, and its hidden channels.
HARMONICS, HIDDEN = 8, 32
# Reach of a channel's Gaussian in fractions of the domain, spaced evenly in their logarithms.
REACH = (1 / 16, 1 / 2)
# Tokens of a grid for which the first gain makes white noise come through in its own size.
REFERENCE_TOKENS = 256


@dataclass(frozen=True)
class MixerKind:
    """What mixes the tokens of one block.

    Args:
        kind: Of `KINDS`.
        kernel: Tokens of its depthwise convolution along each axis, odd.
    """

    kind: str
    kernel: tuple[int, ...]

    def __str__(self) -> str:
        """As `read_mixers` reads it."""
        plain = self.kind == "long_conv" or (self.kind == "attention" and set(self.kernel) == {3})
        return self.kind if plain else f"{self.kind}:{'x'.join(map(str, self.kernel))}"


def read_mixers(text: str, depth: int, spatial: int) -> tuple[MixerKind, ...]:
    """The mixer of every block.

    Args:
        text: One for all blocks, or one for each with commas between them.
        depth: Blocks.
        spatial: Grid axes.

    Raises:
        WavelitError: An unknown one, a kernel that is even or of other axes, or another number.
    """
    words = [word.strip() for word in text.split(",")]
    kinds = [_read(word, spatial) for word in words]
    if len(kinds) not in (1, depth):
        raise WavelitError(
            f"mixers {shown(text)} are {len(kinds)}, but depth is {depth}: name one for all "
            "blocks, or one for each"
        )
    return tuple(kinds * (depth if len(kinds) == 1 else 1))


def _read(word: str, spatial: int) -> MixerKind:
    kind, colon, sides = word.partition(":")
    if kind not in KINDS or (colon and kind == "long_conv") or (kind == "conv" and not colon):
        raise WavelitError(
            f"unknown mixer {shown(word)} in mixers: attention, attention:7, conv:7 (tokens of "
            "the kernel, 7x3 for each axis) and long_conv are known"
        )
    kernel = sides.split("x") if colon else ["3"]
    kernel = kernel * (spatial if len(kernel) == 1 else 1)
    if len(kernel) != spatial or not all(_is_odd(side) for side in kernel):
        raise WavelitError(
            f"mixer {shown(word)} in mixers: a kernel is an odd number of tokens up to "
            f"{LONGEST_KERNEL}, or one for each of {spatial} axes, as in "
            f"{kind}:{'x'.join(['7'] * spatial)}"
        )
    return MixerKind(kind, tuple(int(side) for side in kernel))


def _is_odd(side: str) -> bool:
    return side.isdecimal() and len(side) < 3 and int(side) % 2 == 1 and int(side) <= LONGEST_KERNEL


class Mixer(nn.Module):
    """A convolution in place of attention, between the linear maps and the gate that attention has.

    Args:
        dim: Channels E.
        gate: Multiply by SiLU(g).
    """

    def __init__(self, dim: int, gate: bool = True) -> None:
        super().__init__()
        self.gate = gate
        self.project = nn.Linear(dim, (2 if gate else 1) * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, grids: TokenGrids) -> Tensor:
        """x: (B, L, E), the tokens of all grids in turn. Returns the same shape."""
        e = x.shape[-1]
        v, *gate = (
            F.linear(x, weight, bias)
            for weight, bias in zip(
                self.project.weight.split(e), self.project.bias.split(e), strict=True
            )
        )
        mixed = self.mix(v, grids)
        y: Tensor = self.out(gated(mixed, gate[0]) if gate else mixed)
        return y

    def mix(self, v: Tensor, grids: TokenGrids) -> Tensor:
        """Values (B, L, E) mixed over the tokens of each grid."""
        raise NotImplementedError


class GatedConv(Mixer):
    """Depthwise convolution of the values.

    Args:
        dim: Channels E.
        kernel: Tokens along each axis, odd; longer than a period it wraps more than once.
        gate: Multiply by SiLU(g).
    """

    def __init__(self, dim: int, kernel: Sequence[int], gate: bool = True) -> None:
        super().__init__(dim, gate)
        self.local = DepthwiseConv(dim, len(kernel), kernel=kernel)

    def mix(self, v: Tensor, grids: TokenGrids) -> Tensor:
        """Values (B, L, E), convolved."""
        y: Tensor = self.local(v, canvas_for(self.local.kernel, grids))
        return y


class GatedLongConv(Mixer):
    """Convolution of the values with a kernel as long as the grid, and a local one.

    Args:
        dim: Channels E.
        spatial: Grid axes.
        gate: Multiply by SiLU(g).
        local: Add the 3^d depthwise convolution of the values.
    """

    def __init__(self, dim: int, spatial: int, gate: bool = True, local: bool = True) -> None:
        super().__init__(dim, gate)
        self.local = DepthwiseConv(dim, spatial) if local else None
        self.spatial = spatial
        self.kernel = nn.Sequential(
            nn.Linear(2 * HARMONICS * spatial, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, dim),
        )
        low, high = (math.log(reach) for reach in REACH)
        reach = torch.linspace(low, high, dim).exp()
        self.register_buffer("reach", reach, persistent=False)
        self.reach: Tensor
        self.gain = nn.Parameter(torch.empty(dim))
        self.reset_gain()

    @torch.no_grad()
    def reset_gain(self) -> None:
        """A Gaussian mean over n tokens makes white noise smaller by sqrt(n): that much."""
        share = (2 * math.sqrt(math.pi) * self.reach).pow(self.spatial).clamp(max=1)
        self.gain.copy_((REFERENCE_TOKENS * share).clamp(min=1).sqrt())

    def kernel_of(self, shape: tuple[int, ...], periodic: tuple[bool, ...]) -> Tensor:
        """f w / sum(w) times the gain, at the offsets of a grid: (E, *M), M_k the n_k offsets
        0, 1, .. of a periodic axis, of another 2 n_k, those below zero last and one that is unused.

        Args:
            shape: Tokens along each axis n_k.
            periodic: Whether each axis wraps.
        """
        features, square = _offsets(shape, periodic, self.reach.device)
        window = torch.exp(square.to(self.reach)[..., None] / (-2 * self.reach.square()))
        values = self.kernel(features.to(self.gain)) * window
        total = window.flatten(0, -2).sum(0)
        kernel: Tensor = (self.gain * values / total).movedim(-1, 0)
        return kernel

    def mix(self, v: Tensor, grids: TokenGrids) -> Tensor:
        """Values (B, L, E), convolved."""
        layout = grids.layout
        wide = torch.promote_types(v.dtype, torch.float32)
        with torch.autocast(v.device.type, enabled=False):
            parts = [
                self._convolve(part.to(wide), shape, layout.periodic)
                for part, shape in zip(split_grids(v, layout), layout.shapes, strict=True)
            ]
            y = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        return y if self.local is None else y + self.local(v, canvas_for(self.local.kernel, grids))

    def _convolve(self, v: Tensor, shape: tuple[int, ...], periodic: tuple[bool, ...]) -> Tensor:
        kernel = self.kernel_of(shape, periodic).to(v.dtype)
        axes = tuple(range(-len(shape), 0))
        sides = kernel.shape[1:]
        grid = v.mT.unflatten(-1, shape)  # (B, E, *n), zeros behind a wall
        spectrum = torch.fft.rfftn(grid, sides, axes) * torch.fft.rfftn(kernel, dim=axes)
        y = torch.fft.irfftn(spectrum, sides, axes)
        inside: Tensor = y[(..., *(slice(0, n) for n in shape))].flatten(2).mT
        return inside


def naive_long_conv(
    v: Tensor, module: GatedLongConv, shape: tuple[int, ...], periodic: tuple[bool, ...]
) -> Tensor:
    """The definition of the long convolution, without its local part, through the explicit
    (L, L) offsets: O(L^2).

    Args:
        v: Values of one grid, (B, L, E).
        module: With the kernel.
        shape: Tokens along each axis.
        periodic: Whether each axis wraps.

    Returns:
        (B, L, E).
    """
    kernel = module.kernel_of(shape, periodic)
    places = torch.cartesian_prod(*(torch.arange(n) for n in shape)).view(-1, len(shape))
    offsets = (places[:, None] - places[None]) % torch.tensor(kernel.shape[1:])  # (L, L, d)
    weights = kernel.movedim(0, -1)[offsets.unbind(-1)].movedim(-1, 0)  # (E, L, L)
    return torch.einsum("e i j, b j e -> b i e", weights, v)


@kept(64)
def _offsets(
    shape: tuple[int, ...], periodic: tuple[bool, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Of the offsets of a grid, in fractions of the domain, the harmonics (*M, 2 H d) that the
    kernel's network reads, and the square of their length (*M,), around the circle where it wraps.
    """
    harmonics, squares = [], torch.zeros((), dtype=torch.float64)
    sides = [n if wraps else 2 * n for n, wraps in zip(shape, periodic, strict=True)]
    for axis, (n, side, wraps) in enumerate(zip(shape, sides, periodic, strict=True)):
        # 0, 1, ..., then those below zero.
        along = torch.fft.fftfreq(side, 1 / side, dtype=torch.float64) / n
        phase = along[:, None] * torch.arange(1, HARMONICS + 1) * math.pi * (2 if wraps else 1)
        view = [1] * len(sides)
        view[axis] = side
        waves = torch.cat([phase.cos(), phase.sin()], -1).view(*view, -1)
        harmonics.append(waves.expand(*sides, -1))
        length = torch.sin(math.pi * along) / math.pi if wraps else along
        squares = squares + length.square().view(view)
    return torch.cat(harmonics, -1).to(device), squares.expand(sides).to(device)


def build_mixer(
    kind: MixerKind,
    dim: int,
    num_heads: int,
    feature_map: str,
    centre: bool,
    gate: bool,
    local: bool,
) -> AugmentedLinearAttention | Mixer:
    """The module of a block's mixer; arguments as those of `AugmentedLinearAttention`."""
    spatial = len(kind.kernel)
    if kind.kind == "conv":
        return GatedConv(dim, kind.kernel, gate)
    if kind.kind == "long_conv":
        return GatedLongConv(dim, spatial, gate, local)
    return AugmentedLinearAttention(
        dim, num_heads, spatial, feature_map, centre, gate, local, kind.kernel
    )
