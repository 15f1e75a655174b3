"""Rollouts from several starts of a record: where they start, and that they are those by hand."""

import json

import h5py
import numpy as np
import pytest
import torch

from wavelit.data.datamodule import WellDataModule
from wavelit.errors import WavelitError
from wavelit.evaluation.evaluate import Evaluation, evaluate, predict
from wavelit.evaluation.starts import Starts, starts_of
from wavelit.metrics import vrmse
from waves import write_waves


def damped(fields, constants, scalars):
    return 0.9 * fields[:, -1]


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return write_waves(tmp_path_factory.mktemp("waves") / "plane_waves", n_steps=24)


def cut(folder):
    for path in folder.glob("data/*/*.hdf5"):
        with h5py.File(path, "a") as file:
            file.attrs["split_in_time"] = [0.8, 0.1, 0.1]


@pytest.mark.parametrize(
    ("n_steps", "asked", "due"),
    [
        (24, None, None),
        (24, 1, None),
        # 20 states after the history: rollouts of 10 steps, 11 places to start.
        (24, 3, Starts((4, 9, 14), 10)),
        (24, 11, Starts(tuple(range(4, 15)), 10)),
        (6, 2, Starts((4, 5), 1)),
    ],
)
def test_they_are_evenly_spaced(n_steps, asked, due, tmp_path):
    data = WellDataModule(write_waves(tmp_path / "waves", n_steps=n_steps))
    assert starts_of(data, "valid", starts=asked) == due


@pytest.mark.parametrize(("n_steps", "count", "steps"), [(24, 11, 10), (48, 16, 22), (200, 16, 60)])
def test_a_split_that_is_cut_in_time_has_several(n_steps, count, steps, tmp_path):
    folder = write_waves(tmp_path / "waves", n_steps=n_steps)
    cut(folder)
    found = starts_of(WellDataModule(folder), "valid")
    assert (len(found.frames), found.n_steps) == (count, steps)
    assert found.frames[0] == 4
    assert found.frames[-1] == n_steps - steps
    assert set(np.diff(found.frames)) <= {n := min(np.diff(found.frames)), n + 1}
    assert starts_of(WellDataModule(folder), "valid", starts=1) is None


def test_too_many_are_refused(record):
    data = WellDataModule(record)
    with pytest.raises(WavelitError, match=r"starts=12: .* has room for 11 starts of rollouts"):
        evaluate(damped, data, starts=12)
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(WavelitError, match="starts"):
            evaluate(damped, data, starts=wrong)


def test_scores_are_those_by_hand(record):
    data = WellDataModule(record)
    evaluation = evaluate(damped, data, starts=3)
    found = evaluation.scores["model"].rollout
    assert found.shape == (6, 10, 1)
    assert evaluation.starts == 3
    u = torch.cat([torch.cat([b.fields, b.target], 1) for b in data.trajectories("valid")])
    due = []
    for trajectory in u:
        for start in (4, 9, 14):
            state, values = trajectory[start - 1], []
            for step in range(10):
                state = 0.9 * state
                values.append(vrmse(state[None], trajectory[start + step][None], 2)[0].tolist())
            due.append(values)
    np.testing.assert_allclose(found, due, rtol=1e-5)


def test_their_number_is_stated(record, tmp_path):
    evaluation = evaluate(damped, WellDataModule(record), starts=3)
    said = "Rollouts of 10 steps from 3 starts of each record, 6 in all."
    assert said in str(evaluation)
    content = json.loads(evaluation.save(tmp_path / "scores.json").read_text())
    assert content["starts"] == 3
    assert Evaluation.from_dict(content).starts == 3
    alone = evaluate(damped, WellDataModule(record))
    assert "starts" not in alone.to_dict()
    assert alone.scores["model"].rollout.shape == (2, 20, 1)


def test_a_rollout_may_end_early(record):
    (batch, *_) = WellDataModule(record).trajectories("valid")
    whole, _ = predict(damped, batch)
    part, truth = predict(damped, batch, n_steps=5)
    assert torch.equal(part, whole[:, :5])
    assert truth.shape == part.shape
    with pytest.raises(WavelitError, match="leaves 5 states to predict"):
        predict(damped, batch, start=20, n_steps=5)
