"""What a run says while it trains: a line a validation, and curves in a CSV file."""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger

from wavelit.errors import WavelitError, one_line
from wavelit.training.module import EmulatorModule
from wavelit.training.ranks import is_first

__all__ = ["PrintProgress", "csv_logger", "told_once"]


class PrintProgress(Callback):
    """A line per validation, for terminals and files that cannot draw a progress bar."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics
        assert isinstance(pl_module, EmulatorModule)
        print(
            f"step {trainer.global_step:6d}  {pl_module.progress:4.0%}  "
            f"{pl_module.train_seconds:6.0f} s  train loss {metrics['train_loss']:.4f}  validation "
            f"VRMSE {metrics['val_vrmse']:.4f}",
            flush=True,
        )


def csv_logger(folder: Path, first_step: int) -> CSVLogger:
    """Lightning's logger begins its file anew; on resume the rows of the steps before are put
    back.
    """
    path = folder / "logs" / "metrics.csv"
    kept: list[dict[str, str]] = []
    if first_step and path.exists() and is_first():
        try:
            with path.open(newline="", encoding="utf8") as file:
                kept = [row for row in csv.DictReader(file) if int(row["step"]) < first_step]
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise WavelitError(
                f"{path} is damaged ({one_line(error)}): remove it to go on without its curves"
            ) from error
    logger = CSVLogger(folder, name="logs", version="")
    writer = logger.experiment
    if kept:
        writer.metrics_keys = list(kept[0])
        with path.open("w", newline="") as file:
            rows = csv.DictWriter(file, kept[0].keys())
            rows.writeheader()
            rows.writerows(kept)
    return logger


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
