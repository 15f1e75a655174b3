"""Runs: train a model into a new folder, or continue one that was interrupted
(`wavelit.training.run_folder` has what a folder holds).
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger

from wavelit.checks.settings import from_mapping
from wavelit.data.datamodule import WellDataModule
from wavelit.data.sampling import StepBatchSampler
from wavelit.data.signature import signature_of
from wavelit.errors import WavelitError, one_line
from wavelit.files.atomic import named
from wavelit.files.owner import owned
from wavelit.model.wavelit import WaveLiT
from wavelit.training.checkpoints import (
    CheckpointFiles,
    checkpoint_callbacks,
    model_weights,
    newest_checkpoint,
    require_same_model,
)
from wavelit.training.config import TrainConfig, TrainerConfig
from wavelit.training.data_scales import calibrate
from wavelit.training.logs import PrintProgress, ProgressBar, csv_logger, told_once
from wavelit.training.module import EMA, EmulatorModule
from wavelit.training.ranks import RankWatch, is_first
from wavelit.training.run_folder import (
    clear,
    is_trained,
    load_data,
    load_settings,
    read_config,
    read_signature,
    record_outcome,
    remove_run,
    require_free,
    require_same_data,
    write_run_folder,
    write_weights,
)
from wavelit.training.trainer import check_trainer, make_trainer, quieten

__all__ = ["build_model", "fit", "resume", "validate_run"]


def build_model(
    data: WellDataModule, preset: str = "nano", seed: int = 0, **changes: Any
) -> WaveLiT:
    """A model for the dataset, with its statistics measured, initialised from the seed, which
    becomes torch's global one.

    Args:
        data: The dataset.
        preset: A key of `wavelit.model.config.PRESETS`.
        seed: Seed of the initial weights.
        changes: Entries of `WaveLiTConfig` to change.

    Raises:
        WavelitError: An unknown preset or entry, or one that does not fit the dataset.
    """
    statistics = data.statistics
    if changes.get("n_steps_input", data.n_steps_input) != data.n_steps_input:
        raise WavelitError(
            f"n_steps_input={changes['n_steps_input']} of the model is not the data's "
            f"{data.n_steps_input}: give it to the data"
        )
    torch.manual_seed(seed)
    model = WaveLiT.from_metadata(
        data.metadata,
        data.boundary_conditions,
        preset,
        **{
            "n_steps_input": data.n_steps_input,
            "n_constant_fields": len(data.constant_field_names),
            "n_scalars": len(data.scalar_names),
            **changes,
        },
    )
    model.normalizer.set_statistics(statistics)
    calibrate(model, data, seed)
    model.signature = signature_of(data)
    return model


def fit(
    folder: str | os.PathLike[str],
    data: WellDataModule,
    model: WaveLiT,
    train: TrainConfig,
    trainer: TrainerConfig | None = None,
    seed: int = 0,
    keep_statistics: bool = False,
    callbacks: Sequence[Callback] = (),
) -> WaveLiT:
    """Train a model into a new run folder; sets the process's threads and the global seeds.

    Args:
        folder: Created; must not hold a run.
        data: The dataset, with at least as many target frames as the pushforward is long.
        model: From `build_model`, or trained before on other data.
        train: Budget and recipe.
        trainer: Device, precision, threads.
        seed: Seed of the data order, the noise and the unroll lengths.
        keep_statistics: Whether a model with statistics of other data keeps them and its
            calibration; else it takes those of these data, and a warning says so.
        callbacks: More of Lightning's, called before those of the run.

    Returns:
        The trained model, averaged weights, in evaluation mode; also in `folder`/weights.

    Raises:
        WavelitError: The folder holds a run; a split is too short; too few target frames; the model
            has no statistics, or other channels, history or boundaries than the data; the loss is
            not finite.
    """
    folder, trainer = Path(os.path.expanduser(folder)), trainer or TrainerConfig()
    # Further devices and machines run the same call: the first of them writes.
    first = check_trainer(trainer) == 0
    if first:
        require_free(folder)
    validate_run(data, model, train, trainer)
    if _take_statistics(model, data, seed, keep_statistics) or not _is_signed(model, data):
        model.signature = signature_of(data)
    data.seed = seed
    # The stream of an earlier run with this data module may have had another seed.
    data.__dict__.pop("train_sampler", None)
    # Errors in the data come before anything is written.
    StepBatchSampler(len(data.train_dataset), data.batch_size, seed)
    data.windows("valid")
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else None
    ours = False
    try:
        # What Lightning and its loggers write names no file when it fails.
        with named(folder), owned(folder, "training") if first else nullcontext():
            if first:
                require_free(folder)
                clear(folder, anew=True)
                ours = True
                write_run_folder(folder, data, model, train, trainer, seed)
            return _run(folder, data, model, train, trainer, seed, None, callbacks)
    except BaseException:
        # Without a checkpoint or weights there is nothing to keep, and nothing that should stop the
        # next attempt.
        if ours:
            remove_run(folder, found)
        raise


def validate_run(
    data: WellDataModule, model: WaveLiT, train: TrainConfig, trainer: TrainerConfig
) -> None:
    """Refuse a run that could not be trained, or not be evaluated afterwards.

    Raises:
        WavelitError: Too few target frames; a model without statistics, or of another layout than
            the data; a budget in minutes on several devices.
    """
    if data.n_steps_output < train.pushforward:
        raise WavelitError(
            f"pushforward over {train.pushforward} steps needs as many target frames: give the "
            f"data n_steps_output={train.pushforward}, not {data.n_steps_output}"
        )
    if not model.normalizer.is_set:
        raise WavelitError(
            "the model has no statistics of the data: make it by `wavelit.build_model`"
        )
    if train.minutes is not None and trainer.devices > 1:
        raise WavelitError(
            "a budget in minutes needs one device, as every device has its own clock: use steps or "
            "samples"
        )
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


def _take_statistics(model: WaveLiT, data: WellDataModule, seed: int, keep: bool) -> bool:
    """Give a model the statistics and calibration of the data, unless it has them or is to keep
    its own; whether it came with others.
    """
    ours = {name: buffer.clone() for name, buffer in model.normalizer.named_buffers(recurse=False)}
    model.normalizer.set_statistics(data.statistics)
    if all(
        torch.equal(buffer, ours[name])
        for name, buffer in model.normalizer.named_buffers(recurse=False)
    ):
        return False
    if keep:
        for name, buffer in model.normalizer.named_buffers(recurse=False):
            buffer.copy_(ours[name])
        warnings.warn(
            f"the model keeps the statistics and calibration of other data than {data.path}",
            stacklevel=3,
        )
        return True
    calibrate(model, data, seed)
    warnings.warn(
        "the model had the statistics of other data: it takes statistics and calibration of "
        f"{data.path}; keep_statistics=True keeps the old ones",
        stacklevel=3,
    )
    return True


def _is_signed(model: WaveLiT, data: WellDataModule) -> bool:
    """Whether a model has the signature of these data, as far as names tell."""
    own = model.signature
    return own is not None and (
        own.dataset,
        [*own.field_names],
        [*own.constant_names],
        [*own.scalar_names],
        [each.name for each in own.forcing_scalars],
    ) == (
        data.metadata.dataset_name,
        data.field_names,
        data.train_dataset.constant_channels,
        list(data.metadata.constant_scalar_names),
        data.train_dataset.forcing_scalars,
    )


def resume(folder: str | os.PathLike[str], callbacks: Sequence[Callback] = ()) -> WaveLiT:
    """Continue an interrupted run from its last checkpoint; the rest is as if it had never stopped.

    Where the last checkpoint cannot be read it is the one before, with a warning. A run at its end
    writes its weights anew if they are missing or damaged.

    Raises:
        WavelitError: No run or checkpoint there, or one of another model, other data than the
            run's, or another process that trains there.
    """
    folder = Path(os.path.expanduser(folder))
    settings = load_settings(folder)
    where = str(folder / "config.yaml")
    train = from_mapping(TrainConfig, settings["train"], f"{where}, train")
    trainer = from_mapping(TrainerConfig, settings["trainer"], f"{where}, trainer")
    config = read_config(folder)
    first = check_trainer(trainer) == 0
    with named(folder), owned(folder, "training") if first else nullcontext():
        if first:
            clear(folder, anew=False)
        if is_trained(folder):
            raise WavelitError(
                f"{folder} is trained to the end of its budget: score it with `wavelit evaluate "
                f"{folder}`"
            )
        found = newest_checkpoint(folder / "checkpoints")
        if found is None:
            raise WavelitError(
                f"{folder} has no checkpoint yet: start it again by the command that began it"
            )
        path, state = found
        with torch.device("meta"):
            require_same_model(path, model_weights(state), WaveLiT(config))
        data = load_data(folder)
        require_same_data(folder, data)
        model = WaveLiT(config)
        model.signature = read_signature(folder)
        return _run(folder, data, model, train, trainer, settings["seed"], found, callbacks)


def _run(
    folder: Path,
    data: WellDataModule,
    model: WaveLiT,
    train: TrainConfig,
    trainer: TrainerConfig,
    seed: int,
    resumed: tuple[Path, dict[str, Any]] | None,
    callbacks: Sequence[Callback],
) -> WaveLiT:
    torch.set_num_threads(trainer.threads)
    quieten()
    # A model that was loaded is in evaluation mode.
    model.train()
    module = EmulatorModule(model, train, seed, data.batch_size * trainer.devices, data.field_names)
    # Nothing below draws from the global generators, but what a user adds may.
    pl.seed_everything(seed, verbose=False)
    path, state = resumed or (None, {})
    first_step = state.get("global_step", 0)
    watch = RankWatch()
    lightning = make_trainer(
        trainer,
        module.total_steps,
        train.validate_every,
        log_every_n_steps=min(50, train.validate_every, module.total_steps or 50),
        enable_checkpointing=True,
        callbacks=[watch, *callbacks, *_callbacks(folder, train)],
        logger=[
            csv_logger(folder, first_step),
            TensorBoardLogger(folder, name="logs", version=""),
        ],
        plugins=[CheckpointFiles()],
    )
    data.trainer = lightning
    data.train_sampler.first_step, data.train_sampler.n_steps = first_step, module.total_steps
    try:
        if module.total_steps is not None and first_step >= module.total_steps:
            # Lightning would leave the last weights in place of the averaged ones. Its last
            # validation is not made up for.
            module.load_state_dict(state["state_dict"])
            module.on_load_checkpoint(state)
        else:
            with told_once():
                lightning.fit(module, datamodule=data, ckpt_path=path, weights_only=True)
    except SystemExit as stop:
        # How Lightning ends on an interrupt.
        raise WavelitError(f"interrupted at step {module.global_step}: {_advice(folder)}") from stop
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, RuntimeError) and (explained := watch.explain(error)) is not None:
            raise explained from error
        if path is not None and not watch.begun and not isinstance(error, WavelitError):
            raise WavelitError(
                f"{path} cannot be resumed from: {one_line(error)}; train anew in another folder"
            ) from error
        raise
    finally:
        watch.end()
    if is_first():
        write_weights(folder, model)
        steps = max(first_step, lightning.global_step)
        record_outcome(
            folder,
            {
                "steps": steps,
                "samples": steps * data.batch_size * trainer.devices,
                "train_seconds": round(module.train_seconds, 2),
                "threads": torch.get_num_threads(),
                "device": str(lightning.strategy.root_device),
            },
        )
    return model.eval()


def _advice(folder: Path) -> str:
    found = newest_checkpoint(folder / "checkpoints")
    if found is None:
        return "nothing is kept, as the first checkpoint is written after the first step"
    return f"continue from step {found[1]['global_step']} with `wavelit train --resume {folder}`"


def _callbacks(folder: Path, train: TrainConfig) -> list[Callback]:
    callbacks: list[Callback] = [ProgressBar() if sys.stdout.isatty() else PrintProgress()]
    if train.ema:
        callbacks.append(EMA(train.ema))
    return [
        *callbacks,
        *checkpoint_callbacks(folder / "checkpoints", train.checkpoint_every),
    ]
