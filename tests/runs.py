"""A small run on plane waves, that tests of run folders and of resuming share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from wavelit.data.datamodule import WellDataModule
from wavelit.model.wavelit import WaveLiT
from wavelit.training.config import TrainConfig, TrainerConfig
from wavelit.training.run import build_model, fit
from waves import write_waves

SMALL = {"embed_dim": 16, "num_heads": 2, "depth": 2, "levels": 1, "num_scales": 2}
RECIPE = TrainConfig(
    steps=24, validate_every=9, checkpoint_every=6, noise=0.1, pushforward=3, pushforward_from=0.3
)
ONE_THREAD = TrainerConfig(accelerator="cpu", threads=1)


def train(dataset: str, folder: str) -> WaveLiT:
    torch.manual_seed(123)
    data = WellDataModule(dataset, n_steps_output=3, batch_size=4)
    return fit(folder, data, build_model(data, **SMALL), RECIPE, ONE_THREAD)


@pytest.fixture(scope="module", name="dataset")
def wave_dataset(tmp_path_factory) -> Path:
    return write_waves(tmp_path_factory.mktemp("waves") / "plane_waves")


@pytest.fixture(scope="module", name="run")
def whole_run(dataset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(str(dataset), str(folder))
    return folder


def differences(a, b, path: str = "") -> list[str]:
    """Where two checkpoints differ, folders and times aside."""
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [f"{path}: keys {a.keys() ^ b.keys()}"]
        skipped = {"callbacks", "train_seconds", "loops"}
        return [
            d
            for key in a
            if key not in skipped
            for d in differences(a[key], b[key], f"{path}/{key}")
        ]
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return [f"{path}: length"]
        return [
            d
            for i, (x, y) in enumerate(zip(a, b, strict=True))
            for d in differences(x, y, f"{path}/{i}")
        ]
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [path]
    if hasattr(a, "shape"):
        return [] if (a == b).all() else [path]
    return [] if a == b else [path]


def run_script(script: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    everything = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, "-c", script],
        env=everything,
        capture_output=True,
        check=False,
        timeout=240,
    )


def fake_scontrol(folder: Path) -> tuple[Path, str]:
    """A file that every call of a stand-in for SLURM's scontrol adds its arguments to, and a PATH
    that has it first.
    """
    said, command = folder / "said", folder / "bin" / "scontrol"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$@" >> {said}\n')
    command.chmod(0o755)
    return said, f"{command.parent}:{os.environ['PATH']}"


def same_weights(*folders: Path) -> bool:
    return (
        differences(*(load_file(folder / "weights" / "model.safetensors") for folder in folders))
        == []
    )
