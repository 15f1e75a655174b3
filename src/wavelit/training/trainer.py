"""Lightning's Trainer as everything here uses it: one epoch without end, our own batches,
nothing written unless asked.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.strategies import Strategy

from wavelit.checks.arguments import shown
from wavelit.errors import WavelitError, one_line
from wavelit.training.config import TrainerConfig
from wavelit.training.rank_zero import set_rank

__all__ = ["check_trainer", "make_trainer", "quieten"]

# Lightning's warnings of what is meant: a timing has no validation, windows are read in the
# training process, a resumed run's earlier metrics are put back by `csv_logger`, and the data
# stream needs no state of its own.
QUIET = (
    ".*defined a `validation_step` but have no.*",
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*dataloader is not resumable.*",
    ".*isinstance.treespec, LeafSpec.*",
    # Of a copy that costs nothing, once a process.
    ".*Grad strides do not match bucket view strides.*",
    # The score is summed over all processes by its metric.
    ".*It is recommended to use `self.log.'val_vrmse'.*",
)


def make_trainer(
    config: TrainerConfig,
    max_steps: int | None = None,
    validate_every: int | None = None,
    accumulate: int = 1,
    **options: Any,
) -> pl.Trainer:
    """A trainer of `EmulatorModule`.

    Args:
        config: Device, precision.
        max_steps: Optimiser steps; None: the module stops by itself.
        validate_every: Steps between validations; None: there are none.
        accumulate: Batches a step.
        **options: Of `pytorch_lightning.Trainer`, such as callbacks and logger; a strategy here
            goes before the one in `config`.
    """
    defaults: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "strategy": config.strategy,
        "limit_val_batches": 0 if validate_every is None else None,
    }
    return pl.Trainer(
        **{**defaults, **options},
        accelerator=config.device,
        devices=config.devices,
        num_nodes=config.num_nodes,
        precision=config.precision,
        max_steps=-1 if max_steps is None else max_steps,
        # The whole run is one epoch to Lightning; ours are in the sampler.
        max_epochs=1,
        # Counted in batches.
        val_check_interval=None if validate_every is None else validate_every * accumulate,
        accumulate_grad_batches=accumulate,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_model_summary=False,
    )


def check_trainer(config: TrainerConfig, strategy: Strategy | None = None) -> int:
    """Refuse what Lightning or PyTorch would refuse later.

    Args:
        config: Device, precision.
        strategy: One of Lightning's in place of the name in `config`.

    Returns:
        The rank of this process among all that train together; the first, 0, writes.

    Raises:
        WavelitError: A device that is not there or has no float64, or processes that are not as
            many as the devices.
    """
    quieten()
    added: dict[str, Any] = {} if strategy is None else {"strategy": copy.copy(strategy)}
    try:
        trial = make_trainer(
            dataclasses.replace(config, precision="32-true"),
            **added,
        )
    except (MisconfigurationException, ValueError, RuntimeError, TypeError, ImportError) as error:
        raise WavelitError(
            f"no trainer with accelerator={shown(config.accelerator)}, devices={config.devices}, "
            f"strategy={shown(config.strategy)}: {one_line(error)}"
        ) from error
    if trial.strategy.root_device.type == "mps":
        raise WavelitError(
            f"accelerator {config.accelerator!r} is Apple's here, which has no float64 for the "
            "scores: use cpu"
        )
    if (
        config.accelerator == "auto"
        and config.device == "cpu"
        and torch.backends.mps.is_available()
    ):
        warnings.warn(
            "Apple's accelerator has no float64, which the scores need: the CPU is used",
            stacklevel=3,
        )
    set_rank(int(trial.global_rank))
    return int(trial.global_rank)


def quieten() -> None:
    for pattern in QUIET:
        warnings.filterwarnings("ignore", pattern)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
