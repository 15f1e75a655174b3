"""What the calls at the top take besides the recipe: Lightning's own parts."""

from __future__ import annotations

import dataclasses
from typing import Any

from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import Strategy

from wavelit.checks.arguments import require_instance, shown
from wavelit.errors import WavelitError
from wavelit.model.emulator import IncrementEmulator
from wavelit.training.config import TrainerConfig

__all__ = ["history_of", "lightning_extras", "with_nodes"]


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
