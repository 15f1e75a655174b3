"""What `wavelit transfer` runs, stage by stage; every result is a JSON under its output folder.

cost     what a joint step takes, next to steps of WaveLiT `nano` on its systems; quiet machine
joint    one model for all systems, or for all but those that are left out in turn
control  the same code and budget with a private trunk for every system: what is gained over it is
         gained by sharing
test     the scores of finished runs on the test split; read once, when all choices are made
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from wavelit.benchmarks.accuracy import set_up
from wavelit.benchmarks.joint_cells import JointCell, measure_cost, run_joint, score_test
from wavelit.checks.arguments import (
    require_name,
    require_names,
    require_path,
    require_real,
    require_whole,
)

__all__ = ["STAGES", "run"]

STAGES = ("cost", "joint", "control", "test")


def run(
    stage: str,
    config: str | os.PathLike[str] = "configs/joint/pocketwell.yaml",
    minutes: float = 40.0,
    seeds: Sequence[int] = (0,),
    without: Sequence[str] = (),
    root: str | os.PathLike[str] = "datasets/pocketwell/small",
    output: str | os.PathLike[str] = "results/transfer",
    runs: str | os.PathLike[str] = "runs/transfer",
    tuning: str | os.PathLike[str] = "results/accuracy",
) -> Iterator[Path]:
    """Run what is missing of a stage, and yield every result's path as it is there.

    Args:
        stage: Of `STAGES`.
        config: Configuration of a joint training.
        minutes: Core-minutes of a run.
        seeds: Of the runs.
        without: Systems to leave out, a run for each.
        root: Folder of the datasets, each under its system's name.
        output: Folder of the results.
        runs: Folder of the run folders.
        tuning: Folder of the rates that turn minutes into steps.

    Raises:
        WavelitError: An unknown stage or system, or an earlier stage is missing.
    """
    require_name("stage", stage, STAGES)
    require_real("minutes", minutes, beyond=True)
    for seed in seeds:
        require_whole("seeds", seed, 0)
    left_out: list[str | None] = [*require_names("without", list(without), 0)] or [None]
    source, folder = require_path("config", config, is_file=True), require_path("root", root)
    results, trained = require_path("output", output), require_path("runs", runs)
    set_up()
    if stage == "cost":
        yield measure_cost(source, folder, results)
        return
    trunks = {"joint": ["shared"], "control": ["private"], "test": ["shared", "private"]}[stage]
    cells = [
        JointCell(minutes, seed, trunk, system)
        for seed, trunk, system in itertools.product(seeds, trunks, left_out)
    ]
    if stage == "test":
        yield from score_test(
            [cell for cell in cells if (results / f"{cell.name}.json").exists()],
            source,
            folder,
            results,
            trained,
        )
        return
    yield from run_joint(cells, source, folder, results, trained, require_path("tuning", tuning))
