"""What a model takes from its training data before training, besides their statistics: scales, and which means are conserved."""

from __future__ import annotations

import torch
from torch import Tensor

from wavelit.data.datamodule import WellDataModule
from wavelit.data.sampling import StepBatchSampler
from wavelit.model.wavelit import CONSERVED, WaveLiT

__all__ = ["calibrate"]

# Training windows that are looked at, and trajectories whose two ends are.
SAMPLES = 256


def calibrate(model: WaveLiT, data: WellDataModule, seed: int) -> None:
    """`WaveLiT.calibrate` on windows drawn by the seed; then of the means that these kept, those that trajectories keep too.

    What happens once in a while (a source that switches on) is in few windows, but the mean at the end of its trajectory is another
    than at the start. Looked at are all trajectories, or so many of them, evenly spaced.
    """
    dataset = data.train_dataset
    size = min(data.batch_size, len(dataset))
    sampler = StepBatchSampler(len(dataset), size, seed)
    n_batches = min(-(-SAMPLES // size), sampler.steps_per_epoch)
    model.calibrate(dataset.collate(dataset.__getitems__(sampler.indices(step))) for step in range(n_batches))
    if model.kept.any():
        steps = max(layout.n_steps for layout in dataset.layouts)
        drift = _mean_drift(data) / model.normalizer.delta_std.cpu()
        model.conserved &= (drift < CONSERVED * steps).to(model.conserved.device)


def _mean_drift(data: WellDataModule) -> Tensor:
    """Largest change of the mean over the grid from a trajectory's first frame to its last, (C,), in physical units."""
    # Windows of two frames, so that little besides the ends is read.
    pairs = WellDataModule(data.path, n_steps_input=1, storage_options=data.storage_options, cache_bytes=0)
    dataset, ends = pairs.train_dataset, []
    for index, layout in enumerate(dataset.layouts):
        first = max(int(dataset.file_index_offsets[index]), 0)
        n_windows = int(dataset.n_windows_per_trajectory[index])
        starts = range(first, first + layout.n_trajectories * n_windows, n_windows)
        ends += [(start, start + n_windows - 1) for start in starts]
    drifts = []
    for pair in ends[:: -(-len(ends) // SAMPLES)]:
        batch = dataset.collate(dataset.__getitems__(pair))
        # In float64: a mean of many float32 values is to be exact to less than an increment.
        before, after = (x.flatten(1).double().mean(1) for x in (batch.fields[0, 0], batch.target[1, -1]))
        drifts.append((after - before).abs())
    return torch.stack(drifts).amax(0)
