"""What is seen while a run trains: the bar of a terminal, pictures in TensorBoard."""

import io

import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from runs import ONE_THREAD, SMALL, wave_dataset  # noqa: F401, as a fixture
from wavelit.data.datamodule import WellDataModule
from wavelit.evaluation import watch
from wavelit.evaluation.watch import RolloutPictures
from wavelit.training import run
from wavelit.training.config import TrainConfig
from wavelit.training.logs import ProgressBar
from wavelit.training.run import build_model, fit

RECIPE = TrainConfig(steps=6, validate_every=3)


def test_a_terminal_shows_rate_time_loss_and_score(dataset, tmp_path, monkeypatch):
    screen = io.StringIO()
    bar = ProgressBar(Console(file=screen, force_terminal=True, width=120))
    monkeypatch.setattr(run.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(run, "ProgressBar", lambda: bar)
    data = WellDataModule(str(dataset), batch_size=4)
    fit(tmp_path / "run", data, build_model(data, **SMALL), RECIPE, ONE_THREAD)
    shown = screen.getvalue()
    for words in ("step 6", "100%", "steps/s", "loss 0.", "validation VRMSE 0."):
        assert words in shown, words


@pytest.mark.parametrize("bytes_", [watch.BYTES, 1])
def test_a_validation_leaves_a_picture(bytes_, dataset, tmp_path, monkeypatch):
    """Pictures change nothing of the run, and are left out where a window would be too large."""
    monkeypatch.setattr(watch, "BYTES", bytes_)
    weights = []
    for name in ("with", "without"):
        data = WellDataModule(str(dataset), batch_size=4)
        callbacks = [RolloutPictures()] if name == "with" else []
        model = build_model(data, **SMALL)
        fit(tmp_path / name, data, model, RECIPE, ONE_THREAD, callbacks=callbacks)
        weights.append(model.state_dict())
        events = EventAccumulator(str(tmp_path / name / "logs"), size_guidance={"images": 0})
        events.Reload()
        drawn = name == "with" and bytes_ > 1
        assert bool(events.Tags()["images"]) is drawn
        if drawn:
            steps = [image.step for image in events.Images("validation rollout")]
            assert steps == [3, 6]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
