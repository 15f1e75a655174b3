"""How and where to train: the recipe and its budget, the device and its precision. The defaults
are those of docs/results.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

import torch

from wavelit.checks.arguments import most_threads, require_name, shown
from wavelit.checks.settings import check_bounds, check_types
from wavelit.errors import WavelitError
from wavelit.model.losses import FIELD_LOSSES, FieldLoss

__all__ = ["TrainConfig", "TrainerConfig"]

Schedule = Literal["cosine", "wsd"]
# Of anything counted: more would overflow what counts it.
MOST = 10**12
BUDGETS = ("steps", "samples", "minutes")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Args:
        steps: Budget in optimiser steps.
        samples: Budget in training windows.
        minutes: Budget in minutes of training, validation and compilation not counted; such a run
            is not repeatable bit for bit.
        lr: Peak learning rate of AdamW; the default was found for `nano` and batches of 4.
        weight_decay: On matrices and convolution kernels only.
        schedule: After the warm-up, cosine to zero, or constant with a last fifth of square-root
            decay to zero.
        warmup: Share of the budget in which the learning rate rises from zero; one shorter than two
            steps is left out.
        clip: Largest gradient norm; 0 or infinity: gradients are not clipped.
        ema: Decay of the averaged weights that are validated and kept; 0 keeps the last weights.
        noise: Largest standard deviation eta of the input noise, in units of the increment's; every
            sample draws its own between zero and it: of one size it made a model that read the
            history at full resolution diverge (docs/log.md).
        noise_end: Share of the noise that is left at the end; in the last third of the budget it
            falls by a straight line.
        far_noise: Share of the windows that get noise of up to 32 times `noise`, in blocks of any
            size, so that long rollouts find their way back (`wavelit.training.noise`).
        stability: Weight of a term of the loss that keeps the linear part of a WaveLiT from
            growing (`wavelit.training.stability`).
        pushforward: Longest unroll in steps; 1 trains one step only.
        pushforward_from: Share of the budget after which unrolls begin.
        unroll: Most steps that late training predicts in a row, with gradients through all of them:
            2, 4, .. up to this power of two, each for an equal part of the time. Where it predicts
            k steps it takes one k-th of the batch, so that an optimiser step takes as long.
        unroll_from: Share of the budget after which it predicts more than one step.
        symmetries: What training windows are moved by, such as "shift, flip:x"
            (`wavelit.training.symmetries`); empty: nothing.
        accumulate: Batches whose gradients are averaged before an optimiser step: a batch that many
            times larger in the memory of one.
        field_loss: What is made small in space: the mean square (mse), or the mean over samples and
            channels of its root (rmse), as scores are made.
        wavelet_weight: Weight lambda of the wavelet-domain loss.
        compile: Run the model through `torch.compile`.
        activation_checkpointing: Keep only the inputs of the blocks for the backward pass and
            compute the rest anew: a fraction of the memory for about a quarter more time, for grids
            that would not fit.
        validate_every: Steps between validations.
        validate_batches: Batches of a validation, over all processes, of windows spread evenly over
            the split; 0: all of it.
        validate_rollout: Steps of the rollouts that a validation scores too, of eight windows
            spread evenly over the split; the best weights are those of their smallest mean VRMSE.
            0: no rollouts, and the best ones are the best one step ahead.
        checkpoint_every: Steps between checkpoints.
        restart_at: Share of the budget at which the learning rate begins anew, with its warm-up: 0,
            or where a run was extended.
    """

    # Names of older versions, which settings of runs and committed results hold.
    RENAMED: ClassVar[Mapping[str, str]] = {"recompute": "activation_checkpointing"}
    # Entries that settings of older runs lack, with what those runs were made with.
    LATER: ClassVar[Mapping[str, Any]] = {
        "accumulate": 1,
        "far_noise": 0.0,
        "field_loss": "mse",
        "noise_end": 1.0,
        "stability": 0.0,
        "symmetries": "",
        "unroll": 1,
        "unroll_from": 0.8,
        "validate_batches": 0,
        "validate_rollout": 0,
    }

    steps: int | None = None
    samples: int | None = None
    minutes: float | None = None
    lr: float = 1.6e-2
    weight_decay: float = 0.01
    schedule: Schedule = "cosine"
    warmup: float = 0.05
    clip: float = 1.0
    ema: float = 0.999
    noise: float = 0.12
    noise_end: float = 0.25
    far_noise: float = 0.0
    stability: float = 0.0
    pushforward: int = 1
    pushforward_from: float = 0.8
    unroll: int = 1
    unroll_from: float = 0.8
    symmetries: str = ""
    accumulate: int = 1
    field_loss: FieldLoss = "rmse"
    wavelet_weight: float = 1.0
    compile: bool = False
    activation_checkpointing: bool = False
    validate_every: int = 500
    validate_batches: int = 0
    validate_rollout: int = 0
    checkpoint_every: int = 500
    restart_at: float = 0.0

    def __post_init__(self) -> None:
        check_types(self)
        budgets = [n for n in BUDGETS if getattr(self, n) is not None]
        if len(budgets) != 1:
            raise WavelitError(
                "train: name one budget, steps, samples or minutes; came "
                f"{' and '.join(budgets) or 'none of them'}"
            )
        if getattr(self, budgets[0]) <= 0:
            raise WavelitError(
                f"the budget {budgets[0]} must be positive, not {getattr(self, budgets[0])}"
            )
        if self.schedule not in get_args(Schedule):
            raise WavelitError(
                f"unknown schedule {self.schedule!r}; known: {', '.join(get_args(Schedule))}"
            )
        require_name("field_loss", self.field_loss, FIELD_LOSSES)
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
                "noise_end": (0, 1),
                "far_noise": (0, 1),
                "stability": (0, None),
                "pushforward": (1, 1000),
                "pushforward_from": (0, 1),
                "unroll": (1, 1024),
                "unroll_from": (0, 1),
                "accumulate": (1, 100_000),
                "wavelet_weight": (0, None),
                "validate_every": (1, MOST),
                "validate_batches": (0, MOST),
                "validate_rollout": (0, 10_000),
                "checkpoint_every": (1, MOST),
                "restart_at": (0, 1),
            },
        )

        if self.far_noise and not self.noise:
            raise WavelitError("far_noise is measured in noise, which is 0: set noise")
        if self.unroll & (self.unroll - 1):
            raise WavelitError(f"unroll must be a power of two, not {self.unroll}")
        if self.unroll > 1 and self.pushforward > 1:
            raise WavelitError(
                "unroll and pushforward are two ways to train on the model's own states: leave one "
                "of them at 1"
            )

    @property
    def target_frames(self) -> int:
        """Frames after the history that training compares with."""
        return max(self.pushforward, self.unroll)

    def noise_at(self, progress: float) -> float:
        """Largest size of the input noise when that share of the budget is spent."""
        late = max(0.0, 3 * progress - 2)
        return self.noise * (1 - (1 - self.noise_end) * late)

    def unroll_at(self, progress: float) -> int:
        """Steps that are predicted in a row when that share of the budget is spent."""
        stages = self.unroll.bit_length() - 1
        if not stages or progress < self.unroll_from:
            return 1
        late = (progress - self.unroll_from) / max(1 - self.unroll_from, 1e-9)
        return int(2 ** min(stages, 1 + int(late * stages)))

    def total_steps(self, batch_size: float) -> int | None:
        """Optimiser steps of the whole run, or None for a budget in minutes."""
        return math.ceil(self.samples / batch_size) if self.samples is not None else self.steps


Precision = Literal["32-true", "bf16-mixed"]


@dataclasses.dataclass(frozen=True)
class TrainerConfig:
    """Where to train.

    Args:
        accelerator: auto (a CUDA device if there is one, else the CPU), cpu, or another of
            Lightning's; mps is refused, as it has no float64.
        devices: How many on a node.
        precision: 32-true, or bf16-mixed: matrix products in bfloat16, the transform and the
            attention sums in float32.
        threads: Threads of the CPU. The default does not depend on the machine, and so neither do a
            run's results: the number of threads changes the order of sums. On a quiet 2-core
            machine 2 threads are 1.25 times as fast as 1; beside other work they were six times
            slower.
        num_nodes: Machines.
        strategy: How devices share the work, a name of Lightning's such as ddp; auto is right for
            one device.
    """

    accelerator: str = "auto"
    devices: int = 1
    precision: Precision = "32-true"
    threads: int = 1
    num_nodes: int = 1
    strategy: str = "auto"

    @property
    def n_processes(self) -> int:
        """Devices on all nodes, each with a share of every step."""
        return self.devices * self.num_nodes

    @property
    def device(self) -> str:
        """The accelerator, auto resolved: Lightning would take Apple's GPU, on which scores
        cannot be computed.
        """
        return (
            self.accelerator
            if self.accelerator != "auto"
            else "cuda"
            if torch.cuda.is_available()
            else "cpu"
        )

    def __post_init__(self) -> None:
        check_types(self)
        check_bounds(
            self,
            {"devices": (1, 100_000), "num_nodes": (1, 100_000), "threads": (1, most_threads())},
        )
        if self.precision not in get_args(Precision):
            raise WavelitError(
                f"unknown precision {shown(self.precision)}; known: "
                f"{', '.join(get_args(Precision))}"
            )
