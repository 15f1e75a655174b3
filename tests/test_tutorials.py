"""The tutorials are notebooks written as scripts; `make tutorials` runs them."""

import ast
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "tutorials"
NAMES = [
    "another_network",
    "kuramoto_sivashinsky",
    "land_and_ocean",
    "own_arrays",
    "pretrained",
    "reading_a_report",
    "training_loop",
]


def test_there_are_no_others():
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_is_a_script_in_percent_format(name):
    text = (FOLDER / f"{name}.py").read_text()
    assert max(map(len, text.splitlines())) <= 100
    before, *cells = re.split(r"^# %%", text, flags=re.MULTILINE)
    assert not before
    assert cells[0].startswith(" [markdown]\n# # ")
    for cell in cells:
        kind, _, body = cell.partition("\n")
        if kind == " [markdown]":
            assert all(line.startswith("#") for line in body.strip().splitlines())
        else:
            assert not kind
            assert ast.parse(body).body
