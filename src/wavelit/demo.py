"""From nothing to a judged emulator: simulate a PocketWell system, train WaveLiT on it, report on the validation split."""

from __future__ import annotations

import os
from pathlib import Path

from wavelit.data.pocketwell import generate
from wavelit.data.well import WellDataModule
from wavelit.evaluate import Evaluation
from wavelit.judge import judge
from wavelit.run import TrainerConfig, build_model, fit
from wavelit.train import TrainConfig

__all__ = ["DEMO", "demo"]

# About five minutes of training on two CPU cores.
DEMO = TrainConfig(samples=12_000, validate_every=500, checkpoint_every=500)


def demo(
    system: str = "acoustic_scattering_maze",
    folder: str | os.PathLike[str] | None = None,
    size: str = "small",
    root: str | os.PathLike[str] = "datasets/pocketwell",
    train: TrainConfig = DEMO,
    threads: int | None = None,
) -> tuple[Evaluation, Path]:
    """Simulate, train, judge.

    Args:
        system: A system of PocketWell.
        folder: The run folder; runs/demo-<system> if absent.
        size: tiny, small or large.
        root: Where datasets are kept.
        train: Budget and recipe.
        threads: Threads of the CPU; None leaves PyTorch's choice.

    Returns:
        The scores on the validation split, and the path of the report.
    """
    folder = Path(folder or Path("runs") / f"demo-{system}")
    data = WellDataModule(os.fspath(generate(system, size, Path(root))))
    fit(folder, data, build_model(data), train, TrainerConfig(threads=threads))
    return judge(folder)
