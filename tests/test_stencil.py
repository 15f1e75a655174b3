"""The linear stencil: exact where a linear scheme is, and what is concluded from it."""

import numpy as np
import pytest
import torch

from wavelit.data.datamodule import WellDataModule
from wavelit.data.writing.write import write_dataset
from wavelit.evaluation import stencil
from wavelit.evaluation.averages import STENCIL, Scores
from wavelit.evaluation.evaluate import evaluate
from wavelit.evaluation.rollout import persistence
from wavelit.evaluation.stencil import fit_stencil
from wavelit.evaluation.verdict import verdict

SPLITS = {"train": 3, "valid": 1, "test": 1}
KINDS = {"wrap": "periodic", "edge": "wall"}


def neighbour(u, axis, step, mode):
    pad = [(0, 0)] * u.ndim
    pad[axis] = (1, 1)
    n = u.shape[axis]
    return np.take(np.pad(u, pad, mode=mode), range(1 + step, 1 + step + n), axis)


def advected(modes, cells=16, n_steps=12):
    """Upwind advection and diffusion of two fields that feed on one another, by one linear step,
    (5, T, *S) each.
    """
    rng = np.random.default_rng(0)
    grid = (cells,) * len(modes)
    a, b = rng.normal(size=(2, 5, *grid))
    records = [[], []]
    for _ in range(n_steps):
        for record, u in zip(records, (a, b), strict=True):
            record.append(u)
        new = []
        for u, other in ((a, b), (b, a)):
            following = u + 0.02 * other + 0.01
            for axis, mode in enumerate(modes):
                low, high = (neighbour(u, 1 + axis, step, mode) for step in (-1, 1))
                following = following + 0.1 * (low + high - 2 * u) - 0.05 * (u - low)
            new.append(following)
        a, b = new
    a, b = (np.stack(record, 1) for record in records)
    return {"a": a, "b": b}


def dataset(folder, fields, modes, **options):
    return WellDataModule(
        write_dataset(
            folder,
            fields,
            splits=SPLITS,
            name="linear",
            boundary_conditions=[KINDS[mode] for mode in modes],
            **options,
        )
    )


@pytest.mark.parametrize(
    "modes", [("wrap",), ("edge",), ("wrap", "edge"), ("edge", "wrap", "wrap")]
)
def test_it_is_exact_for_a_linear_scheme(modes, tmp_path):
    cells = 8 if len(modes) == 3 else 16
    data = dataset(tmp_path / "linear", advected(modes, cells), modes)
    fitted = fit_stencil(data)
    assert fitted.n_frames == 4
    scores = evaluate(fitted, data).scores
    assert scores["model"].one_step.max() < 2e-6
    assert scores["model"].rollout.max() < 2e-5
    assert scores["persistence"].one_step.min() > 0.01


def test_cells_that_do_not_count_are_left_out_of_the_fit(tmp_path):
    """They hold what would spoil a fit; the scheme looks the other way."""
    modes = ("edge", "edge")
    fields = {name: u.copy() for name, u in advected(modes).items()}
    land = np.zeros((5, 16, 16))
    land[:, :, 10:] = 1.0
    rng = np.random.default_rng(1)
    for name, u in fields.items():
        u[:, :, :, 10:] = 0.0
        following = np.zeros_like(u)
        following[:, 0] = u[:, 0]
        for t in range(u.shape[1] - 1):
            low = neighbour(following[:, t], 2, -1, "edge")
            following[:, t + 1] = 0.9 * following[:, t] + 0.1 * low
        fields[name] = np.where(land[:, None] == 1, rng.normal(size=u.shape), following)
    folder = tmp_path / "land"
    dataset(folder, fields, modes, constant_fields={"land": land}, mask_field="land")
    data = WellDataModule(str(folder), mask_field="land")
    scores = evaluate(fit_stencil(data), data).scores
    assert scores["model"].one_step.max() < 2e-6


@pytest.mark.parametrize(("most", "frames"), [(72, 4), (71, 2), (35, 1), (17, None)])
def test_a_long_history_is_cut(most, frames, tmp_path, monkeypatch):
    monkeypatch.setattr(stencil, "MOST_COLUMNS", most)
    modes = ("wrap", "wrap")
    data = dataset(tmp_path / "linear", advected(modes), modes)
    fitted = fit_stencil(data)
    assert (None if fitted is None else fitted.n_frames) == frames
    evaluation = evaluate(persistence, data, stencil=True)
    assert (STENCIL in evaluation.scores) == (frames is not None)


def test_few_cells_are_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(stencil, "MOST_PRODUCTS", 1.0)
    modes = ("wrap", "edge")
    data = dataset(tmp_path / "linear", advected(modes), modes)
    assert evaluate(fit_stencil(data), data).scores["model"].one_step.max() < 1e-5


@pytest.mark.parametrize(("steps", "windows"), [(5, 3), (30, 39)])
def test_all_cells_are_read_where_windows_are_few(steps, windows, tmp_path, monkeypatch):
    """As many unknowns from fewer windows need more cells of each."""
    seen = {}
    monkeypatch.setattr(
        stencil,
        "fit_windows",
        lambda windows, *others: seen.update(
            came=sum(len(batch.fields) for batch in windows), told=others[-1]
        ),
    )
    fields = {"u": np.random.default_rng(0).normal(size=(5, steps, 16))}
    fit_stencil(dataset(tmp_path / "few", fields, ("wrap",)))
    assert seen["came"] == windows
    assert windows <= seen["told"] <= 64


def test_it_stands_beside_a_model_and_the_sentence_follows(tmp_path):
    modes = ("wrap", "edge")
    data = dataset(tmp_path / "linear", advected(modes), modes)
    before = torch.random.get_rng_state()
    evaluation = evaluate(persistence, data, stencil=True)
    assert torch.equal(before, torch.random.get_rng_state())
    assert list(evaluation.scores) == ["model", "persistence", STENCIL]
    assert evaluation.training_error == pytest.approx(
        evaluation.scores["model"].one_step.mean(), rel=0.5
    )
    assert "No better than linear one step ahead: " in str(evaluation)
    back = type(evaluation).from_dict(evaluation.to_dict())
    assert back.training_error == evaluation.training_error
    assert str(back) == str(evaluation)
    older = {k: v for k, v in evaluation.to_dict().items() if k != "training_error"}
    assert type(evaluation).from_dict(older).training_error is None


def scores(single, rollout, n=3, steps=30):
    rollout = np.broadcast_to(np.asarray(rollout, float), (n, steps))[..., None].copy()
    return Scores(np.full((9, 1), single), rollout)


def case(single=0.01, rollout=0.1, training=0.01, linear=(0.1, 0.3)):
    each = {"m": scores(single, rollout), "persistence": scores(0.2, 0.8)}
    if linear is not None:
        each[STENCIL] = scores(*linear)
    return verdict("m", each, training)


GROWING = np.geomspace(0.1, 100, 30)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "Better than persistence and a linear stencil: one step ahead 0.0100 against"),
        ({"linear": None, "training": None}, "Better than persistence: one step ahead 0.0100"),
        ({"single": 0.098, "training": 0.09}, "No better than linear one step ahead: 0.0980"),
        ({"single": 0.3, "training": 0.3}, "No better than linear one step ahead"),
        (
            {"single": 0.098, "training": 0.09},
            ", but better over rollout steps 1:20: 0.1000 against",
        ),
        ({"single": 0.3, "training": 0.3, "rollout": 0.5}, "0.1000 of a linear stencil."),
        ({"rollout": 0.29}, "No better than linear over rollout steps 1:20: 0.2900"),
        ({"rollout": 0.9, "linear": (0.1, np.inf)}, "No better than persistence over rollout"),
        ({"training": 0.005}, "Over-fitted: one step ahead the error is 0.0100, 2.0 times the"),
        ({"single": 0.3, "training": 0.1}, "a linear stencil does as well: train on more"),
        ({"training": 0.0067}, "Better than"),
        ({"rollout": GROWING}, "Unstable from step 16 on: in 3 of 3 rollouts"),
        ({"rollout": [[0.1] * 30, [0.1] * 30, [0.1] * 9 + [np.inf] * 21]}, "step 10 on: in 1 of 3"),
        # What comes back is not unstable.
        ({"rollout": [0.1] * 10 + [5.0] * 2 + [0.1] * 18, "linear": (0.1, 2.0)}, "Better than"),
    ],
)
def test_each_case_has_its_sentence(given, said):
    sentence = case(**given)
    assert said in sentence
    assert sentence.endswith(".")
    assert len(sentence.splitlines()) == 1


def test_fields_that_decay_are_not_taken_for_unstable_rollouts():
    decayed = scores(0.2, np.geomspace(0.2, 50, 30))
    good = scores(0.01, np.geomspace(0.01, 4, 30))
    assert "Better than persistence" in verdict("m", {"m": good, "persistence": decayed})
