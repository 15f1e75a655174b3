"""Which symmetries a system has, asked of a model that was trained without them: on moved data its
errors are the same if the physics is, and larger if it is not.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch

from wavelit.data.batch import Batch
from wavelit.data.datamodule import WellDataModule
from wavelit.data.sampling import spread
from wavelit.errors import WavelitError
from wavelit.metrics import vrmse
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.rollout import inference
from wavelit.training.symmetries import Symmetries, Symmetry, symmetries_of

__all__ = ["HOLDS", "describe_ratios", "symmetry_ratios"]

# Windows that are looked at, and the ratio up to which a symmetry is taken to hold.
WINDOWS, HOLDS = 64, 1.2
# Of the error of predicting no change, beyond which a model has learned too little to ask it.
POOR = 0.7


def symmetry_ratios(
    model: IncrementEmulator,
    data: WellDataModule,
    symmetries: str,
    split: str = "valid",
    device: str | torch.device = "cpu",
) -> dict[str, float]:
    """For each symmetry the model's mean VRMSE one step ahead on moved windows of a split over that
    on the windows as they are.

    Args:
        model: A model that was trained without them.
        data: Its dataset.
        symmetries: As `wavelit.training.symmetries` spells them; of shift, one by half of every
            period and a cell.
        split: Which split; 64 windows are spread over it.
        device: Where the model is.

    Raises:
        WavelitError: None is named, or the dataset cannot have one of them.
    """
    moves = symmetries_of(symmetries, data)
    if moves is None:
        raise WavelitError("symmetries: name some, such as 'shift, flip:x'")
    dataset = data.dataset(split)
    errors: dict[str, list[torch.Tensor]] = {"": [], **{str(s): [] for s in moves.symmetries}}
    still: list[torch.Tensor] = []
    for number in spread(len(dataset), WINDOWS):
        batch = dataset.collate(dataset.__getitems__([number])).to(device)
        last, target = batch.fields[:, -1], batch.target[:, 0]
        still.append(vrmse(last, target, moves.spatial, valid=batch.valid).mean().cpu())
        moved = {str(s): _moved(moves, batch, s) for s in moves.symmetries}
        for name, windows in {"": batch, **moved}.items():
            with inference(model):
                following = model(windows.fields, *windows.beside())
            error = vrmse(following, windows.target[:, 0], moves.spatial, valid=windows.valid)
            errors[name].append(error.mean().cpu())
    mean = {name: float(torch.stack(found).mean()) for name, found in errors.items()}
    whole, held = mean.pop(""), float(torch.stack(still).mean())
    if whole > POOR * held:
        warnings.warn(
            f"the model's error is {whole:.3g}, that of no change {held:.3g}: a model that has "
            "learned so little says nothing of symmetries",
            stacklevel=2,
        )
    return {name: value / whole for name, value in mean.items()}


def _moved(moves: Symmetries, batch: Batch, symmetry: Symmetry) -> Batch:
    if symmetry.kind != "shift":
        return moves.moved(batch, symmetry)
    grid = batch.fields.shape[-moves.spatial :]
    return moves.shifted(batch, [grid[axis] // 2 + 1 for axis in moves.periodic])


def describe_ratios(ratios: Mapping[str, float]) -> list[str]:
    """A line for each symmetry: how much larger errors are, and what to make of it."""
    return [
        f"{name}: {ratio:.2f} of the error as it is, "
        + (
            "it holds as far as this model knows"
            if ratio <= HOLDS
            else f"more than {HOLDS}: leave it out"
        )
        for name, ratio in ratios.items()
    ]
