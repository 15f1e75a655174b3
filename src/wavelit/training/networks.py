"""A network of the user's own in a run: it is wrapped, tried before anything is written, and named
in the run folder.

A run folder is data. It holds the network's weights and the name of its class, and nothing is
imported from that name: who continues or scores the run gives the network again.
"""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from wavelit.checks.arguments import shown
from wavelit.data.batch import Batch
from wavelit.errors import WavelitError, one_line, printable
from wavelit.files.plain import read_json
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.network import PREDICTS, TAKES, Channels, NetworkEmulator, require_output
from wavelit.model.pretrained import NETWORK
from wavelit.model.rollout import evaluation_mode
from wavelit.model.wavelit import WaveLiT
from wavelit.training.config import TrainConfig
from wavelit.training.rank_zero import is_first

if TYPE_CHECKING:
    from wavelit.data.datamodule import WellDataModule

__all__ = [
    "channels_of",
    "describe",
    "emulator_of",
    "has_wavelet_loss",
    "model_facts",
    "network_name",
    "require_copies",
    "restore",
    "suit",
    "try_network",
]


def channels_of(data: WellDataModule) -> Channels:
    """What a dataset gives a network."""
    return Channels(
        len(data.field_names),
        len(data.constant_field_names),
        len(data.scalar_names),
        data.n_steps_input,
        int(data.metadata.n_spatial_dims),
    )


def emulator_of(model: Any, channels: Channels) -> IncrementEmulator:
    """A model as training takes it: an emulator as it is, any other module wrapped.

    Raises:
        WavelitError: It is no module, has nothing to train, or is of another number of axes or
            another history.
    """
    if not isinstance(model, nn.Module):
        raise WavelitError(
            f"model must be a preset, a WaveLiT or a torch module, not {shown(model)}"
        )
    if not any(p.requires_grad for p in model.parameters()):
        raise WavelitError(f"{type(model).__name__} has no parameters to train")
    emulator = model if isinstance(model, IncrementEmulator) else NetworkEmulator(model)
    if isinstance(emulator, NetworkEmulator):
        emulator.bind(channels)
    elif not isinstance(emulator, WaveLiT):
        for name in ("normalizer", "spatial"):
            if not hasattr(emulator, name):
                raise WavelitError(f"{emulator.title} must set {name}: see IncrementEmulator")
        for name in ("spatial", "n_steps_input"):
            ours, due = getattr(emulator, name), getattr(channels, name)
            if ours is not None and ours != due:
                raise WavelitError(f"{emulator.title} has {name} {ours}, the data {due}")
    return emulator


def has_wavelet_loss(model: IncrementEmulator) -> bool:
    """Whether a network defines the wavelet-domain loss."""
    return type(model).wavelet_loss is not IncrementEmulator.wavelet_loss


def suit(train: TrainConfig, model: IncrementEmulator) -> TrainConfig:
    """The recipe without the wavelet-domain loss, where the network defines none; said in a
    line.
    """
    if not train.wavelet_weight or has_wavelet_loss(model):
        return train
    if is_first():
        print(f"{model.title} defines no wavelet loss: trained with wavelet_weight=0", flush=True)
    return dataclasses.replace(train, wavelet_weight=0.0)


def require_copies(model: IncrementEmulator) -> None:
    """Refuse a network that cannot be copied, as averaged weights need.

    Raises:
        WavelitError: Names what stands in the way.
    """
    try:
        copy.deepcopy(model)
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        raise WavelitError(
            f"{model.title} cannot be copied, which averaged weights need: {one_line(error)}; set "
            "ema=0, or change it"
        ) from error


@torch.no_grad()
def try_network(model: IncrementEmulator, batch: Batch) -> None:
    """One prediction, so that a network that cannot be trained is named before a run begins.

    It is made in evaluation mode and leaves the random numbers as they were.

    Raises:
        WavelitError: It fails, or returns anything but the scaled increment.
    """
    device = next(model.parameters()).device
    batch = batch.to(device)
    devices = [device] if device.type == "cuda" else []
    try:
        with evaluation_mode(model), torch.random.fork_rng(devices):
            value = model.increment(batch.fields, *batch.beside())
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        if isinstance(error, WavelitError):
            raise
        given = ", ".join(
            f"{name} {tuple(each.shape)}"
            for name in ("fields", "constants", "scalars")
            if (each := getattr(batch, name)) is not None
        )
        raise WavelitError(
            f"{model.title} fails on {given}{_seen_as(model, batch)}: {one_line(error)}"
        ) from error
    require_output(model.title, value, batch.fields)


def _seen_as(model: IncrementEmulator, batch: Batch) -> str:
    if not isinstance(model, NetworkEmulator) or model.takes != "channels":
        return ""
    c = model.channels
    assert c is not None
    n = c.n_steps_input * c.n_fields + c.n_constant_fields + c.n_scalars
    return f", seen as {n} channels, T C + K + P"


def describe(model: IncrementEmulator) -> dict[str, Any]:
    """What model.json and the weights' config.json hold of a network of the user's own."""
    inner = model.network if isinstance(model, NetworkEmulator) else model
    kind = type(inner)
    own = {}
    if isinstance(model, NetworkEmulator):
        own = {"predicts": model.predicts, "takes": model.takes}
    return {NETWORK: f"{kind.__module__}.{kind.__qualname__}", **own}


def model_facts(model: IncrementEmulator) -> dict[str, Any]:
    """The architecture of a WaveLiT, or what is known of another network."""
    return dataclasses.asdict(model.config) if isinstance(model, WaveLiT) else describe(model)


def network_name(folder: Path) -> str | None:
    """The class of the user's own network that a run is of; None of a WaveLiT."""
    name = read_json(folder / "model.json").get(NETWORK)
    return None if name is None else printable(name, 80)


def restore(folder: Path, model: Any, channels: Channels) -> IncrementEmulator:
    """The network of a run, given again; its weights are not loaded yet.

    Raises:
        WavelitError: None is given, or one that predicts otherwise than the run's did.
    """
    entries = read_json(folder / "model.json")
    name = printable(entries.get(NETWORK), 80)
    if model is None:
        raise WavelitError(
            f"{folder} was trained with {name}, a network of its user's own, which a run folder "
            "does not hold: give it in Python, as model=network of resume, load or evaluate"
        )
    predicts, takes = entries.get("predicts"), entries.get("takes")
    if (predicts, takes) != (None, None) and (predicts not in PREDICTS or takes not in TAKES):
        raise WavelitError(f"{folder / 'model.json'}: damaged in predicts or takes: train anew")
    if predicts is not None and not isinstance(model, IncrementEmulator | str | type(None)):
        model = NetworkEmulator(model, predicts, str(takes))
    emulator = emulator_of(model, channels)
    if (theirs := describe(emulator)).get("predicts") != predicts or theirs.get("takes") != takes:
        raise WavelitError(
            f"{folder} was trained with {name}, which predicts the {predicts} and takes {takes}; "
            f"the one given predicts the {theirs.get('predicts')} and takes {theirs.get('takes')}"
        )
    return emulator
