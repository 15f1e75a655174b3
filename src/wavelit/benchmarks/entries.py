"""Who takes part in the accuracy benchmark: WaveLiT, models of The Well, and twins of WaveLiT
that lack one idea each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from wavelit.benchmarks.baselines import SETTINGS, Rival
from wavelit.benchmarks.framed import FramedRival
from wavelit.checks.arguments import require_name
from wavelit.data.datamodule import WellDataModule
from wavelit.model.emulator import IncrementEmulator
from wavelit.training.run import build_model

__all__ = [
    "ABLATIONS",
    "AS_WAVELIT",
    "CONTESTANTS",
    "EVERYONE",
    "FIRST",
    "FIRST_RECIPE",
    "IN_FRAME",
    "PAPER",
    "SECOND",
    "SMALL",
    "TOKENS_ALONE",
    "TWINS",
    "WITH_INCREMENTS",
    "Contestant",
    "build",
]

FIRST = "nano-0.1"
FIRST_RECIPE: dict[str, Any] = {"field_loss": "mse", "noise": 0.06, "noise_end": 1.0}
"""Preset and recipe of WaveLiT 0.1. Contestants are named by what they change of it, so that a new
default changes no committed result."""

PATCHES = {"wavelet": None}
PLAIN = {"centre": False, "gate": False, "local": False}


@dataclass(frozen=True)
class Contestant:
    """A WaveLiT changed in a few entries, or a model of The Well.

    Args:
        model: entries of `WaveLiTConfig` that differ from the preset `FIRST`.
        rival: the model of The Well, a key of `baselines.SETTINGS`; None for a WaveLiT.
        increments: whether that model reads its history as increments, as WaveLiT does.
        framed: whether that model stands in WaveLiT's frame, of which `model` then holds entries.
        train: entries of `TrainConfig` that differ from `FIRST_RECIPE`.
        tuned_as: the contestant whose learning rate is taken over; None: its own is searched.
        batch_size: windows of a step; another than four in the second protocol alone.
        systems: by system, entries of its own beside those above: {"model": .., "train": ..}.
    """

    model: dict[str, Any] = field(default_factory=dict)
    rival: str | None = None
    increments: bool = False
    train: dict[str, Any] = field(default_factory=dict)
    tuned_as: str | None = None
    batch_size: int = 4
    systems: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    framed: bool = False

    def own(self, system: str, part: str) -> dict[str, Any]:
        """Entries of "model" or "train" on a system."""
        first = FIRST_RECIPE if part == "train" else {}
        return {**first, **getattr(self, part), **self.systems.get(system, {}).get(part, {})}


def _ablation(model: dict[str, Any], train: dict[str, Any] | None = None) -> Contestant:
    return Contestant(model, train=train or {}, tuned_as="WaveLiT")


def _rival(name: str, increments: bool = False, wavelet_loss: bool = False) -> Contestant:
    return Contestant(
        rival=name,
        increments=increments,
        train={"noise": 0.0} if wavelet_loss else {"noise": 0.0, "wavelet_weight": 0.0},
        tuned_as=name if increments else None,
    )


TWINS = {
    "patchify twin": Contestant(PATCHES, train={"wavelet_weight": 0.0}),
    "plain linear attention": Contestant(PLAIN),
    "softmax twin": Contestant({"feature_map": "softmax"}),
}
"""Controls with a learning rate of their own: patches for wavelets (tokens, band scales and loss),
attention without augmentation, softmax for linear attention with all else kept."""

ALONE = {"detail_dim": 0, "depth": 4, "conserve": False}

TOKENS_ALONE = {
    "tokens alone": Contestant(ALONE, train={"noise": 0.0}),
    "tokens alone with patches": Contestant(
        {**ALONE, **PATCHES}, train={"noise": 0.0, "wavelet_weight": 0.0}
    ),
    "tokens alone with plain attention": Contestant({**ALONE, **PLAIN}, train={"noise": 0.0}),
}
"""Without the convolutions at full resolution, the noise that they need and conserved means, with
four blocks as the larger presets have at least; and two of its twins."""

SMALL = tuple(name for name in SETTINGS if "0.5M" in name)
"""The rivals of about half a million parameters, more than `nano` has."""

WITH_INCREMENTS = {f"{name} with increments": _rival(name, increments=True) for name in SMALL}
"""The small rivals, reading increments as WaveLiT does."""

AS_WAVELIT = {
    "CNextU-Net-0.5M trained as WaveLiT": _rival(
        "CNextU-Net-0.5M", increments=True, wavelet_loss=True
    )
}
"""A control: with WaveLiT's loss as well, without its noise."""

ABLATIONS = {
    "without wavelet tokens": _ablation(PATCHES),
    "with band scales": _ablation({"band_scales": True}),
    "without wavelet loss": _ablation({}, {"wavelet_weight": 0.0}),
    "without input noise": _ablation({"conserve": False}, {"noise": 0.0}),
    "without conserved means": _ablation({"conserve": False}),
    "without detail": _ablation({"detail_dim": 0}),
    "with a pyramid of three scales": _ablation({"num_scales": 3}),
    "with a pyramid of unshared weights": _ablation({"num_scales": 3, "shared": False}),
    "with states for increments": _ablation({"history": "states"}),
    "without centring": _ablation({"centre": False}),
    "without gate": _ablation({"gate": False}),
    "without local convolutions": _ablation({"local": False}),
}
"""Each ingredient and each augmentation of the attention taken away alone (with the noise the means
too, which that model went without); the pyramid, which `nano` does without, added."""

CONTESTANTS: dict[str, Contestant] = {
    "WaveLiT": Contestant(),
    **{name: _rival(name) for name in SETTINGS},
    **WITH_INCREMENTS,
    **AS_WAVELIT,
    **TWINS,
    **TOKENS_ALONE,
    **ABLATIONS,
}


def _priors(
    symmetries: str, divergence_free: bool = False, log_constants: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    return {
        "data": {"log_constants": list(log_constants)} if log_constants else {},
        "model": {"divergence_free": True} if divergence_free else {},
        "train": {"symmetries": symmetries},
    }


PRIORS = {
    "acoustic_scattering_inclusions": _priors(
        "flip:x, flip:y", log_constants=("density", "speed_of_sound")
    ),
    "acoustic_scattering_maze": _priors("flip:x, flip:y"),
    "active_matter": _priors("shift, flip:x, flip:y, swap:xy", divergence_free=True),
    "euler_multi_quadrants_periodicBC": _priors("shift, flip:x, flip:y, swap:xy"),
    "gray_scott_reaction_diffusion": _priors("shift, flip:x, flip:y, swap:xy"),
    "helmholtz_staircase": _priors("flip:x"),
    "rayleigh_benard": _priors("shift, flip:x"),
    "shear_flow": _priors("shift, flip:y", divergence_free=True),
    "turbulent_radiative_layer_2D": _priors("shift"),
    "viscoelastic_instability": _priors("flip:y"),
}
"""What the physics says and a model trained without it bears out (docs/log.md)."""

LATE_NOISE: dict[str, Any] = {"field_loss": "rmse", "noise": 0.12, "noise_end": 0.25}

NANO: dict[str, Any] = {"mixers": "conv:7", "detail_gate": True, "detail_bound": True}

SECOND: dict[str, Contestant] = {
    "WaveLiT 0.1": Contestant(),
    "convolution twin": Contestant({"mixers": "conv:7"}),
    "long-convolution twin": Contestant({"mixers": "long_conv"}),
    "attention with 7 x 7": Contestant({"mixers": "attention:7"}),
    "one convolution, one attention": Contestant({"mixers": "conv:7,attention"}),
    "WaveLiT 0.2": Contestant(
        NANO, train=LATE_NOISE, systems=PRIORS, tuned_as="WaveLiT 0.2 without bound"
    ),
    "WaveLiT 0.2 with far noise": Contestant(
        NANO,
        train={**LATE_NOISE, "far_noise": 0.2},
        systems=PRIORS,
        tuned_as="WaveLiT 0.2 without bound",
    ),
    "WaveLiT 0.2 without bound": Contestant(
        {"mixers": "conv:7", "detail_gate": True}, train=LATE_NOISE, systems=PRIORS
    ),
}
"""Those of the second protocol (`wavelit.benchmarks.second`), which rivals of the first enter too:
attention exchanged for others in the same frame, each with a learning rate of its own."""

_PAPER: dict[str, Any] = {"embed_dim": 128, "depth": 4, "num_scales": 3}

PAPER: dict[str, Contestant] = {
    "paper": Contestant(
        {**_PAPER, "detail_dim": 0, "history": "states", "conserve": False}, train={"noise": 0.0}
    ),
    "paper with additions": Contestant(_PAPER),
}
"""The preset `paper`, which has what the paper has alone, and with what this project adds: history
as increments, convolutions at full resolution, input noise and kept means."""

IN_FRAME: dict[str, Contestant] = {
    f"{name} in the frame": Contestant(
        {"detail_gate": True, "detail_bound": True},
        rival=name,
        framed=True,
        train=LATE_NOISE,
        systems=PRIORS,
    )
    for name in ("CNextU-Net-0.5M three stages", "FNO-0.5M", "DilatedResNet")
}
"""Rivals with all of WaveLiT 0.2 but its tokens and blocks, each with a learning rate of its
own."""

EVERYONE = {**CONTESTANTS, **SECOND, **PAPER, **IN_FRAME}


def build(name: str, data: WellDataModule, seed: int) -> IncrementEmulator:
    """The contestant for a dataset, its statistics set, initialised from the seed.

    Raises:
        WavelitError: unknown name, or the extra `baselines` is not installed.
    """
    require_name("model", name, EVERYONE)
    contestant = EVERYONE[name]
    shape = data.metadata.spatial_resolution
    if contestant.rival is None or contestant.framed:
        own = contestant.own(data.metadata.dataset_name, "model")
        model = build_model(data, FIRST, seed, **own)
        return model if contestant.rival is None else FramedRival(contestant.rival, model, shape)
    torch.manual_seed(seed)
    return Rival(
        contestant.rival, data.statistics, data.n_steps_input, shape, contestant.increments
    )
