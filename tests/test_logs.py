"""What is seen while a run trains: the bar of a terminal, pictures in TensorBoard."""

import io

import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from runs import ONE_THREAD, SMALL, differences, wave_dataset  # noqa: F401, as a fixture
from wavelit.data.datamodule import WellDataModule
from wavelit.evaluation import watch
from wavelit.evaluation.evaluate import one_step
from wavelit.evaluation.rollout import persistence
from wavelit.evaluation.watch import RolloutPictures
from wavelit.model.network import NetworkEmulator
from wavelit.training import run
from wavelit.training.config import TrainConfig
from wavelit.training.logs import FirstValidation, ProgressBar
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


@pytest.mark.long
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


def test_the_first_score_is_the_model_s_and_leaves_no_trace(dataset, tmp_path, capsys, monkeypatch):
    """A new model predicts no change, so its score is that of persistence; a network with dropout
    trains to the same weights with and without the score.
    """
    data = WellDataModule(str(dataset))
    found = {}
    for name in ("scored", "not"):
        torch.manual_seed(1)
        layers = [nn.Conv2d(4, 4, 3, padding=1), nn.Dropout(0.5), nn.Conv2d(4, 1, 1)]
        network = NetworkEmulator(nn.Sequential(*layers))
        nn.init.zeros_(layers[2].weight), nn.init.zeros_(layers[2].bias)
        recipe = TrainConfig(steps=3, lr=1e-2, wavelet_weight=0)
        if name == "not":
            monkeypatch.setattr(FirstValidation, "on_train_start", lambda *_: None)
        found[name] = fit(tmp_path / name, data, network, recipe, seed=2)
        said = capsys.readouterr().out
        assert ("before any step" in said) == (name == "scored")
        if name == "scored":
            score = float(said.split("VRMSE ")[1].split()[0])
            (due,) = one_step({"none": persistence}, data.windows("valid")).values()
            assert score == pytest.approx(due.mean(), abs=1e-4)
    assert not differences(*(model.state_dict() for model in found.values()))
