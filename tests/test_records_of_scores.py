"""Scores one by one: every one of them is there, in both formats, and names what it is of."""

import csv
import sys

import numpy as np
import pandas as pd
import pytest

from runs import wave_dataset, whole_run  # noqa: F401, as fixtures
from wavelit.cli.program import main
from wavelit.errors import WavelitError
from wavelit.evaluation.records import COLUMNS, write_records
from wavelit.evaluation.scores import Evaluation, Scores


@pytest.fixture(name="evaluation")
def small_evaluation():
    draw = np.random.default_rng(0).random
    scores = {name: Scores(draw((5, 2)), draw((3, 4, 2))) for name in ("net", "persistence")}
    scores["net"].rollout[1, 2:] = np.inf
    return Evaluation("waves", "test", "net", ("u", "v"), 4, 4, scores)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_every_score_is_there_once(evaluation, suffix, tmp_path):
    path = write_records(tmp_path / f"scores.{suffix}", evaluation)
    table = pd.read_csv(path) if suffix == "csv" else pd.read_parquet(path)
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 2 * (5 * 2 + 3 * 4 * 2)
    assert not table.duplicated(["emulator", "of", "rollout", "step", "field"]).any()
    for name, scores in evaluation.scores.items():
        mine = table[table.emulator == name]
        for of, values in (("one step", scores.one_step[:, None]), ("rollout", scores.rollout)):
            for row in mine[mine.of == of].itertuples():
                field = evaluation.field_names.index(row.field)
                assert row.vrmse == pytest.approx(values[row.rollout, row.step - 1, field])


def test_names_stay_text(tmp_path):
    scores = {name: Scores(np.ones((1, 1)), np.ones((1, 1, 1))) for name in ("a,b", "persistence")}
    evaluation = Evaluation("waves", "test", "a,b", ('u "x"',), 4, 4, scores)
    with write_records(tmp_path / "scores.csv", evaluation).open(newline="") as file:
        assert next(csv.DictReader(file))["emulator"] == "a,b"
    table = pd.read_parquet(write_records(tmp_path / "scores.parquet", evaluation))
    assert set(table.field) == {'u "x"'}


def test_another_format_or_no_pyarrow_is_named_before_anything_is_computed(
    tmp_path, evaluation, monkeypatch, capsys
):
    words = ["evaluate", str(tmp_path / "no run"), "--records"]
    assert main([*words, str(tmp_path / "scores.txt")]) == 2
    assert "the suffix says the format, .parquet or .csv" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(WavelitError, match=r"pip install 'wavelit\[parquet\]', or write \.csv"):
        write_records(tmp_path / "scores.parquet", evaluation)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_the_command_writes_them(run, tmp_path):
    path = tmp_path / "scores.parquet"
    words = ["evaluate", str(run), "--out", str(tmp_path / "out"), "--records", str(path)]
    assert main(words) == 0
    assert {"persistence", "linear stencil"} <= set(pd.read_parquet(path).emulator)
