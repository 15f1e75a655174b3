"""The short examples run as they stand, each in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
SCRIPTS = [p for p in sorted(FOLDER.glob("*.py")) if p.read_text().startswith("# Runs in CI.")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_runs_as_it_stands(script, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:__main__", str(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_has_at_most_fifteen_lines(script):
    lines = [line.strip() for line in script.read_text().splitlines()]
    code = [line for line in lines if line and not line.startswith("#")]
    assert len(code) <= 15
    assert all(len(line) <= 100 for line in lines)
