"""Training an emulator on the scaled increment, with Lightning's Trainer for the loop, precision,
devices and logs.

Everything random follows from (seed, step): the batch (`wavelit.data.sampling`), the input noise,
the length of a pushforward. A run that was killed therefore continues bit for bit from its last
checkpoint, on a GPU as far as its kernels add in one order. Progress p in [0, 1] is the share of
the budget spent, in steps, samples or minutes of training; learning rate and pushforward follow p.

    noise         on the history; the target stays the clean next state (`wavelit.training.noise`)
    pushforward   late in training, predict from the model's own unrolled states, without
                  gradients through them
    unroll        late in training, predict 2, 4, .. steps in a row with gradients through all of
                  them, from a half, a quarter, .. of the batch

References:
    Brandstetter, Worrall, Welling, Message Passing Neural PDE Solvers, 2022, arXiv 2202.03376
    (pushforward).
    List, Chen, Bali, Thuerey, How Temporal Unrolling Supports Neural Physics Simulators, 2024,
    arXiv 2402.12971 (gradients through the unroll).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor, nn
from torch.optim import Optimizer

from wavelit.data.batch import Batch, inside
from wavelit.errors import WavelitError
from wavelit.metrics import VRMSE
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.rollout import step_by_step
from wavelit.training.config import TrainConfig
from wavelit.training.finite import FiniteValues
from wavelit.training.noise import draw_noise
from wavelit.training.schedule import learning_rate_factor
from wavelit.training.stability import StabilityTerm, require_linear_part
from wavelit.training.symmetries import Symmetries

__all__ = [
    "EMA",
    "EmulatorModule",
    "Inputs",
    "Judged",
    "TrainingModule",
    "is_weight",
    "judged_by",
    "parameter_groups",
    "window_inputs",
    "window_loss",
]

Judged = Callable[..., tuple[Tensor, Tensor]]
"""(fields, constants, scalars, true, valid, weight) to the loss against the true next state (B, C,
*S), the error of every sample counting by its weight (B,), and the predicted scaled increment."""


def is_weight(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a matrix or a kernel, and no gain, bias or embedding."""
    return parameter.ndim >= 2 and not name.endswith(("gain", "scale", "embedding"))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW groups: matrices and kernels decay, gains, biases and embeddings do not."""
    decay: list[nn.Parameter] = []
    keep: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (decay if is_weight(name, parameter) else keep).append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": keep, "weight_decay": 0.0}]


class TrainingModule(pl.LightningModule):
    """What all trainings share: optimiser, learning rate, clipping, clock, and what a checkpoint
    holds besides weights.

    A subclass defines `training_step` and `validation_step`, and sets `_samples` to what a step was
    made on, for errors.

    Args:
        model: What is trained.
        config: How to train.
        seed: Seed of noise and unroll lengths.
        batch_size: Samples of a step, over all devices.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, seed: int, batch_size: float) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.seed = seed
        self.total_steps = config.total_steps(batch_size)
        # Seconds spent training so far, validation not counted.
        self.train_seconds = 0.0
        self.finite = FiniteValues()
        self._samples: Tensor | str = ""
        # By name. No buffers: averaged weights have none of their own.
        self._stability: dict[str, StabilityTerm] = {}
        self._started: float | None = None
        self._random_state: dict[str, Any] | None = None

    @property
    def progress(self) -> float:
        """Share of the budget spent."""
        if self.total_steps is not None:
            return self.global_step / self.total_steps
        assert self.config.minutes is not None
        return min(1.0, self.train_seconds / (60 * self.config.minutes))

    def step_ends(self, batch_idx: int) -> bool:
        """Whether an optimiser step ends with the batch of that number."""
        return (batch_idx + 1) % self.config.accumulate == 0

    def budget_spent(self) -> bool:
        """Whether the step that has just been made is the last."""
        if self.total_steps is not None:
            return self.global_step >= self.total_steps
        assert self.config.minutes is not None
        running = 0.0 if self._started is None else time.perf_counter() - self._started
        return self.train_seconds + running >= 60 * self.config.minutes

    def details(self) -> str:
        """What is printed after a validation beside its score."""
        return ""

    def stability_term(self, name: str, model: IncrementEmulator) -> Tensor | float:
        """What the loss of a model, of that name among those in training, is raised by."""
        if not self.config.stability:
            return 0.0
        term = self._stability.setdefault(name, StabilityTerm())
        return self.config.stability * term(require_linear_part(model))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Those of the optimiser; `lr_factor` is what the learning rate of one is multiplied by."""
        return parameter_groups(self.model, self.config.weight_decay)

    def configure_optimizers(self) -> Optimizer:
        groups = self.parameter_groups()
        # The fused kernel knows no complex numbers.
        fused = not any(p.is_complex() for p in self.model.parameters())
        return torch.optim.AdamW(groups, lr=self.config.lr, betas=(0.9, 0.95), fused=fused)

    def on_train_start(self) -> None:
        if self._random_state is not None:
            random.setstate(self._random_state["python"])
            name, keys, *rest = self._random_state["numpy"]
            np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
            torch.set_rng_state(self._random_state["torch"])
            device_state = self._random_state.get("device")
            if device_state is not None and self.device.type == "cuda":
                torch.cuda.set_rng_state(device_state, self.device)
            self._random_state = None
        # Compiling is no training: the clock of a compiled model starts after its first step.
        self._started = None if self.config.compile else time.perf_counter()

    def on_validation_start(self) -> None:
        if self.device.type == "cuda":
            # Steps that are under way are training.
            torch.cuda.synchronize(self.device)
        self._stop_clock()
        self.finite.require()

    def on_train_end(self) -> None:
        self.finite.require()

    def on_validation_end(self) -> None:
        self._started = time.perf_counter()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        factor = learning_rate_factor(self.progress, self.config, self.total_steps)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.config.lr * factor * group.get("lr_factor", 1.0)

    def on_train_batch_end(self, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int) -> None:
        self._stop_clock()
        self._started = time.perf_counter()
        # As tensors: of a number Lightning makes one on the device, and waits for it.
        self.log("lr", torch.tensor(self.trainer.optimizers[0].param_groups[0]["lr"]))
        self.log("train_seconds", torch.tensor(self.train_seconds))
        if self.progress >= 1 and self.step_ends(batch_idx):
            self.trainer.should_stop = True

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # Zero means no clipping, as in Lightning; the norm is needed all the same.
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip or math.inf)
        self.finite.note(norm, "gradient", self.global_step, self._samples)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.finite.require()
        checkpoint["train_seconds"] = self.train_seconds
        checkpoint["stability"] = {name: term.directions for name, term in self._stability.items()}
        name, keys, *rest = cast(tuple[Any, ...], np.random.get_state())  # noqa: NPY002
        # Tensors and plain values alone, so that reading it needs no code of the file's.
        checkpoint["random_state"] = {
            "python": random.getstate(),
            "numpy": [str(name), torch.from_numpy(keys.astype(np.int64)), *rest],
            "torch": torch.get_rng_state(),
            # What dropout in a network of one's own draws from.
            "device": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.train_seconds = checkpoint["train_seconds"]
        # Checkpoints of older versions have none.
        for name, directions in checkpoint.get("stability", {}).items():
            self._stability[name] = StabilityTerm(directions)
        self._random_state = checkpoint["random_state"]

    def _stop_clock(self) -> None:
        if self._started is not None:
            self.train_seconds += time.perf_counter() - self._started
            self._started = None


class EmulatorModule(TrainingModule):
    """An emulator in training: a WaveLiT, or another network that predicts the scaled increment.

    Args:
        model: The emulator; its statistics must be set.
        config: How to train.
        seed: Seed of noise and unroll lengths.
        batch_size: Samples of a step, over all devices.
        field_names: Names of the C channels, for the logs.
        symmetries: What training windows are moved by; None: nothing.

    Raises:
        WavelitError: `activation_checkpointing` is asked of a network that cannot,
            `wavelet_weight` of one that defines no `wavelet_loss`, or `stability` of one that is
            no WaveLiT.
    """

    model: IncrementEmulator

    def __init__(
        self,
        model: IncrementEmulator,
        config: TrainConfig,
        seed: int,
        batch_size: int,
        field_names: Sequence[str],
        symmetries: Symmetries | None = None,
    ) -> None:
        super().__init__(model, config, seed, batch_size)
        model.checkpoint_activations(config.activation_checkpointing)
        if config.wavelet_weight and type(model).wavelet_loss is IncrementEmulator.wavelet_loss:
            raise WavelitError(
                f"{type(model).__name__} has no wavelet loss: set wavelet_weight to 0, or define "
                "wavelet_loss(error)"
            )
        if config.stability:
            require_linear_part(model)
        self.symmetries = symmetries
        self.vrmse = VRMSE(field_names, model.spatial)
        self.rollout_vrmse = VRMSE(field_names, model.spatial)
        # A plain attribute: what is compiled holds the model, which must not stand in the
        # checkpoint twice.
        self._judged = judged_by(model, config)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self._samples = batch.indices
        inputs = self._inputs(batch, batch_idx)
        loss = window_loss(self.model, self._judged, inputs)
        loss = loss + self.stability_term("", self.model)
        self.finite.note(loss, "training loss", self.global_step, batch.indices)
        self.log("train_loss", loss, prog_bar=True, sync_dist=self.trainer.world_size > 1)
        return loss

    def _inputs(self, batch: Batch, batch_idx: int = 0) -> Inputs:
        # Of several batches a step each has noise of its own.
        part = [batch_idx % self.config.accumulate] if self.config.accumulate > 1 else []
        draw = np.random.default_rng((self.seed, self.global_step, self.global_rank, *part))
        return window_inputs(self.model, batch, self.config, draw, self.progress, self.symmetries)

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Score windows one step ahead; those of the second loader in rollouts."""
        if dataloader_idx == 1:
            self._score_rollouts(batch)
            return
        if batch.n_filled is not None:
            filled = batch.n_filled.sum().float()
            self.log("val_filled", filled, reduce_fx="sum", add_dataloader_idx=False)
        self.vrmse.update(
            self.model(batch.fields, *batch.beside()),
            batch.target[:, 0],
            batch.valid,
        )

    def on_validation_epoch_end(self) -> None:
        self.log("val_vrmse", self.vrmse.compute().float(), prog_bar=True)
        self.vrmse.reset()
        if self.config.validate_rollout:
            # What is not finite has left all bounds.
            score = self.rollout_vrmse.compute().float().nan_to_num(math.inf, math.inf)
            self.log("val_rollout", score, prog_bar=True)
            self.rollout_vrmse.reset()

    def _score_rollouts(self, batch: Batch) -> None:
        def score(step: int, following: Tensor) -> None:
            self.rollout_vrmse.update(following, batch.target[:, step], batch.valid)

        n_steps = batch.target.shape[1]
        step_by_step(self.model, batch.fields, n_steps, batch.beside, batch.valid, score)


def judged_by(model: IncrementEmulator, config: TrainConfig) -> Judged:
    """What predicts one step and judges it; as a whole through `torch.compile` if the recipe says
    so, so that the passes of the loss are fused as well.
    """

    def judged(
        fields: Tensor,
        constants: Tensor | None,
        scalars: Tensor | None,
        true: Tensor,
        valid: Tensor | None,
        weight: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        predicted = model.increment(fields, constants, scalars)
        target = model.normalizer.increment(true - fields[:, -1])
        compared = predicted
        if weight is not None:
            each = weight.view(-1, *(1,) * (predicted.ndim - 1))
            compared, target = each * predicted, each * target
        loss = model.loss(compared, target, config.wavelet_weight, valid, config.field_loss)
        return loss, predicted

    return torch.compile(judged, dynamic=None) if config.compile else judged


class Inputs(NamedTuple):
    """What a training step compares.

    Attributes:
        batch: The windows that it takes.
        fields: The history that the model sees, (B, T, C, *S).
        first: Which frame of the target it predicts first.
        steps: How many frames it predicts in a row.
        weight: What the error of every sample counts by, (B,); None where all count alike.
    """

    batch: Batch
    fields: Tensor
    first: int
    steps: int
    weight: Tensor | None = None


def window_inputs(
    model: IncrementEmulator,
    batch: Batch,
    config: TrainConfig,
    draw: np.random.Generator,
    progress: float,
    symmetries: Symmetries | None = None,
) -> Inputs:
    """What a model in training sees and should predict.

    Args:
        model: The emulator.
        batch: Windows.
        config: How to train.
        draw: Of the noise and the length of the unroll.
        progress: Share of the budget spent.
        symmetries: What the windows are moved by; None: nothing.
    """
    if symmetries is not None:
        # A stream beside that of the noise, which stays what it is without them.
        (moves,) = draw.spawn(1)
        batch = symmetries.draw(batch, moves)
    count = config.unroll_at(progress)
    if count > 1:
        batch = batch.first(max(1, len(batch.fields) // count))
    fields = batch.fields
    weight = None
    if config.noise:
        spread = model.normalizer.delta_std
        noise, weight = draw_noise(fields, spread, config, draw, progress)
        fields = inside(fields + noise, batch.valid)
    unroll = 0
    if config.pushforward > 1 and progress >= config.pushforward_from:
        unroll = int(draw.integers(config.pushforward))
    with torch.no_grad():
        for step in range(unroll):
            following = model(fields, *batch.beside(step))
            fields = torch.cat([fields[:, 1:], inside(following[:, None], batch.valid)], 1)
    return Inputs(batch, fields, unroll, count, weight)


def window_loss(model: IncrementEmulator, judged: Judged, inputs: Inputs) -> Tensor:
    """The training loss by what `window_inputs` made of a batch, mean over the steps in a row."""
    batch, fields, first, count, weight = inputs
    losses: list[Tensor] = []
    for step in range(first, first + count):
        true = batch.target[:, step]
        loss, predicted = judged(fields, *batch.beside(step), true, batch.valid, weight)
        losses.append(loss)
        if len(losses) < count:
            following = model.advance(fields[:, -1], predicted)[:, None]
            fields = torch.cat([fields[:, 1:], inside(following, batch.valid)], 1)
    return losses[0] if count == 1 else torch.stack(losses).mean()


class EMA(WeightAveraging):
    """Exponential moving average of the weights, validated, checkpointed and kept at the end.

    The decay warms up as min(decay, (1 + n) / (10 + n)) over the n updates so far: in a short run a
    fixed 0.999 would still carry the initial weights.

    Args:
        decay: Largest decay.
    """

    def __init__(self, decay: float) -> None:
        @torch.no_grad()
        def update(averaged: Any, current: Any, n_averaged: Any) -> None:
            own = self._average_model
            n = int(n_averaged if own is None else own.n_averaged)
            weight = 1 - min(decay, (1 + n) / (10 + n))
            torch._foreach_lerp_(list(averaged), list(current), weight)

        super().__init__(use_buffers=False, multi_avg_fn=update)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # The model has not been moved yet: the average would stay behind, to be reached at every
        # step.
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            # A counter on a device is waited for at every step.
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()
