"""Training an emulator on the scaled increment, with Lightning's Trainer for the loop, precision, devices and logs.

Everything random follows from (seed, step): the batch (`wavelit.data.sampling`), the input noise, the length of a
pushforward. A run that was killed therefore continues bit for bit from its last checkpoint. Progress p in [0, 1] is the
share of the budget spent, in steps, samples or minutes of training; learning rate and pushforward follow p.

    noise         inputs u + a eta sigma_D xi, xi ~ N(0, 1), a ~ U(0, 1) for every sample; the target stays the clean next state
    pushforward   late in training, predict from the model's own unrolled states, without gradients through them

References:
    Brandstetter, Worrall, Welling, Message Passing Neural PDE Solvers, 2022, arXiv 2202.03376 (pushforward).
    Sanchez-Gonzalez et al., Learning to Simulate Complex Physics with Graph Networks, 2020, arXiv 2002.09405 (noise).
    Hu et al., MiniCPM, 2024, arXiv 2404.06395 (warm-up, stable, decay).
"""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Sequence
from typing import Any, Literal, cast, get_args

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor, nn
from torch.optim import Optimizer

from wavelit.checks.settings import check_bounds, check_types
from wavelit.data.datamodule import Batch
from wavelit.errors import WavelitError
from wavelit.metrics import VRMSE
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.losses import increment_loss
from wavelit.model.wavelit import WaveLiT

__all__ = [
    "EMA",
    "DivergedError",
    "EmulatorModule",
    "TrainConfig",
    "learning_rate_factor",
    "parameter_groups",
]


class DivergedError(WavelitError):
    """The loss or a gradient of a training is no longer finite."""


Schedule = Literal["cosine", "wsd"]
# Of anything counted: more would overflow what counts it.
MOST = 10**12


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Args:
        steps: Budget in optimiser steps.
        samples: Budget in training windows.
        minutes: Budget in minutes of training, validation and compilation not counted; such a run is not repeatable bit for bit.
        lr: Peak learning rate of AdamW; the default is that of docs/results.md, for batches of 4.
        weight_decay: On matrices and convolution kernels only.
        schedule: After the warm-up, cosine to zero, or constant with a last fifth of square-root decay to zero.
        warmup: Share of the budget in which the learning rate rises from zero; one shorter than two steps is left out.
        clip: Largest gradient norm; 0 or infinity: gradients are not clipped.
        ema: Decay of the averaged weights that are validated and kept; 0 keeps the last weights.
        noise: Largest standard deviation eta of the input noise, in units of the increment's; every sample draws its own between
            zero and it: of one size it made a model that read the history at full resolution diverge (docs/log.md).
        pushforward: Longest unroll in steps; 1 trains one step only.
        pushforward_from: Share of the budget after which unrolls begin.
        wavelet_weight: Weight lambda of the wavelet-domain loss.
        compile: Run the model through `torch.compile`.
        recompute: Keep only the inputs of the blocks for the backward pass and compute the rest anew: a fraction of the memory
            for about a quarter more time, for grids that would not fit.
        validate_every: Steps between validations.
        checkpoint_every: Steps between checkpoints.
    """

    steps: int | None = None
    samples: int | None = None
    minutes: float | None = None
    lr: float = 1.1e-2
    weight_decay: float = 0.01
    schedule: Schedule = "cosine"
    warmup: float = 0.05
    clip: float = 1.0
    ema: float = 0.999
    noise: float = 0.06
    pushforward: int = 1
    pushforward_from: float = 0.8
    wavelet_weight: float = 1.0
    compile: bool = False
    recompute: bool = False
    validate_every: int = 500
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        check_types(self)
        budgets = [n for n in ("steps", "samples", "minutes") if getattr(self, n) is not None]
        if len(budgets) != 1:
            raise WavelitError(
                f"name one budget, steps, samples or minutes; came {' and '.join(budgets) or 'none of them'}"
            )
        if getattr(self, budgets[0]) <= 0:
            raise WavelitError(f"the budget {budgets[0]} must be positive, not {getattr(self, budgets[0])}")
        if self.schedule not in get_args(Schedule):
            raise WavelitError(f"unknown schedule {self.schedule!r}; known: {', '.join(get_args(Schedule))}")
        check_bounds(
            self,
            {
                "steps": (1, MOST),
                "samples": (1, MOST),
                "minutes": (0, MOST),
                "lr": (0, None),
                "weight_decay": (0, None),
                "warmup": (0, 1),
                "clip": (0, None),
                "ema": (0, 1),
                "noise": (0, None),
                "pushforward": (1, 1000),
                "pushforward_from": (0, 1),
                "wavelet_weight": (0, None),
                "validate_every": (1, MOST),
                "checkpoint_every": (1, MOST),
            },
        )

    def total_steps(self, batch_size: int) -> int | None:
        """Optimiser steps of the whole run, or None for a budget in minutes."""
        return math.ceil(self.samples / batch_size) if self.samples is not None else self.steps


def learning_rate_factor(progress: float, config: TrainConfig, total_steps: int | None = None) -> float:
    """Learning rate over its peak at progress p in [0, 1] of so many steps, None where they are not known."""
    # Its first step has rate zero: a warm-up of less than two steps would leave a short run as it began.
    short = total_steps is not None and config.warmup * total_steps < 2
    warmup = 0.0 if short else config.warmup
    if progress < warmup:
        return progress / warmup
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
    return 1.0 if progress < 0.8 else 1 - math.sqrt((progress - 0.8) / 0.2)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW groups: matrices and kernels decay, gains, biases and embeddings do not."""
    decay: list[nn.Parameter] = []
    keep: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_weight = parameter.ndim >= 2 and not name.endswith(("gain", "scale", "embedding"))
        (decay if is_weight else keep).append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": keep, "weight_decay": 0.0}]


class EmulatorModule(pl.LightningModule):
    """An emulator in training: a WaveLiT, or another network that predicts the scaled increment.

    Args:
        model: The emulator; its statistics must be set.
        config: How to train.
        seed: Seed of noise and unroll lengths.
        batch_size: Samples of a step, over all devices.
        field_names: Names of the C channels, for the logs.

    Raises:
        WavelitError: `recompute` is asked of a network other than a WaveLiT, or `wavelet_weight` of one that defines no
            `wavelet_loss`.
    """

    def __init__(
        self,
        model: IncrementEmulator,
        config: TrainConfig,
        seed: int,
        batch_size: int,
        field_names: Sequence[str],
    ) -> None:
        super().__init__()
        self.model = model
        if isinstance(model, WaveLiT):
            model.pyramid.recompute = config.recompute
        elif config.recompute:
            raise WavelitError(f"recompute is for WaveLiT: leave it out to train a {type(model).__name__}")
        if config.wavelet_weight and type(model).wavelet_loss is IncrementEmulator.wavelet_loss:
            raise WavelitError(
                f"{type(model).__name__} has no wavelet loss: set wavelet_weight to 0, or define wavelet_loss(error)"
            )
        self.config = config
        self.seed = seed
        self.total_steps = config.total_steps(batch_size)
        self.vrmse = VRMSE(field_names, model.spatial)
        # A plain attribute: the compiled module shares the model's parameters and must not stand in the checkpoint twice.
        self._increment = (
            [torch.compile(model.increment, dynamic=None)] if config.compile else [model.increment]
        )
        # Seconds spent training so far, validation not counted.
        self.train_seconds = 0.0
        self._samples: list[int] = []
        self._started: float | None = None
        self._random_state: dict[str, Any] | None = None

    @property
    def progress(self) -> float:
        """Share of the budget spent."""
        if self.total_steps is not None:
            return self.global_step / self.total_steps
        assert self.config.minutes is not None
        return min(1.0, self.train_seconds / (60 * self.config.minutes))

    def configure_optimizers(self) -> Optimizer:
        groups = parameter_groups(self.model, self.config.weight_decay)
        return torch.optim.AdamW(groups, lr=self.config.lr, betas=(0.9, 0.95), fused=True)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        fields, target = self._inputs(batch)
        predicted = self._increment[0](fields, batch.constants, batch.scalars)
        true = self.model.normalizer.increment(target - fields[:, -1])
        self._samples = batch.indices.tolist()
        loss = increment_loss(self.model, predicted, true, self.config.wavelet_weight, batch.valid)
        if not torch.isfinite(loss):
            raise DivergedError(
                f"the training loss became {loss.item()} at step {self.global_step} on samples "
                f"{batch.indices.tolist()} of the training split; a checkpoint written before is kept: ask `wavelit data check`, or train anew with a lower lr"
            )
        self.log("train_loss", loss, prog_bar=True, sync_dist=self.trainer.world_size > 1)
        return loss

    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The history the model sees (B, T, C, *S) and the state it should predict (B, C, *S)."""
        fields, config = batch.fields, self.config
        draw = np.random.default_rng((self.seed, self.global_step, self.global_rank))
        if config.noise:
            generator = torch.Generator().manual_seed(int(draw.integers(2**62)))
            xi = torch.randn(fields.shape, generator=generator).to(fields)
            size = torch.rand(len(fields), generator=generator).to(fields).view(-1, *(1,) * (fields.ndim - 1))
            std = self.model.normalizer.delta_std.view(-1, *(1,) * self.model.spatial)
            fields = _inside(fields + size * config.noise * std * xi, batch.valid)
        unroll = 0
        if config.pushforward > 1 and self.progress >= config.pushforward_from:
            unroll = int(draw.integers(config.pushforward))
        with torch.no_grad():
            for _ in range(unroll):
                following = self.model(fields, batch.constants, batch.scalars)
                fields = torch.cat([fields[:, 1:], _inside(following[:, None], batch.valid)], 1)
        return fields, batch.target[:, unroll]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if batch.n_filled is not None:
            self.log("val_filled", batch.n_filled.sum().float(), reduce_fx="sum")
        self.vrmse.update(
            self.model(batch.fields, batch.constants, batch.scalars), batch.target[:, 0], batch.valid
        )

    def on_validation_epoch_end(self) -> None:
        self.log("val_vrmse", self.vrmse.compute().float(), prog_bar=True)
        self.vrmse.reset()

    def on_train_start(self) -> None:
        if self._random_state is not None:
            random.setstate(self._random_state["python"])
            name, keys, *rest = self._random_state["numpy"]
            np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
            torch.set_rng_state(self._random_state["torch"])
            self._random_state = None
        # Compiling is no training: the clock of a compiled model starts after its first step.
        self._started = None if self.config.compile else time.perf_counter()

    def on_validation_start(self) -> None:
        self._stop_clock()

    def on_validation_end(self) -> None:
        self._started = time.perf_counter()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        factor = learning_rate_factor(self.progress, self.config, self.total_steps)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.config.lr * factor

    def on_train_batch_end(self, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int) -> None:
        self._stop_clock()
        self._started = time.perf_counter()
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        self.log("train_seconds", self.train_seconds)
        if self.progress >= 1:
            self.trainer.should_stop = True

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # Zero means no clipping, as in Lightning; the norm is needed all the same.
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip or math.inf)
        if not torch.isfinite(norm):
            raise DivergedError(
                f"the gradient became {norm.item()} at step {self.global_step} on samples {self._samples} of the training split; "
                "a checkpoint written before is kept: ask `wavelit data check`, or train anew with a lower lr"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["train_seconds"] = self.train_seconds
        name, keys, *rest = cast(tuple[Any, ...], np.random.get_state())  # noqa: NPY002
        # Tensors and plain values alone, so that reading it needs no code of the file's.
        checkpoint["random_state"] = {
            "python": random.getstate(),
            "numpy": [str(name), torch.from_numpy(keys.astype(np.int64)), *rest],
            "torch": torch.get_rng_state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.train_seconds = checkpoint["train_seconds"]
        self._random_state = checkpoint["random_state"]

    def _stop_clock(self) -> None:
        if self._started is not None:
            self.train_seconds += time.perf_counter() - self._started
            self._started = None


def _inside(states: Tensor, valid: Tensor | None) -> Tensor:
    """States (B, T, C, *S) with zeros on the cells that do not count, as the data and a rollout have them."""
    return states if valid is None else states.where(valid[:, None], 0.0)


class EMA(WeightAveraging):
    """Exponential moving average of the weights, validated, checkpointed and kept at the end.

    The decay warms up as min(decay, (1 + n) / (10 + n)) over the n updates so far: in a short run a fixed 0.999 would
    still carry the initial weights.

    Args:
        decay: Largest decay.
    """

    def __init__(self, decay: float) -> None:
        @torch.no_grad()
        def update(averaged: Any, current: Any, n_averaged: Any) -> None:
            n = int(n_averaged)
            weight = 1 - min(decay, (1 + n) / (10 + n))
            torch._foreach_lerp_(list(averaged), list(current), weight)

        super().__init__(use_buffers=False, multi_avg_fn=update)
