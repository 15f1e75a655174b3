"""What a run says while it trains: a bar or lines, and curves in a CSV file."""

from __future__ import annotations

import copy
import csv
import math
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from wavelit.errors import WavelitError, one_line
from wavelit.files.atomic import atomic_path
from wavelit.files.plain import whole_lines
from wavelit.model.rollout import evaluation_mode
from wavelit.training.module import EmulatorModule, TrainingModule
from wavelit.training.rank_zero import is_first

__all__ = ["FirstValidation", "PrintProgress", "ProgressBar", "csv_logger", "told_once"]

# Seconds between two readings of the loss: on a GPU each waits for the step to end.
INTERVAL = 0.5


class FirstValidation(Callback):
    """The validation score before any step, printed: what training starts from.

    It is made on the model as it is, apart from Lightning's loops, and leaves no trace: random
    numbers, logs and checkpoints are those of a run without it.
    """

    @torch.no_grad()
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score, unless the run goes on from a checkpoint."""
        if trainer.global_step:
            return
        assert isinstance(pl_module, EmulatorModule)
        data, model = trainer.datamodule, pl_module.model  # type: ignore[attr-defined]
        score = copy.deepcopy(pl_module.vrmse)
        score.reset()
        with evaluation_mode(model):
            for batch in data.validation_windows():
                batch = trainer.strategy.batch_to_device(batch)
                with trainer.precision_plugin.forward_context():
                    following = model(batch.fields, *batch.beside())
                score.update(following, batch.target[:, 0], batch.valid)
        value = float(score.compute())
        if is_first():
            print(f"before any step: validation VRMSE {value:.4f}", flush=True)


class PrintProgress(Callback):
    """A line per validation, for terminals and files that cannot draw a progress bar."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics
        assert isinstance(pl_module, TrainingModule)
        if not is_first():
            return
        print(
            f"step {trainer.global_step:6d}  {pl_module.progress:4.0%}  "
            f"{pl_module.train_seconds:6.0f} s  train loss {metrics['train_loss']:.4f}  validation "
            f"VRMSE {metrics['val_vrmse']:.4f}"
            + (f", rollouts {metrics['val_rollout']:.4f}" if "val_rollout" in metrics else ""),
            flush=True,
        )
        if details := pl_module.details():
            print(f"  {details}", flush=True)


class ProgressBar(Callback):
    """A bar with the rate, the time left, the loss and the last validation score, for terminals.

    Args:
        console: Where it is drawn; the terminal if absent.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._bar = Progress(
            TextColumn("step {task.fields[step]}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]:.1f} steps/s, left"),
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]:.4f}, validation VRMSE {task.fields[score]}"),
            console=console,
        )
        self._task: TaskID | None = None
        self._drawn = -math.inf

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the bar where the run is."""
        assert isinstance(pl_module, TrainingModule)
        if not trainer.is_global_zero:
            return
        first, done = trainer.global_step, pl_module.progress
        self._first, self._began = first, pl_module.train_seconds
        self._task = self._bar.add_task(
            "", total=1.0, step=first, rate=0.0, loss=math.nan, score="none yet"
        )
        self._bar.update(self._task, completed=done)
        self._bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        """Move the bar, a few times a second."""
        assert isinstance(pl_module, TrainingModule)
        now = time.monotonic()
        if self._task is None or (now < self._drawn + INTERVAL and pl_module.progress < 1):
            return
        self._drawn = now
        steps = trainer.global_step - self._first
        rate = steps / max(pl_module.train_seconds - self._began, 1e-9)
        loss = float(trainer.callback_metrics.get("train_loss", math.nan))
        self._bar.update(
            self._task, completed=pl_module.progress, step=trainer.global_step, rate=rate, loss=loss
        )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the score."""
        if self._task is not None:
            self._bar.update(
                self._task, score=f"{float(trainer.callback_metrics['val_vrmse']):.4f}"
            )
            assert isinstance(pl_module, TrainingModule)
            if details := pl_module.details():
                self._bar.console.print(details, markup=False, highlight=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the last bar on the terminal."""
        self._bar.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back before the error is printed."""
        self._bar.stop()


def csv_logger(folder: Path, first_step: int) -> CSVLogger:
    """Lightning's logger begins its file anew; on resume the rows of the steps before are put
    back.
    """
    path = folder / "logs" / "metrics.csv"
    kept: list[dict[str, str]] = []
    if first_step and path.exists() and is_first():
        try:
            rows = list(csv.DictReader(whole_lines(path.read_text(encoding="utf8"))))
            sound = [row for row in rows if _is_sound(row)]
        except (UnicodeDecodeError, csv.Error) as error:
            raise WavelitError(
                f"{path} is damaged ({one_line(error)}): remove it to go on without its curves"
            ) from error
        kept = [row for row in sound if int(row["step"]) < first_step]
        if len(sound) < len(rows):
            warnings.warn(
                f"{path} is damaged: {len(rows) - len(sound)} of {len(rows)} rows are left out",
                stacklevel=2,
            )
    logger = CSVLogger(folder, name="logs", version="")
    writer = logger.experiment
    if kept:
        writer.metrics_keys = list(kept[0])
        with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
            table = csv.DictWriter(file, kept[0].keys())
            table.writeheader()
            table.writerows(kept)
    return logger


def _is_sound(row: dict[str, str]) -> bool:
    """Whether a row has a step and as many entries as the header."""
    return None not in row and None not in row.values() and row.get("step", "").isdecimal()


@contextmanager
def told_once() -> Iterator[None]:
    """TensorBoard writes in a thread, whose error is raised here too by the next that is
    written: its traceback is not printed.
    """
    hook = threading.excepthook

    def told(arguments: threading.ExceptHookArgs) -> None:
        writer = type(arguments.thread).__name__ == "_AsyncWriterThread"
        if not (writer and isinstance(arguments.exc_value, OSError)):
            hook(arguments)

    threading.excepthook = told
    try:
        yield
    finally:
        threading.excepthook = hook
