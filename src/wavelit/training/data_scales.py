"""What a model takes from its training data before training, besides their statistics: scales,
which means are conserved and which vector fields have no divergence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from wavelit.checks.arguments import listed
from wavelit.data.batch import Batch
from wavelit.data.datamodule import WellDataModule
from wavelit.data.sampling import StepBatchSampler
from wavelit.data.signature import cell_spacing
from wavelit.errors import WavelitError
from wavelit.model.config import pad_grid
from wavelit.model.wavelit import WaveLiT
from wavelit.ops.projection import divergence_free

__all__ = ["calibrate", "find_solenoidal", "is_solenoidal", "measure_scales"]

# A sub-band quieter than this share of its field's RMS is scaled by the share: empty bands amplify
# nothing.
BAND_FLOOR = 0.02
# An increment of the history quieter than this share of its sub-band is scaled by the share: a
# prediction's own errors are not.
INCREMENT_FLOOR = 0.1
# A field is conserved if its mean over the grid moves by less than this share of its increment,
# RMS. Rounding in float32 data moves it by 1e-9 to 3e-7, what is not conserved by 1e-3 or more
# (PocketWell's systems).
CONSERVED = 1e-4
# A vector field is free of divergence if the projection takes away less than this share of its
# increments, RMS: rounding in float32 data comes to 1e-6 (PocketWell's shear flow).
SOLENOIDAL = 1e-4
# Training windows that are looked at, and trajectories whose two ends are.
SAMPLES = 256


def calibrate(model: WaveLiT, data: WellDataModule, seed: int) -> None:
    """`measure_scales` on windows drawn by the seed; then of the means that these kept, those that
    trajectories keep too.

    What happens once in a while (a source that switches on) is in few windows, but the mean at the
    end of its trajectory is another than at the start. Looked at are all trajectories, or so many
    of them, evenly spaced.
    """
    dataset = data.train_dataset
    size = min(data.batch_size, len(dataset))
    sampler = StepBatchSampler(len(dataset), size, seed)
    n_batches = min(-(-SAMPLES // size), sampler.steps_per_epoch)
    windows = (dataset.__getitems__(sampler.indices(step)) for step in range(n_batches))
    measure_scales(model, map(dataset.collate, windows))
    if model.config.divergence_free:
        find_solenoidal(model, data)
    if model.kept.any():
        steps = max(layout.n_steps for layout in dataset.layouts)
        drift = _mean_drift(data) / model.normalizer.delta_std.cpu()
        model.conserved &= (drift < CONSERVED * steps).to(model.conserved.device)


def is_solenoidal(data: WellDataModule) -> bool:
    """Whether a vector field of the data can be kept free of divergence: all axes are periodic,
    their spacing is known, no cell is masked, and the increments of a batch have none.
    """
    sides = data.boundary_conditions
    if len(sides) == 1 or any(kind != "periodic" for pair in sides for kind in pair):
        return False
    try:
        shares, _ = _divergence(data)
    except WavelitError:
        return False
    return any(share < SOLENOIDAL for share in shares.values())


@torch.no_grad()
def find_solenoidal(model: WaveLiT, data: WellDataModule) -> None:
    """Mark the vector fields whose increments have no divergence, on a batch; the distance between
    points is that of the data.

    Raises:
        WavelitError: None has, the dataset does not say its spacing, or it has masked cells.
    """
    assert model.solenoidal is not None
    shares, cell = _divergence(data)
    marks = torch.zeros_like(model.solenoidal)
    start = 0
    for field in (f for f in data.train_dataset.layouts[0].fields if f.time_varying):
        marks[start] = shares.get(field.name, 1.0) < SOLENOIDAL
        start += field.n_components
    if not marks.any():
        found = [f"{name} {share:.1g}" for name, share in shares.items()]
        raise WavelitError(
            "divergence_free: no vector field of the data is free of divergence, the projection "
            f"would take away these shares of their increments: {listed(found)}; leave it out"
        )
    model.set_solenoidal(marks, cell)


def _divergence(data: WellDataModule) -> tuple[dict[str, float], Sequence[float]]:
    """By a vector field's name the share of its increments that the projection takes away, RMS over
    a batch; the distance between points.

    Raises:
        WavelitError: The dataset does not say its spacing, or has masked cells.
    """
    dataset = data.train_dataset
    cell = cell_spacing(dataset)
    if cell is None:
        raise WavelitError(
            f"divergence_free: {data.path} does not say the distance of its points: leave it out"
        )
    sampler = StepBatchSampler(len(dataset), min(data.batch_size, len(dataset)), data.seed)
    batch = dataset.collate(dataset.__getitems__(sampler.indices(0)))
    if batch.valid is not None:
        raise WavelitError("divergence_free: the dataset has cells that do not count: leave it out")
    moved = (batch.target[:, 0] - batch.fields[:, -1]).double()
    shares: dict[str, float] = {}
    start = 0
    for field in (f for f in dataset.layouts[0].fields if f.time_varying):
        if field.order == 1:
            own = moved[:, start : start + len(cell)]
            lost = (own - divergence_free(own, cell)).square().mean().sqrt()
            shares[field.name] = float(lost / own.square().mean().sqrt().clamp(min=1e-30))
        start += field.n_components
    return shares, cell


@torch.no_grad()
def measure_scales(model: WaveLiT, batches: Iterable[Batch]) -> None:
    """Measure on training batches the RMS of every sub-band of inputs and increments, and which
    fields keep their mean over the grid (none where cells are masked); the normaliser's statistics
    must be set before. Without it all scales are one and no field is conserved; with `band_scales`
    off the increments of the history alone are scaled, each channel as a whole.

    Raises:
        WavelitError: No batches.
    """
    config = model.config
    c, n_states = config.n_fields, config.n_steps_input * config.n_fields
    squares_in, squares_out = (
        torch.zeros_like(model.input_scale),
        torch.zeros_like(model.output_scale),
    )
    conserved = torch.ones_like(model.conserved)
    n_batches = 0
    for batch in batches:
        history = model.normalizer.fields(batch.fields)
        if config.history == "increments":
            history = torch.cat([history.diff(dim=1), history[:, -1:]], 1)
        x = history.flatten(1, 2)
        if (constants := batch.beside()[0]) is not None:
            x = torch.cat([x, model.normalizer.constants(constants)], 1)
        increment = model.normalizer.increment(batch.target[:, 0] - batch.fields[:, -1])
        if batch.valid is not None:
            # The step at the edge of the mask is no part of the dynamics.
            x, increment = x * batch.valid, increment * batch.valid
        moved = increment.flatten(2).mean(-1).square().mean(0)
        conserved &= (batch.valid is None) & (
            moved < CONSERVED**2 * increment.flatten(2).square().mean((0, 2))
        )
        for squares, value in ((squares_in, x), (squares_out, increment)):
            squares += (
                model.tokenizer.band_rms(model.tokenizer.encode(pad_grid(value, config))) ** 2
            )
        n_batches += 1
    if not n_batches:
        raise WavelitError("calibration needs at least one training batch, none came")
    inputs, outputs = ((squares / n_batches).sqrt() for squares in (squares_in, squares_out))
    if config.band_scales:
        scale_in, scale_out = _floored(inputs), _floored(outputs)
    else:
        inputs = inputs.square().mean(1, keepdim=True).sqrt().expand_as(inputs)
        scale_in, scale_out = torch.ones_like(inputs), torch.ones_like(outputs)
    if config.history == "increments":
        states = scale_in[n_states - c : n_states].repeat(config.n_steps_input - 1, 1)
        scale_in[: n_states - c] = inputs[: n_states - c].clamp(min=INCREMENT_FLOOR * states)
    model.input_scale.copy_(scale_in)
    model.output_scale.copy_(scale_out)
    model.conserved.copy_(conserved)


def _floored(rms: Tensor) -> Tensor:
    """RMS of the sub-bands (N, Q) of N channels, at least `BAND_FLOOR` of the channel's own."""
    whole = rms.square().mean(1, keepdim=True).sqrt()
    # A channel that is zero throughout the batches (a mask that never occurs) keeps scale one.
    return torch.where(whole > 0, rms.clamp(min=BAND_FLOOR * whole), torch.ones_like(rms))


def _mean_drift(data: WellDataModule) -> Tensor:
    """Largest change of the mean over the grid from a trajectory's first frame to its last,
    (C,), in physical units.
    """
    # Windows of two frames, so that little besides the ends is read.
    pairs = data.replaced(n_steps_input=1, n_steps_output=1, cache_bytes=0)
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
        before, after = (
            x.flatten(1).double().mean(1) for x in (batch.fields[0, 0], batch.target[1, -1])
        )
        drifts.append((after - before).abs())
    return torch.stack(drifts).amax(0)
