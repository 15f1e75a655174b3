"""Training one model on several systems at once.

Every step has a batch of each system (`wavelit.data.joint`), and the loss is a weighted mean of
theirs,

    L = mean over systems i of  w_i L_i / r_i

`running`: r_i is the running mean of L_i, kept within a fifth and five times of the median of all,
and w_i = 1. The gradient is that of the geometric mean of the losses; without bounds the easiest
system would take it, as its loss falls to zero. `sum`: the losses as they are. `excess`: r_i as
before, and w_i goes with how far the last validation was above a reference, such as a model trained
on that system alone. Drawing systems in that proportion has the same mean gradient; weights keep a
step's batch a function of the seed and the step.

Noise and unroll lengths of a system are drawn by the seed, its name, the step and the rank, so they
do not depend on which others there are.

References:
    Sener, Koltun, Multi-Task Learning as Multi-Objective Optimization, 2018, arXiv 1810.04650, on
    why sums fail.
    McCabe et al., Walrus, 2025, arXiv 2511.15684, divides by the size of increments.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from statistics import median
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from wavelit.checks.arguments import listed, require_name, require_real, shown
from wavelit.data.joint import JointBatch
from wavelit.errors import WavelitError, printable
from wavelit.metrics import VRMSE
from wavelit.model.foundation import JointWaveLiT
from wavelit.model.vocabulary import key_of, number_of
from wavelit.training.config import TrainConfig
from wavelit.training.finite import DivergedError
from wavelit.training.module import (
    TrainingModule,
    judged_by,
    window_inputs,
    window_loss,
)
from wavelit.training.symmetries import Symmetries

__all__ = ["BALANCES", "TRUNKS", "JointModule", "JointTrainConfig", "RunningLoss"]

BALANCES = ("running", "sum", "excess")
TRUNKS = ("free", "frozen", "low-rank")
# How far a divisor may be from the median of all.
FURTHEST = 5.0
# Of the running means; their warm-up forgets the first losses soon.
DECAY = 0.98
# How far apart the weights of two systems by their excess may be.
FURTHEST_EXCESS = 5.0


@dataclasses.dataclass(frozen=True)
class JointTrainConfig(TrainConfig):
    """How to train on several systems: the recipe of one, and how their losses are balanced.

    Args:
        balance: "running", "sum" or "excess", as `wavelit.training.joint` has it.
        reference: For every system the validation VRMSE that `excess` compares with.
        trunk: Of a trained model: "free" to change; "frozen", so that a system's own parts alone
            are trained; or "low-rank", which is frozen but for terms of low rank of each system.
        trunk_lr: Learning rate of a free trunk over that of the systems' own parts.
        system_symmetries: By a system's name its `symmetries`, in place of that entry, which holds
            for all systems that are not named here.
    """

    LATER: ClassVar[Mapping[str, Any]] = {**TrainConfig.LATER, "system_symmetries": None}

    # What was searched for joint models; all else is the recipe of one system.
    lr: float = 8e-3
    balance: str = "running"
    reference: Mapping[str, float] | None = None
    trunk: str = "free"
    trunk_lr: float = 1.0
    system_symmetries: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_name("balance", self.balance, BALANCES)
        require_name("trunk", self.trunk, TRUNKS)
        require_real("trunk_lr", self.trunk_lr, beyond=True)
        if self.accumulate > 1:
            raise WavelitError(
                "accumulate is not for joint models, a step of which adds up all systems: leave it "
                "out"
            )
        if self.validate_rollout:
            raise WavelitError(
                "validate_rollout is not for joint models, which are validated one step ahead: "
                "leave it out"
            )
        if self.trunk != "free" and self.trunk_lr != 1:
            raise WavelitError(
                f"trunk_lr={self.trunk_lr:g} is for a free trunk: this one is {self.trunk}; leave "
                "one of them out"
            )
        if (self.reference is None) == (self.balance == "excess"):
            raise WavelitError(
                "a reference belongs to balance excess, and is due for it: reference: {system: "
                "VRMSE, ...}"
            )
        for entry, what in (("reference", "VRMSE"), ("system_symmetries", "symmetries")):
            if not isinstance(getattr(self, entry), Mapping | None):
                raise WavelitError(
                    f"{entry} must name each system's {what}, not {shown(getattr(self, entry))}"
                )
        for name, value in (self.reference or {}).items():
            require_real(f"the reference of system '{printable(name, 60)}'", value, beyond=True)
        for name, text in (self.system_symmetries or {}).items():
            if not isinstance(text, str):
                raise WavelitError(
                    f"the symmetries of system '{printable(name, 60)}' must be text such as "
                    f"'shift, flip:x', not {shown(text)}"
                )

    def of_system(self, name: str) -> JointTrainConfig:
        """The recipe as one system has it, with symmetries of its own."""
        own = (self.system_symmetries or {}).get(name, self.symmetries)
        return dataclasses.replace(self, symmetries=own, system_symmetries=None)


class RunningLoss:
    """The running mean of a loss, whose first values are forgotten soon.

    Args:
        value: Its value.
        n: Losses so far.
    """

    def __init__(self, value: float = 0.0, n: int = 0) -> None:
        self.value, self.n = value, n

    def update(self, loss: float) -> None:
        """Take in the loss of another step."""
        decay = min(DECAY, self.n / (10 + self.n))
        self.value = decay * self.value + (1 - decay) * loss
        self.n += 1


class JointModule(TrainingModule):
    """A joint model in training.

    Args:
        model: The joint model; the statistics of its systems must be set.
        config: How to train.
        seed: Seed of noise and unroll lengths.
        batch_size: Samples of a step, over all devices, on average.
        field_names: For every system the names of its channels, for the logs.
        symmetries: By a system's name what its training windows are moved by.

    Raises:
        WavelitError: The reference does not name the systems.
    """

    model: JointWaveLiT
    config: JointTrainConfig

    def __init__(
        self,
        model: JointWaveLiT,
        config: JointTrainConfig,
        seed: int,
        batch_size: float,
        field_names: Mapping[str, list[str]],
        symmetries: Mapping[str, Symmetries | None] | None = None,
    ) -> None:
        super().__init__(model, config, seed, batch_size)
        model.checkpoint_activations(config.activation_checkpointing)
        # Without gradients neither the optimiser nor its weight decay moves them.
        for parameter in model.trunk_parameters():
            parameter.requires_grad_(config.trunk == "free")
        if config.trunk == "low-rank" and not model.config.rank:
            raise WavelitError(
                "trunk low-rank is for a model whose systems have terms of low rank: give it a rank"
            )
        if config.reference is not None and set(config.reference) != set(model):
            raise WavelitError(
                f"the reference is of {listed(config.reference)}; the systems are {listed(model)}: "
                "name each of them"
            )
        self.scores = nn.ModuleDict(
            {key_of(name): VRMSE(field_names[name], model[name].spatial) for name in model}
        )
        # A plain attribute, as for a single emulator.
        self._judged = {name: judged_by(system, config) for name, system in model.items()}
        self.symmetries = dict(symmetries or {})
        # No buffers: averaged weights have none of their own.
        self.running = {name: RunningLoss() for name in model}
        self.excess = dict.fromkeys(model, 1.0)
        self._last: dict[str, float] = {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        groups = super().parameter_groups()
        if self.config.trunk_lr == 1:
            return groups
        trunk = {id(parameter) for parameter in self.model.trunk_parameters()}
        return [
            {
                **group,
                "params": [p for p in group["params"] if (id(p) in trunk) == is_trunk],
                "lr_factor": self.config.trunk_lr if is_trunk else 1.0,
            }
            for is_trunk in (False, True)
            for group in groups
        ]

    def training_step(self, batch: JointBatch, batch_idx: int) -> Tensor:
        self._samples = f"of {listed(batch)}"
        losses = {}
        for name, windows in batch.items():
            model = self.model[name]
            stream = number_of(self.seed, "noise", name)
            draw = np.random.default_rng((stream, self.global_step, self.global_rank))
            moves = self.symmetries.get(name)
            inputs = window_inputs(model, windows, self.config, draw, self.progress, moves)
            loss = window_loss(model, self._judged[name], inputs)
            losses[name] = loss + self.stability_term(name, model)
        stacked = torch.stack(list(losses.values()))
        # What all ranks saw: they must agree on the weights.
        seen = self.trainer.strategy.reduce(stacked.detach().clone(), reduce_op="mean").tolist()
        for name, value in zip(losses, seen, strict=True):
            if not math.isfinite(value):
                samples = batch[name].indices.tolist()
                raise DivergedError(
                    f"the training loss of system '{printable(name, 60)}' became {value} at step "
                    f"{self.global_step} on samples {samples} of its training split; a checkpoint "
                    "written before is kept: ask `wavelit data check`, or train anew with a lower "
                    "lr"
                )
            self.running[name].update(value)
            self.log(f"train_loss/{name}", torch.tensor(value))
        for name in sorted(set(self.model) - losses.keys()):
            # Else the last one would stand in the logs of this step too.
            self.log(f"train_loss/{name}", torch.tensor(math.nan))
        mean = math.exp(sum(math.log(max(value, 1e-30)) for value in seen) / len(seen))
        self.log("train_loss", torch.tensor(mean), prog_bar=True)
        weights = torch.tensor(self.weights(list(losses)), dtype=stacked.dtype)
        return (stacked * weights.to(stacked.device)).sum() / len(self.model)

    def weights(self, names: list[str]) -> list[float]:
        """What the losses of these systems are multiplied by."""
        if self.config.balance == "sum":
            return [1.0] * len(names)
        known = [running.value for running in self.running.values() if running.n]
        middle = median(known)
        return [
            self.excess[name]
            / min(max(self.running[name].value, middle / FURTHEST, 1e-30), middle * FURTHEST)
            for name in names
        ]

    def validation_step(self, batch: JointBatch, batch_idx: int) -> None:
        for name, windows in batch.items():
            if windows.n_filled is not None:
                self.log("val_filled", windows.n_filled.sum().float(), reduce_fx="sum")
            following = self.model[name](windows.fields, *windows.beside())
            self._score(name).update(following, windows.target[:, 0], windows.valid)

    def on_validation_epoch_end(self) -> None:
        scores = {}
        for name in self.model:
            score = self._score(name)
            scores[name] = float(score.compute())
            score.reset()
            self.log(f"val_vrmse/{name}", scores[name])
        self.log("val_vrmse", geometric_mean(list(scores.values())), prog_bar=True)
        self._last = scores
        if self.config.reference is not None:
            self.excess = excess_weights(scores, self.config.reference)

    def _score(self, name: str) -> VRMSE:
        score = self.scores[key_of(name)]
        assert isinstance(score, VRMSE)
        return score

    def details(self) -> str:
        """The last validation's VRMSE of every system."""
        return ", ".join(f"{printable(name, 40)} {score:.4f}" for name, score in self._last.items())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["running_losses"] = {
            name: [running.value, running.n] for name, running in self.running.items()
        }
        checkpoint["excess"] = dict(self.excess)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.running = {
            name: RunningLoss(*checkpoint["running_losses"][name]) for name in self.running
        }
        self.excess = {name: checkpoint["excess"][name] for name in self.excess}


def geometric_mean(values: list[float]) -> float:
    """Infinite if one is."""
    return math.exp(sum(math.log(max(value, 1e-30)) for value in values) / len(values))


def excess_weights(scores: Mapping[str, float], reference: Mapping[str, float]) -> dict[str, float]:
    """Weights of mean one that go with score over reference, at most `FURTHEST_EXCESS` from its
    geometric mean; a score that is not finite counts as the largest.
    """
    ratios = {
        name: score / reference[name] if math.isfinite(score) else math.inf
        for name, score in scores.items()
    }
    finite = [ratio for ratio in ratios.values() if math.isfinite(ratio)]
    middle = geometric_mean(finite) if finite else 1.0
    bounded = {
        name: min(max(ratio / middle, 1 / FURTHEST_EXCESS), FURTHEST_EXCESS)
        for name, ratio in ratios.items()
    }
    mean = sum(bounded.values()) / len(bounded)
    return {name: value / mean for name, value in bounded.items()}
