"""Equal data, equal core-minutes: every contestant trained and judged alike on PocketWell, one JSON
a run, resumable.

rates    milliseconds a training sample of every contestant on every system, on one thread of a
         quiet machine, each in turns with WaveLiT; they turn the budget into a number of samples
         once and for all, so that a run does not depend on what else is running
lr       a short run for each learning rate of the grid on one wave and one flow; the validation
         split chooses
final    a run of the whole budget; only here is the test split read, once, after training

Length of history, normalisation, target (the scaled increment), batches, optimiser, schedule,
clipping and averaging of the weights are the same for all. WaveLiT adds its wavelet-domain loss and
reads the history as increments; the models of The Well read states, as in The Well's benchmark, and
get the PDE scalars as channels. Two of them are run with increments, and with increments and
WaveLiT's loss, too.
"""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from wavelit.allocator import keep_freed_memory
from wavelit.benchmarks.entries import CONTESTANTS, EVERYONE, build
from wavelit.benchmarks.protocol import (
    BATCH_SIZE,
    LR_SYSTEMS,
    MINUTES,
    REFERENCE,
    STAGES,
    THE_EIGHT,
    Cell,
    best_lr,
    is_done,
    n_steps,
    rate_of,
    rate_rows,
    read_rates,
    require_asked,
    search_cells,
    train_config,
)
from wavelit.benchmarks.results import number, scores_of, write_result
from wavelit.benchmarks.timing import environment, write_rows
from wavelit.benchmarks.turns import in_turns
from wavelit.checks.arguments import require_names, require_path, require_whole
from wavelit.data.datamodule import WellDataModule
from wavelit.data.pocketwell import SYSTEMS
from wavelit.errors import WavelitError
from wavelit.evaluation.curves import band_errors as bands_over_time
from wavelit.evaluation.curves import band_labels
from wavelit.evaluation.evaluate import evaluate
from wavelit.evaluation.rollout import inference
from wavelit.files.atomic import atomic_path
from wavelit.metrics import binned_spectral_mse, vrmse
from wavelit.model.emulator import IncrementEmulator
from wavelit.training.config import TrainConfig, TrainerConfig
from wavelit.training.finite import DivergedError
from wavelit.training.module import EMA, EmulatorModule
from wavelit.training.symmetries import symmetries_of
from wavelit.training.trainer import make_trainer, quieten

__all__ = [
    "Clock",
    "band_errors",
    "median_turn",
    "open_data",
    "refresh_batch_norms",
    "run",
    "set_up",
    "time_in_turns",
    "time_step",
    "wavelet_band_errors",
]

# Turns that are timed for a rate, after some that are not.
RATE_TURNS, RATE_WARM_UP = 31, 4
# Steps timed of one training alone, after as many that are not.
RATE_STEPS = 8
# Training batches that batch normalisations are measured on after training.
NORM_BATCHES = 50
# A run is validated this often on every fourth window, for its learning curve.
CURVE_POINTS, CURVE_STRIDE = 10, 4


def run(
    stages: Sequence[str] = STAGES,
    models: Sequence[str] = (),
    systems: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    minutes: float = MINUTES,
    output: str | os.PathLike[str] = "results/accuracy",
    root: str | os.PathLike[str] = "datasets/pocketwell/small",
    weights: str | os.PathLike[str] = "runs/accuracy",
    processes: int = 1,
    tuning: str | os.PathLike[str] | None = None,
    reference: str = REFERENCE,
) -> Iterator[Path]:
    """Run what is missing, in the order rates, learning rates, final runs, and yield every result's
    path as it is there.

    Args:
        stages: of `STAGES`.
        models: keys of `CONTESTANTS`; all if there are none.
        systems: of PocketWell; the eight of The Well's benchmark if there are none.
        seeds: of the final runs; learning rates are searched with seed 0.
        minutes: core-minutes of a final run.
        output: folder of the results.
        root: folder of the datasets.
        weights: folder of the trained weights.
        processes: runs side by side, each on one thread; rates are always measured alone.
        tuning: folder of results whose rates and learning rates are taken; `output` if absent.
        reference: who rates are measured in turns with and in whose milliseconds they count; best
            one of the same kind.

    Raises:
        WavelitError: unknown name, a dataset or an earlier stage is missing, a result is there that
            other rates or learning rates gave.
    """
    output, root = require_path("output", output), require_path("root", root)
    weights = require_path("weights", weights)
    tuning = output if tuning is None else require_path("tuning", tuning)
    require_whole("processes", processes)
    models = require_names("models", models, 0) or list(CONTESTANTS)
    systems = require_names("systems", systems, 0) or list(THE_EIGHT)
    asked = (stages, [*models, reference], systems, seeds, minutes)
    require_asked(*asked, (CONTESTANTS, SYSTEMS))
    if "rates" in stages:
        set_up()
        wanted = {*itertools.product(models, systems), *itertools.product(models, LR_SYSTEMS)}
        missing = sorted(wanted - read_rates(tuning).keys(), key=lambda pair: pair[::-1])
        for system, pairs in itertools.groupby(missing, key=lambda pair: pair[1]):
            _measure_rates([model for model, _ in pairs], system, tuning, root, reference)
        if missing:
            yield tuning / "rates.csv"
    for stage in ("lr", "final"):
        if stage not in stages:
            continue
        if stage == "lr":
            tuned = [name for name in models if CONTESTANTS[name].tuned_as is None]
            cells = [cell for name in tuned for cell in search_cells(name)]
        else:
            cells = [
                Cell(name, system, seed, minutes, best_lr(name, tuning), "final")
                for seed, name, system in itertools.product(seeds, models, systems)
            ]
        rates = read_rates(tuning)
        folder = output if stage == "final" else tuning
        work = [(cell, rate_of(cell, rates, tuning), folder, root, weights) for cell in cells]
        work = [item for item in work if not is_done(*item[:3])]
        if processes == 1:
            set_up()
            yield from itertools.starmap(_run_cell, work)
        else:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(processes, context, initializer=set_up) as pool:
                yield from pool.map(_run_cell, *zip(*work, strict=True)) if work else ()


def set_up() -> None:
    """Make this process one that measures: one thread, no denormal numbers, memory kept."""
    torch.set_num_threads(1)
    # Ahead of a wave increments are denormal numbers, which the processor computes with at a
    # fraction of its speed.
    torch.set_flush_denormal(True)
    keep_freed_memory()
    quieten()


def open_data(system: str, root: Path, seed: int, batch_size: int = BATCH_SIZE) -> WellDataModule:
    """The dataset of a system in a folder of datasets."""
    return WellDataModule(
        os.fspath(root / system), batch_size=batch_size, seed=seed, mask_field=mask_field_of(system)
    )


def mask_field_of(system: str) -> str | None:
    """The constant field that marks cells that do not count, of a system of PocketWell; the files
    of others name theirs.
    """
    return SYSTEMS[system].mask_field if system in SYSTEMS else None


def _train(
    model: IncrementEmulator,
    data: WellDataModule,
    config: TrainConfig,
    seed: int,
    callbacks: list[Callback],
    validate_every: int | None = None,
) -> EmulatorModule:
    """Train for the steps of the config; validate, if at all, on every fourth window. The
    averaged weights stay in the model.
    """
    moves = symmetries_of(config.symmetries, data)
    module = EmulatorModule(model, config, seed, data.batch_size, data.field_names, moves)
    validation = None
    if validate_every is not None:
        validation = _some_windows(data)
    trainer = make_trainer(
        TrainerConfig(accelerator="cpu"),
        module.total_steps,
        validate_every,
        callbacks=[EMA(config.ema), *callbacks],
    )
    data.train_sampler.n_steps = module.total_steps
    trainer.fit(module, data.train_dataloader(), validation)
    refresh_batch_norms(model, data)
    return module


def _some_windows(data: WellDataModule) -> DataLoader[Any]:
    """Every fourth window of the validation split."""
    windows = data.dataset("valid")
    windows.load()
    some: Subset[Any] = Subset(windows, range(0, len(windows), CURVE_STRIDE))
    return DataLoader(some, batch_size=data.batch_size, collate_fn=windows.collate)


def refresh_batch_norms(model: IncrementEmulator, data: WellDataModule) -> None:
    """Measure the statistics of batch normalisations anew: those of training belong to weights
    before their averaging.
    """
    norms = [
        module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    with torch.no_grad():
        for batch in itertools.islice(data.train_dataloader(), NORM_BATCHES):
            model(batch.fields, batch.constants, batch.scalars)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


class Clock(Callback):
    """Seconds between the ends of consecutive steps."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        self.times.append(time.perf_counter())


class _Curve(Callback):
    """Validation VRMSE by samples and seconds of training."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.points: list[dict[str, float | None]] = []

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, EmulatorModule)
        self.points.append(
            {
                "samples": trainer.global_step * self.batch_size,
                "seconds": round(module.train_seconds, 1),
                "vrmse": number(float(trainer.callback_metrics["val_vrmse"])),
            }
        )


def _measure_rates(
    models: Sequence[str], system: str, output: Path, root: Path, reference: str
) -> None:
    known = read_rates(output)
    if (reference, system) not in known:
        if reference != REFERENCE:
            raise WavelitError(
                f"{output / 'rates.csv'} has no rate of {reference} on {system} to refer to"
            )
        models = [reference, *(model for model in models if model != reference)]
    rows = []
    for model in models:
        row = time_in_turns(model, reference, system, root, known.get((reference, system)))
        known[model, system] = row["ms_per_sample"]
        rows.append(row)
    write_rows(output / "rates.csv", [*rate_rows(output), *rows])


def time_in_turns(
    model: str, reference: str, system: str, root: Path, known: float | None
) -> dict[str, Any]:
    """A row of rates.csv: milliseconds a sample in those of the reference.

    A processor's speed wanders within seconds: both train in turns, a step each, and the median
    ratio counts.

    Args:
        model: Who is timed.
        reference: In turns with whom.
        system: On what.
        root: Folder of the datasets.
        known: Its rate; None: it is measured here, as `model`.
    """
    (its, _), (own, parameters) = median_turn((reference, system), (model, system), root)
    return {
        "model": model,
        "system": system,
        "batch_size": EVERYONE[model].batch_size,
        "ms_per_sample": round(own if known is None else own / its * known, 2),
        "measured_ms": round(own, 2),
        "reference": reference,
        "reference_ms": round(its, 2),
        "parameters": parameters,
        **environment(),
    }


def median_turn(
    reference: tuple[str, str], own: tuple[str, str], root: Path
) -> tuple[tuple[float, int], tuple[float, int]]:
    """Milliseconds a training sample, and parameters, of two contestants, each (model, system), in
    the turn whose ratio is the median.
    """
    parameters = []

    def training(model: str, system: str) -> Callable[[Callback], object]:
        data = open_data(system, root, 0, EVERYONE[model].batch_size)
        emulator = build(model, data, 0)
        parameters.append(emulator.n_parameters)
        config = train_config(model, system, steps=RATE_WARM_UP + RATE_TURNS)
        return lambda turns: _train(emulator, data, config, 0, [turns])

    pair = (reference, own)
    seconds = np.array(in_turns([training(*each) for each in pair], set_up))[:, RATE_WARM_UP:]
    turn = seconds[:, np.argsort(seconds[1] / seconds[0])[RATE_TURNS // 2]]
    its, mine = (
        (float(turn[index]) / EVERYONE[model].batch_size * 1e3, parameters[index])
        for index, (model, _) in enumerate(pair)
    )
    return its, mine


def time_step(
    model: str, system: str, root: Path, batch_size: int = BATCH_SIZE
) -> tuple[float, int]:
    """Milliseconds a training sample, median over some steps, and the model's parameters."""
    data, clock = open_data(system, root, 0, batch_size), Clock()
    emulator = build(model, data, 0)
    _train(emulator, data, train_config(model, system, steps=2 * RATE_STEPS), 0, [clock])
    seconds = float(np.median(np.diff(clock.times[RATE_STEPS - 1 :])))
    return seconds / batch_size * 1e3, emulator.n_parameters


def _run_cell(cell: Cell, rate: float, output: Path, root: Path, weights: Path) -> Path:
    """Train and judge one contestant, and write the result; `final` runs are judged on the test
    split too.
    """
    # Another runner may have been here since the work was listed.
    if is_done(cell, rate, output):
        return cell.path(output)
    steps = n_steps(cell, rate)
    data, curve = open_data(cell.system, root, cell.seed), _Curve(BATCH_SIZE)
    emulator = build(cell.model, data, cell.seed)
    config = train_config(cell.model, cell.system, steps=steps, lr=cell.lr)
    result: dict[str, Any] = {
        **dataclasses.asdict(cell),
        "batch_size": BATCH_SIZE,
        "samples": steps * BATCH_SIZE,
        "ms_per_sample": rate,
        "parameters": emulator.n_parameters,
        "train": dataclasses.asdict(config),
        **environment(),
    }
    interval = max(1, steps // CURVE_POINTS)
    try:
        module = _train(emulator, data, config, cell.seed, [curve], interval)
    except DivergedError as error:
        # The run has no score, and says why.
        result |= {"failure": str(error), "valid": {"one_step": None}}
    else:
        result |= {"seconds": round(module.train_seconds, 1), "curve": curve.points}
        for split in ("valid", "test") if cell.stage == "final" else ("valid",):
            result[split] = scores_of(evaluate(emulator, data, split, rollout_batch_size=4))
        if cell.stage == "final":
            result["bands"] = band_errors(emulator, data)
            path = cell.path(weights).with_suffix(".safetensors")
            with atomic_path(path) as temporary:
                save_file(
                    {name: value.contiguous() for name, value in emulator.state_dict().items()},
                    temporary,
                )
    path = cell.path(output)
    return write_result(path, result)


def band_errors(model: IncrementEmulator, data: WellDataModule) -> list[float | None]:
    """Error of one step that each of The Well's three bands of wavenumber carries, on every fourth
    window of validation.

    In units of VRMSE, sqrt( MSE in the band / (var(v) + eps) ), mean over windows and fields: for
    one window and field the squares add up to the square of its VRMSE.
    """
    found = []
    for following, target, valid, total in _predicted(model, data):
        mse = binned_spectral_mse(following, target, model.spatial, valid=valid)  # (B, bands, C)
        found.append(total.unsqueeze(1) * (mse / mse.sum(1, keepdim=True).clamp_min(1e-300)).sqrt())
    return [number(value) for value in torch.cat(found).mean((0, 2)).tolist()]


def wavelet_band_errors(model: IncrementEmulator, data: WellDataModule) -> dict[str, float | None]:
    """Likewise by band of a Haar transform, coarsest first (`wavelit.evaluation.curves`)."""
    found = []
    for following, target, valid, score in _predicted(model, data):
        for n, c in np.ndindex(*score.shape):
            u, v = following[n, c, None].numpy(), target[n, c, None].numpy()
            counted = None if valid is None else valid[n, 0].numpy()
            found.append(bands_over_time(u, v, counted, score[n, c, None].numpy())[:, 0])
    means = np.mean(found, axis=0).tolist()
    labels = band_labels(data.metadata.spatial_resolution)
    return dict(zip(labels, map(number, means), strict=True))


def _predicted(
    model: IncrementEmulator, data: WellDataModule
) -> Iterator[tuple[Tensor, Tensor, Tensor | None, Tensor]]:
    """One step of every fourth window of validation, a batch at a time: prediction and truth
    (B, C, *S), the cells that count (B, 1, *S), and the VRMSE (B, C).
    """
    for batch in _some_windows(data):
        with inference(model):
            following = model(batch.fields, batch.constants, batch.scalars)
        target = batch.target[:, 0]
        total = vrmse(following, target, model.spatial, valid=batch.valid)
        yield following, target, batch.valid, total
