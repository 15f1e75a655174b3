"""What `wavelit transfer` runs, stage by stage; every result is a JSON under its output folder.

rates    what a sample of WaveLiT `nano-0.1` takes on systems that the accuracy benchmark has not;
         quiet machine
cost     what a joint step takes, next to steps of WaveLiT `nano-0.1` on its systems; quiet machine
joint    one model for all systems, or for all but those that are left out in turn
control  the same code and budget with a private trunk for every system: what is gained over it is
         gained by sharing
tuned    joint models trained on with all that there is of one of their systems
few      a few trajectories of a system, from the joint model and from scratch
pairs    likewise from a model of one other system, for every pair of the targets
map      what the pairs say: a table of ratios, and pictures
test     the scores of finished joint runs on the test split; read once, when all choices are made
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wavelit.benchmarks.accuracy import set_up
from wavelit.benchmarks.few_cells import FewCell, run_few
from wavelit.benchmarks.joint_cells import (
    JointCell,
    cost_of,
    measure_cost,
    measure_rates,
    run_joint,
    score_test,
)
from wavelit.benchmarks.protocol import read_rates
from wavelit.benchmarks.timing import write_rows
from wavelit.benchmarks.tuned_cells import TunedCell, run_tuned
from wavelit.checks.arguments import (
    listed,
    require_name,
    require_names,
    require_path,
    require_real,
    require_whole,
    shown,
)
from wavelit.errors import WavelitError
from wavelit.evaluation.transfer import (
    ARMS,
    measures_of,
    ratio,
    read_pairs,
    transfer_map,
    with_setting,
)
from wavelit.files.atomic import atomic_path

__all__ = ["STAGES", "run"]

STAGES = ("rates", "cost", "joint", "control", "tuned", "few", "pairs", "map", "test")
# Core-minutes of a model of one system, which pairs start from.
ALONE = 5.0
# How many trajectories are given where none are named.
GIVEN = {"few": ("1", "4", "all"), "pairs": ("4",), "map": ("4",)}
# Stages whose runs have a core-minute.
SHORT = ("tuned", "few", "pairs", "map")


def run(
    stage: str,
    config: str | os.PathLike[str] = "configs/joint/pocketwell.yaml",
    minutes: float | None = None,
    seeds: Sequence[int] = (0,),
    without: Sequence[str] = (),
    targets: Sequence[str] = (),
    trajectories: Sequence[str] = (),
    source: str = "40min/joint-0",
    stability: float | None = None,
    root: str | os.PathLike[str] = "datasets/pocketwell/small",
    output: str | os.PathLike[str] = "results/transfer",
    runs: str | os.PathLike[str] = "runs/transfer",
    tuning: str | os.PathLike[str] = "results/accuracy",
) -> Iterator[Path]:
    """Run what is missing of a stage, and yield every result's path as it is there.

    Args:
        stage: Of `STAGES`.
        config: Configuration of a joint training.
        minutes: Core-minutes of a run; 40 of a joint one, 1 of fine-tuning and on a few
            trajectories if absent. What pairs start from has 5.
        seeds: Of the runs.
        without: Systems to leave out, a joint run for each.
        targets: Systems that are fine-tuned on, or of which a few trajectories are given: names of
            folders in `root`.
        trajectories: How many: numbers, or "all"; 1, 4 and all if absent, 4 of pairs.
        source: The joint run that `tuned` and `few` start from, such as 40min/joint-0, or
            joint-1M, which comes with the package.
        stability: Of `tuned`, `few` and `pairs` that entry of the recipe, of all arms; that of
            `config` if absent. Results of each value need an `output` and `runs` of their own.
        root: Folder of the datasets, each under its system's name.
        output: Folder of the results.
        runs: Folder of the run folders.
        tuning: Folder of the rates that turn minutes into steps.

    Raises:
        WavelitError: An unknown stage, no dataset of a target's name, or an earlier stage is
            missing.
    """
    require_name("stage", stage, STAGES)
    if minutes is None:
        minutes = 1.0 if stage in SHORT else 40.0
    require_real("minutes", minutes, beyond=True)
    for seed in seeds:
        require_whole("seeds", seed, 0)
    left_out: list[str | None] = [*require_names("without", list(without), 0)] or [None]
    counts = [_count(each) for each in trajectories or GIVEN.get(stage, ())]
    due = {"rates": 1, "tuned": 1, "few": 1, "pairs": 2}.get(stage, 0)
    results, trained = require_path("output", output), require_path("runs", runs)
    if stage == "map":
        yield from _write_map(results, counts, minutes)
        return
    file, folder = require_path("config", config, is_file=True), require_path("root", root)
    for target in require_names("targets", list(targets), due):
        _require_dataset(target, folder)
    frozen = read_rates(require_path("tuning", tuning))
    set_up()
    if stage == "rates":
        yield measure_rates(targets, folder, results, frozen)
        return
    # Those of the accuracy benchmark go before.
    rates = {**read_rates(results), **frozen}
    if stage == "cost":
        yield measure_cost(file, folder, results)
    elif stage in ("tuned", "few", "pairs"):
        asked = JointCell(minutes, 0).configure(file, folder, 1)
        if stability is not None:
            recipe = dataclasses.replace(asked.train, stability=stability)
            asked = dataclasses.replace(asked, train=recipe)
        given = asked, cost_of(results), rates, folder, results, trained
        if stage == "tuned":
            tuned = itertools.product(seeds, targets)
            yield from run_tuned(
                [TunedCell(source, target, minutes, seed) for seed, target in tuned], *given
            )
        elif stage == "few":
            few = itertools.product(seeds, targets, counts)
            yield from run_few(
                [FewCell(source, target, count, minutes, seed) for seed, target, count in few],
                *given,
            )
        else:
            alone = {target: JointCell(ALONE, 0, only=target) for target in targets}
            yield from run_joint([*alone.values()], file, folder, results, trained, rates)
            pairs = itertools.product(seeds, counts, itertools.permutations(targets, 2))
            yield from run_few(
                [
                    FewCell(alone[start].name, target, count, minutes, seed)
                    for seed, count, (start, target) in pairs
                ],
                *given,
            )
    else:
        trunks = {"joint": ["shared"], "control": ["private"], "test": ["shared", "private"]}
        cells = [
            JointCell(minutes, seed, trunk, system)
            for seed, trunk, system in itertools.product(seeds, trunks[stage], left_out)
        ]
        if stage == "test":
            there = [cell for cell in cells if (results / f"{cell.name}.json").exists()]
            yield from score_test(there, results, trained)
        else:
            yield from run_joint(cells, file, folder, results, trained, rates)


def _require_dataset(name: str, root: Path) -> None:
    there = [path.name for path in sorted(root.glob("*")) if path.is_dir()]
    if name not in there:
        raise WavelitError(
            f"target: {root} has no dataset {shown(name)}; it has {listed(there) or 'none'}"
        )


def _write_map(output: Path, counts: Sequence[int | None], minutes: float) -> Iterator[Path]:
    """map.csv, a line for each pair, seed and kind of error, and two pictures."""
    # Drawing is loaded where something is drawn.
    from wavelit.evaluation.transfer_figures import map_figure, profile_figure

    cells: list[Any] = []
    if len(counts) == 1 and counts[0] is not None:
        cells = with_setting(read_pairs(output), (counts[0], minutes))
    if not cells:
        raise WavelitError(
            f"a map is of pairs with one number of trajectories and {minutes:g} core-minutes, and "
            f"{output} has {len(cells)} of {listed(map(str, counts))}: `wavelit transfer pairs`"
        )
    rows = [
        {
            **{name: cell[name] for name in ("source", "target", "seed")},
            "arm": cell["chosen"],
            "error": measure,
            **{arm: ratio(cell, measure, arm=arm) for arm in ARMS},
        }
        for cell in cells
        for measure in measures_of([cell])
    ]
    write_rows(output / "map.csv", rows)
    yield output / "map.csv"
    figures = {
        "map": map_figure(transfer_map(cells, arm="started")),
        "profiles": profile_figure(cells),
    }
    for name, figure in figures.items():
        with atomic_path(output / f"{name}.png") as path:
            figure.savefig(path, dpi=150, bbox_inches="tight", format="png")
        yield output / f"{name}.png"


def _count(given: str | int) -> int | None:
    if given == "all":
        return None
    if not str(given).isdecimal() or int(given) < 1:
        raise WavelitError(f"trajectories are numbers from 1 on, or 'all', not '{given}'")
    return int(given)
