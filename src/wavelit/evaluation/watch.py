"""Pictures of a validation rollout in TensorBoard, one at every validation, while a run trains."""

from __future__ import annotations

import math

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger

from wavelit.data.batch import Batch
from wavelit.data.datamodule import WellDataModule
from wavelit.evaluation.evaluate import predict
from wavelit.evaluation.figures import rollout_figure
from wavelit.evaluation.orientation import view_of
from wavelit.training.module import EmulatorModule

__all__ = ["RolloutPictures"]

# Steps of a rollout that are drawn at most, and bytes of the window that it is compared with.
STEPS, BYTES = 20, 2**28


class RolloutPictures(Callback):
    """Rolls out from the start of the validation split with the averaged weights and draws it.

    It has to stand before the averaging of weights among a trainer's callbacks: their values are in
    the model then. It draws nothing where a window would take more than 256 MB.
    """

    def __init__(self) -> None:
        self._window: Batch | None = None

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the rollout into every TensorBoard log of the run."""
        boards = [log for log in trainer.loggers if isinstance(log, TensorBoardLogger)]
        if not (boards and trainer.is_global_zero):
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, WellDataModule)
        if self._window is None:
            self._window = _first_window(data)
        if self._window is None:
            return
        assert isinstance(pl_module, EmulatorModule)
        with torch.no_grad():
            prediction, truth = predict(pl_module.model, self._window.to(pl_module.device))
        valid = None if self._window.valid is None else self._window.valid[0, 0]
        figure = rollout_figure(
            truth[0].cpu(),
            prediction[0].cpu(),
            data.field_names,
            valid=valid,
            view=view_of(data.train_dataset.layouts[0].axes),
            units=data.train_dataset.field_units,
        )
        for board in boards:
            board.experiment.add_figure("validation rollout", figure, trainer.global_step)


def _first_window(data: WellDataModule) -> Batch | None:
    """The first window of the validation split, as many steps as there are or are drawn."""
    layouts = data.dataset("valid").layouts
    frame = 4 * len(data.field_names) * math.prod(layouts[0].resolution)
    longest = min(layout.n_steps for layout in layouts) - data.n_steps_input
    steps = min(STEPS, longest, BYTES // frame)
    if steps < 1:
        return None
    dataset = data.dataset("valid", n_steps_output=steps)
    return dataset.collate(dataset.__getitems__([0]))
