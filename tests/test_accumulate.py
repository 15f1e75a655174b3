"""Gradients of several batches in one step: the same as of one large batch, each with noise of its
own, and a run that stops among them goes on bit for bit.
"""

import os
import signal

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from safetensors.torch import load_file

from runs import ONE_THREAD, SMALL, wave_dataset  # noqa: F401, as a fixture
from wavelit.data.datamodule import WellDataModule
from wavelit.errors import WavelitError
from wavelit.files.plain import read_json
from wavelit.training.checkpoint_files import load_checkpoint
from wavelit.training.config import TrainConfig
from wavelit.training.joint import JointTrainConfig
from wavelit.training.module import EmulatorModule
from wavelit.training.run import build_model, fit, resume

pytestmark = pytest.mark.usefixtures("undrawn")

STEPS = 8


def train(dataset, folder, batch_size, accumulate, noise=0.0, callbacks=()):
    data = WellDataModule(str(dataset), batch_size=batch_size)
    recipe = TrainConfig(
        steps=STEPS,
        # Rounding grows with it.
        lr=4e-3,
        accumulate=accumulate,
        noise=noise,
        validate_every=4,
        checkpoint_every=3,
    )
    torch.manual_seed(0)
    fit(folder, data, build_model(data, **SMALL), recipe, ONE_THREAD, callbacks=callbacks)
    return load_file(folder / "weights" / "model.safetensors")


def test_it_is_one_step_of_a_large_batch(dataset, tmp_path):
    large = train(dataset, tmp_path / "large", 8, 1)
    parts = train(dataset, tmp_path / "parts", 2, 4)
    alone = train(dataset, tmp_path / "alone", 2, 1)
    assert all(torch.allclose(large[name], parts[name], atol=2e-5) for name in large)
    assert not all(torch.allclose(large[name], alone[name], atol=1e-3) for name in large)
    outcomes = [
        read_json(tmp_path / name / "environment.json")["samples"] for name in ("large", "parts")
    ]
    assert outcomes == [64, 64]


def test_every_batch_has_noise_of_its_own(dataset, tmp_path, monkeypatch):
    seen = []
    inputs = EmulatorModule._inputs

    def noted(self, batch, batch_idx=0):
        found = inputs(self, batch, batch_idx)
        seen.append((self.global_step, float((found.fields - batch.fields).abs().sum())))
        return found

    monkeypatch.setattr(EmulatorModule, "_inputs", noted)
    train(dataset, tmp_path / "run", 2, 3, noise=0.1)
    assert [step for step, _ in seen] == [step for step in range(STEPS) for _ in range(3)]
    assert len({noise for _, noise in seen}) == 3 * STEPS


class Terminate(Callback):
    """SIGTERM in the middle of a step."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 3 * 4 + 1:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_that_is_stopped_within_a_step_ends_it_and_goes_on(dataset, tmp_path):
    whole = train(dataset, tmp_path / "whole", 2, 3, noise=0.1)
    with pytest.raises(WavelitError, match="interrupted at step 5"):
        train(dataset, tmp_path / "stopped", 2, 3, noise=0.1, callbacks=[Terminate()])
    assert load_checkpoint(tmp_path / "stopped/checkpoints/last.ckpt")["global_step"] == 5
    resume(tmp_path / "stopped")
    resumed = load_file(tmp_path / "stopped/weights/model.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_what_cannot_be_is_refused():
    with pytest.raises(WavelitError, match="accumulate"):
        TrainConfig(steps=1, accumulate=0)
    with pytest.raises(WavelitError, match="accumulate is not for joint models"):
        JointTrainConfig(steps=1, accumulate=2)
