"""The campaign for a CUDA machine, rehearsed on the processor without what such a machine lacks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from wavelit.traffic import Traffic

ROOT = Path(__file__).parent.parent
# None in sys.modules makes an import fail.
LACKING = """
import sys
for name in ("the_well", "jsonargparse", "pytorch_lightning", "h5py"):
    sys.modules[name] = None
sys.path[:0] = [{root!r}, {src!r}]
from validation.gpu.campaign import main
raise SystemExit(main(["--device", "cpu", "--short", "--output", {output!r}, "--alone", {stage!r}]))
"""


def test_traffic_is_what_operations_read_and_write():
    a, b = torch.randn(3, 4), torch.randn(4, 5)
    with Traffic() as traffic:
        c = a.t().t() @ b
        c.add_(1.0)
    assert traffic.operations == 2
    # 12 + 20 read and 15 written; then 15 read and the same 15 written.
    assert traffic.n_bytes == 4 * (12 + 20 + 15 + 15 + 15)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["agreement", "throughput", "profile"])
def test_a_stage_needs_the_network_alone(stage, tmp_path):
    script = LACKING.format(
        root=str(ROOT), src=str(ROOT / "src"), output=str(tmp_path), stage=stage
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / f"{stage}.json").read_text())
    assert result["device"] == "cpu"
    if stage == "agreement":
        for row in result["rows"]:
            bound = 1e-5 if row["precision"] == "float32" else 3e-2
            assert row["output"] < bound
            assert row["gradient"] < bound
            assert row["curve"] < bound
    elif stage == "throughput":
        skipped = [row["network"] for row in result["rows"] if "skipped" in row]
        assert set(skipped) == {"CNextU-Net"}
        assert all(row["train_samples_per_s"] > 0 for row in result["rows"] if "batch" in row)
    else:
        (step,) = result["steps"]
        assert step["operations"] > 100
        assert sum(step["share"].values()) == pytest.approx(1)


@pytest.mark.slow
def test_a_machine_without_a_card_is_told():
    command = [sys.executable, "-m", "validation.gpu", "--device", "cuda:7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert "there is no CUDA device" in done.stderr


@pytest.mark.slow
def test_a_training_in_legs_goes_on(tmp_path):
    """The first leg ends before anything is trained, the second has the time it needs."""
    command = [sys.executable, "-m", "validation.gpu", "--device", "cpu", "--short"]
    command += ["--stages", "maze", "--output", str(tmp_path / "out")]
    found = []
    for seconds in ("1", "300", "1"):
        done = subprocess.run(
            [*command, "--seconds", seconds],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads((tmp_path / "out" / "maze.json").read_text()))
    assert "unfinished" in found[0]
    assert found[1]["steps"] == 20
    assert found[1]["scores"]["one_step"] < found[1]["scores"]["persistence"]["one_step"]
    assert found[2] == found[1]
    assert list((tmp_path / "out").glob("rollout-*.png"))
