"""What a run of the accuracy benchmark is, how long and at which rate, and whether its result is
there.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from wavelit.benchmarks.entries import CONTESTANTS, EVERYONE
from wavelit.checks.arguments import require_name, require_names, require_real, require_whole
from wavelit.checks.settings import current_names
from wavelit.errors import WavelitError, one_line, printable
from wavelit.files.plain import read_json
from wavelit.training.config import TrainConfig

__all__ = [
    "BATCH_SIZE",
    "LEARNING_RATES",
    "LR_MINUTES",
    "LR_SYSTEMS",
    "MINUTES",
    "REFERENCE",
    "STAGES",
    "THE_EIGHT",
    "Cell",
    "best_lr",
    "is_done",
    "n_steps",
    "rate_of",
    "rate_rows",
    "read_rates",
    "require_asked",
    "search_cells",
    "train_config",
]

STAGES = ("rates", "lr", "final")
THE_EIGHT = (
    "acoustic_scattering_maze",
    "shear_flow",
    "gray_scott_reaction_diffusion",
    "active_matter",
    "turbulent_radiative_layer_2D",
    "rayleigh_benard",
    "viscoelastic_instability",
    "helmholtz_staircase",
)
MINUTES = 5.0
BATCH_SIZE = 4
LEARNING_RATES = (5e-4, 1.4e-3, 4e-3, 1.1e-2)
# One wave and one flow, a minute each.
LR_SYSTEMS = ("acoustic_scattering_maze", "rayleigh_benard")
LR_MINUTES = 1.0
# Timed next to each of the others: its rate is frozen, and theirs count in its milliseconds,
# however fast the machine is that day.
REFERENCE = "WaveLiT"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run: who, on what, how long, how."""

    model: str
    system: str
    seed: int
    minutes: float
    lr: float
    stage: str

    def path(self, output: Path) -> Path:
        """Where its result stands."""
        name = f"{self.model.replace(' ', '_')}/{self.system}"
        if self.stage == "lr":
            return output / "lr" / f"{name}-{self.lr:g}.json"
        return output / f"{self.minutes:g}min" / f"{name}-{self.seed}.json"


def read_rates(output: Path) -> dict[tuple[str, str], float]:
    """Milliseconds a training sample by (model, system).

    Raises:
        WavelitError: rates.csv is no table of them.
    """
    try:
        return {
            (row["model"], row["system"]): float(row["ms_per_sample"])
            for row in rate_rows(output)
            if int(row["batch_size"]) == BATCH_SIZE
        }
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise WavelitError(
            f"{printable(output / 'rates.csv')} is no table of rates ({one_line(error)}): remove "
            "it and measure anew"
        ) from error


def rate_rows(output: Path) -> list[dict[str, Any]]:
    path = output / "rates.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))


def search_cells(model: str) -> list[Cell]:
    """The short runs that a model's learning rate is chosen by, system by system."""
    return [
        Cell(model, system, 0, LR_MINUTES, lr, "lr")
        for system, lr in itertools.product(LR_SYSTEMS, LEARNING_RATES)
    ]


def best_lr(model: str, output: Path) -> float:
    """The learning rate with the smallest geometric mean of the one-step VRMSE over the search's
    systems, on validation.

    Raises:
        WavelitError: unknown model, or the search is not complete.
    """
    require_name("model", model, CONTESTANTS)
    model = CONTESTANTS[model].tuned_as or model
    scores: dict[float, list[float | None]] = {lr: [] for lr in LEARNING_RATES}
    for cell in search_cells(model):
        path = cell.path(output)
        if not path.exists():
            raise WavelitError(
                f"{path} is missing: search {model}'s learning rate first, `wavelit benchmark "
                "accuracy lr`"
            )
        scores[cell.lr].append(_one_step(path))
    means = {
        # A run that diverged has no score.
        lr: math.inf
        if None in each
        else statistics.geometric_mean(x for x in each if x is not None)
        for lr, each in scores.items()
    }
    return min(means, key=lambda lr: means[lr])


def _one_step(path: Path) -> float | None:
    """The one-step score of a result, on validation; None where the run diverged."""
    valid = read_json(path).get("valid")
    score = valid.get("one_step", math.nan) if isinstance(valid, dict) else math.nan
    if score is not None and not (isinstance(score, float | int) and score > 0):
        raise WavelitError(
            f"{printable(path)} has no positive valid.one_step: remove it and search anew"
        )
    return score


def train_config(model: str, system: str = "", **changes: Any) -> TrainConfig:
    return TrainConfig(**{**EVERYONE[model].own(system, "train"), **changes})


def rate_of(cell: Cell, rates: Mapping[tuple[str, str], float], tuning: Path) -> float:
    if (cell.model, cell.system) not in rates:
        raise WavelitError(
            f"{tuning / 'rates.csv'} has no rate of {cell.model} on {cell.system}: `wavelit "
            "benchmark accuracy rates`"
        )
    return rates[cell.model, cell.system]


def n_steps(cell: Cell, rate: float, batch_size: int = BATCH_SIZE) -> int:
    """Optimiser steps that the cell's minutes come to, at so many milliseconds a sample."""
    return max(1, int(cell.minutes * 60e3 / rate / batch_size))


def require_asked(
    stages: Sequence[str],
    models: Sequence[str],
    systems: Sequence[str],
    seeds: Sequence[int],
    minutes: float,
    known: Sequence[Collection[str]],
) -> None:
    """What a run of either protocol may be asked for.

    Args:
        stages: Of `STAGES`.
        models: Contestants.
        systems: Of PocketWell.
        seeds: Of the final runs.
        minutes: Of a final run.
        known: The contestants and the systems that there are.

    Raises:
        WavelitError: An unknown name, or a seed or minutes that cannot be.
    """
    require_real("minutes", minutes, beyond=True)
    for seed in seeds:
        require_whole("seeds", seed, 0)
    asked = (require_names("stages", stages), models, systems)
    for kind, names, among in zip(
        ("stage", "model", "system"), asked, (STAGES, *known), strict=True
    ):
        for name in names:
            require_name(kind, name, among)


def is_done(cell: Cell, rate: float, output: Path) -> bool:
    """Whether the result is there; one of another rate or other settings must not pass for it."""
    path = cell.path(output)
    if not path.exists():
        return False
    result = read_json(path)
    if missing := [name for name in ("train", "samples", "lr") if name not in result]:
        raise WavelitError(f"{printable(path)} has no {', '.join(missing)}: remove it and run anew")
    config = train_config(cell.model, cell.system, steps=n_steps(cell, rate), lr=cell.lr)
    due = {**dataclasses.asdict(config), "samples": n_steps(cell, rate) * BATCH_SIZE}
    was = {
        **current_names(TrainConfig, result["train"]),
        "samples": result["samples"],
        "lr": result["lr"],
    }
    if changed := [
        name for name, value in was.items() if due.get(name) != value and name != "steps"
    ]:
        there, now = (
            ", ".join(f"{name} {each.get(name)}" for name in changed) for each in (was, due)
        )
        raise WavelitError(
            f"{path} was run with {there}, now {now} is due: remove it, or name another --output"
        )
    return True
