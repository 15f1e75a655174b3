"""Several runs side by side: one table of their scores, and a page that plays their rollouts beside
the same truth.

All start at the longest history among them, so that every step is predicted by all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from rich.table import Table
from torch import Tensor

from wavelit.checks.arguments import (
    listed,
    require_name,
    require_path,
    require_whole,
    shown,
)
from wavelit.data.datamodule import WellDataModule
from wavelit.data.well import WellDataset
from wavelit.errors import WavelitError, printable
from wavelit.evaluation.evaluate import Evaluation, evaluate
from wavelit.evaluation.opened_run import chosen_device, open_run, roll_out_one, several, to_play
from wavelit.evaluation.orientation import view_of
from wavelit.evaluation.page import flat, text_of, write_page
from wavelit.evaluation.player import MAX_RUNS, Rollout, player
from wavelit.evaluation.published import beside_published
from wavelit.evaluation.report import summary
from wavelit.files.atomic import require_writable
from wavelit.model.emulator import IncrementEmulator
from wavelit.training.joint_folder import settings_alone, systems_of
from wavelit.training.run_folder import Weights, fields_of

__all__ = ["compare_runs", "published_tables"]


@dataclass(frozen=True)
class _Run:
    folder: Path
    system: str | None
    model: IncrementEmulator
    module: WellDataModule
    trajectories: WellDataset


def compare_runs(
    folders: Sequence[str | os.PathLike[str]],
    split: str = "valid",
    weights: Weights = "final",
    data: str | None = None,
    device: str | None = None,
    report: str | os.PathLike[str] | None = None,
    orientation: str | Sequence[str] | None = None,
    start: int | None = None,
    system: str | None = None,
) -> Evaluation:
    """Score runs on one split, and write a page that plays their rollouts side by side.

    Args:
        folders: One to six runs of one dataset: the same fields, grid and trajectories.
        split: valid or test.
        weights: The final averaged weights, or those of the best validation.
        data: Another dataset folder with the same fields, for all; each run's own if absent.
        device: Where to run; a GPU if there is one.
        report: The HTML file; none is written if absent.
        orientation: The axes that run to the right and upwards (`wavelit.evaluation.orientation`).
        start: True states before the first that is predicted; the longest history if absent.
        system: Of joint runs of several systems, which one.

    Returns:
        The scores of all runs, by name, and of persistence; its history is the longest.

    Raises:
        WavelitError: Not as many runs, no run or weights there, or runs of different data.
    """
    if not isinstance(folders, list | tuple) or not 1 <= len(folders) <= MAX_RUNS:
        raise WavelitError(f"folders must be a list of 1 to {MAX_RUNS} runs, not {shown(folders)}")
    if start is not None:
        require_whole("start", start)
    require_name("split", split, ("valid", "test"))
    require_name("weights", weights, get_args(Weights))
    device = chosen_device(device)
    target = None if report is None else require_path("report", report, is_file=True)
    if target is not None:
        require_writable(target.parent)
    paths = [require_path("folders", folder) for folder in folders]
    names = _names(paths)
    if system is not None:
        require_name("system", system, [each for path in paths for each in systems_of(path)])
    runs = {
        name: _Run(path, of, *open_run(path, weights, data, split, system=of))
        for name, path in zip(names, paths, strict=True)
        for of in [_system_of(path, system)]
    }
    _require_same_data(runs)
    first = next(iter(runs.values()))
    for run in runs.values():
        run.model.to(device)
    history = max(run.module.n_steps_input for run in runs.values())
    start = history if start is None else start
    rollouts = _rollouts(runs, start, device)
    view = view_of(first.trajectories.layouts[0].axes, orientation)
    evaluation = _evaluation(runs, split, history, start, device)
    if target is not None:
        write_page(
            target,
            evaluation,
            runs=names,
            summary=_summary(evaluation, names),
            player=player(
                rollouts,
                evaluation.field_names,
                evaluation,
                view=view,
                units=first.trajectories.field_units,
            ),
            settings=_differences(runs),
        )
    return evaluation


def published_tables(
    folders: Sequence[str | os.PathLike[str]],
    evaluation: Evaluation,
    weights: Weights = "final",
    data: str | None = None,
    system: str | None = None,
) -> list[Table | str]:
    """What `compare_runs` found beside published figures (`wavelit.evaluation.published`)."""
    paths = [require_path("folders", folder) for folder in folders]
    sizes, resolution, histories = {}, (), set()
    for name, path in zip(_names(paths), paths, strict=True):
        model, module, _ = open_run(
            path, weights, data, evaluation.split, system=_system_of(path, system)
        )
        sizes[name] = model.n_parameters
        resolution = tuple(module.metadata.spatial_resolution)
        histories.add(module.n_steps_input)
    if len(histories) > 1:
        many = " and ".join(map(str, sorted(histories)))
        return [f"published figures are of one history: these runs read {many} states"]
    return list(beside_published(evaluation, resolution, sizes))


def _system_of(path: Path, system: str | None) -> str | None:
    """The system if the run has it: another run has its only one."""
    return system if system in systems_of(path) else None


def _names(paths: list[Path]) -> list[str]:
    """The folders' own names, or where two are the same their whole paths.

    Raises:
        WavelitError: a folder is given twice.
    """
    whole = [os.path.abspath(path) for path in paths]
    twice = next((path for path in whole if whole.count(path) > 1), None)
    if twice is not None:
        raise WavelitError(f"expected different runs, got {printable(twice)} twice: name it once")
    names = [Path(path).name for path in whole]
    return [printable(each, 80) for each in (names if len({*names}) == len(names) else whole)]


def _require_same_data(runs: dict[str, _Run]) -> None:
    """Refuse runs of different data.

    Raises:
        WavelitError: names the first difference.
    """
    (first_name, first), *others = runs.items()
    expected = _facts(first)
    for name, run in others:
        for what, value in _facts(run).items():
            if value != expected[what]:
                raise WavelitError(
                    f"expected runs of the same {what}, got {printable(expected[what], 100)} in "
                    f"{printable(first_name, 60)} and {printable(value, 100)} in "
                    f"{printable(name, 60)}: compare runs of one dataset, or name it with --data"
                )


def _facts(run: _Run) -> dict[str, str]:
    """What runs must have in common to be compared."""
    return {
        "dataset": run.module.metadata.dataset_name,
        "fields": listed(fields_of(run.module)["fields"]),
        "grid": " x ".join(map(str, run.module.metadata.spatial_resolution)),
        "number of trajectories": str(len(run.trajectories)),
    }


def _rollouts(runs: dict[str, _Run], start: int, device: str) -> list[Rollout]:
    """The first trajectories of the split, each predicted by every run.

    Raises:
        WavelitError: the runs' truths differ.
    """
    found: list[Rollout] = []
    first, number, wanted = next(iter(runs.values())), 0, 1
    while number < wanted:
        predictions: dict[str, Tensor] = {}
        truth: Tensor | None = None
        for name, run in runs.items():
            batch, predictions[name], its_truth = roll_out_one(
                run.model, run.trajectories, number, device, start
            )
            truth = its_truth if truth is None else truth
            same = truth.shape == its_truth.shape
            if not same or not torch.allclose(truth, its_truth, 0, 0, equal_nan=True):
                raise WavelitError(
                    f"expected runs of the same data, got another trajectory {number} in "
                    f"{printable(name, 60)}: name one dataset for all with --data"
                )
        assert truth is not None
        found.append(to_play(number, batch, truth, predictions))
        wanted, number = several(first.trajectories, truth, len(runs)), number + 1
    return found


def _evaluation(
    runs: dict[str, _Run], split: str, history: int, start: int, device: str
) -> Evaluation:
    each = {
        name: evaluate(run.model, run.module, split, model=name, start=start, device=device)
        for name, run in runs.items()
    }
    first = next(iter(each.values()))
    scores = {name: evaluation.scores[name] for name, evaluation in each.items()}
    beside = {name: held for name, held in first.scores.items() if name not in scores}
    return Evaluation(
        first.dataset,
        split,
        first.model,
        first.field_names,
        history,
        start,
        {**scores, **beside},
        starts=first.starts,
        time_step=first.time_step,
        time_unit=first.time_unit,
    )


def _summary(evaluation: Evaluation, names: list[str]) -> str:
    """The runs by their mean score over the last window, and what stands in the first's report."""
    row = [row for row in evaluation.rows() if row.how == "mean"][-1]
    ranked = sorted(names, key=lambda name: float(row.scores[name][0]))
    return (
        f"{len(names)} runs, by mean VRMSE over rollout steps {row.steps} from the best: "
        f"{', '.join(ranked)}. All are rolled out from state {evaluation.start}; one step is "
        f"scored on each run's own windows. Of {names[0]}: {summary(evaluation)}"
    )


def _differences(runs: dict[str, _Run]) -> dict[str, dict[str, str]]:
    """The settings in which the runs differ, and their sizes, by run."""
    settings = {
        name: dict(flat(settings_alone(run.folder, run.system))) for name, run in runs.items()
    }
    entries = sorted({entry for each in settings.values() for entry in each})
    differing = [
        entry
        for entry in entries
        if len({each.get(entry, "none") for each in settings.values()}) > 1
    ]
    return {
        name: {
            "parameters": text_of(run.model.n_parameters),
            **{entry: settings[name].get(entry, "none") for entry in differing},
        }
        for name, run in runs.items()
    }
