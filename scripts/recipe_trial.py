"""One trial of a recipe on one system at a budget in windows, scored on validation: one JSON.

    python scripts/recipe_trial.py --root datasets/pocketwell/small --samples 3400 \
        --train.symmetries "shift, flip:x" rayleigh_benard

Options after --model. and --train. are entries of `build_model` and `TrainConfig`. The file is
results/recipe/<system>[-<size>]-<samples>-<seed>-<entries>.json. What is not named is the
default of `wavelit train`: `nano` in batches of four. `--fields "[tracer, velocity]"` hides the
others.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path

from joint_trial import ONE_THREAD, entries, options

from wavelit.benchmarks.results import scores_of
from wavelit.data.datamodule import WellDataModule
from wavelit.data.pocketwell import SYSTEMS
from wavelit.evaluation.evaluate import evaluate
from wavelit.files.atomic import atomic_path
from wavelit.files.plain import read_json
from wavelit.training.config import TrainConfig
from wavelit.training.run import build_model, fit


def main(words: list[str]) -> None:
    given, systems = options(words)
    root, seed, samples = Path(given["root"]), int(given.get("seed", 0)), int(given["samples"])
    own = {group: entries(given, group) for group in ("model", "train")}
    batch_size, fields = int(given.get("batch_size", 4)), given.get("fields")
    if fields:
        own["data"] = {"fields": fields}
    said = "-".join(f"{name}={value}" for part in own.values() for name, value in part.items())
    for system in systems:
        size = [] if root.name == "small" else [root.name]
        name = "-".join([system, *size, str(samples), str(seed), said or "default"])
        # Colons and commas are no letters of a file's name everywhere.
        name = re.sub("[^A-Za-z0-9._=-]+", "_", name)
        path = Path(given.get("output", "results/recipe")) / f"{name}.json"
        if path.exists():
            continue
        recipe = TrainConfig(
            samples=samples, validate_every=max(1, samples // batch_size), **own["train"]
        )
        data = WellDataModule(
            str(root / system),
            n_steps_output=recipe.target_frames,
            batch_size=batch_size,
            seed=seed,
            mask_field=SYSTEMS[system].mask_field,
            fields=fields,
        )
        model = build_model(data, seed=seed, **own["model"])
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            model = fit(run, data, model, recipe, ONE_THREAD, seed)
            outcome = read_json(run / "environment.json")
        found = scores_of(evaluate(model, data, "valid"))
        result = {
            "system": system,
            "size": root.name,
            "samples": samples,
            "seed": seed,
            "batch_size": batch_size,
            **own,
            "train_seconds": outcome["train_seconds"],
            "commit": outcome["commit"],
            "split": "valid",
            "one_step": found["one_step"],
            "rollout": found["rollout"],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n")
        print(path, result["one_step"], result["rollout"], flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
