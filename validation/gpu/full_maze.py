"""`1M` on a maze of The Well's own size: twenty minutes of training in legs, scores, a rollout.

A stage is one leg: what is there goes on, and what its time does not suffice for is for the next
call of the campaign. Data and run stand in a folder of the machine's temporary ones, since the
output may be an empty one each time.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from validation.gpu.models import Size

__all__ = ["measure", "prepare"]

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "acoustic_scattering_maze"
RECIPE = ROOT / "configs" / "the_well" / f"{SYSTEM}.yaml"
MINUTES = 20.0
# Processes that simulate while other stages use the card.
PROCESSES = 4
# Seconds for the checkpoint of a leg that ends.
CHECKPOINT = 90


def scratch(size: Size) -> Path:
    """Where data and run stand."""
    name = "wavelit-maze-short" if size.short else "wavelit-maze"
    return Path(tempfile.gettempdir()) / name


def prepare(size: Size) -> subprocess.Popen[bytes]:
    """Simulate in the background; what is there is not simulated again."""
    return _child("simulate", size)


def measure(size: Size) -> dict[str, Any]:
    """A leg of the training; once it is whole, scores and the picture of a rollout."""
    try:
        import h5py  # noqa: F401
        import pytorch_lightning  # noqa: F401
        import the_well  # noqa: F401
    except ImportError as error:
        return {"skipped": f"{error.name} is not installed"}
    child = _child("train", size)
    try:
        status = child.wait(size.seconds)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGTERM)
        child.wait(CHECKPOINT)
        return {"unfinished": "run the campaign again"}
    if status:
        raise RuntimeError(f"the training ended with status {status}")
    return scores(size)


def _child(what: str, size: Size) -> subprocess.Popen[bytes]:
    words = [what, size.device, *(["short"] if size.short else [])]
    return subprocess.Popen([sys.executable, "-m", "validation.gpu.full_maze", *words], cwd=ROOT)


def simulate(size: Size) -> Path:
    """The folder of the data."""
    from wavelit.data.pocketwell import generate

    grid = "tiny" if size.short else "full"
    return generate(SYSTEM, grid, scratch(size), processes=PROCESSES, progress=False)


def train(size: Size) -> None:
    """Begin the run, or go on with it."""
    import yaml

    from wavelit.data.datamodule import WellDataModule
    from wavelit.training.config import TrainConfig, TrainerConfig
    from wavelit.training.run import build_model, fit, resume

    run = scratch(size) / "run"
    if (run / "config.yaml").exists():
        resume(run)
        return
    recipe = yaml.safe_load(RECIPE.read_text())
    recipe["train"]["minutes"] = MINUTES
    recipe["data"]["path"] = str(simulate(size))
    recipe["trainer"]["accelerator"] = "cpu" if size.device == "cpu" else "gpu"
    if size.short:
        recipe["train"] |= {"minutes": None, "steps": 20, "validate_every": 10}
        recipe["train"] |= {"validate_batches": 2, "validate_rollout": 4}
        recipe["data"]["batch_size"], recipe["trainer"]["precision"] = 2, "32-true"
    data = WellDataModule(**recipe["data"])
    model = build_model(data, **recipe["model"])
    fit(run, data, model, TrainConfig(**recipe["train"]), TrainerConfig(**recipe["trainer"]))


def scores(size: Size) -> dict[str, Any]:
    """Of the trained model on validation, and of predicting no change; the picture of a rollout
    goes into the output.
    """
    from wavelit.benchmarks.results import scores_of
    from wavelit.evaluation.evaluate_run import evaluate_run, record_rollout

    run = scratch(size) / "run"
    evaluation, _ = evaluate_run(run, split="valid", device=size.device)
    for path in record_rollout(run, split="valid", device=size.device):
        if path.suffix == ".png":
            shutil.copy(path, size.output / path.name)
    known = json.loads((run / "environment.json").read_text())
    kept = {name: known[name] for name in ("parameters", "steps", "samples", "train_seconds")}
    return {**kept, "scores": scores_of(evaluation)}


if __name__ == "__main__":
    asked, device, *short = sys.argv[1:]
    {"simulate": simulate, "train": train}[asked](Size(device, bool(short), 0.0, Path()))
