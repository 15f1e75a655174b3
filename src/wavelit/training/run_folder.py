"""A run folder: what was trained, on what, how, and what came of it. Everything later needs the
folder alone.

config.yaml        data, model, train and trainer settings as the command line takes them
model.json         the model's full configuration; the class of a network of the user's own
fields.json        the data that it was trained on: names of fields, grid, time steps, boundaries,
                   statistics, a checksum
signature.json     what the model takes and gives, by name; older runs have none
environment.json   versions, machine, threads, commit; steps, samples and seconds at the end
checkpoints/       last.ckpt to resume from, the one before it, best.ckpt by validation VRMSE
logs/              metrics.csv and TensorBoard events
weights/           the trained model (averaged weights), for `wavelit.load`

A folder may come from anybody: whatever is read from it is data, whose types and bounds are
checked.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import shutil
import subprocess
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import torch
import yaml

from wavelit import __version__
from wavelit.checks.arguments import listed, require_name, require_whole, shown
from wavelit.checks.settings import from_mapping, require_mapping
from wavelit.data.signature import cell_spacing
from wavelit.data.statistics import UNSEEN
from wavelit.errors import WavelitError, printable
from wavelit.files.atomic import atomic_folder, atomic_path
from wavelit.files.plain import read_json, read_yaml
from wavelit.model.config import WaveLiTConfig
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.foundation import JointWaveLiT
from wavelit.model.network import Channels
from wavelit.model.pretrained import (
    CHECKSUM,
    CONFIG,
    is_complete,
    read_weights,
    require_finite,
    write_model,
)
from wavelit.model.signature import Signature
from wavelit.model.wavelit import WaveLiT
from wavelit.training.checkpoint_files import (
    BEST,
    load_checkpoint,
    model_weights,
    require_same_model,
)
from wavelit.training.networks import describe, model_facts, network_name, restore

if TYPE_CHECKING:
    from wavelit.data.datamodule import WellDataModule

__all__ = [
    "DATA_ENTRIES",
    "MOVED",
    "WRITTEN",
    "Weights",
    "environment_of",
    "facts_of",
    "fields_of",
    "load_data",
    "load_model",
    "load_settings",
    "own_weights",
    "read_config",
    "read_environment",
    "read_signature",
    "record_outcome",
    "require_facts",
    "require_same_data",
    "require_there",
    "settings_of",
    "write_file",
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


# Arguments of `WellDataModule`: importing it to ask would import Lightning.
DATA_ENTRIES = frozenset(
    (
        "path",
        "n_steps_input",
        "n_steps_output",
        "batch_size",
        "seed",
        "n_workers",
        "mask_field",
        "mask_excludes",
        "storage_options",
        "cache_bytes",
        "fields",
        "forcings",
        "trajectories",
        "holdout",
        "log_constants",
    )
)


def write_run_folder(
    folder: Path,
    data: WellDataModule,
    model: IncrementEmulator,
    train: Any,
    trainer: Any,
    seed: int,
) -> None:
    """Write what is known before the training begins; config.yaml last, as it makes the folder a
    run's.
    """
    settings = {
        "data": settings_of(data),
        "train": dataclasses.asdict(train),
        "trainer": dataclasses.asdict(trainer),
        "seed": seed,
    }
    text = yaml.safe_dump(settings, sort_keys=False)
    write_file(folder / "model.json", json.dumps(model_facts(model), indent=2))
    write_file(folder / "fields.json", json.dumps(facts_of(data), indent=2))
    if model.signature is not None:
        write_file(folder / "signature.json", json.dumps(model.signature.to_dict(), indent=2))
    write_file(folder / "environment.json", json.dumps(environment_of(model), indent=2))
    write_file(folder / "config.yaml", text)


def settings_of(data: WellDataModule) -> dict[str, Any]:
    """The arguments of a data module."""
    return {
        **data.arguments,
        # It is found again from any working directory.
        "path": data.path if "://" in data.path else os.path.abspath(data.path),
    }


def write_weights(folder: Path, model: Any) -> None:
    """Write the trained model, whole or not at all.

    Raises:
        WavelitError: A weight is not finite.
    """
    require_finite(folder / "weights", model.state_dict())
    with atomic_folder(folder / "weights") as scratch:
        if isinstance(model, WaveLiT | JointWaveLiT):
            model.save_pretrained(scratch)
        else:
            write_model(scratch, model, describe(model))


def record_outcome(folder: Path, outcome: dict[str, Any]) -> None:
    """Add to environment.json what the training came to."""
    known = read_environment(folder) or {}
    write_file(folder / "environment.json", json.dumps(known | outcome, indent=2))


def read_environment(folder: Path) -> dict[str, Any] | None:
    """What environment.json says, with a warning and None where a failing disk has cut it:
    training and scores do without.
    """
    path = folder / "environment.json"
    try:
        return read_json(path) if path.exists() else {}
    except WavelitError as error:
        warnings.warn(f"{error}: what it said of the run's beginning is lost", stacklevel=2)
        return None


def own_weights(folder: Path, model: IncrementEmulator | None) -> dict[str, torch.Tensor]:
    """The final weights of a network of the user's own; unless it is given, of any."""
    weights = folder / "weights"
    checksum = read_json(weights / CONFIG).get(CHECKSUM)
    return read_weights(weights, None if model is None else model.state_dict(), checksum)


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
    if isinstance(settings, dict) and isinstance(settings.get("systems"), list):
        names = [system.get("name") for system in settings["systems"] if isinstance(system, dict)]
        raise WavelitError(
            f"{folder} is a joint run of {listed(names)}: name one of them, --system NAME in "
            "`wavelit evaluate` and `wavelit rollout`"
        )
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
    if strange := [name for name in settings["data"] if name not in DATA_ENTRIES]:
        raise WavelitError(f"{path}: data has the unknown entry {shown(strange[0])}")
    if not isinstance(settings["data"].get("path"), str):
        raise WavelitError(f"{path}: data has no path; it is damaged: train anew")
    return settings


def read_config(folder: Path) -> WaveLiTConfig:
    """The configuration of a run's model.

    Raises:
        WavelitError: It is damaged, or the run is of a network of the user's own.
    """
    path = folder / "model.json"
    if network_name(folder) is not None:
        restore(folder, None, _channels(folder))
    return from_mapping(WaveLiTConfig, read_json(path), str(path))


def read_signature(folder: Path) -> Signature | None:
    """What a run's model takes and gives, by name; None of a run that is older.

    Raises:
        WavelitError: The file is damaged, or of another model.
    """
    path = folder / "signature.json"
    if not path.exists():
        return None
    signature = Signature.from_dict(read_json(path), str(path))
    config = _channels(folder) if network_name(folder) is not None else read_config(folder)
    try:
        signature.require_counts(config.n_fields, config.n_constant_fields, config.n_scalars)
    except WavelitError as error:
        raise WavelitError(f"{path}: {error}") from error
    return signature


MOVED = "move it back, or make a link there"


def require_there(folder: Path, path: str, way_out: str) -> None:
    """The dataset of a run where the run knows it.

    Args:
        folder: The run.
        path: The dataset's folder or address; addresses are not looked up.
        way_out: What to do where it is not there.

    Raises:
        WavelitError: There is no such folder.
    """
    if "://" not in path and "::" not in path and not Path(path).is_dir():
        raise WavelitError(
            f"{printable(folder)} was trained on {printable(path)}, which is not there: {way_out}"
        )


def load_data(folder: str | os.PathLike[str]) -> WellDataModule:
    """The dataset that a run was trained on."""
    from wavelit.data.datamodule import WellDataModule

    return WellDataModule(**load_settings(Path(os.path.expanduser(folder)))["data"])


@overload
def load_model(
    folder: str | os.PathLike[str], weights: Weights = "final", model: None = None
) -> WaveLiT: ...


@overload
def load_model(
    folder: str | os.PathLike[str], weights: Weights, model: torch.nn.Module
) -> IncrementEmulator: ...


def load_model(
    folder: str | os.PathLike[str],
    weights: Weights = "final",
    model: torch.nn.Module | None = None,
) -> IncrementEmulator:
    """The model of a run in evaluation mode: its final averaged weights, or those of the best
    validation.

    Args:
        folder: The run.
        weights: Which weights.
        model: The network, of a run of a network of the user's own; its weights are replaced.

    Raises:
        WavelitError: Training has not ended, no validation took place, or the weights are damaged
            or of another network than the one given.
    """
    require_name("weights", weights, get_args(Weights))
    folder = Path(os.path.expanduser(folder))
    load_settings(folder)
    own = None if network_name(folder) is None else restore(folder, model, _channels(folder))
    if own is None and model is not None:
        raise WavelitError(
            f"{folder} is the run of a WaveLiT, which its folder holds: leave model out"
        )
    if weights == "final":
        if not is_complete(folder / "weights"):
            raise WavelitError(
                f"{folder} has no weights yet: continue it with `wavelit train --resume {folder}`"
            )
        if own is None:
            return WaveLiT.from_pretrained(folder / "weights")
        own.load_state_dict(own_weights(folder, own))
    else:
        own = _load_best(folder, own)
    own.signature, own.trained = read_signature(folder), True
    return own.eval()


def _load_best(folder: Path, own: IncrementEmulator | None) -> IncrementEmulator:
    checkpoint = folder / "checkpoints" / BEST
    if not checkpoint.exists():
        raise WavelitError(f"{folder} has no best checkpoint: no validation took place")
    state = model_weights(load_checkpoint(checkpoint))
    if own is None:
        config = read_config(folder)
        with torch.device("meta"):
            require_same_model(checkpoint, state, WaveLiT(config))
    else:
        require_same_model(checkpoint, state, own)
    require_finite(checkpoint, state)
    model = WaveLiT(config) if own is None else own
    model.load_state_dict(state)
    return model


def _channels(folder: Path) -> Channels:
    """What the data of a run gave its network.

    Raises:
        WavelitError: fields.json is damaged.
    """
    path = folder / "fields.json"
    facts, settings = read_json(path), load_settings(folder)["data"]
    counts: list[int] = []
    for name in ("fields", "constant fields", "scalars", "resolution"):
        if not isinstance(facts.get(name), list):
            raise WavelitError(f"{path}: {name} is no list; it is damaged: train anew")
        counts.append(len(facts[name]))
    history = require_whole("n_steps_input", settings.get("n_steps_input", 4))
    c, k, p, spatial = counts
    return Channels(c, k, p, history, spatial)


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
    require_facts(folder, data, read_json(folder / "fields.json"))


def require_facts(folder: Path, data: WellDataModule, then: dict[str, Any]) -> None:
    """Refuse data that are not those of a run, as `facts_of` had them then.

    Raises:
        WavelitError: Names the first difference.
    """
    # As JSON has it: lists for tuples. Runs of older versions know less of their data.
    require_mapping(f"{folder}/fields.json, {data.path}", then)
    now = json.loads(json.dumps(facts_of(data)))
    spreads = "statistics, scalar_std"
    known = then.get(spreads)
    if isinstance(known, list) and len(known) == len(now[spreads]):
        # That of a scalar which never varies was 1.
        both = zip(known, now[spreads], strict=True)
        then = {**then, spreads: [n if (w, n) == (1.0, UNSEEN) else w for w, n in both]}
    for name, value in now.items():
        if name in then and then[name] != value:
            values = f": {printable(value, 120)} there, {printable(then[name], 120)} in the run"
            raise WavelitError(
                f"{data.path} is not what {folder} was trained on, in its {name}{values}; put "
                "those data back, or train anew in another folder"
            )


def facts_of(data: WellDataModule) -> dict[str, Any]:
    """What tells one dataset from another: names, grid, boundaries, statistics, and the values
    of two windows.
    """
    dataset = data.train_dataset
    steps = [layout.dt for layout in dataset.layouts]
    digest, beside = hashlib.sha256(), hashlib.sha256()
    for index in (0, len(dataset) - 1):
        samples = dataset.__getitems__([index])
        for name in ("input_fields", "output_fields"):
            digest.update(samples[0][name].contiguous().numpy().tobytes())
        batch = dataset.collate(samples)
        parts = (batch.constants, batch.scalars, batch.valid, batch.forcings, batch.scalar_forcings)
        for part in parts:
            beside.update(b"" if part is None else part.contiguous().numpy().tobytes())
    spacing = cell_spacing(dataset)
    return {
        **fields_of(data),
        "time steps": [min(steps), max(steps)],
        "resolution": [int(n) for n in data.metadata.spatial_resolution],
        "boundary conditions": data.boundary_conditions,
        "number of training windows": len(dataset),
        **{f"statistics, {name}": list(values) for name, values in vars(data.statistics).items()},
        "checksum of the first and last window": digest.hexdigest(),
        "checksum of what is given beside them": beside.hexdigest(),
        "cell spacing": None if spacing is None else list(spacing),
    }


def environment_of(model: Any) -> dict[str, Any]:
    """Parameters, versions, machine and commit."""
    git = shutil.which("git")
    commit = "" if git is None else _output([git, "rev-parse", "HEAD"])
    packages = ("torch", "pytorch-lightning", "the_well", "numpy")
    return {
        "parameters": model.n_parameters,
        "commit": commit or None,
        "python": platform.python_version(),
        # A source tree on the path has no metadata.
        "wavelit": __version__,
        **{name: version(name) for name in packages},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }


def _output(words: list[str]) -> str:
    done = subprocess.run(
        words, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def write_file(path: Path, text: str) -> None:
    """Write a file of the run, whole or not at all."""
    with atomic_path(path) as scratch:
        scratch.write_text(text + "\n", encoding="utf8")
