"""The tutorials are notebooks written as scripts, and run from their first line to their last."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "tutorials"
NAMES = [
    "kuramoto_sivashinsky",
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


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_runs(name, tmp_path):
    run = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py")],
        cwd=tmp_path,
        env={
            **os.environ,
            "WAVELIT_TUTORIALS": "tiny",
            "MPLBACKEND": "agg",
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(tmp_path),
        },
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert list(tmp_path.rglob("*.png"))
