"""A run folder opened to be judged: its model, the data it is judged on, and its rollouts."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wavelit.checks.arguments import listed, require_device, shown
from wavelit.data.batch import Batch
from wavelit.data.datamodule import WellDataModule
from wavelit.data.well import WellDataset
from wavelit.errors import WavelitError, printable
from wavelit.evaluation.evaluate import predict
from wavelit.evaluation.player import Rollout
from wavelit.evaluation.read_as import require_seen, warn_of_spacing, warn_of_time_step
from wavelit.files.plain import read_json
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.signature import Signature
from wavelit.training.joint_folder import chosen_system, load_system
from wavelit.training.run_folder import (
    Weights,
    fields_of,
    load_data,
    load_model,
    require_facts,
    require_there,
)

__all__ = [
    "chosen_device",
    "is_trained_on",
    "open_run",
    "roll_out_one",
    "several",
    "to_play",
    "trained_on",
]

# Trajectories that a report plays, and bytes that their truth and one prediction may take.
MAX_PLAYED, MAX_PLAYED_BYTES = 4, 2**30


def chosen_device(device: str | None) -> str:
    return require_device(
        ("cuda" if torch.cuda.is_available() else "cpu") if device is None else device
    )


def trained_on(folder: Path, system: str | None = None) -> dict[str, Any]:
    """What a run, or a system of a joint one, was trained on, with all its entries checked but
    "resolution", which older runs lack as they do "time steps". The only system needs no name.

    Raises:
        WavelitError: fields.json has no such entry, or another's kind of value; a joint run of
            several systems of which none is named.
    """
    path, system = folder / "fields.json", chosen_system(folder, system)
    facts: Any = read_json(path)
    if system is not None:
        facts = facts.get(system) if isinstance(facts, dict) else None
    if not isinstance(facts, dict):
        raise WavelitError(
            f"{printable(path)}: expected the names and grid of the data, got {shown(facts)}: put "
            "the run's own file back, or train it anew"
        )
    kinds: dict[str, tuple[str, bool, type]] = {
        "fields": ("names", True, str),
        "constant fields": ("names", True, str),
        "scalars": ("names", True, str),
        "time steps": ("two numbers", False, float),
        "resolution": ("whole numbers", False, int),
    }
    for name, (what, is_due, kind) in kinds.items():
        if name not in facts and not is_due:
            continue
        value = facts.get(name)
        allowed = (int, float) if kind is float else (kind,)
        fits = isinstance(value, list) and all(
            isinstance(each, allowed) and not isinstance(each, bool) for each in value
        )
        if not fits or (name == "time steps" and len(value or ()) != 2):
            raise WavelitError(
                f"{printable(path)}: expected {name!r}, a list of {what}, got {shown(value)}: put "
                "the run's own file back, or train it anew"
            )
    return facts


def is_trained_on(folder: Path, data: WellDataModule, system: str | None = None) -> bool:
    """Whether a run, or a system of a joint one, was trained on these data: by their names,
    statistics, and first and last training window.
    """
    try:
        require_facts(folder, data, trained_on(folder, system))
    except (WavelitError, OSError):
        return False
    return True


def open_run(
    folder: Path,
    weights: Weights,
    data: WellDataModule | str | None,
    split: str,
    network: nn.Module | None = None,
    system: str | None = None,
) -> tuple[IncrementEmulator, WellDataModule, WellDataset]:
    """The model, its data and the trajectories of the split, which the model can be judged on; of a
    joint run those of one system.

    Args:
        folder: The run.
        weights: Which weights.
        data: Another dataset folder; the run's own if None.
        split: The split.
        network: The network, of a run of a network of the user's own.
        system: Of a joint run, the system; its only one needs no name.

    Raises:
        WavelitError: none of several systems is named; the data are of other fields or boundaries,
            or have a scalar without the logarithm that the model sees.
    """
    system = chosen_system(folder, system)
    model, module = _model_and_data(folder, weights, network, system)
    if data is None:
        require_there(folder, module.path, "say where it is now, --data FOLDER (data=)")
    elif isinstance(data, WellDataModule):
        module = data
    else:
        module = module.replaced(path=data)
        # Parts of the training split are of the run's own data, wherever they stand now.
        partial = module.n_trajectories is not None or module.holdout is not None
        if partial and not is_trained_on(folder, module, system):
            module = module.replaced(trajectories=None, holdout=None)
    if model.n_steps_input not in (None, module.n_steps_input):
        raise WavelitError(
            f"the data have n_steps_input={module.n_steps_input}; the run's model has a history of "
            f"{model.n_steps_input}: give the data as many"
        )
    facts = trained_on(folder, system)
    for kind, names in fields_of(module).items():
        if names != facts[kind]:
            raise WavelitError(
                f"{printable(module.path)} has the {kind} {listed(names, 60)}; the run was trained "
                f"on {listed(facts[kind], 60)}: name a dataset with the same"
            )
    trajectories = module.rollout_dataset(split)
    _warn_of_spacing(facts, model.signature, module, trajectories)
    require_seen(model, module, trajectories)
    return model, module, trajectories


def _model_and_data(
    folder: Path, weights: Weights, network: nn.Module | None, system: str | None
) -> tuple[IncrementEmulator, WellDataModule]:
    """The model of a run, or of a system of a joint one, and what it was trained on."""
    if system is not None and network is not None:
        raise WavelitError(f"{folder} is a joint run, which its folder holds: leave model out")
    if system is not None:
        return load_system(folder, system, weights)
    if network is not None:
        return load_model(folder, weights, network), load_data(folder)
    return load_model(folder, weights), load_data(folder)


def _warn_of_spacing(
    facts: dict[str, Any], signature: Signature | None, module: WellDataModule, judged: WellDataset
) -> None:
    """A model assumes the distances of points and of states that it was trained with."""
    path, grid = printable(module.path), list(module.metadata.spatial_resolution)
    if (trained_grid := facts.get("resolution", grid)) != grid:
        has, had = (" x ".join(map(str, each)) for each in (grid, trained_grid))
        warnings.warn(
            f"{path} has the resolution {has}; the run was trained on {had}, whose spacing its "
            "model assumes",
            stacklevel=4,
        )
    elif signature is not None:
        warn_of_spacing(signature, judged, stacklevel=5)
        return
    warn_of_time_step(facts.get("time steps", (0.0, math.inf)), judged, stacklevel=5)


def roll_out_one(
    model: IncrementEmulator,
    dataset: WellDataset,
    trajectory: int,
    device: str,
    start: int | None = None,
) -> tuple[Batch, Tensor, Tensor]:
    """The batch of one trajectory, its prediction and its truth, both (1, steps, C, *S) on the
    CPU; `start` as in `predict`.
    """
    if not 0 <= trajectory < len(dataset):
        raise WavelitError(
            f"{printable(dataset.data_path)} has trajectories 0 to {len(dataset) - 1}, not "
            f"{shown(trajectory)}"
        )
    batch = dataset.collate(dataset.__getitems__([trajectory]))
    prediction, truth = predict(model, batch.to(device), start)
    return batch, prediction.cpu(), truth.cpu()


def several(dataset: WellDataset, states: Tensor, runs: int = 1) -> int:
    """How many trajectories a report plays, four at most, where one prediction is `states`."""
    size = states.numel() * states.element_size() * (1 + runs)
    return min(MAX_PLAYED, len(dataset), max(1, MAX_PLAYED_BYTES // size))


def to_play(number: int, batch: Batch, truth: Tensor, predictions: dict[str, Tensor]) -> Rollout:
    """Trajectory `number` of a split as a report plays it; states are (1, steps, C, *S)."""
    return Rollout(
        f"trajectory {number}",
        truth[0],
        {run: prediction[0] for run, prediction in predictions.items()},
        None if batch.valid is None else batch.valid[0, 0].cpu(),
    )
