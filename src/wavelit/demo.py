"""From nothing to a judged emulator: simulate a PocketWell system, train WaveLiT on it, report
on the validation split.
"""

from __future__ import annotations

import os
from pathlib import Path

from wavelit.api import fit
from wavelit.checks.arguments import (
    most_threads,
    require_instance,
    require_name,
    require_path,
    require_whole,
)
from wavelit.data.datamodule import WellDataModule
from wavelit.data.pocketwell import SYSTEMS, generate
from wavelit.evaluation.evaluate import Evaluation
from wavelit.evaluation.evaluate_run import evaluate_run
from wavelit.training.config import TrainConfig, TrainerConfig

__all__ = ["DEMO", "demo"]

# A budget in minutes, so that the demo ends in five on a slow machine too, with the simulation and
# the report; the configs count samples and are repeatable.
DEMO = TrainConfig(minutes=3.5)


def demo(
    system: str = "acoustic_scattering_maze",
    folder: str | os.PathLike[str] | None = None,
    size: str = "small",
    root: str | os.PathLike[str] = "datasets/pocketwell",
    train: TrainConfig = DEMO,
    threads: int = 1,
) -> tuple[Evaluation, Path]:
    """Simulate, train, judge.

    Args:
        system: A system of PocketWell.
        folder: The run folder; runs/demo-<system> if absent, with a number behind it if that is
            taken.
        size: tiny, small or large.
        root: Where datasets are kept.
        train: Budget and recipe.
        threads: Threads of the CPU.

    Returns:
        The scores on the validation split, and the path of the report.

    Raises:
        WavelitError: An unknown system or size, or what `wavelit.training.run.fit` refuses.
    """
    require_name("system", system, SYSTEMS)
    require_name("size", size, SYSTEMS[system].shapes)
    require_instance("train", train, TrainConfig, "give a TrainConfig")
    require_whole("threads", threads, high=most_threads())
    folder = (
        require_path("folder", folder)
        if folder is not None
        else _free_folder(Path("runs"), f"demo-{system}")
    )
    path = generate(system, size, require_path("root", root))
    data = WellDataModule(os.fspath(path), mask_field=SYSTEMS[system].mask_field)
    fit(folder, data, train=train, trainer=TrainerConfig(threads=threads))
    return evaluate_run(folder)


def _free_folder(parent: Path, name: str) -> Path:
    number = 1
    while (parent / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return parent / (name if number == 1 else f"{name}-{number}")
