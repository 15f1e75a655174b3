"""The short examples run as they stand, each in an empty folder."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
SCRIPTS = [p for p in sorted(FOLDER.glob("*.py")) if p.read_text().startswith("# Runs in CI.")]


@pytest.mark.long
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_runs_as_it_stands(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # In this process: most of an example's time would be its imports.
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_has_at_most_fifteen_lines(script):
    lines = [line.strip() for line in script.read_text().splitlines()]
    code = [line for line in lines if line and not line.startswith("#")]
    assert len(code) <= 15
    assert all(len(line) <= 100 for line in lines)
