"""One trial of a joint model at a budget in samples, scored on validation: one JSON.

    python scripts/joint_trial.py --root datasets/pocketwell/small --steps 200 --name field \
        --model.adapters field --train.lr 0.008 shear_flow active_matter

Options after --model. and --train. are entries of `build_joint` and `JointTrainConfig`, those after
--share. names of systems. With `--normalise history` every field of a window counts in units of its
own RMS over the history, beside the statistics of the training data. What the trial took is told in
samples; seconds depend on what else the machine did.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from wavelit.benchmarks.results import scores_of
from wavelit.data.datamodule import WellDataModule
from wavelit.data.joint import JointDataModule
from wavelit.data.pocketwell import SYSTEMS
from wavelit.evaluation.evaluate import evaluate
from wavelit.files.plain import read_json
from wavelit.model.foundation import JointWaveLiT, SystemEmulator
from wavelit.training.config import TrainerConfig
from wavelit.training.joint import JointTrainConfig, geometric_mean
from wavelit.training.joint_run import build_joint, fit_joint

# A field whose RMS is below this share of its spread is divided by the share.
LEAST = 0.1
ONE_THREAD = TrainerConfig(accelerator="cpu", threads=1)


def options(words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Options by name, and the words that are none."""
    found: dict[str, Any] = {}
    rest = []
    pending = iter(words)
    for word in pending:
        if word.startswith("--"):
            found[word[2:]] = yaml.safe_load(next(pending))
        else:
            rest.append(word)
    return found, rest


def entries(given: dict[str, Any], group: str) -> dict[str, Any]:
    prefix = f"{group}."
    return {
        name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)
    }


def by_history(joint: JointWaveLiT) -> JointWaveLiT:
    """Let each system see and predict its fields in units of their RMS over the history."""
    for emulator in joint.values():
        # Once.
        emulator.__dict__.pop("increment", None)
        emulator.increment = _in_units_of_history(emulator)  # type: ignore[method-assign]
    return joint


def _in_units_of_history(emulator: SystemEmulator) -> Any:
    plain, normalizer = emulator.increment, emulator.normalizer

    def increment(fields: Tensor, *others: Tensor | None) -> Tensor:
        seen = normalizer.fields(fields)  # (B, T, C, *S)
        over = (1, *range(3, seen.ndim))
        rms = seen.square().mean(over, keepdim=True).sqrt().clamp(min=LEAST)
        channels = (-1, *(1,) * (seen.ndim - 3))
        mean, std = (each.view(channels) for each in (normalizer.mean, normalizer.std))
        return plain(mean + std * seen / rms, *others) * rms[:, 0]

    return increment


def main(words: list[str]) -> Path:
    given, systems = options(words)
    root, seed, steps = Path(given["root"]), int(given.get("seed", 0)), int(given["steps"])
    model_entries, train_entries = entries(given, "model"), entries(given, "train")
    shares, batch_size = entries(given, "share"), int(given.get("batch_size", 4))
    data = {
        name: WellDataModule(
            str(root / name), batch_size=batch_size, mask_field=SYSTEMS[name].mask_field
        )
        for name in systems
    }
    joint_data = JointDataModule(data, shares, seed)
    model = build_joint(joint_data, given.get("preset", "joint-1M"), seed, **model_entries)
    normalise = given.get("normalise", "statistics")
    if normalise == "history":
        model = by_history(model)
    recipe = JointTrainConfig(**{"steps": steps, "validate_every": steps, **train_entries})
    facts = {"stored": model.n_parameters, "shared": model.n_shared}
    facts["active"] = {name: emulator.n_parameters for name, emulator in model.items()}
    with tempfile.TemporaryDirectory() as folder:
        model = fit_joint(Path(folder) / "run", joint_data, model, recipe, ONE_THREAD, seed)
        if normalise == "history":
            model = by_history(model)
        outcome = read_json(Path(folder) / "run" / "environment.json")
    scores = {}
    for name, emulator in model.items():
        evaluation = evaluate(emulator, joint_data.systems[name], "valid")
        found = scores_of(evaluation)
        scores[name] = {"one_step": found["one_step"], "1:20": found["rollout"]["1:20"]}
    result = {
        "name": given["name"],
        "systems": sorted(systems),
        "preset": given.get("preset", "joint-1M"),
        "model": {**model_entries, "own": list(model.config.own)},
        "train": {"steps": steps, "field_loss": recipe.field_loss, **train_entries},
        "batch_size": batch_size,
        "shares": shares,
        "normalise": normalise,
        "seed": seed,
        "windows of each system": {
            name: round(steps * each.batch_size * joint_data.shares[name])
            for name, each in joint_data.systems.items()
        },
        "parameters": facts,
        "train_seconds": outcome["train_seconds"],
        "commit": outcome["commit"],
        "split": "valid",
        "scores": scores,
        "geometric mean": {
            window: geometric_mean([each[window] for each in scores.values()])
            for window in ("one_step", "1:20")
        },
    }
    path = Path(given.get("output", "results/transfer/trials")) / f"{given['name']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(path, result["geometric mean"])
    return path


if __name__ == "__main__":
    main(sys.argv[1:])
