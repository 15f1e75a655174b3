"""What determines a WaveLiT: its architecture and the layout of its data; presets; the grid it
works on.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wavelit.checks.arguments import require_name, shown
from wavelit.checks.settings import check_bounds, check_types
from wavelit.errors import WavelitError
from wavelit.model.attention import FEATURE_MAPS
from wavelit.model.boundaries import BOUNDARY_TYPES, BoundaryConditions
from wavelit.model.mixers import LONGEST_KERNEL, MixerKind, read_mixers
from wavelit.wavelets.transform import WAVELETS

__all__ = [
    "PRESETS",
    "WaveLiTConfig",
    "mixers_that_fit",
    "narrowest_mixers",
    "pad_grid",
    "padded_shape",
    "scales_that_fit",
    "with_fitting_mixers",
]

HISTORIES = ("increments", "states")
WALL_PADDINGS = ("edge", "zero")


@dataclasses.dataclass(frozen=True)
class WaveLiTConfig:
    """All that determines a WaveLiT's architecture; the defaults are for periodic 2-D fields.

    The data decide the first six entries (`from_metadata` fills them in); the rest are the
    architecture and every one of them can be changed alone.

    Args:
        n_fields: Field channels C, tensor components counted.
        n_constant_fields: Constant-field channels K.
        n_scalars: PDE scalars P.
        n_steps_input: History T.
        spatial: Axes, 1 to 3.
        boundary_conditions: Per axis the (low, high) types; () means periodic everywhere.
        wavelet: One of `wavelit.wavelets.transform.WAVELETS`, or None for plain patches, the
            control.
        levels: DWT levels J; a token covers 2^J cells along each axis.
        band_scales: Divide every sub-band, read or predicted, by its RMS in the training data:
            sharper details, shorter rollouts.
        history: Read the history as its last state and the "increments" between its states, each
            divided by its own RMS; or as "states". Consecutive states are nearly equal: as they
            are, what tells them apart is hard to learn.
        embed_dim: Channels E.
        num_heads: Attention heads.
        depth: Blocks, the same at every scale.
        mlp_ratio: Hidden channels of the feed-forward network over E.
        num_scales: Pyramid scales; 1 is no pyramid.
        num_exchanges: Groups of blocks, each followed by an exchange between scales.
        shared: One set of blocks for all scales, or one each.
        feature_map: A key of `wavelit.model.attention.FEATURE_MAPS`.
        centre: Centre the values of the attention and rescale its heads.
        gate: Gate the attention.
        local: Depthwise convolutions in the blocks.
        layer_scale: Initial gain of the residual branches.
        detail_dim: Channels of the convolutions at full resolution that correct the tokens'
            prediction; 0: there are none.
        detail_gate: Whether half of what these convolutions read gates the other half.
        detail_bound: Whether what they correct is bounded, however large the state.
        condition: Modulate the blocks by the PDE scalars, if there are any; without it they need
            not be given.
        mixers: What mixes the tokens of the blocks, one for all of them or one for each with commas
            between: attention, attention:7, conv:7, long_conv (`wavelit.model.mixers`).
        wall_padding: Depthwise convolutions of the blocks see the "edge" repeated beyond walls and
            open sides, or "zero".
        conserve: Keep the mean over the grid of every field whose mean does not change in the
            training data, as far as `wavelit.training.data_scales` looks: of momentum in a periodic
            box, of a pressure of mean zero.
        divergence_free: Keep the vector fields free of divergence that are so in the training data,
            by a projection of their increments; every axis must be periodic.
    """

    n_fields: int
    n_constant_fields: int = 0
    n_scalars: int = 0
    n_steps_input: int = 4
    spatial: int = 2
    boundary_conditions: BoundaryConditions = ()
    wavelet: str | None = "haar"
    levels: int = 2
    band_scales: bool = False
    history: str = "increments"
    embed_dim: int = 96
    num_heads: int = 4
    depth: int = 4
    mlp_ratio: float = 2.0
    num_scales: int = 3
    num_exchanges: int = 2
    shared: bool = True
    feature_map: str = "elu"
    centre: bool = True
    gate: bool = True
    local: bool = True
    layer_scale: float = 0.1
    detail_dim: int = 0
    condition: bool = True
    conserve: bool = True
    mixers: str = "attention"
    wall_padding: str = "edge"
    divergence_free: bool = False
    detail_gate: bool = False
    detail_bound: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        if self.spatial not in (1, 2, 3):
            raise WavelitError(f"spatial must be 1, 2 or 3, not {self.spatial}")
        try:
            boundary = tuple((str(low), str(high)) for low, high in self.boundary_conditions)
        except (TypeError, ValueError) as error:
            raise WavelitError(
                f"boundary_conditions must name {self.spatial} axes as (low, high) pairs, not "
                f"{shown(self.boundary_conditions)}"
            ) from error
        boundary = boundary or (("periodic", "periodic"),) * self.spatial
        object.__setattr__(self, "boundary_conditions", boundary)
        if len(boundary) != self.spatial:
            raise WavelitError(
                f"boundary_conditions must name {self.spatial} axes as (low, high) pairs, not "
                f"{len(boundary)}"
            )
        for axis, pair in enumerate(boundary):
            for kind in pair:
                if kind not in BOUNDARY_TYPES:
                    raise WavelitError(
                        f"unknown boundary {kind!r} on axis {axis}; known: "
                        f"{', '.join(BOUNDARY_TYPES)}"
                    )
            if pair.count("periodic") == 1:
                raise WavelitError(
                    f"axis {axis} is periodic on one side only: {pair}; name both sides periodic"
                )
        if self.wavelet is not None and self.wavelet not in WAVELETS:
            raise WavelitError(
                f"unknown wavelet {self.wavelet!r}; known: {', '.join(WAVELETS)}; null (None in "
                "Python) for patches"
            )
        if self.history not in HISTORIES:
            raise WavelitError(f"unknown history {self.history!r}; known: {', '.join(HISTORIES)}")
        if self.feature_map not in FEATURE_MAPS:
            raise WavelitError(
                f"unknown feature_map {self.feature_map!r}; known: {', '.join(FEATURE_MAPS)}"
            )
        require_name("wall_padding", self.wall_padding, WALL_PADDINGS)
        check_bounds(
            self,
            {
                "n_fields": (1, 10_000),
                "n_constant_fields": (0, 10_000),
                "n_scalars": (0, 10_000),
                "n_steps_input": (1, 1000),
                "levels": (1, 16),
                "embed_dim": (1, 16_384),
                "num_heads": (1, 16_384),
                "depth": (1, 256),
                "mlp_ratio": (0, 1000),
                "num_scales": (1, 16),
                "detail_dim": (0, 16_384),
                "layer_scale": (-1000, 1000),
            },
        )
        if round(self.mlp_ratio * self.embed_dim) < 1:
            raise WavelitError(
                f"mlp_ratio {self.mlp_ratio} leaves no hidden channels of embed_dim "
                f"{self.embed_dim}"
            )
        if self.embed_dim % self.num_heads:
            raise WavelitError(
                f"embed_dim {self.embed_dim} must be a multiple of num_heads {self.num_heads}"
            )
        if self.num_exchanges < 1 or self.depth % self.num_exchanges:
            raise WavelitError(
                f"depth {self.depth} must be a multiple of num_exchanges {self.num_exchanges}"
            )
        if self.divergence_free and (self.spatial == 1 or not all(self.periodic)):
            raise WavelitError(
                "divergence_free needs two or three axes, all of them periodic: there is no such "
                "projection here for walls and open sides; leave it out"
            )
        for name in ("detail_gate", "detail_bound"):
            if getattr(self, name) and not self.detail_dim:
                raise WavelitError(f"{name} needs convolutions at full resolution: set detail_dim")
        if any(kind.kind == "conv" for kind in self.block_mixers) and not self.local:
            raise WavelitError("mixers with conv need the blocks' convolutions: set local to true")

    @property
    def block_mixers(self) -> tuple[MixerKind, ...]:
        """The mixer of every block."""
        return read_mixers(self.mixers, self.depth, self.spatial)

    @property
    def periodic(self) -> tuple[bool, ...]:
        """Whether each axis wraps."""
        return tuple(low == "periodic" for low, _ in self.boundary_conditions)

    @property
    def grid_multiple(self) -> int:
        """What every axis is padded to, or must divide by if it is periodic: one token of the
        coarsest scale.
        """
        return int(2 ** (self.levels + self.num_scales - 1))

    @property
    def condition_dim(self) -> int:
        """Channels of what modulates the blocks; 0 without PDE scalars."""
        return self.embed_dim // 2 if self.condition and self.n_scalars else 0

    @classmethod
    def preset(cls, name: str, **changes: Any) -> WaveLiTConfig:
        """The preset `name` with the entries in `changes`, which must include `n_fields`.

        Raises:
            WavelitError: Unknown preset or entry; the message lists the known ones.
        """
        if name not in PRESETS:
            raise WavelitError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
        known = [field.name for field in dataclasses.fields(cls)]
        for key in changes:
            if key not in known:
                raise WavelitError(f"unknown model entry {key!r}; known: {', '.join(known)}")
        return cls(**{**PRESETS[name], **changes})


_RECIPE_01: dict[str, Any] = {"num_scales": 1, "detail_dim": 24}
_RECIPE_02 = {**_RECIPE_01, "mixers": "conv:7", "detail_gate": True, "detail_bound": True}
PRESETS: dict[str, dict[str, Any]] = {
    "nano": {**_RECIPE_02, "depth": 2},
    "nano-0.1": {**_RECIPE_01, "depth": 2},
    "paper": {"embed_dim": 128, "history": "states", "conserve": False},
    "1M": {**_RECIPE_02, "embed_dim": 144},
    "3M": {**_RECIPE_02, "embed_dim": 216, "depth": 6},
    "10M": {**_RECIPE_02, "embed_dim": 320, "depth": 10},
}
"""Each preset's difference from the defaults of `WaveLiTConfig`. `nano-0.1` is the `nano` that
results/accuracy and results/transfer rest on; `paper` has what WaveLiT's paper has alone (arXiv
2605.25949): train it without input noise."""


def padded_shape(shape: Sequence[int], config: WaveLiTConfig) -> tuple[int, ...]:
    """The grid after padding: axes with walls or open sides are rounded up to the grid multiple.

    Raises:
        WavelitError: Another number of axes; or a periodic one that is not a multiple, and cannot
            be padded without breaking the period.
    """
    multiple = config.grid_multiple
    if len(shape) != config.spatial:
        raise WavelitError(
            f"a grid of {len(shape)} axes was given to a model of {config.spatial}-D fields"
        )
    for axis, (n, wraps) in enumerate(zip(shape, config.periodic, strict=True)):
        if wraps and n % multiple:
            raise WavelitError(
                f"axis {axis} is periodic with {n} points; levels={config.levels} with "
                f"num_scales={config.num_scales} need a multiple of {multiple}: "
                + (
                    "an odd period cannot be halved, so resample the data, say to "
                    f"{max(1, round(n / multiple)) * multiple}"
                    if n % 2
                    else "lower levels or num_scales"
                )
            )
    padded = tuple(-(-n // multiple) * multiple for n in shape)
    _require_kernels(padded, config)
    return padded


def scales_that_fit(shape: Sequence[int], config: WaveLiTConfig) -> tuple[int, int] | None:
    """`levels` and `num_scales` in place of the configuration's, where a periodic axis is no
    multiple of its coarsest token: the scales are given up first, then the levels. None where
    it fits, or where a period is odd, which nothing fits.
    """
    halvings = [
        (n & -n).bit_length() - 1 for n, wraps in zip(shape, config.periodic, strict=True) if wraps
    ]
    least = min(halvings, default=config.levels + config.num_scales)
    if least == 0 or least >= config.levels + config.num_scales - 1:
        return None
    return min(config.levels, least), max(1, least - config.levels + 1)


def mixers_that_fit(shape: Sequence[int], config: WaveLiTConfig) -> str | None:
    """`mixers` in place of the configuration's, where a kernel is wider than the tokens along an
    axis that does not wrap: as wide as they are. None where all fit.
    """
    multiple = config.grid_multiple
    most = [
        LONGEST_KERNEL if wraps else _widest(-(-n // multiple))
        for n, wraps in zip(shape, config.periodic, strict=True)
    ]
    mixers = [
        dataclasses.replace(
            mixer, kernel=tuple(min(pair) for pair in zip(mixer.kernel, most, strict=True))
        )
        for mixer in config.block_mixers
    ]
    return None if mixers == list(config.block_mixers) else _as_text(mixers)


def with_fitting_mixers(
    shape: Sequence[int], config: WaveLiTConfig, whose: str, how: str = ""
) -> WaveLiTConfig:
    """A configuration whose kernels are no wider than the grid, with a warning where one was.

    Args:
        shape: Points along each axis.
        config: The configuration.
        whose: Grid it is, for the warning.
        how: The end of the warning.
    """
    mixers = mixers_that_fit(shape, config)
    if mixers is None:
        return config
    warnings.warn(
        f"{whose}, {' x '.join(map(str, shape))} points, is narrower than a kernel of "
        f"{config.mixers}: mixers={mixers} is taken instead{how}",
        stacklevel=3,
    )
    return dataclasses.replace(config, mixers=mixers)


def narrowest_mixers(configs: Sequence[WaveLiTConfig]) -> str:
    """`mixers` whose kernels are as wide as the narrowest of several configurations that differ in
    nothing else of them.
    """
    blocks = zip(*(config.block_mixers for config in configs), strict=True)
    narrowest = [
        dataclasses.replace(
            block[0], kernel=tuple(map(min, zip(*(mixer.kernel for mixer in block), strict=True)))
        )
        for block in blocks
    ]
    return _as_text(narrowest)


def _as_text(mixers: Sequence[MixerKind]) -> str:
    return ",".join(map(str, mixers if len(set(mixers)) > 1 else mixers[:1]))


def _widest(tokens: int) -> int:
    """The widest kernel for so many tokens between walls."""
    return max(3, tokens - 1 + tokens % 2)


def _require_kernels(padded: Sequence[int], config: WaveLiTConfig) -> None:
    """A kernel that reaches across a grid with walls would read its padding alone."""
    if config.mixers == "attention":
        return
    mixers = config.block_mixers
    for axis, (n, wraps) in enumerate(zip(padded, config.periodic, strict=True)):
        tokens = n // config.grid_multiple
        for mixer in mixers:
            if not wraps and mixer.kernel[axis] > _widest(tokens):
                raise WavelitError(
                    f"a kernel of {mixer.kernel[axis]} is wider than the {tokens} tokens along "
                    f"axis {axis}, which does not wrap: a shorter one in mixers {config.mixers}, "
                    "or lower levels or num_scales"
                )


def pad_grid(x: Tensor, config: WaveLiTConfig) -> Tensor:
    """Repeat the high edge of x (B, C, *S) up to `padded_shape`."""
    shape = x.shape[2:]
    padded = padded_shape(shape, config)
    for axis, (n, m) in enumerate(zip(shape, padded, strict=True)):
        if m > n:
            x = x.index_select(2 + axis, torch.arange(m, device=x.device).clamp(max=n - 1))
    return x
