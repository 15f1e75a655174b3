"""The entry for the leaderboard of the radiative layer holds what the model predicts."""

import json
import runpy
import sys
import zipfile

import numpy as np
import pytest
import torch

import wavelit
from runs import ONE_THREAD, SMALL
from wavelit.benchmarks.results import scores_of
from wavelit.data.datamodule import WellDataModule
from wavelit.evaluation.evaluate import evaluate
from wavelit.metrics import VRMSE
from wavelit.training.config import TrainConfig
from wavelit.training.run import build_model, fit

SCRIPT = "examples/the_well_leaderboard.py"


def layer(folder, fields=("density", "pressure", "velocity")):
    draw = np.random.default_rng(0).standard_normal
    values = {
        "density": draw((5, 9, 16, 24)).cumsum(1),
        "pressure": draw((5, 9, 16, 24)).cumsum(1),
        "velocity": draw((5, 9, 16, 24, 2)).cumsum(1),
    }
    return wavelit.write_dataset(
        folder,
        {name: values[name] for name in fields},
        splits={"train": 2, "valid": 1, "test": 2},
        name="turbulent_radiative_layer_2D",
        boundary_conditions=["periodic", "open"],
    )


def written(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", [SCRIPT, *map(str, words)])
    runpy.run_path(SCRIPT, run_name="__main__")


@pytest.mark.long
def test_the_entry_is_what_the_model_predicts(tmp_path, monkeypatch):
    data = WellDataModule(layer(tmp_path / "layer"), batch_size=3)
    model = build_model(data, **SMALL)
    model = fit(tmp_path / "run", data, model, TrainConfig(steps=2), ONE_THREAD)
    written(monkeypatch, tmp_path / "run", tmp_path / "entry.zip", "--name", "mine")
    with zipfile.ZipFile(tmp_path / "entry.zip") as archive:
        assert archive.namelist() == ["submission.json", "predictions.npz"]
        facts = json.loads(archive.read("submission.json"))
        with archive.open("predictions.npz") as file:
            predictions = np.load(file)["predictions"]
    assert facts["model_name"] == "mine"
    assert facts["parameters"] == model.n_parameters
    assert predictions.shape == (2 * 5, 1, 16, 24, 4)
    assert predictions.dtype == np.float32
    # Scored as the leaderboard says, it is the score of the run.
    score = VRMSE(data.field_names, 2)
    truth = torch.cat([batch.target[:, 0] for batch in data.windows("test")])
    score.update(torch.from_numpy(predictions[:, 0]).movedim(-1, 1), truth)
    due = scores_of(evaluate(model, data, "test"))["one_step"]
    assert float(score.compute()) == pytest.approx(due, rel=1e-3)


@pytest.mark.long
def test_another_dataset_is_refused(tmp_path, monkeypatch):
    data = WellDataModule(layer(tmp_path / "layer", ("density", "pressure")), batch_size=3)
    fit(tmp_path / "run", data, build_model(data, **SMALL), TrainConfig(steps=1), ONE_THREAD)
    with pytest.raises(SystemExit, match=r"predicts \['density', 'pressure'\] from 4 states"):
        written(monkeypatch, tmp_path / "run", tmp_path / "entry.zip")
    assert not (tmp_path / "entry.zip").exists()
