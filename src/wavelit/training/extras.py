"""What the calls at the top take besides the recipe: Lightning's own parts, and the learning rate
of fine-tuning.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import Strategy

from wavelit.checks.arguments import require_instance, shown
from wavelit.errors import WavelitError
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.foundation import JointWaveLiT
from wavelit.training.config import TrainConfig, TrainerConfig
from wavelit.training.configuration import recipe_of
from wavelit.training.rank_zero import is_first

__all__ = ["FINE_TUNING", "fine_tuning_recipe", "history_of", "lightning_extras", "with_nodes"]

# Learning rate of fine-tuning over that of training anew.
FINE_TUNING = 0.1

Recipe = TypeVar("Recipe", bound=TrainConfig)


def fine_tuning_recipe(
    model: Any,
    train: TrainConfig | None,
    entries: Mapping[str, Any],
    kind: type[Recipe] = TrainConfig,  # type: ignore[assignment]
) -> Recipe | None:
    """A tenth of the learning rate for a trained model, said in a line; None where the model is
    not trained, or the learning rate is given.
    """
    if not (isinstance(model, IncrementEmulator | JointWaveLiT) and model.trained):
        return None
    if train is not None or "lr" in entries:
        return None
    lr = kind.lr * FINE_TUNING
    if is_first():
        print(f"fine-tuning: learning rate {lr:g}, a tenth of the default; lr sets another")
    return recipe_of(None, {**entries, "lr": lr}, kind)


def history_of(model: Any) -> int | None:
    """Frames of history that a model was made for, if it knows."""
    return model.n_steps_input if isinstance(model, IncrementEmulator) else None


def lightning_extras(callbacks: Any, logger: Any, strategy: Any) -> dict[str, Any]:
    """Callbacks, loggers and a strategy as `wavelit.training.run` takes them.

    Raises:
        WavelitError: One is none of Lightning's.
    """
    found: dict[str, list[Any]] = {}
    for name, value, kind in (("callbacks", callbacks, Callback), ("logger", logger, Logger)):
        each = list(value) if isinstance(value, list | tuple) else [value]
        for one in each:
            require_instance(name, one, kind, "give those of Lightning")
        found[name] = each
    if strategy is not None and not isinstance(strategy, str | Strategy):
        raise WavelitError(
            f"strategy must be a name or a Strategy of Lightning, not {shown(strategy)}"
        )
    return {
        "callbacks": found["callbacks"],
        "loggers": found["logger"],
        "strategy": strategy if isinstance(strategy, Strategy) else None,
    }


def with_nodes(trainer: TrainerConfig, strategy: Any, num_nodes: int | None) -> TrainerConfig:
    """A trainer's settings with the name of a strategy and the number of machines, if given."""
    changes: dict[str, Any] = {}
    if isinstance(strategy, str):
        changes["strategy"] = strategy
    if num_nodes is not None:
        changes["num_nodes"] = num_nodes
    return dataclasses.replace(trainer, **changes)
