"""A run folder: what was trained, on what, how, and what came of it. Everything later needs the folder alone.

config.yaml        data, model, train and trainer settings as the command line takes them
model.json         the model's full configuration
fields.json        names of the fields, constant fields and scalars that it was trained on, smallest and largest time step
environment.json   versions, machine, threads, commit; steps, samples and seconds once training has ended
checkpoints/       last.ckpt to resume from, best.ckpt by validation VRMSE
logs/              metrics.csv and TensorBoard events
weights/           the trained model (averaged weights), for `WaveLiT.from_pretrained`
"""

from __future__ import annotations

import csv
import dataclasses
import inspect
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import pytorch_lightning as pl
import torch
import yaml
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, RichProgressBar
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from wavelit.atomic import atomic_path
from wavelit.calibration import calibrate
from wavelit.checkpoints import checkpoint_callbacks, load_checkpoint, require_same_model
from wavelit.config import WaveLiTConfig
from wavelit.data.sampling import StepBatchSampler
from wavelit.data.well import WellDataModule
from wavelit.errors import WavelitError, one_line
from wavelit.model import WaveLiT
from wavelit.train import EMA, EmulatorModule, TrainConfig

__all__ = [
    "TrainerConfig",
    "build_model",
    "fit",
    "load_data",
    "load_model",
    "load_settings",
    "quieten",
    "read_json",
    "resume",
]

# Lightning's warnings of what is meant: a timing has no validation, windows are read in the training process, a resumed run's
# earlier metrics are put back by `_csv_logger`, and the data stream needs no state of its own.
QUIET = (
    ".*defined a `validation_step` but have no.*",
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*dataloader is not resumable.*",
    ".*isinstance.treespec, LeafSpec.*",
)


Precision = Literal["32-true", "bf16-mixed"]

# What a run writes into its folder.
WRITTEN = frozenset(
    ("model.json", "fields.json", "environment.json", "config.yaml", "logs", "checkpoints", "weights")
)


@dataclasses.dataclass(frozen=True)
class TrainerConfig:
    """Where to train.

    Args:
        accelerator: auto (a CUDA device if there is one, else the CPU), cpu, or another of Lightning's; mps is refused, as it
            has no float64.
        devices: How many.
        precision: 32-true, or bf16-mixed: matrix products in bfloat16, the transform and the attention sums in float32.
        threads: Threads of the CPU. The default does not depend on the machine, and so neither do a run's results: the
            number of threads changes the order of sums. On a quiet 2-core machine 2 threads are 1.25 times as fast as 1;
            beside other work they were six times slower.
    """

    accelerator: str = "auto"
    devices: int = 1
    precision: Precision = "32-true"
    threads: int = 1

    @property
    def device(self) -> str:
        """The accelerator, auto resolved: Lightning would take Apple's GPU, on which scores cannot be computed."""
        return (
            self.accelerator if self.accelerator != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        )

    def check(self) -> None:
        """Refuse what Lightning or PyTorch would refuse later.

        Raises:
            WavelitError: Not a number of threads, an unknown precision, or a device that is not there or has no float64.
        """
        quieten()
        if self.threads < 1:
            raise WavelitError(f"threads must be at least 1, not {self.threads}")
        if self.precision not in get_args(Precision):
            raise WavelitError(
                f"unknown precision {self.precision!r}; known: {', '.join(get_args(Precision))}"
            )
        try:
            trial = pl.Trainer(
                accelerator=self.device,
                devices=self.devices,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
        except (MisconfigurationException, ValueError, RuntimeError) as error:
            raise WavelitError(
                f"no trainer with accelerator={self.accelerator!r}, devices={self.devices}: {one_line(error)}"
            ) from error
        if trial.strategy.root_device.type == "mps":
            raise WavelitError(
                f"accelerator {self.accelerator!r} is Apple's here, which has no float64 for the scores: use cpu"
            )


def build_model(data: WellDataModule, preset: str = "nano", seed: int = 0, **changes: Any) -> WaveLiT:
    """A model for the dataset, with its statistics measured, initialised from the seed, which becomes torch's global one.

    Args:
        data: The dataset.
        preset: A key of `wavelit.config.PRESETS`.
        seed: Seed of the initial weights.
        changes: Entries of `WaveLiTConfig` to change.

    Raises:
        WavelitError: An unknown preset or entry, or one that does not fit the dataset.
    """
    statistics = data.statistics
    if changes.get("n_steps_input", data.n_steps_input) != data.n_steps_input:
        raise WavelitError(
            f"n_steps_input={changes['n_steps_input']} of the model is not the data's {data.n_steps_input}: "
            "give it to the data"
        )
    torch.manual_seed(seed)
    model = WaveLiT.from_metadata(
        data.metadata, data.boundary_conditions, preset, **{"n_steps_input": data.n_steps_input, **changes}
    )
    model.normalizer.set_statistics(statistics)
    calibrate(model, data, seed)
    return model


def fit(
    folder: str | os.PathLike[str],
    data: WellDataModule,
    model: WaveLiT,
    train: TrainConfig,
    trainer: TrainerConfig | None = None,
    seed: int = 0,
) -> WaveLiT:
    """Train a model into a new run folder; sets the process's threads and the global seeds.

    Args:
        folder: Created; must not hold a run.
        data: The dataset, with at least as many target frames as the pushforward is long.
        model: From `build_model`.
        train: Budget and recipe.
        trainer: Device, precision, threads.
        seed: Seed of the data order, the noise and the unroll lengths.

    Returns:
        The trained model, averaged weights, in evaluation mode; also in `folder`/weights.

    Raises:
        WavelitError: The folder holds a run; a split is too short; too few target frames; the model has no statistics, or
            other channels, history or boundaries than the data; the loss is not finite.
    """
    folder, trainer = Path(os.path.expanduser(folder)), trainer or TrainerConfig()
    # Lightning runs this command again for every further device: the first of them writes.
    first = int(os.environ.get("LOCAL_RANK", "0")) == 0
    if folder.is_file():
        raise WavelitError(f"{folder} is a file: choose another run folder")
    if first and (folder / "config.yaml").exists():
        raise WavelitError(
            f"{folder} already holds a run: continue it with --resume {folder}, or choose another folder"
        )
    if data.n_steps_output < train.pushforward:
        raise WavelitError(
            f"pushforward over {train.pushforward} steps needs as many target frames: give the data "
            f"n_steps_output={train.pushforward}, not {data.n_steps_output}"
        )
    if not model.normalizer.is_set:
        raise WavelitError("the model has no statistics of the data: make it by `wavelit.build_model`")
    if train.minutes is not None and trainer.devices > 1:
        raise WavelitError(
            "a budget in minutes needs one device, as every device has its own clock: use steps or samples"
        )
    _require_fit(model, data)
    trainer.check()
    data.seed = seed
    # The stream of an earlier run with this data module may have had another seed.
    data.__dict__.pop("train_sampler", None)
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
    # Errors in the data come before anything is written.
    StepBatchSampler(len(data.train_dataset), data.batch_size, seed)
    data.windows("valid")
    text = yaml.safe_dump(settings, sort_keys=False)
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else None
    if first:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "model.json", json.dumps(dataclasses.asdict(model.config), indent=2))
        steps = [layout.dt for layout in data.train_dataset.layouts]
        facts = {**fields_of(data), "time steps": [min(steps), max(steps)]}
        _write(folder / "fields.json", json.dumps(facts, indent=2))
        _write(folder / "environment.json", json.dumps(_environment(model), indent=2))
        _write(folder / "config.yaml", text)
    try:
        return _run(folder, data, model, train, trainer, seed, None)
    except BaseException:
        # Without a checkpoint or weights there is nothing to keep, and nothing that should stop the next attempt.
        kept = ("checkpoints/last.ckpt", "weights/model.safetensors")
        if first and not any((folder / name).exists() for name in kept):
            _remove_run(folder, found)
        raise


def _require_fit(model: WaveLiT, data: WellDataModule) -> None:
    """Refuse data of another layout than the model's, which `judge` would refuse after the training.

    Raises:
        WavelitError: Says in what they differ.
    """
    channels = {
        "n_fields": data.field_names,
        "n_constant_fields": data.constant_field_names,
        "n_scalars": data.scalar_names,
    }
    due = {name: len(names) for name, names in channels.items()} | {"n_steps_input": data.n_steps_input}
    for name, value in {**due, "boundary_conditions": data.boundary_conditions}.items():
        if (ours := getattr(model.config, name)) != value:
            raise WavelitError(f"the model has {name} {ours}, {data.path} {value}: use `wavelit.build_model`")


def _remove_run(folder: Path, found: set[str] | None) -> None:
    """Take a run's files out of its folder, all but those that were found there, and the folder if there was none."""
    for name in WRITTEN.difference(found or ()):
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if found is None and not any(folder.iterdir()):
        folder.rmdir()


def resume(folder: str | os.PathLike[str]) -> WaveLiT:
    """Continue an interrupted run from its last checkpoint; the rest is as if it had never stopped.

    Raises:
        WavelitError: No run or checkpoint there, or one of another model.
    """
    folder = Path(os.path.expanduser(folder))
    settings = load_settings(folder)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if (folder / "weights" / "model.safetensors").exists():
        raise WavelitError(
            f"{folder} is trained to the end of its budget: score it with `wavelit evaluate {folder}`"
        )
    if not checkpoint.exists():
        raise WavelitError(f"{folder} has no checkpoint yet: remove the folder and train anew")
    train, trainer = TrainConfig(**settings["train"]), TrainerConfig(**settings["trainer"])
    trainer.check()
    model = WaveLiT(WaveLiTConfig(**read_json(folder / "model.json")))
    return _run(folder, load_data(folder), model, train, trainer, settings["seed"], checkpoint)


def fields_of(data: WellDataModule) -> dict[str, list[str]]:
    """Names of a dataset's fields, constant fields and scalars."""
    return {
        "fields": list(data.field_names),
        "constant fields": list(data.constant_field_names),
        "scalars": list(data.scalar_names),
    }


def load_data(folder: str | os.PathLike[str]) -> WellDataModule:
    """The dataset that a run was trained on."""
    return WellDataModule(**load_settings(Path(os.path.expanduser(folder)))["data"])


def load_model(folder: str | os.PathLike[str], weights: Literal["final", "best"] = "final") -> WaveLiT:
    """The model of a run in evaluation mode: its final averaged weights, or those of the best validation.

    Raises:
        WavelitError: Training has not ended, or no validation took place.
    """
    folder = Path(os.path.expanduser(folder))
    load_settings(folder)
    if weights == "final":
        if not (folder / "weights" / "model.safetensors").exists():
            raise WavelitError(
                f"{folder} has no weights yet: continue it with `wavelit train --resume {folder}`"
            )
        return WaveLiT.from_pretrained(folder / "weights")
    checkpoint = folder / "checkpoints" / "best.ckpt"
    if not checkpoint.exists():
        raise WavelitError(f"{folder} has no best checkpoint: no validation took place")
    model = WaveLiT(WaveLiTConfig(**read_json(folder / "model.json")))
    state = load_checkpoint(checkpoint)["state_dict"]
    state = {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}
    require_same_model(checkpoint, state, model)
    model.load_state_dict(state)
    return model.eval()


def load_settings(folder: Path) -> dict[str, Any]:
    """The settings of a run: data, train, trainer and seed.

    Raises:
        WavelitError: The folder is not a run's.
    """
    path = folder / "config.yaml"
    if not path.exists():
        raise WavelitError(
            f"{folder} is not a run folder: it has no config.yaml; train one with `wavelit train`"
        )
    try:
        settings: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise WavelitError(f"{path} cannot be read: {one_line(error)}") from error
    return settings


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        WavelitError: The file is missing or not JSON.
    """
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise WavelitError(f"{path} cannot be read: {one_line(error)}") from error
    return value


def _run(
    folder: Path,
    data: WellDataModule,
    model: WaveLiT,
    train: TrainConfig,
    trainer: TrainerConfig,
    seed: int,
    checkpoint: Path | None,
) -> WaveLiT:
    torch.set_num_threads(trainer.threads)
    quieten()
    module = EmulatorModule(model, train, seed, data.batch_size * trainer.devices, data.field_names)
    # Nothing below draws from the global generators, but what a user adds may.
    pl.seed_everything(seed, verbose=False)
    first_step = 0
    if checkpoint is not None:
        state = load_checkpoint(checkpoint)
        first_step = state["global_step"]
        require_same_model(checkpoint, state["state_dict"], module)
    lightning = pl.Trainer(
        accelerator=trainer.device,
        devices=trainer.devices,
        precision=trainer.precision,
        max_steps=-1 if module.total_steps is None else module.total_steps,
        # The whole run is one epoch to Lightning; ours are in the sampler.
        max_epochs=1,
        val_check_interval=train.validate_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=min(50, train.validate_every, module.total_steps or 50),
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_progress_bar=sys.stdout.isatty(),
        callbacks=_callbacks(folder, train),
        logger=[_csv_logger(folder, first_step), TensorBoardLogger(folder, name="logs", version="")],
    )
    data.trainer = lightning
    data.train_sampler.first_step, data.train_sampler.n_steps = first_step, module.total_steps
    try:
        if module.total_steps is not None and first_step >= module.total_steps:
            # Lightning would leave the last weights in place of the averaged ones. Its last validation is not made up for.
            module.load_state_dict(state["state_dict"])
            module.on_load_checkpoint(state)
        else:
            lightning.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=False)
    except SystemExit as stop:
        # How Lightning ends on an interrupt.
        last = folder / "checkpoints" / "last.ckpt"
        if last.exists():
            advice = f"continue from step {load_checkpoint(last)['global_step']} with `wavelit train --resume {folder}`"
        else:
            advice = f"nothing is kept, as the first checkpoint is of step {train.checkpoint_every} (train.checkpoint_every)"
        raise WavelitError(f"interrupted at step {module.global_step}: {advice}") from stop
    if lightning.is_global_zero:
        model.save_pretrained(folder / "weights")
        steps = max(first_step, lightning.global_step)
        outcome = {
            "steps": steps,
            "samples": steps * data.batch_size * trainer.devices,
            "train_seconds": round(module.train_seconds, 2),
            "threads": torch.get_num_threads(),
            "device": str(lightning.strategy.root_device),
        }
        _write(
            folder / "environment.json",
            json.dumps(read_json(folder / "environment.json") | outcome, indent=2),
        )
    return model.eval()


class _PrintProgress(Callback):
    """A line per validation, for terminals and files that cannot draw a progress bar."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics
        assert isinstance(pl_module, EmulatorModule)
        print(
            f"step {trainer.global_step:6d}  {pl_module.progress:4.0%}  {pl_module.train_seconds:6.0f} s  "
            f"train loss {metrics['train_loss']:.4f}  validation VRMSE {metrics['val_vrmse']:.4f}",
            flush=True,
        )


def _callbacks(folder: Path, train: TrainConfig) -> list[Callback]:
    callbacks: list[Callback] = [RichProgressBar()] if sys.stdout.isatty() else [_PrintProgress()]
    if train.ema:
        callbacks.append(EMA(train.ema))
    return [
        *callbacks,
        *checkpoint_callbacks(folder / "checkpoints", train.checkpoint_every),
    ]


def _csv_logger(folder: Path, first_step: int) -> CSVLogger:
    """Lightning's logger begins its file anew; on resume the rows of the steps before are put back."""
    path = folder / "logs" / "metrics.csv"
    kept: list[dict[str, str]] = []
    if first_step and path.exists():
        with path.open(newline="") as file:
            kept = [row for row in csv.DictReader(file) if int(row["step"]) < first_step]
    logger = CSVLogger(folder, name="logs", version="")
    writer = logger.experiment
    if kept:
        writer.metrics_keys = list(kept[0])
        with path.open("w", newline="") as file:
            rows = csv.DictWriter(file, kept[0].keys())
            rows.writeheader()
            rows.writerows(kept)
    return logger


def quieten() -> None:
    for pattern in QUIET:
        warnings.filterwarnings("ignore", pattern)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)


def _environment(model: WaveLiT) -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    packages = ("wavelit", "torch", "pytorch-lightning", "the_well", "numpy")
    return {
        "parameters": model.n_parameters,
        "commit": commit.stdout.strip() or None,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as scratch:
        scratch.write_text(text + "\n", encoding="utf8")
