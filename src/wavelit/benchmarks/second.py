"""The second protocol of the accuracy benchmark, beside the first, whose results stay as they are.

rates    milliseconds a training sample, all from one quiet processor, in turns with WaveLiT 0.1
lr       a minute for each learning rate on one wave and one flow: a ladder by factors of two that
         goes on until its best has a worse one on either side
final    a run of the whole budget; only here is the test split read, once, after training

WaveLiT 0.1 is `nano` as it was at commit 542aeb4, the preset `nano-0.1`. A result holds the hash of
the whole architecture and recipe, so that one of another does not pass for it. A run that was cut
goes on from its last checkpoint, and every run folder is kept.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wavelit.benchmarks.accuracy import (
    band_errors,
    open_data,
    refresh_batch_norms,
    set_up,
    time_in_turns,
)
from wavelit.benchmarks.baselines import FRAMED_ALONE, SETTINGS
from wavelit.benchmarks.entries import EVERYONE, FIRST, SECOND, build
from wavelit.benchmarks.protocol import (
    LR_SYSTEMS,
    MINUTES,
    STAGES,
    THE_EIGHT,
    Cell,
    n_steps,
    rate_rows,
    require_asked,
    train_config,
)
from wavelit.benchmarks.results import scores_of, write_result
from wavelit.benchmarks.timing import environment, write_rows
from wavelit.checks.arguments import require_names, require_path
from wavelit.data.datamodule import WellDataModule
from wavelit.data.pocketwell import SYSTEMS
from wavelit.errors import WavelitError, printable
from wavelit.evaluation.evaluate import evaluate
from wavelit.files.plain import read_json
from wavelit.model.config import WaveLiTConfig
from wavelit.model.emulator import IncrementEmulator
from wavelit.training.config import BUDGETS, TrainerConfig
from wavelit.training.finite import DivergedError
from wavelit.training.run import fit, resume

__all__ = ["REFERENCE", "best_rate", "fingerprint", "next_rate", "run"]

REFERENCE = "WaveLiT 0.1"
LR_MINUTES = 1.0
FIRST_RATE, LOWEST, HIGHEST = 8e-3, 1e-5, 1.0
# Of training between two checkpoints.
CHECKPOINT_MINUTES = 1.0


def run(
    stages: Sequence[str] = STAGES,
    models: Sequence[str] = (),
    systems: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    minutes: float = MINUTES,
    output: str | os.PathLike[str] = "results/accuracy2",
    root: str | os.PathLike[str] = "datasets/pocketwell/small",
    weights: str | os.PathLike[str] = "runs/accuracy2",
    tuning: str | os.PathLike[str] | None = None,
) -> Iterator[Path]:
    """Run what is missing, in the order rates, learning rates, final runs, and yield every result's
    path as it is there. Run it twice, of other models or seeds, to have two runs side by side.

    Args:
        stages: Of `STAGES`.
        models: Keys of `EVERYONE`; those of `SECOND` if there are none.
        systems: Of PocketWell; the eight of The Well's benchmark if there are none.
        seeds: Of the final runs; learning rates are searched with seed 0.
        minutes: Core-minutes of a final run.
        output: Folder of the results.
        root: Folder of the datasets.
        weights: Folder of the run folders.
        tuning: Folder of results whose rates and learning rates are taken; `output` if absent.

    Raises:
        WavelitError: Unknown name, a dataset or an earlier stage is missing, or a result of another
            architecture, recipe or budget is there.
    """
    output, root = require_path("output", output), require_path("root", root)
    weights = require_path("weights", weights)
    tuning = output if tuning is None else require_path("tuning", tuning)
    models = require_names("models", models, 0) or list(SECOND)
    systems = require_names("systems", systems, 0) or list(THE_EIGHT)
    require_asked(stages, models, systems, seeds, minutes, (EVERYONE, SYSTEMS))
    set_up()
    if "rates" in stages:
        yield from _measure(models, systems, tuning, root)
    rates = _rates(tuning)
    if "lr" in stages:
        for model in models:
            while (lr := next_rate(_searched(model, tuning))) is not None:
                for system in LR_SYSTEMS:
                    cell = Cell(model, system, 0, LR_MINUTES, lr, "lr")
                    yield _run_cell(cell, rates, tuning, root, weights)
    if "final" in stages:
        for seed, model, system in itertools.product(seeds, models, systems):
            cell = Cell(model, system, seed, minutes, best_rate(model, tuning), "final")
            yield _run_cell(cell, rates, output, root, weights)


def _measure(
    models: Sequence[str], systems: Sequence[str], output: Path, root: Path
) -> Iterator[Path]:
    """Rates that are missing; that of WaveLiT 0.1 first, in whose milliseconds the others count."""
    for system in dict.fromkeys([*systems, *LR_SYSTEMS]):
        for model in dict.fromkeys([REFERENCE, *models]):
            known = _rates(output)
            if (model, system) not in known:
                row = time_in_turns(model, REFERENCE, system, root, known.get((REFERENCE, system)))
                write_rows(output / "rates.csv", [*rate_rows(output), row])
                yield output / "rates.csv"


def _rates(output: Path) -> dict[tuple[str, str], float]:
    return {(row["model"], row["system"]): float(row["ms_per_sample"]) for row in rate_rows(output)}


def next_rate(scores: Mapping[float, float]) -> float | None:
    """The learning rate to try next, or None where the best has a worse one on either side.

    Args:
        scores: Errors by learning rate; infinite where a run diverged.
    """
    if not scores:
        return FIRST_RATE
    # Where all diverged, the lowest.
    best = min(scores, key=lambda lr: (scores[lr], lr))
    for neighbour in (best / 2, best * 2):
        if neighbour not in scores and LOWEST <= neighbour <= HIGHEST:
            return neighbour
    return None


def _searched(model: str, output: Path) -> dict[float, float]:
    """Geometric means over the systems of the search, of the rates that have run on all."""
    found: dict[float, list[float]] = {}
    for system in LR_SYSTEMS:
        folder = Cell(model, system, 0, LR_MINUTES, 1.0, "lr").path(output).parent
        for path in sorted(folder.glob(f"{system}-*.json")):
            result = read_json(path)
            if result.get("hash") != fingerprint(model, system):
                raise _another(path)
            one_step = result["valid"]["one_step"]
            found.setdefault(float(result["lr"]), []).append(
                math.inf if one_step is None else one_step
            )
    return {
        lr: math.inf if math.inf in each else statistics.geometric_mean(each)
        for lr, each in found.items()
        if len(each) == len(LR_SYSTEMS)
    }


def best_rate(model: str, output: Path) -> float:
    """The learning rate that the search has found.

    Raises:
        WavelitError: It has not come to its end, or every run of it diverged.
    """
    scores = _searched(EVERYONE[model].tuned_as or model, output)
    if not scores or next_rate(scores) is not None:
        raise WavelitError(
            f"the search of {model}'s learning rate has not come to its end: `wavelit benchmark "
            "accuracy2 lr`"
        )
    best = min(scores, key=lambda lr: scores[lr])
    if scores[best] == math.inf:
        raise WavelitError(f"every run of the search of {model}'s learning rate diverged")
    return best


def fingerprint(model: str, system: str = "") -> str:
    """Of a contestant's whole architecture and recipe, but for learning rate and budget.

    Args:
        model: A key of `EVERYONE`.
        system: Where it has entries of its own.
    """
    contestant = EVERYONE[model]
    architecture: Any = []
    if contestant.rival is not None:
        # Settings may hold what JSON has no name for.
        settings = {**SETTINGS, **FRAMED_ALONE}[contestant.rival]
        architecture = [repr(settings), contestant.increments]
    if contestant.rival is None or contestant.framed:
        config = WaveLiTConfig.preset(FIRST, n_fields=1, **contestant.own(system, "model"))
        entries = dataclasses.asdict(config)
        # As with the recipe below.
        for name in ("divergence_free", "detail_gate", "detail_bound"):
            if not entries[name]:
                entries.pop(name)
        architecture = [*architecture, entries] if contestant.framed else entries
    train = dataclasses.asdict(train_config(model, system, steps=1))
    # Those of no weight on what is learnt. An entry that is new in the recipe changes the hash of
    # results that are there: leave it out where it has the value that means none of it.
    validation = ("validate_every", "validate_batches", "validate_rollout")
    for name in (*BUDGETS, "lr", *validation, "checkpoint_every"):
        train.pop(name)
    for name, none in {
        "accumulate": 1,
        "far_noise": 0.0,
        "field_loss": "mse",
        "noise_end": 1.0,
        "stability": 0.0,
        "symmetries": "",
    }.items():
        if train[name] == none:
            train.pop(name)
    whole = [architecture, train, contestant.batch_size]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


def _another(path: Path) -> WavelitError:
    return WavelitError(
        f"{printable(path)} was run with another architecture, recipe or budget: remove it, or "
        "name another --output"
    )


def _run_cell(
    cell: Cell, rates: Mapping[tuple[str, str], float], output: Path, root: Path, runs: Path
) -> Path:
    """Train and judge one contestant, unless it is done; `final` runs on the test split too.

    Raises:
        WavelitError: It has no rate, or the result that is there is of another run.
    """
    if (cell.model, cell.system) not in rates:
        raise WavelitError(
            f"{output / 'rates.csv'} has no rate of {cell.model} on {cell.system}: `wavelit "
            "benchmark accuracy2 rates`"
        )
    rate, batch_size = rates[cell.model, cell.system], EVERYONE[cell.model].batch_size
    steps, path = n_steps(cell, rate, batch_size), cell.path(output)
    due = {
        **dataclasses.asdict(cell),
        "batch_size": batch_size,
        "samples": steps * batch_size,
        "hash": fingerprint(cell.model, cell.system),
    }
    if path.exists():
        was = read_json(path)
        if any(was.get(name) != value for name, value in due.items()):
            raise _another(path)
        return path
    result: dict[str, Any] = {**due, "ms_per_sample": rate}
    data = open_data(cell.system, root, cell.seed, batch_size)
    minute = dataclasses.replace(cell, minutes=CHECKPOINT_MINUTES)
    every = min(steps, n_steps(minute, rate, batch_size))
    config = train_config(
        cell.model,
        cell.system,
        steps=steps,
        lr=cell.lr,
        validate_every=steps,
        checkpoint_every=every,
    )
    result |= {"train": dataclasses.asdict(config), **environment()}
    try:
        model = _train(cell, data, config, cell.path(runs).with_suffix(""))
    except DivergedError as error:
        # The run has no score, and says why.
        result |= {"failure": str(error), "valid": {"one_step": None}}
    else:
        result["parameters"] = model.n_parameters
        for split in ("valid", "test") if cell.stage == "final" else ("valid",):
            result[split] = scores_of(evaluate(model, data, split, rollout_batch_size=4))
        if cell.stage == "final":
            result["bands"] = band_errors(model, data)
    return write_result(path, result)


def _train(cell: Cell, data: WellDataModule, config: Any, folder: Path) -> IncrementEmulator:
    """The trained contestant, from where its run was cut if it was."""
    model = build(cell.model, data, cell.seed)
    trainer = TrainerConfig(accelerator="cpu", threads=1)
    if any((folder / "checkpoints").glob("*.ckpt")):
        own = None if EVERYONE[cell.model].rival is None else model
        trained: IncrementEmulator = resume(folder, model=own)
    else:
        trained = fit(folder, data, model, config, trainer, cell.seed, overwrite=True)
    refresh_batch_norms(trained, data)
    return trained.eval()
