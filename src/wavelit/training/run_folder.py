"""A run folder: what was trained, on what, how, and what came of it. Everything later needs the
folder alone.

config.yaml        data, model, train and trainer settings as the command line takes them
model.json         the model's full configuration
fields.json        the data that it was trained on: names of fields, grid, time steps, boundaries,
                   statistics, a checksum
signature.json     what the model takes and gives, by name; older runs have none
environment.json   versions, machine, threads, commit; steps, samples and seconds at the end
checkpoints/       last.ckpt to resume from, the one before it, best.ckpt by validation VRMSE
logs/              metrics.csv and TensorBoard events
weights/           the trained model (averaged weights), for `WaveLiT.from_pretrained`

A folder may come from anybody: whatever is read from it is data, whose types and bounds are
checked.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import yaml

from wavelit.checks.arguments import shown
from wavelit.checks.settings import from_mapping
from wavelit.data.datamodule import WellDataModule
from wavelit.errors import WavelitError, printable
from wavelit.files.atomic import atomic_folder, atomic_path, sweep
from wavelit.files.plain import read_json, read_yaml
from wavelit.model.config import WaveLiTConfig
from wavelit.model.pretrained import WEIGHTS, is_complete, require_finite
from wavelit.model.signature import Signature
from wavelit.model.wavelit import WaveLiT
from wavelit.training.checkpoints import (
    BEST,
    LAST,
    PREVIOUS,
    load_checkpoint,
    model_weights,
    newest_checkpoint,
    require_same_model,
)

__all__ = [
    "Weights",
    "clear",
    "fields_of",
    "is_trained",
    "load_data",
    "load_model",
    "load_settings",
    "read_config",
    "read_signature",
    "record_outcome",
    "remove_run",
    "require_free",
    "require_same_data",
    "write_run_folder",
    "write_weights",
]

Weights = Literal["final", "best"]

# What a run writes into its folder.
WRITTEN = frozenset(
    (
        "model.json",
        "fields.json",
        "signature.json",
        "environment.json",
        "config.yaml",
        "logs",
        "checkpoints",
        "weights",
    )
)


def write_run_folder(
    folder: Path, data: WellDataModule, model: WaveLiT, train: Any, trainer: Any, seed: int
) -> None:
    """Write what is known before the training begins; config.yaml last, as it makes the folder a
    run's.
    """
    settings = {
        "data": {
            **{name: getattr(data, name) for name in inspect.signature(WellDataModule).parameters},
            # The run is found again from any working directory.
            "path": data.path if "://" in data.path else os.path.abspath(data.path),
        },
        "train": dataclasses.asdict(train),
        "trainer": dataclasses.asdict(trainer),
        "seed": seed,
    }
    text = yaml.safe_dump(settings, sort_keys=False)
    _write(folder / "model.json", json.dumps(dataclasses.asdict(model.config), indent=2))
    _write(folder / "fields.json", json.dumps(_facts(data), indent=2))
    if model.signature is not None:
        _write(folder / "signature.json", json.dumps(model.signature.to_dict(), indent=2))
    _write(folder / "environment.json", json.dumps(_environment(model), indent=2))
    _write(folder / "config.yaml", text)


def write_weights(folder: Path, model: WaveLiT) -> None:
    """Write the trained model, whole or not at all.

    Raises:
        WavelitError: A weight is not finite.
    """
    require_finite(folder / "weights", model.state_dict())
    with atomic_folder(folder / "weights") as scratch:
        model.save_pretrained(scratch)


def record_outcome(folder: Path, outcome: dict[str, Any]) -> None:
    """Add to environment.json what the training came to."""
    path = folder / "environment.json"
    _write(path, json.dumps(read_json(path) | outcome, indent=2))


def require_free(folder: Path) -> None:
    """Refuse a folder that holds a run which can be continued or used.

    Raises:
        WavelitError: It does, or it is a file.
    """
    if folder.is_file():
        raise WavelitError(f"{folder} is a file: choose another run folder")
    if not (folder / "config.yaml").exists():
        return
    if _has_results(folder):
        raise WavelitError(
            f"{folder} already holds a run: continue it with --resume {folder}, or choose another "
            "folder"
        )
    # These three are written before config.yaml, which a failing disk may then have cut: the run
    # begins anew.
    if all((folder / name).exists() for name in ("model.json", "fields.json", "environment.json")):
        return
    try:
        load_settings(folder)
    except WavelitError as error:
        raise WavelitError(
            f"{folder} holds a config.yaml of something else: choose another folder"
        ) from error


def remove_run(folder: Path, found: set[str] | None) -> None:
    """Take a run's files out of its folder, all but those that were found there, and the folder if
    there was none.

    A run that has something worth keeping stays as it is.
    """
    if _has_results(folder):
        return
    for name in WRITTEN.difference(found or ()):
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if found is None and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _has_results(folder: Path) -> bool:
    """Whether a run has something worth keeping: weights, or a checkpoint.

    A single checkpoint that cannot be read is none: it is the first, and `wavelit train --resume`
    could do nothing with it.
    """
    checkpoints = folder / "checkpoints"
    if (folder / "weights" / WEIGHTS).exists():
        return True
    try:
        return newest_checkpoint(checkpoints) is not None
    except WavelitError:
        return all((checkpoints / name).exists() for name in (LAST, PREVIOUS))


def clear(folder: Path, anew: bool) -> None:
    """Remove what a killed process left under temporary names; its owner alone may.

    If the run is to begin anew, its curves and checkpoints go too: they would mix with those of the
    next.
    """
    for pattern in ("checkpoints/.*.tmp", *(f".{name}.*.tmp" for name in WRITTEN)):
        sweep(folder, pattern)
    if not anew or not (folder / "config.yaml").exists():
        return
    for pattern in (
        "logs/metrics.csv",
        "logs/hparams.yaml",
        "logs/events.out.tfevents.*",
        "checkpoints/*.ckpt",
    ):
        sweep(folder, pattern)


def is_trained(folder: Path) -> bool:
    """Whether a run has ended and its weights are there, undamaged."""
    if not is_complete(folder / "weights"):
        return False
    try:
        WaveLiT.from_pretrained(folder / "weights")
    except WavelitError:
        return False
    return True


def load_settings(folder: Path) -> dict[str, Any]:
    """The settings of a run: data, train, trainer and seed.

    Raises:
        WavelitError: The folder is not a run's, or its config.yaml is damaged.
    """
    path = folder / "config.yaml"
    if not path.exists():
        raise WavelitError(
            f"{folder} is not a run folder: it has no config.yaml; train one with `wavelit train`"
        )
    settings = read_yaml(path)
    due = {"data": dict, "train": dict, "trainer": dict, "seed": int}
    if not isinstance(settings, dict) or settings.keys() != due.keys():
        raise WavelitError(
            f"{path}: the entries {', '.join(due)} are due; it is damaged: train anew"
        )
    for name, kind in due.items():
        if not isinstance(settings[name], kind) or isinstance(settings[name], bool):
            raise WavelitError(
                f"{path}: entry '{name}' is {shown(settings[name])}; it is damaged: train anew"
            )
    known = inspect.signature(WellDataModule).parameters
    if strange := [name for name in settings["data"] if name not in known]:
        raise WavelitError(f"{path}: data has the unknown entry {shown(strange[0])}")
    if not isinstance(settings["data"].get("path"), str):
        raise WavelitError(f"{path}: data has no path; it is damaged: train anew")
    return settings


def read_config(folder: Path) -> WaveLiTConfig:
    """The configuration of a run's model."""
    path = folder / "model.json"
    return from_mapping(WaveLiTConfig, read_json(path), str(path))


def read_signature(folder: Path) -> Signature | None:
    """What a run's model takes and gives, by name; None of a run that is older.

    Raises:
        WavelitError: The file is damaged, or of another model.
    """
    path = folder / "signature.json"
    if not path.exists():
        return None
    signature, config = Signature.from_dict(read_json(path), str(path)), read_config(folder)
    try:
        signature.require_counts(config.n_fields, config.n_constant_fields, config.n_scalars)
    except WavelitError as error:
        raise WavelitError(f"{path}: {error}") from error
    return signature


def load_data(folder: str | os.PathLike[str]) -> WellDataModule:
    """The dataset that a run was trained on."""
    return WellDataModule(**load_settings(Path(os.path.expanduser(folder)))["data"])


def load_model(folder: str | os.PathLike[str], weights: Weights = "final") -> WaveLiT:
    """The model of a run in evaluation mode: its final averaged weights, or those of the best
    validation.

    Raises:
        WavelitError: Training has not ended, no validation took place, or the weights are damaged
            or not finite.
    """
    folder = Path(os.path.expanduser(folder))
    if weights not in get_args(Weights):
        raise WavelitError(
            f"unknown weights {shown(weights)}; known: {', '.join(get_args(Weights))}"
        )
    load_settings(folder)
    if weights == "final":
        if not is_complete(folder / "weights"):
            raise WavelitError(
                f"{folder} has no weights yet: continue it with `wavelit train --resume {folder}`"
            )
        return WaveLiT.from_pretrained(folder / "weights")
    checkpoint = folder / "checkpoints" / BEST
    if not checkpoint.exists():
        raise WavelitError(f"{folder} has no best checkpoint: no validation took place")
    config, state = read_config(folder), model_weights(load_checkpoint(checkpoint))
    with torch.device("meta"):
        require_same_model(checkpoint, state, WaveLiT(config))
    require_finite(checkpoint, state)
    model = WaveLiT(config)
    model.load_state_dict(state)
    model.signature = read_signature(folder)
    return model.eval()


def fields_of(data: WellDataModule) -> dict[str, list[str]]:
    """Names of a dataset's fields, constant fields and scalars."""
    return {
        "fields": list(data.field_names),
        "constant fields": list(data.constant_field_names),
        "scalars": list(data.scalar_names),
    }


def require_same_data(folder: Path, data: WellDataModule) -> None:
    """Refuse to continue a run on other data than it began with.

    Raises:
        WavelitError: Names the first difference.
    """
    # As JSON has it: lists for tuples. Runs of older versions know less of their data.
    then, now = read_json(folder / "fields.json"), json.loads(json.dumps(_facts(data)))
    for name, value in now.items():
        if name in then and then[name] != value:
            values = f": {printable(value, 120)} there, {printable(then[name], 120)} in the run"
            raise WavelitError(
                f"{data.path} is not what {folder} was trained on, in its {name}{values}; put "
                "those data back, or train anew in another folder"
            )


def _facts(data: WellDataModule) -> dict[str, Any]:
    """What tells one dataset from another: names, grid, boundaries, statistics, and the values
    of two windows.
    """
    dataset = data.train_dataset
    steps = [layout.dt for layout in dataset.layouts]
    digest = hashlib.sha256()
    for index in (0, len(dataset) - 1):
        sample = dataset.__getitems__([index])[0]
        for name in ("input_fields", "output_fields"):
            digest.update(sample[name].contiguous().numpy().tobytes())
    return {
        **fields_of(data),
        "time steps": [min(steps), max(steps)],
        "resolution": [int(n) for n in data.metadata.spatial_resolution],
        "boundary conditions": data.boundary_conditions,
        "number of training windows": len(dataset),
        **{f"statistics, {name}": list(values) for name, values in vars(data.statistics).items()},
        "checksum of the first and last window": digest.hexdigest(),
    }


def _environment(model: WaveLiT) -> dict[str, Any]:
    git = shutil.which("git")
    commit = "" if git is None else _output([git, "rev-parse", "HEAD"])
    packages = ("wavelit", "torch", "pytorch-lightning", "the_well", "numpy")
    return {
        "parameters": model.n_parameters,
        "commit": commit or None,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }


def _output(words: list[str]) -> str:
    done = subprocess.run(
        words, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as scratch:
        scratch.write_text(text + "\n", encoding="utf8")
