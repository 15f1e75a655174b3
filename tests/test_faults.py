"""The short form of validation/faults: a few trials of every part, the same each time, none of
which may fall short.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# One of each kind of damaged file.
TRIALS = {"files": 8, "calls": 6, "kills": 1, "disks": 1, "pairs": 1}


# A minute by itself: ran well on 0610d9e.
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="trials are forked and watched through /proc")
def test_no_fault_falls_short(tmp_path):
    output = tmp_path / "faults.json"
    counts = [word for part, n in TRIALS.items() for word in (f"--{part}", str(n))]
    places = [
        "--source",
        str(ROOT / "src"),
        "--scratch",
        str(tmp_path / "scratch"),
        "--output",
        str(output),
    ]
    # Errors of disks are made up: mounting is for root.
    words = [
        sys.executable,
        "-m",
        "validation.faults",
        "--seed",
        "0",
        "--no-mounts",
        "--jobs",
        "1",
        *counts,
        *places,
    ]
    ended = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    assert output.exists(), ended.stderr.decode()[-2000:]
    summary = json.loads(output.read_text())
    assert {part: done for part, (done, _) in summary["trials"].items()} == TRIALS
    assert summary["never called"] == []
    assert summary["short"] == []
