"""One trial of a joint model at a budget in samples, scored on validation: one JSON.

    python scripts/joint_trial.py --root datasets/pocketwell/small --steps 200 --name field \
        --model.adapters field --train.lr 0.008 shear_flow active_matter

Options after --model. and --train. are entries of `build_joint` and `JointTrainConfig`, those after
--share. names of systems. What the trial took is told in samples; seconds depend on what else the
machine did.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from wavelit.benchmarks.results import scores_of
from wavelit.data.datamodule import WellDataModule
from wavelit.data.joint import JointDataModule
from wavelit.data.pocketwell import SYSTEMS
from wavelit.evaluation.evaluate import evaluate
from wavelit.files.plain import read_json
from wavelit.training.config import TrainerConfig
from wavelit.training.joint import JointTrainConfig, geometric_mean
from wavelit.training.joint_run import build_joint, fit_joint

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
    recipe = JointTrainConfig(**{"steps": steps, "validate_every": steps, **train_entries})
    facts = {"stored": model.n_parameters, "shared": model.n_shared}
    facts["active"] = {name: emulator.n_parameters for name, emulator in model.items()}
    with tempfile.TemporaryDirectory() as folder:
        model = fit_joint(Path(folder) / "run", joint_data, model, recipe, ONE_THREAD, seed)
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
