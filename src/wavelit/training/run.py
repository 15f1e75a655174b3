"""Runs: train a model into a new folder, or continue one that was interrupted
(`wavelit.training.run_folder` has what a folder holds).
"""

from __future__ import annotations

import copy
import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.strategies import Strategy
from torch import nn

from wavelit.checks.arguments import require_instance
from wavelit.checks.settings import from_mapping, require_mapping
from wavelit.data.datamodule import WellDataModule
from wavelit.data.sampling import StepBatchSampler
from wavelit.data.signature import signature_of
from wavelit.errors import WavelitError, one_line
from wavelit.files.atomic import named
from wavelit.files.owner import owned
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.wavelit import WaveLiT
from wavelit.training.checkpoint_files import (
    model_weights,
    newest_checkpoint,
    require_same_model,
)
from wavelit.training.checkpoints import CheckpointFiles, checkpoint_callbacks
from wavelit.training.config import BUDGETS, TrainConfig, TrainerConfig
from wavelit.training.data_scales import calibrate
from wavelit.training.logs import (
    FirstValidation,
    PrintProgress,
    ProgressBar,
    csv_logger,
    told_once,
)
from wavelit.training.module import EMA, EmulatorModule, TrainingModule
from wavelit.training.networks import channels_of, network_name, restore, suit
from wavelit.training.prepare import prepare, sign, validate_run
from wavelit.training.rank_zero import is_first
from wavelit.training.ranks import RankWatch
from wavelit.training.run_folder import (
    MOVED,
    WRITTEN,
    load_data,
    load_settings,
    read_config,
    read_signature,
    record_outcome,
    require_same_data,
    require_there,
    write_run_folder,
    write_weights,
)
from wavelit.training.run_state import (
    checkpoint_to_resume,
    clear,
    extend,
    is_trained,
    overwrite_run,
    remove_run,
    require_free,
)
from wavelit.training.symmetries import symmetries_of
from wavelit.training.trainer import check_trainer, make_trainer, quieten

__all__ = ["Added", "build_model", "fit", "new_run", "resume", "run_module"]


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
    require_instance(
        "data",
        data,
        WellDataModule,
        "WellDataModule(folder) is one; for several datasets `build_joint` is there",
    )
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
    model: nn.Module,
    train: TrainConfig,
    trainer: TrainerConfig | None = None,
    seed: int = 0,
    keep_statistics: bool = False,
    callbacks: Sequence[Callback] = (),
    *,
    loggers: Sequence[Logger] = (),
    strategy: Strategy | None = None,
    overwrite: bool = False,
) -> Any:
    """Train a model into a new run folder; sets the process's threads and the global seeds.

    Args:
        folder: Created; must not hold a run.
        data: The dataset, with at least as many target frames as the pushforward is long.
        model: From `build_model`; one trained before, of which is kept by name what fits
            (`wavelit.training.transfer`); or a network of one's own (`wavelit.wrap`).
        train: Budget and recipe.
        trainer: Device, precision, threads.
        seed: Seed of the data order, the noise and the unroll lengths.
        keep_statistics: Whether a model with statistics of other data keeps them and its
            calibration; else it takes those of these data, and a warning says so.
        callbacks: More of Lightning's, called before those of the run.
        loggers: More of Lightning's, beside the run's own.
        strategy: One of Lightning's in place of the name in `trainer`; it is not recorded.
        overwrite: Whether a run that the folder holds is removed, with all that was written of it.

    Returns:
        The trained model, averaged weights, in evaluation mode; also in `folder`/weights.

    Raises:
        WavelitError: The folder holds a run; a split is too short; too few target frames; the model
            has no statistics, or other channels, history or boundaries than the data; the loss is
            not finite.
    """
    folder, trainer = Path(os.path.expanduser(folder)), trainer or TrainerConfig()
    # Further devices and machines run the same call: the first of them writes.
    first = check_trainer(trainer, strategy) == 0
    if first:
        require_free(folder, overwrite)
    given = model
    model = prepare(given, data, seed, keep_statistics)
    adapted = isinstance(given, WaveLiT) and model is not given
    if isinstance(given, WaveLiT) and given.trained and not adapted:
        # As with one that is adapted, what the caller has stays as it is.
        model = copy.deepcopy(model)
    train = suit(train, model)
    validate_run(data, model, train, trainer)
    # What was adapted to the data has their statistics and signature.
    if not adapted:
        sign(model, data, seed, keep_statistics)
    data.seed = seed
    # The stream of an earlier run with this data module may have had another seed.
    data.__dict__.pop("train_sampler", None)
    # Errors in the data come before anything is written.
    StepBatchSampler(len(data.train_dataset), data.batch_size, seed)
    data.windows("valid")
    with new_run(folder, first, overwrite):
        if first:
            write_run_folder(folder, data, model, train, trainer, seed)
        added = Added(callbacks, loggers, strategy)
        return _run(folder, data, model, train, trainer, seed, None, added)


@contextmanager
def new_run(folder: Path, first: bool, overwrite: bool = False) -> Iterator[None]:
    """Own a folder in which a run begins; if it fails with nothing worth keeping, its files go.

    Args:
        folder: The run.
        first: Whether this process writes.
        overwrite: Whether a run that the folder holds is removed.

    Raises:
        WavelitError: The folder holds a run, or another process trains there.
    """
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else None
    if overwrite and found is not None:
        found -= WRITTEN
    ours = False
    try:
        # What Lightning and its loggers write names no file when it fails.
        with named(folder), owned(folder, "training") if first else nullcontext():
            if first:
                require_free(folder, overwrite)
                if overwrite and (folder / "config.yaml").exists():
                    overwrite_run(folder)
                clear(folder, anew=True)
                ours = True
            yield
    except BaseException:
        # Without a checkpoint or weights there is nothing to keep, and nothing that should stop the
        # next attempt.
        if ours:
            remove_run(folder, found)
        raise


@dataclasses.dataclass(frozen=True)
class Added:
    """What is added of Lightning's; it is not recorded."""

    callbacks: Sequence[Callback] = ()
    loggers: Sequence[Logger] = ()
    strategy: Strategy | None = None


def resume(
    folder: str | os.PathLike[str],
    callbacks: Sequence[Callback] = (),
    *,
    model: nn.Module | None = None,
    budget: Mapping[str, Any] | None = None,
    loggers: Sequence[Logger] = (),
    strategy: Strategy | None = None,
) -> Any:
    """Continue an interrupted run from its last checkpoint; the rest is as if it had never stopped.

    Where the last checkpoint cannot be read it is the one before, with a warning. A run at its end
    writes its weights anew if they are missing or damaged.

    Args:
        folder: The run.
        callbacks: As for `fit`.
        model: The network, of a run of a network of one's own.
        budget: One of steps, samples and minutes of the whole run, more than it has had. If its
            schedule was at its end, the learning rate goes through it again, warm-up first.
        loggers: As for `fit`.
        strategy: As for `fit`.

    Raises:
        WavelitError: No run or checkpoint there, or one of another model, other data than the
            run's, another process that trains there, a budget that is spent, or no network.
    """
    folder = Path(os.path.expanduser(folder))
    if budget is not None:
        require_mapping("budget", budget, BUDGETS)
    settings = load_settings(folder)
    where = str(folder / "config.yaml")
    recipe = {**TrainConfig.LATER, **settings["train"]}
    train = from_mapping(TrainConfig, recipe, f"{where}, train")
    trainer = from_mapping(TrainerConfig, settings["trainer"], f"{where}, trainer")
    config = read_config(folder) if network_name(folder) is None else None
    if config is not None and model is not None:
        raise WavelitError(f"{folder} is the run of a WaveLiT: leave model out")
    first = check_trainer(trainer, strategy) == 0
    with named(folder), owned(folder, "training") if first else nullcontext():
        if first:
            clear(folder, anew=False)
        trained = is_trained(folder)
        path, state = found = checkpoint_to_resume(folder, trained, budget)
        data = load_data(folder)
        require_there(folder, data.path, MOVED)
        if config is not None:
            with torch.device("meta"):
                require_same_model(path, model_weights(state), WaveLiT(config))
            emulator: IncrementEmulator = WaveLiT(config)
        else:
            emulator = restore(folder, model, channels_of(data))
            require_same_model(path, model_weights(state), emulator)
        require_same_data(folder, data)
        emulator.signature = read_signature(folder)
        if budget is not None:
            batch_size = data.batch_size * trainer.n_processes * train.accumulate
            train = extend(folder, settings, train, budget, state, batch_size, trained)
        added = Added(callbacks, loggers, strategy)
        return _run(folder, data, emulator, train, trainer, settings["seed"], found, added)


def _run(
    folder: Path,
    data: WellDataModule,
    model: IncrementEmulator,
    train: TrainConfig,
    trainer: TrainerConfig,
    seed: int,
    resumed: tuple[Path, dict[str, Any]] | None,
    added: Added,
) -> IncrementEmulator:
    batch_size = data.batch_size * trainer.n_processes * train.accumulate
    moves = symmetries_of(train.symmetries, data)
    module = EmulatorModule(model, train, seed, batch_size, data.field_names, moves)
    run_module(folder, data, module, trainer, resumed, added)
    model.trained = True
    return model.eval()


def run_module(
    folder: Path,
    data: Any,
    module: TrainingModule,
    trainer: TrainerConfig,
    resumed: tuple[Path, dict[str, Any]] | None,
    added: Added,
) -> None:
    """Train in a run folder and write what comes of it.

    Args:
        folder: The run.
        data: A data module with `train_sampler` and `batch_size`.
        module: What is trained, with `model`, `config` and `seed`.
        trainer: Device, precision, threads.
        resumed: The checkpoint to go on from, and what it holds.
        added: What is added of Lightning's.

    Raises:
        WavelitError: The run was interrupted, its loss is not finite, the checkpoint does not
            serve, or another rank died.
    """
    torch.set_num_threads(trainer.threads)
    quieten()
    train, seed = module.config, module.seed
    # A model that was loaded is in evaluation mode.
    if not module.model.training:
        module.model.train()
    # Nothing below draws from the global generators, but what a user adds may.
    pl.seed_everything(seed, verbose=False)
    path, state = resumed or (None, {})
    first_step = state.get("global_step", 0)
    watch = RankWatch()
    lightning = make_trainer(
        trainer,
        module.total_steps,
        train.validate_every,
        train.accumulate,
        log_every_n_steps=min(50, train.validate_every, module.total_steps or 50),
        enable_checkpointing=True,
        callbacks=[watch, *added.callbacks, *_callbacks(folder, module)],
        logger=[
            csv_logger(folder, first_step),
            TensorBoardLogger(folder, name="logs", version=""),
            *added.loggers,
        ],
        plugins=[CheckpointFiles()],
        **({} if added.strategy is None else {"strategy": added.strategy}),
    )
    data.trainer, data.validation_batches = lightning, train.validate_batches
    data.validation_rollout = train.validate_rollout
    batches = None if module.total_steps is None else module.total_steps * train.accumulate
    data.train_sampler.first_step = first_step * train.accumulate
    data.train_sampler.n_steps = batches
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
        if is_out_of_memory(error):
            raise WavelitError(
                f"out of memory at step {module.global_step}: {_less_memory(data, module, trainer)}"
            ) from error
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
        write_weights(folder, module.model)
        steps = max(first_step, lightning.global_step)
        record_outcome(
            folder,
            {
                "steps": steps,
                "samples": round(steps * data.batch_size * trainer.n_processes * train.accumulate),
                "train_seconds": round(module.train_seconds, 2),
                "threads": torch.get_num_threads(),
                "device": str(lightning.strategy.root_device),
            },
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine itself, has no memory left."""
    # The processor's allocator has no error of its own.
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _less_memory(data: Any, module: TrainingModule, trainer: TrainerConfig) -> str:
    """What would take less, of what is not done yet, the cheapest first."""
    ways = []
    if trainer.device == "cuda" and trainer.precision == "32-true":
        ways.append("--trainer.precision bf16-mixed")
    # A joint model's step adds up its systems, and the option is of each of them.
    alone = isinstance(module, EmulatorModule)
    sizes = [data.batch_size] if alone else [each.batch_size for each in data.systems.values()]
    if max(sizes) > 1:
        half = f"--data.batch_size {max(sizes) // 2}"
        # Of the same size together.
        parts = 2 * module.config.accumulate if alone else 0
        ways.append(f"{half} --train.accumulate {parts}" if parts else half)
    if not module.config.activation_checkpointing:
        ways.append("--train.activation_checkpointing true")
    return f"try {', '.join([*ways, 'a smaller --model.preset'])}, one after the other"


def _advice(folder: Path) -> str:
    found = newest_checkpoint(folder / "checkpoints")
    if found is None:
        return "nothing is kept, as the first checkpoint is written after the first step"
    return f"continue from step {found[1]['global_step']} with `wavelit train --resume {folder}`"


def _callbacks(folder: Path, module: TrainingModule) -> list[Callback]:
    train = module.config
    callbacks: list[Callback] = [ProgressBar() if sys.stdout.isatty() else PrintProgress()]
    if isinstance(module, EmulatorModule):
        callbacks.insert(0, FirstValidation())
    if train.ema:
        callbacks.append(EMA(train.ema))
    return [
        *callbacks,
        *checkpoint_callbacks(
            folder / "checkpoints",
            train.checkpoint_every,
            "val_rollout" if train.validate_rollout else "val_vrmse",
        ),
    ]
