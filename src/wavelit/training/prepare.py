"""A model made ready for a dataset: it fits, it has statistics and a signature, and a trained one
is carried over by name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch

from wavelit.checks.arguments import listed
from wavelit.data.datamodule import WellDataModule
from wavelit.data.signature import is_signature_of, signature_of
from wavelit.errors import WavelitError
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.signature import Signature
from wavelit.model.wavelit import WaveLiT
from wavelit.training.config import TrainConfig, TrainerConfig
from wavelit.training.data_scales import calibrate, find_solenoidal
from wavelit.training.networks import channels_of, emulator_of, require_copies, try_network
from wavelit.training.rank_zero import is_first
from wavelit.training.symmetries import symmetries_of
from wavelit.training.transfer import (
    adapt,
    fits,
    keep_known,
    require_units,
    with_known_scalars,
)

__all__ = ["prepare", "sign", "validate_run"]


def prepare(
    model: Any, data: WellDataModule, seed: int, keep_statistics: bool
) -> IncrementEmulator:
    """The model that is trained: the one given, another that knows what it knows by name, or a
    network of the user's own as an emulator.

    Raises:
        WavelitError: It does not fit the data.
    """
    if isinstance(model, WaveLiT) and model.trained and not fits(model, data):
        adapted, lines = adapt(model, data, seed, keep_statistics)
        if is_first():
            print("\n".join(lines), flush=True)
        return adapted
    emulator = emulator_of(model, channels_of(data))
    if isinstance(emulator, WaveLiT):
        own = () if emulator.signature is None else emulator.signature.field_names
        if emulator.trained and set(own).isdisjoint(data.field_names) and is_first():
            print(
                f"the model knows none of the fields {listed(data.field_names, 60)} by name: the "
                "channels of the data are taken in their order",
                flush=True,
            )
    elif not emulator.normalizer.is_set:
        emulator.normalizer.set_statistics(data.statistics)
    return emulator


def validate_run(
    data: WellDataModule, model: IncrementEmulator, train: TrainConfig, trainer: TrainerConfig
) -> None:
    """Refuse a run that could not be trained, or not be evaluated afterwards.

    Raises:
        WavelitError: Too few target frames; a model without statistics, or of another layout than
            the data; a budget in minutes on several devices.
    """
    if data.n_steps_output < (frames := train.target_frames):
        name = "pushforward" if train.pushforward > 1 else "unroll"
        raise WavelitError(
            f"{name} over {frames} steps needs as many target frames: give the data "
            f"n_steps_output={frames}, not {data.n_steps_output}"
        )
    # What does not fit is named before anything is written.
    symmetries_of(train.symmetries, data)
    if train.validate_rollout:
        data.dataset("valid", n_steps_output=train.validate_rollout)
    if not model.normalizer.is_set:
        raise WavelitError(
            "the model has no statistics of the data: make it by `wavelit.build_model`"
        )
    _warn_of_empty_mask(data)
    if train.minutes is not None and trainer.n_processes > 1:
        raise WavelitError(
            "a budget in minutes needs one device, as every device has its own clock: use steps or "
            "samples"
        )
    if not isinstance(model, WaveLiT):
        dataset = data.train_dataset
        if train.ema:
            require_copies(model)
        try_network(model, dataset.collate(dataset.__getitems__([0, min(1, len(dataset) - 1)])))
        return
    channels = {
        "n_fields": data.field_names,
        "n_constant_fields": data.constant_field_names,
        "n_scalars": data.scalar_names,
    }
    due = {name: len(names) for name, names in channels.items()}
    due |= {"n_steps_input": data.n_steps_input}
    for name, value in {**due, "boundary_conditions": data.boundary_conditions}.items():
        if (ours := getattr(model.config, name)) != value:
            raise WavelitError(
                f"the model has {name} {ours}, {data.path} {value}: use `wavelit.build_model`"
            )


def _warn_of_empty_mask(data: WellDataModule) -> None:
    """Say that a mask leaves nothing out of the first and the last window."""
    dataset = data.train_dataset
    if dataset.mask is None:
        return
    valid = dataset.collate(dataset.__getitems__([0, len(dataset) - 1])).valid
    if valid is None or valid.all():
        warnings.warn(
            f"{data.path}: '{dataset.mask.field}' is {dataset.mask.excludes:g} in no cell, so none "
            "is left out: name the value of excluded cells in mask_excludes",
            stacklevel=4,
        )


def sign(model: IncrementEmulator, data: WellDataModule, seed: int, keep: bool) -> None:
    """Give a model statistics and calibration, and the signature of the data."""
    if isinstance(model, WaveLiT) and model.config.divergence_free:
        # Where points lie is no statistic.
        find_solenoidal(model, data)
    # A pass over windows, made once and only where it is needed.
    signature = cache(partial(_signature, data, model.signature if model.trained else None))
    if keep and model.signature is not None:
        require_units(model.signature, signature())
    took = _take_statistics(model, data, seed, keep, signature)
    if took or model.signature is None or not is_signature_of(model.signature, data):
        model.signature = signature()


def _signature(data: WellDataModule, known: Signature | None) -> Signature:
    """Of the data; with a trained model's, scalars that it knows are as it knows them."""
    own = signature_of(data)
    return own if known is None else with_known_scalars(known, own)


def _take_statistics(
    model: IncrementEmulator,
    data: WellDataModule,
    seed: int,
    keep: bool,
    signature: Callable[[], Signature],
) -> bool:
    """Give a model the statistics and calibration of the data, unless it has them or is to keep
    its own; whether it came with others.
    """
    ours = {name: buffer.clone() for name, buffer in model.normalizer.named_buffers(recurse=False)}

    def has_them() -> bool:
        return all(
            torch.equal(buffer, ours[name])
            for name, buffer in model.normalizer.named_buffers(recurse=False)
        )

    model.normalizer.set_statistics(data.statistics)
    if has_them():
        return False
    if isinstance(model, WaveLiT) and model.trained and model.signature is not None:
        keep_known(ours, model, model.signature, signature())
        if has_them():
            return False
    if keep:
        for name, buffer in model.normalizer.named_buffers(recurse=False):
            buffer.copy_(ours[name])
        warnings.warn(
            f"the model keeps the statistics and calibration of other data than {data.path}",
            stacklevel=4,
        )
        return True
    if isinstance(model, WaveLiT):
        calibrate(model, data, seed)
    warnings.warn(
        "the model had the statistics of other data: it takes statistics and calibration of "
        f"{data.path}; keep_statistics=True keeps the old ones",
        stacklevel=4,
    )
    return True
