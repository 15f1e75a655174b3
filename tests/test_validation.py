"""Rollouts among a run's validations: what is scored, which weights it chooses, that training does
not feel it.
"""

import csv

import pytest
import torch
from safetensors.torch import load_file

import wavelit
from runs import ONE_THREAD, SMALL, wave_dataset  # noqa: F401
from wavelit.data.datamodule import WellDataModule
from wavelit.data.sampling import spread
from wavelit.errors import WavelitError
from wavelit.metrics import vrmse
from wavelit.training.checkpoint_files import load_checkpoint
from wavelit.training.config import TrainConfig
from wavelit.training.joint import JointTrainConfig
from wavelit.training.run import build_model, fit

pytestmark = pytest.mark.usefixtures("undrawn")

STEPS = 5


def train(dataset, folder, **entries):
    data = WellDataModule(str(dataset), batch_size=3)
    recipe = TrainConfig(steps=24, validate_every=6, **entries)
    fit(folder, data, build_model(data, **SMALL), recipe, ONE_THREAD)
    return data


def curve(folder, name: str) -> dict[int, float]:
    """A logged score by the step that it stands at."""
    with (folder / "logs" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {int(row["step"]): float(row[name]) for row in rows if row.get(name)}


@pytest.fixture(scope="module", name="runs")
def two_runs(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    train(dataset, folder / "with", validate_rollout=STEPS)
    train(dataset, folder / "without")
    return folder


def test_the_score_is_that_of_rollouts_and_chooses_the_best_weights(dataset, runs):
    scores = curve(runs / "with", "val_rollout")
    assert len(scores) == 4
    chosen = min(scores, key=scores.get)
    # Rows stand at the number of the step before, counted from zero.
    assert load_checkpoint(runs / "with/checkpoints/best.ckpt")["global_step"] == chosen + 1
    windows = WellDataModule(str(dataset)).dataset("valid", n_steps_output=STEPS)
    model = wavelit.load(runs / "with", "best")
    errors = []
    for i in spread(len(windows), 8):
        batch = windows.collate(windows.__getitems__([i]))
        states = wavelit.rollout(model, batch.fields, STEPS)
        errors.append(vrmse(states, batch.target, 2))
    assert scores[chosen] == pytest.approx(float(torch.cat(errors).mean()), rel=1e-5)


def test_training_does_not_feel_it(runs):
    a, b = (load_file(runs / name / "weights/model.safetensors") for name in ("with", "without"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert curve(runs / "with", "val_vrmse") == curve(runs / "without", "val_vrmse")


def test_records_that_are_too_short_are_named_before_anything_is_written(dataset, tmp_path):
    with pytest.raises(WavelitError, match="13") as caught:
        train(dataset, tmp_path / "run", validate_rollout=9)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_processes_share_the_rollouts(dataset, monkeypatch):
    shares = []
    for rank in range(2):
        monkeypatch.setattr(WellDataModule, "_ranks", (rank, 2))
        data = WellDataModule(str(dataset))
        data.validation_rollout = STEPS
        _, rollouts = data.val_dataloader()
        shares += [torch.cat([batch.indices for batch in rollouts]).tolist()]
    n = len(WellDataModule(str(dataset)).dataset("valid", n_steps_output=STEPS))
    assert sorted(shares[0] + shares[1]) == spread(n, 8)
    assert abs(len(shares[0]) - len(shares[1])) <= 1


def test_what_cannot_be_is_refused():
    with pytest.raises(WavelitError, match="validate_rollout"):
        TrainConfig(steps=1, validate_rollout=-1)
    with pytest.raises(WavelitError, match="validate_rollout is not for joint models"):
        JointTrainConfig(steps=1, validate_rollout=4)
