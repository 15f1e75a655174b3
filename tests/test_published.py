"""Published figures: only beside scores of the same data and protocol."""

import io
import re

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from wavelit.evaluation.published import PROTOCOLS, beside_published, published
from wavelit.evaluation.scores import Evaluation, Scores

SHEAR, GRID = "shear_flow", (256, 512)


def scored(**changes) -> Evaluation:
    scores = Scores(np.full((3, 2), 0.1234), np.full((2, 70, 2), 0.4321))
    facts = {
        "dataset": SHEAR,
        "split": "test",
        "model": "mine",
        "field_names": ("tracer", "pressure"),
        "history": 4,
        "start": 4,
        "scores": {"mine": scores, "persistence": scores},
    }
    return Evaluation(**{**facts, **changes})


def printed(evaluation: Evaluation, grid=GRID) -> tuple[str, list[str]]:
    """What is printed of tables, and the other lines."""
    found = list(beside_published(evaluation, grid, {"mine": 930_000}))
    console = Console(width=200, record=True, file=io.StringIO())
    for each in found:
        if isinstance(each, Table):
            console.print(each)
    return console.export_text(), [each for each in found if isinstance(each, str)]


def test_every_figure_has_its_source_and_a_number():
    systems = {figure.dataset for figure in published()}
    assert len(systems) == 8
    for figure in published():
        assert figure.protocol in PROTOCOLS
        assert figure.steps in ("one step", *PROTOCOLS[figure.protocol].windows)
        assert re.fullmatch(r">?\d+(\.\d+)?(e-\d+)?", figure.vrmse), figure
        assert re.search(r"arXiv \d{4}\.\d{5}", figure.source)
        assert re.fullmatch(r"\d+x\d+", figure.resolution)
    assert len({f.resolution for f in published() if f.dataset == SHEAR}) == 1


def test_protocols_are_not_mixed():
    table, lines = printed(scored())
    for cell in ("mine", "0.93M", "0.1234", "0.4321", "CNextU-Net", "0.808", "2.33", ">10"):
        assert cell in table, cell
    assert "6:12" in table
    assert "1:20" not in table
    assert "Poseidon" not in table
    # A row that is known to be of a broken model says so.
    assert re.search(r" FNO +│ +19.0M │ +1.189 \[1\]", table), table
    assert "[1] its blocks were not used until" in table
    assert lines == [
        (
            "Walrus's figures are of the test split, history 6, start 17; not so here: history 6, "
            "start 17"
        )
    ]
    table, lines = printed(scored(history=6, start=17))
    assert "Poseidon-L" in table
    assert "21:60" in table
    assert "CNextU-Net" not in table
    assert lines[0].startswith("The Well's figures are of the test split, history 4, start 4;")


@pytest.mark.parametrize(
    ("changes", "grid", "line"),
    [
        ({}, (32, 64), "no published figure is of shear_flow on 32x64 points"),
        ({"dataset": "mine"}, GRID, "no published figure is of mine on 256x512 points"),
        ({"split": "valid"}, GRID, "not so here: the test split"),
    ],
)
def test_other_data_have_no_published_figure(changes, grid, line):
    table, lines = printed(scored(**changes), grid)
    assert not table.strip()
    assert line in lines[0]
