"""The commands that trials run, and the runs that they begin from: one that ended and one that
was stopped on the way.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import yaml
from validation.faults.processes import Result, cli, judge, start, watch
from validation.faults.samples import write_sample

__all__ = [
    "SYSTEM",
    "command",
    "copy_run",
    "finish",
    "generation_words",
    "prepare",
    "tensors",
    "train",
]

SYSTEM = "euler_multi_quadrants_periodicBC"

STEPS = 6
TINY = {
    "data.n_steps_input": 2,
    "data.batch_size": 2,
    "model.embed_dim": 8,
    "model.num_heads": 2,
    "model.depth": 1,
    "model.num_exchanges": 1,
    "model.levels": 1,
    "model.detail_dim": 4,
    "trainer.accelerator": "cpu",
}
BUDGET = {"train.steps": STEPS, "train.validate_every": 3, "train.checkpoint_every": 2}


def train(dataset: Path, run: Path, **changes: object) -> list[str]:
    """The words of a training command; `changes` with __ for the dots."""
    options = {"data.path": dataset, "run": run, **TINY, **BUDGET}
    options |= {name.replace("__", "."): value for name, value in changes.items()}
    return [
        "train",
        *(word for name, value in options.items() for word in (f"--{name}", str(value))),
    ]


def generation_words(root: Path, processes: int = 1) -> list[str]:
    """The words of a quick generation."""
    words = ["data", "generate", SYSTEM, "--size", "tiny", "--root", str(root)]
    return [*words, "--processes", str(processes)]


def command(words: list[str], folder: Path, stem: str = "command", **environment: str) -> Result:
    """Run one to its end."""
    return watch(start(cli(words), folder, stem, **environment))


def prepare(folder: Path) -> None:
    """For 1-D and 2-D: a dataset, a run of it that ended, one that has a checkpoint of step 4
    and no weights.
    """
    for spatial in (1, 2):
        dataset = write_sample(folder / f"data{spatial}", spatial)
        for name, every in (("ended", 2), ("stopped", 4)):
            run = folder / f"{name}{spatial}"
            result = command(train(dataset, run, train__checkpoint_every=every), folder, name)
            if judge(result, [])[0] not in ("ok", "warned"):
                raise RuntimeError(
                    f"the plain training ended with {result.status}: {result.err[-2000:]}"
                )
        shutil.rmtree(folder / f"stopped{spatial}" / "weights")


def copy_run(source: Path, target: Path, dataset: Path) -> Path:
    """A run folder elsewhere, its dataset another."""
    shutil.copytree(source, target)
    settings = yaml.safe_load((target / "config.yaml").read_text())
    settings["data"]["path"] = str(dataset)
    (target / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return target


def tensors(run: Path) -> str | None:
    """A digest of the trained weights by name; None where there are none, or they cannot be
    read.
    """
    from safetensors.numpy import load_file

    path = run / "weights" / "model.safetensors"
    try:
        weights = load_file(path)
    except Exception:  # noqa: BLE001
        return None
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(weights[name]).tobytes())
    return digest.hexdigest()


def finish(
    again: list[str], run: Path, due: str, folder: Path, **environment: str
) -> tuple[str, str]:
    """Bring an interrupted training to its end as its user would: resume it, or give the same
    command again.

    Returns:
        "ok", or what is wrong and why.
    """
    said = []
    if (run / "config.yaml").exists():
        result = command(["train", "--resume", str(run)], folder, "resume", **environment)
        outcome, why = judge(result, [str(run)])
        ended = "trained to the end" in result.err
        if outcome in ("ok", "warned") or (outcome == "refused" and ended):
            return _same(run, due)
        if outcome != "refused":
            return (
                "lost" if outcome in ("traceback", "wrong exit status") else outcome
            ), f"resume: {why}"
        said.append(f"resume: {why}")
    result = command(again, folder, "again", **environment)
    outcome, why = judge(result, [str(run)])
    if outcome in ("ok", "warned"):
        return _same(run, due)
    return "lost", "; ".join([*said, f"again: {outcome}, {why}"])


def _same(run: Path, due: str) -> tuple[str, str]:
    found = tensors(run)
    if found is None or not (run / "weights" / "config.json").exists():
        left = ", ".join(sorted(path.name for path in run.glob("weights/*")))
        return (
            "lost",
            f"the end was reached, but the weights cannot be read; there are {left or 'none'}",
        )
    return ("ok", "") if found == due else ("other weights", f"{found} instead of {due}")
