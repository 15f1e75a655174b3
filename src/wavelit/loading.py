"""A trained model by its name, of whatever kind. It needs no Lightning."""

from __future__ import annotations

import os
from typing import Any, overload

from torch import nn

from wavelit.checks.arguments import require_path
from wavelit.errors import WavelitError
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.foundation import JointWaveLiT, SystemEmulator
from wavelit.model.pretrained import holds_joint, shipped
from wavelit.model.wavelit import WaveLiT
from wavelit.training.joint_folder import is_joint, load_joint
from wavelit.training.run_folder import Weights, load_model

__all__ = ["alone", "load"]


@overload
def load(name: str | os.PathLike[str], weights: Weights = "final", model: None = None) -> Any: ...


@overload
def load(
    name: str | os.PathLike[str], weights: Weights = "final", *, model: nn.Module
) -> IncrementEmulator: ...


def load(
    name: str | os.PathLike[str], weights: Weights = "final", model: nn.Module | None = None
) -> Any:
    """A trained model in evaluation mode: of a run, one that comes with the package, or any other;
    a `WaveLiT`, or of several systems a `JointWaveLiT`.

    >>> wavelit.load("shear_flow").spatial
    2
    >>> wavelit.load("runs/waves").config.embed_dim
    96

    Args:
        name: A run folder, one of PocketWell's eight systems, joint-1M for all of them, a folder
            that `save_pretrained` wrote, or owner/name on the Hugging Face hub.
        weights: Of a run, the final averaged weights or those of the best validation, as
            `wavelit evaluate` takes them.
        model: The network, of a run of a network of one's own; it takes the run's weights.

    Raises:
        WavelitError: No such model, no network where one is due, or weights that are damaged, not
            finite or not there yet.
    """
    folder = require_path("name", name)
    text = os.fspath(name)
    if (folder / "config.yaml").exists():
        if is_joint(folder):
            if model is not None:
                raise WavelitError(
                    f"{text} is a joint run, which its folder holds: leave model out"
                )
            return alone(load_joint(folder, weights))
        return load_model(folder, weights) if model is None else load_model(folder, weights, model)
    if model is not None:
        raise WavelitError(f"{text} is no run folder: a network's own weights are in one")
    if weights != "final":
        raise WavelitError(f"{text} is no run folder, which alone has {weights} weights")
    chosen = shipped(name) or name
    if holds_joint(chosen):
        return alone(JointWaveLiT.from_pretrained(chosen))
    return WaveLiT.from_pretrained(chosen)


def alone(joint: JointWaveLiT) -> JointWaveLiT | SystemEmulator:
    """Of a joint model of one system the emulator, which serves without a name."""
    return next(joint.values()) if len(joint) == 1 else joint
