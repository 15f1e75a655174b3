"""Evaluation: averages by hand, windows by their real ends, divergence, and the way from data to
table and back.
"""

import io
import json
import math
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from rich.console import Console
from the_well.data import WellDataset

from wavelit.data.batch import Batch
from wavelit.data.datamodule import WellDataModule
from wavelit.data.writing.write import write_dataset
from wavelit.errors import WavelitError
from wavelit.evaluation.evaluate import (
    Evaluation,
    Scores,
    Window,
    average,
    evaluate,
    format_score,
    format_table,
    one_step,
    predict,
    roll_out,
)
from wavelit.evaluation.rollout import persistence, rotation, write_rollout
from wavelit.metrics import vrmse


def batch(record, history, valid=None, index=0):
    return Batch(
        record[:, :history],
        record[:, history:],
        None,
        None,
        valid,
        torch.full((len(record),), index),
    )


def travelling(n, steps, cells=16, channels=1):
    """Random profiles that move by one cell a step."""
    start = torch.randn(
        n, channels, cells, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    return torch.stack([start.roll(t, dims=-1) for t in range(steps)], dim=1)


def advect(fields, constants, scalars):
    return fields[:, -1].roll(1, dims=-1)


def evaluation_of(rollout, one_step=None, names=("a", "b")):
    rollout = np.asarray(rollout, dtype=float)
    one_step = rollout[:, 0] if one_step is None else np.asarray(one_step, dtype=float)
    scores = {"model": Scores(one_step, rollout), "persistence": Scores(2 * one_step, 2 * rollout)}
    return Evaluation("waves", "test", "model", tuple(names), 4, 4, scores)


def test_printed_it_is_a_line_for_every_window():
    lines = str(evaluation_of(np.full((2, 7, 2), 0.25))).splitlines()
    assert lines[0] == "VRMSE on waves (test), over all fields"
    assert lines[1].split() == ["steps", "average", "as", "in", "model", "persistence"]
    assert [line.split()[0] for line in lines[2:]] == ["one"] * 2 + ["1:7"] * 2 + ["6:7"] * 2
    assert all(line.split()[-2:] == ["0.2500", "0.5000"] for line in lines[2:])


@pytest.mark.parametrize(
    ("step", "unit", "said"),
    [
        ((0.25, 0.25), "s", "A step is 0.25 s."),
        ((0.25, 0.2505), "", "A step is 0.25 in time."),
        ((1, 2.5), "d\n", r"A step is 1 to 2.5 d\n."),
        ((1.0, 1.0), "", None),
        (None, "s", None),
    ],
)
def test_it_says_how_long_a_step_is(step, unit, said):
    evaluation = replace(evaluation_of(np.ones((2, 3, 2))), time_step=step, time_unit=unit)
    assert evaluation.remarks() == ([] if said is None else [said])
    again = Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict())))
    assert (again.time_step, again.time_unit) == (step, unit)


@pytest.mark.parametrize("step", [3, (1,), (1, "a"), (0, 1), (1, np.nan)])
def test_a_step_that_is_none_is_refused(step):
    with pytest.raises(WavelitError, match="time_step must be"):
        replace(evaluation_of(np.ones((2, 3, 2))), time_step=step)


def test_averages_by_hand():
    values = np.zeros((3, 2, 2))  # trajectories, steps, fields
    values[:, 0] = [[1, 3], [2, 2], [6, 10]]
    values[:, 1] = [[0, 0], [4, 8], [1, 1]]
    assert average(values, "mean") == pytest.approx([38 / 12, 14 / 6, 24 / 6])
    # Field means are 2, 2, 8 and 0, 6, 1: medians 2 and 1. First field alone: 1, 2, 6 and 0, 4, 1.
    assert average(values, "median") == pytest.approx([1.5, 1.5, (3 + 1) / 2])


def test_windows_are_labelled_by_their_real_end():
    assert Window(21, 60).within(96) == Window(21, 60)
    assert Window(21, 60).within(56).label == "21:56"
    assert Window(13, 30).within(12) is None
    labels = {
        96: ["1:20", "6:12", "13:30", "21:60"],
        56: ["1:20", "6:12", "13:30", "21:56"],
        15: ["1:15", "6:12", "13:15"],
        3: ["1:3"],
    }
    for n_steps, expected in labels.items():
        evaluation = evaluation_of(np.ones((2, n_steps, 2)))
        assert [window.label for window, _ in evaluation.windows()] == expected
        assert [row.steps for row in evaluation.rows()] == [
            x for label in ["one step", *expected] for x in (label, label)
        ]


def test_windows_count_from_one_and_include_both_ends():
    steps = np.broadcast_to(np.arange(1, 97)[None, :, None], (2, 96, 2))
    rows = {(row.steps, row.how): row for row in evaluation_of(steps).rows()}
    for label in ("1:20", "6:12", "13:30", "21:60"):
        first, last = map(int, label.split(":"))
        for how in ("mean", "median"):
            assert rows[label, how].scores["model"] == pytest.approx([(first + last) / 2] * 3)
            assert rows[label, how].scores["persistence"] == pytest.approx([first + last] * 3)
    assert [(r.steps, r.how) for r in rows.values() if r.protocol == "The Well"] == [
        ("one step", "mean"), ("6:12", "mean"), ("13:30", "mean")]  # fmt: skip
    assert [(r.steps, r.how) for r in rows.values() if r.protocol == "Walrus"] == [
        ("one step", "median"), ("1:20", "median"), ("21:60", "median")]  # fmt: skip


def test_one_step_and_rollout_of_persistence_by_hand():
    record = travelling(3, 9)
    emulators = {"persistence": persistence, "exact": advect}
    rolled = roll_out(emulators, [batch(record[:2], 3), batch(record[2:], 3)])
    expected = torch.stack([vrmse(record[:, 2], record[:, 3 + n], 1) for n in range(6)], dim=1)
    assert rolled["persistence"].shape == (3, 6, 1)
    np.testing.assert_allclose(rolled["persistence"], expected.numpy(), rtol=1e-12)
    assert not rolled["exact"].any()

    windows = [batch(record[:, t : t + 4], 3) for t in range(6)]
    single = one_step(emulators, windows)
    assert single["persistence"].shape == (18, 1)
    # A step is the same shift everywhere, hence the same error in every window.
    np.testing.assert_allclose(
        single["persistence"].reshape(6, 3), np.tile(expected[:, 0, 0].numpy(), (6, 1))
    )
    assert not single["exact"].any()


def test_start_moves_the_history():
    record = travelling(1, 12)
    prediction, truth = predict(advect, batch(record, 3), start=8)
    assert truth.shape == (1, 4, 1, 16)
    assert torch.equal(truth, record[:, 8:])
    assert torch.equal(prediction, truth)
    held, _ = predict(persistence, batch(record, 3), start=8)
    assert torch.equal(held[:, -1], record[:, 7])
    for start in (2, 12):
        with pytest.raises(WavelitError, match="expected a start from 3"):
            predict(advect, batch(record, 3), start=start)


def test_excluded_cells_do_not_count():
    record = travelling(2, 6)
    valid = torch.ones(2, 1, 16, dtype=torch.bool)
    valid[..., :5] = False
    spoiled = record.clone()
    spoiled[:, 3:, :, :5] = 1e6
    emulators = {"persistence": persistence}
    clean = roll_out(emulators, [batch(record, 3, valid)])["persistence"]
    np.testing.assert_array_equal(
        clean, roll_out(emulators, [batch(spoiled, 3, valid)])["persistence"]
    )
    expected = vrmse(record[:, 2][..., 5:], record[:, 5][..., 5:], 1).numpy()
    np.testing.assert_allclose(clean[:, -1], expected)


def test_divergence_is_infinite_and_counted():
    record = travelling(3, 30, channels=2)

    def explode(fields, constants, scalars):
        following = fields[:, -1].roll(1, dims=-1)
        # The first trajectory alone overflows, and turns into NaN one step later.
        big = torch.isclose(fields[:, -1].mean((1, 2)), record[0, 0].mean()) | (
            fields[:, -1].abs().amax((1, 2)) > 1e10
        )
        return torch.where(big[:, None, None], following * 1e160, following)

    def spoil(fields, constants, scalars):
        return torch.where(fields[:, -1].isinf(), torch.nan, explode(fields, constants, scalars))

    scores = roll_out({"model": spoil, "persistence": persistence}, [batch(record, 4)])
    assert not np.isnan(scores["model"]).any()
    assert np.isinf(scores["model"][0, -1]).all()
    assert not scores["model"][1:].any()
    evaluation = Evaluation(
        "waves",
        "test",
        "model",
        ("a", "b"),
        4,
        4,
        {k: Scores(s[:, 0], s) for k, s in scores.items()},
    )
    assert evaluation.scores["model"].diverged == 1
    assert evaluation.scores["persistence"].diverged == 0
    rows = {(row.steps, row.how): row.scores["model"] for row in evaluation.rows()}
    assert np.isinf(rows["13:26", "mean"]).all()
    assert not rows["13:26", "median"].any()


def test_json_there_and_back(tmp_path):
    rollout = np.random.default_rng(0).random((3, 25, 2))
    rollout[1, 20:] = np.inf
    evaluation = evaluation_of(rollout)
    path = evaluation.save(tmp_path / "results" / "evaluation.json")
    content = json.loads(
        path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON")
    )
    assert content["eps"] == 1e-7
    assert "1e-07" in content["definitions"]["VRMSE"]
    assert "median over trajectories" in content["definitions"]["median"]
    assert content["scores"]["model"]["diverged"] == 1
    line = next(x for x in content["table"] if (x["steps"], x["average"]) == ("6:12", "mean"))
    assert line["protocol"] == "The Well"
    assert line["vrmse"]["model"]["b"] == pytest.approx(rollout[:, 5:12, 1].mean())
    assert (
        next(x for x in content["table"] if x["steps"] == "21:25")["vrmse"]["model"]["all"] == "inf"
    )
    back = Evaluation.from_dict(content)
    np.testing.assert_array_equal(back.scores["model"].rollout, rollout)
    assert back.to_dict() == content


def test_terminal_table_names_windows_and_divergence():
    rollout = np.full((2, 25, 2), 0.5)
    rollout[0, 22:] = np.inf
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(format_table(evaluation_of(rollout)))
    text = console.export_text()
    for expected in (
        "one step",
        "6:12",
        "13:25",
        "21:25",
        "0.5000",
        "1.0000",
        "∞",
        "1 of 2 diverged",
        "1e-07",
    ):
        assert expected in text
    assert format_score(0.00031) == "0.00031"
    assert format_score(math.inf) == "∞"
    assert format_score(12345.0) == "1.23e+04"


def test_errors_are_named():
    with pytest.raises(WavelitError, match="expected windows to evaluate"):
        one_step({"persistence": persistence}, [])
    with pytest.raises(WavelitError, match="one length"):
        roll_out(
            {"persistence": persistence}, [batch(travelling(1, 9), 3), batch(travelling(1, 8), 3)]
        )


def helmholtz(n, steps):
    """(n, steps, x, y) real and imaginary parts of u exp(-i w t) at 50 steps a period."""
    rng = np.random.default_rng(0)
    u = rng.normal(size=(n, 1, 8, 6)) + 1j * rng.normal(size=(n, 1, 8, 6))
    wave = u * np.exp(-2j * np.pi * np.arange(steps) / 50)[None, :, None, None]
    return wave.real.astype(np.float32), wave.imag.astype(np.float32)


@pytest.fixture(scope="module")
def staircase(tmp_path_factory):
    re, im = helmholtz(5, 12)
    return write_dataset(
        tmp_path_factory.mktemp("data") / "helmholtz_staircase",
        {"pressure_re": re, "pressure_im": im},
        splits={"train": 2, "valid": 1, "test": 2},
        name="helmholtz_staircase",
        boundary_conditions=["open", "wall"],
    )


def test_evaluate_reads_every_window_and_trajectory(staircase):
    data = WellDataModule(str(staircase), n_steps_input=4, batch_size=3)
    evaluation = evaluate(persistence, data, "test", model="held")
    assert evaluation.dataset == "helmholtz_staircase"
    assert list(evaluation.scores) == ["held", "persistence", "exact rotation"]
    assert evaluation.scores["held"].one_step.shape == (2 * 8, 2)
    assert evaluation.scores["held"].rollout.shape == (2, 8, 2)
    np.testing.assert_array_equal(
        evaluation.scores["held"].rollout, evaluation.scores["persistence"].rollout
    )
    assert evaluation.scores["persistence"].rollout.min() > 0.05
    # float32 data and steps: rounding, no more.
    assert evaluation.scores["exact rotation"].rollout.max() < 5e-6
    assert evaluate(persistence, data, "test", start=6).scores["model"].rollout.shape == (2, 6, 2)
    with pytest.raises(WavelitError, match="model name"):
        evaluate(persistence, data, "test", model="persistence")


def test_rotation_needs_its_fields():
    with pytest.raises(WavelitError, match="pressure_re"):
        rotation(["pressure_re", "density"])


def test_a_written_rollout_reads_back_through_the_well(tmp_path):
    names = {0: ["tracer"], 1: ["velocity_x", "velocity_y"], 2: ["D_xx", "D_xy", "D_yx", "D_yy"]}
    prediction = torch.randn(2, 5, 7, 8, 6, generator=torch.Generator().manual_seed(0))
    arguments = {
        "field_names": names,
        "boundary_conditions": [("periodic", "periodic"), ("wall", "open")],
        "dataset": "waves",
    }
    write_rollout(tmp_path / "rollout.hdf5", prediction, **arguments)
    data = WellDataset(
        path=str(tmp_path), n_steps_input=1, n_steps_output=4, use_normalization=False
    )
    assert [n for group in data.metadata.field_names.values() for n in group] == [
        n for group in names.values() for n in group
    ]
    sample = data[1]
    read = torch.cat([sample["input_fields"], sample["output_fields"]]).movedim(-1, 1)
    assert torch.equal(read, prediction[1])

    path = write_rollout(
        tmp_path / "both" / "rollout.hdf5", prediction, 2 * prediction, **arguments
    )
    with h5py.File(path) as file:
        assert file["t2_fields/truth_D"].shape == (2, 5, 8, 6, 2, 2)
        np.testing.assert_array_equal(
            file["t1_fields/truth_velocity"][..., 1], 2 * prediction[:, :, 2]
        )
        assert file["dimensions/time"][()].tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(WavelitError, match="components"):
        write_rollout(
            path,
            prediction,
            **{**arguments, "field_names": {0: ["a"] * 5, 1: ["velocity_y", "velocity_x"]}},
        )
    with pytest.raises(WavelitError, match="one channel a field name"):
        write_rollout(path, prediction, **{**arguments, "field_names": {0: ["a"]}})


def test_as_a_frame_it_is_the_table():
    evaluation = evaluation_of(np.full((2, 7, 2), 0.25))
    frame = evaluation.to_pandas()
    assert list(frame) == ["steps", "average", "protocol", "field", "model", "persistence"]
    assert len(frame) == 3 * 2 * 3
    row = frame[(frame.steps == "6:7") & (frame.average == "mean") & (frame.field == "b")]
    assert row.model.item() == 0.25


def test_without_pandas_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(WavelitError, match="to_pandas needs pandas: pip install pandas"):
        evaluation_of(np.full((2, 7, 2), 0.25)).to_pandas()


def test_the_device_sees_a_history_and_a_frame(monkeypatch):
    """Peak memory does not grow with the record: it is never moved as a whole."""
    torch.manual_seed(0)
    record = torch.randn(2, 40, 3, 8, 8)
    trajectory = batch(record, 4)
    whole, truth = predict(lambda x, c, s: 0.9 * x[:, -1] + 0.1 * x[:, 0], trajectory, start=6)
    moved = []
    own = torch.Tensor.to

    def to(self, *args, **options):
        moved.append(self.numel())
        return own(self, *args, **options)

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(Batch, "to", None)
    scores = roll_out({"m": lambda x, c, s: 0.9 * x[:, -1] + 0.1 * x[:, 0]}, [trajectory], start=6)[
        "m"
    ]
    assert max(moved) == record[:, :4].numel()
    np.testing.assert_array_equal(scores, vrmse(whole, truth, 2).numpy())
