"""Runs side by side: whose scores stand in the table, and which runs are refused."""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from runs import train, wave_dataset, whole_run  # noqa: F401, as fixtures
from wavelit.cli.program import main
from wavelit.data.writing.write import write_dataset
from wavelit.errors import WavelitError
from wavelit.evaluation.compare_runs import compare_runs, published_tables
from wavelit.evaluation.evaluate_run import evaluate_run
from waves import plane_waves

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("undrawn")]


@pytest.fixture(scope="module", name="twin")
def copied_run(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "twin & <b>"
    shutil.copytree(run, folder)
    return folder


def other_data(folder, steps=12, name="plane_waves", field="height", seed=9):
    return write_dataset(
        folder,
        {field: plane_waves(10, steps, seed=seed)},
        splits={"train": 6, "valid": 2, "test": 2},
        name=name,
        boundary_conditions=["periodic", "periodic"],
    )


def test_scores_are_those_of_each_run_alone(run, twin, tmp_path):
    compared = compare_runs([run, twin], device="cpu", report=tmp_path / "both.html")
    alone, _ = evaluate_run(run, device="cpu")
    assert list(compared.scores) == ["whole", twin.name, "persistence"]
    for name, scores in compared.scores.items():
        expected = alone.scores["persistence" if name == "persistence" else alone.model]
        np.testing.assert_array_equal(scores.rollout, expected.rollout)
        np.testing.assert_array_equal(scores.one_step, expected.one_step)
    text = (tmp_path / "both.html").read_text(encoding="utf-8")
    contents = json.loads(re.search(r'id="contents">(.*?)</script>', text).group(1))
    assert contents["runs"] == ["whole", twin.name]
    assert contents["trajectories"] == ["trajectory 0", "trajectory 1"]
    assert "<b>" not in text


def test_the_command_prints_a_table_and_writes_a_page(run, twin, tmp_path, capsys):
    page = tmp_path / "both.html"
    words = ["compare", str(run), str(twin), "--report", str(page), "--device", "cpu"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "whole" in said
    assert "persistence" in said
    assert f"report: {page}" in said
    assert main(["compare", str(run), "--device", "cpu", "--published", "--start", "5"]) == 0
    said = capsys.readouterr().out
    assert "twin" not in said
    assert "no published figure is of plane_waves on" in said
    assert main(["compare", str(run), "--device", "cpu", "--start", "99"]) == 2
    assert "start" in capsys.readouterr().err


def test_a_run_of_other_data_is_refused(run, twin, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(twin, moved)
    settings = (moved / "config.yaml").read_text()
    path = re.search(r"path: (.*)", settings).group(1)
    for number, (options, message) in enumerate(
        [
            ({}, "another trajectory 0 in moved"),
            ({"name": "other_waves"}, "same dataset, got plane_waves in whole and other_waves"),
            ({"steps": 14}, "another trajectory 0"),
        ]
    ):
        data = other_data(tmp_path / f"data{number}", **options)
        (moved / "config.yaml").write_text(settings.replace(path, str(data)))
        with pytest.raises(WavelitError, match=message) as caught:
            compare_runs([run, moved], device="cpu")
        assert len(str(caught.value).splitlines()) == 1
        # Both on one dataset can be compared.
    assert compare_runs([run, moved], data=str(data), device="cpu").n_steps == 10


def test_a_run_given_twice_is_refused(run):
    with pytest.raises(WavelitError, match="different runs"):
        compare_runs([run, run / "."], device="cpu")
    with pytest.raises(WavelitError, match="1 to 6 runs"):
        compare_runs([run] * 7, device="cpu")
    with pytest.raises(WavelitError, match="1 to 6 runs"):
        compare_runs(str(run), device="cpu")


def test_published_figures_are_of_one_history(monkeypatch):
    def opened(path, *_, **__):
        module = SimpleNamespace(
            n_steps_input={"a": 4, "b": 6}[path.name],
            metadata=SimpleNamespace(spatial_resolution=(8, 8)),
        )
        return SimpleNamespace(n_parameters=1), module, None

    monkeypatch.setattr("wavelit.evaluation.compare_runs.open_run", opened)
    (line,) = published_tables(["a", "b"], SimpleNamespace(split="test"))
    assert line == "published figures are of one history: these runs read 4 and 6 states"
