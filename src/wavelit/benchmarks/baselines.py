"""The Well's own models (extra `baselines`), unchanged, and how they are trained and judged beside
a WaveLiT.

Large settings are those of The Well's benchmark configurations (the_well/benchmark/configs/model,
and `init_features=42, blocks_per_stage=2` for CNextU-Net), about 18M parameters each; the small
ones about 0.5M, more than `nano`: CNextU-Net once with the large one's proportions, once in the
best of four other shapes (docs/log.md). The benchmark has no AViT of that size: here it has 432
channels instead of 768.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wavelit.checks.arguments import require_name
from wavelit.errors import WavelitError
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.losses import wavelet_loss
from wavelit.model.normalizer import Normalizer, Statistics
from wavelit.model.tokenizer import WaveletTokenizer

__all__ = ["FRAMED_ALONE", "RIVALS", "SETTINGS", "Rival", "rival"]

RIVALS = ("CNextU-Net", "U-Net", "FNO")
"""The rivals of the speed benchmark."""

SETTINGS: dict[str, tuple[str, dict[str, int]]] = {
    "CNextU-Net": ("UNetConvNext", {"init_features": 42, "blocks_per_stage": 2}),
    "U-Net": ("UNetClassic", {"init_features": 48}),
    "FNO": ("FNO", {"modes1": 16, "modes2": 16, "hidden_channels": 128}),
    "TFNO": ("TFNO", {"modes1": 16, "modes2": 16, "hidden_channels": 128}),
    "AViT": ("AViT", {"hidden_dim": 432, "num_heads": 6, "processor_blocks": 8}),
    "CNextU-Net-0.5M": ("UNetConvNext", {"init_features": 7, "blocks_per_stage": 2}),
    "CNextU-Net-0.5M three stages": (
        "UNetConvNext",
        {"init_features": 17, "blocks_per_stage": 1, "stages": 3},
    ),
    "FNO-0.5M": ("FNO", {"modes1": 12, "modes2": 12, "hidden_channels": 28}),
}
"""Name: class in the_well.benchmark.models, and its settings."""

FRAMED_ALONE: dict[str, tuple[str, dict[str, int]]] = {
    "DilatedResNet": ("DilatedResNet", {"hidden_dim": 48}),
}
"""The same of what was run in WaveLiT's frame alone (`wavelit.benchmarks.framed`): 0.6M."""


def rival(name: str, dim_in: int, dim_out: int, shape: Sequence[int]) -> nn.Module:
    """A model of The Well from (B, dim_in, *shape) to (B, dim_out, *shape); AViT takes and gives
    channels last.

    Raises:
        WavelitError: unknown name, or the extra is not installed.
    """
    known = {**SETTINGS, **FRAMED_ALONE}
    require_name("model", name, known)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            from the_well.benchmark import models
    except ImportError as error:
        raise WavelitError(
            f"{name} needs the extra `baselines`, best in an environment of its own: `make "
            f"baselines` ({error})"
        ) from error
    kind, settings = known[name]
    options: dict[str, Any] = {
        "n_spatial_dims": len(shape),
        "spatial_resolution": tuple(shape),
        **settings,
    }
    network: nn.Module = getattr(models, kind)(dim_in=dim_in, dim_out=dim_out, **options)
    return network


class Rival(IncrementEmulator):
    """A model of The Well that predicts the scaled increment from the normalised history, as a
    WaveLiT does.

    History and constant fields are its channels, and so are the PDE scalars, the same everywhere on
    the grid.

    Args:
        name: a key of `SETTINGS`.
        statistics: of the dataset.
        n_steps_input: history T.
        shape: the grid.
        increments: read the history as WaveLiT does, the last state and the increments between
            states in units of their spread; else as The Well gives it, all states.
    """

    def __init__(
        self,
        name: str,
        statistics: Statistics,
        n_steps_input: int,
        shape: Sequence[int],
        increments: bool = False,
    ) -> None:
        super().__init__()
        self.increments = increments
        n_fields, n_constants, n_scalars = (
            len(values)
            for values in (statistics.mean, statistics.constant_mean, statistics.scalar_mean)
        )
        self.spatial = len(shape)
        self.normalizer = Normalizer(n_fields, n_constants, n_scalars)
        self.normalizer.set_statistics(statistics)
        self.channels_last = name == "AViT"
        # For Haar it makes no difference which axes wrap.
        self.tokenizer = WaveletTokenizer(self.spatial, 2, (False,) * self.spatial)
        self.network = rival(
            name, n_steps_input * n_fields + n_constants + n_scalars, n_fields, shape
        )

    def wavelet_loss(self, error: Tensor) -> Tensor:
        """That of WaveLiT without band scales: two levels of Haar."""
        return wavelet_loss(error, self.tokenizer)

    def increment(
        self, fields: Tensor, constants: Tensor | None = None, scalars: Tensor | None = None
    ) -> Tensor:
        """The predicted increment over its standard deviation, (B, C, *S)."""
        states = self.normalizer.fields(fields)
        if self.increments:
            steps = self.normalizer.increment(fields.diff(dim=1).flatten(0, 1)).unflatten(
                0, (len(fields), -1)
            )
            states = torch.cat([steps, states[:, -1:]], 1)
        parts = [states.flatten(1, 2)]
        if constants is not None:
            parts.append(self.normalizer.constants(constants))
        if scalars is not None:
            each = self.normalizer.scalars(scalars)
            parts.append(
                each.view(*each.shape, *(1,) * self.spatial).expand(*each.shape, *fields.shape[3:])
            )
        x = torch.cat(parts, 1)
        y: Tensor = self.network(x.movedim(1, -1) if self.channels_last else x)
        return y.movedim(-1, 1) if self.channels_last else y
