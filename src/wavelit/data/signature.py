"""The signature of a dataset: what a model that is trained on it takes and gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from wavelit.data.format.folder import open_file
from wavelit.data.format.hdf5 import reading
from wavelit.data.format.layout import FieldLayout
from wavelit.data.format.selection import channel_names
from wavelit.model.signature import KINDS, Quantity, Signature

if TYPE_CHECKING:
    from wavelit.data.datamodule import WellDataModule
    from wavelit.data.well import WellDataset

__all__ = ["cell_spacing", "is_signature_of", "signature_of"]

# Training windows whose values are looked at, and how many at a time.
WINDOWS, TOGETHER = 256, 8

Ranges = dict[str, tuple[float, float]]


def signature_of(data: WellDataModule) -> Signature:
    """Names, order and units of a dataset's fields, constants and scalars; its grid, time step and
    boundaries; the ranges of its training split.

    The ranges of scalars are those of all training trajectories. The ranges of fields and constants
    are those of 256 training windows, evenly spaced, or of all where there are fewer. Cells that
    the mask excludes do not count. A pass over all data would cost hours on the largest datasets.

    Args:
        data: The dataset; nothing of it changes, and no random number is drawn.

    Raises:
        WavelitError: Values that are not finite, or files that cannot be read.
    """
    return _signature(data, _ranges(data))


def is_signature_of(signature: Signature, data: WellDataModule) -> bool:
    """Whether a signature is that of a dataset, ranges aside: no window is read."""
    return _without_ranges(signature) == _without_ranges(_signature(data, {}))


def _without_ranges(signature: Signature) -> Signature:
    kinds: dict[str, Any] = {
        kind: tuple(dataclasses.replace(each, ranges=None) for each in getattr(signature, kind))
        for kind in KINDS
    }
    return dataclasses.replace(signature, **kinds)


def _signature(data: WellDataModule, ranges: Ranges) -> Signature:
    dataset = data.train_dataset
    layouts = dataset.layouts
    first = layouts[0]
    units = first.units
    steps = [layout.dt for layout in layouts]

    def quantities(
        kind: Sequence[FieldLayout], varying: bool, channels: Sequence[str]
    ) -> tuple[Quantity, ...]:
        of_kind = [field for field in kind if field.time_varying == varying]
        # A logarithm has no unit.
        source = {field.name: "" if field.logarithm else field.source for field in of_kind}
        return tuple(
            Quantity(
                name,
                own,
                order,
                units.get(source.get(name, name), ""),
                tuple(ranges[channel] for channel in own) if own[0] in ranges else None,
            )
            for name, own, order in _grouped(of_kind, channels, first.axes)
        )

    return Signature(
        dataset=first.dataset_name,
        n_steps_input=data.n_steps_input,
        fields=quantities(first.fields, True, dataset.field_channels),
        constants=quantities(first.fields, False, dataset.constant_channels),
        scalars=tuple(
            Quantity(
                name,
                (name,),
                unit=units.get(name, ""),
                ranges=(
                    (
                        min(float(layout.scalars[name].min()) for layout in layouts),
                        max(float(layout.scalars[name].max()) for layout in layouts),
                    ),
                ),
            )
            for name in data.metadata.constant_scalar_names
        ),
        forcing_fields=(
            ()
            if dataset.forced is None
            else quantities(dataset.forced.layouts[0].fields, True, dataset.forcing_channels)
        ),
        forcing_scalars=_forcing_scalars(dataset),
        axes=first.axes,
        axis_units=tuple(units.get(axis, "") for axis in first.axes),
        spacing=cell_spacing(dataset),
        time_step=(min(steps), max(steps)),
        time_unit=units.get("time", ""),
        boundary_conditions=data.boundary_conditions,
        mask="" if dataset.mask is None else dataset.mask.field,
        mask_excludes=1.0 if dataset.mask is None else float(dataset.mask.excludes),
    )


def _grouped(
    fields: Sequence[FieldLayout], channels: Sequence[str], axes: Sequence[str]
) -> list[tuple[str, tuple[str, ...], int]]:
    """Channels by the field that they are of, as (name, channels, tensor order), in their order;
    a component without the others of its field stands for itself.
    """
    whole = {}
    for field in fields:
        names = tuple(channel_names(field, axes))
        whole[names[0]] = (field.name, names, field.order)
    found: list[tuple[str, tuple[str, ...], int]] = []
    rest = list(channels)
    while rest:
        name, names, order = whole.get(rest[0], (rest[0], (rest[0],), 0))
        if tuple(rest[: len(names)]) != names:
            name, names, order = rest[0], (rest[0],), 0
        found.append((name, names, order))
        rest = rest[len(names) :]
    return found


def _forcing_scalars(dataset: WellDataset) -> tuple[Quantity, ...]:
    values, units = dataset.forcing_values(), dataset.layouts[0].units
    if values is None:
        return ()
    lows, highs = values.min(0).tolist(), values.max(0).tolist()
    return tuple(
        Quantity(name, (name,), unit=units.get(name, ""), ranges=((low, high),))
        for name, low, high in zip(dataset.forcing_scalars, lows, highs, strict=True)
    )


def _ranges(data: WellDataModule) -> Ranges:
    """Smallest and largest values of the channels of fields, constants and forcings."""
    dataset = data.train_dataset
    if not dataset.in_memory:
        # Windows of two frames, so that little is read.
        pairs = data.replaced(n_steps_input=1, n_steps_output=1, cache_bytes=0)
        dataset = pairs.train_dataset
    chosen = range(0, len(dataset), -(-len(dataset) // WINDOWS))
    fields, constants, forcings = _Extremes(), _Extremes(), _Extremes()
    for start in range(0, len(chosen), TOGETHER):
        batch = dataset.collate(dataset.__getitems__(chosen[start : start + TOGETHER]))
        valid = batch.valid
        for frames in (batch.fields, batch.target):
            fields.add(frames.flatten(0, 1), _repeated(valid, frames.shape[1]))
        if batch.constants is not None:
            constants.add(batch.constants, valid)
        if batch.forcings is not None:
            forcings.add(batch.forcings.flatten(0, 1), _repeated(valid, batch.forcings.shape[1]))
    return (
        fields.named(dataset.field_channels)
        | constants.named(dataset.constant_channels)
        | forcings.named(dataset.forcing_channels)
    )


def _repeated(valid: Tensor | None, n_frames: int) -> Tensor | None:
    return None if valid is None else valid.repeat_interleave(n_frames, 0)


class _Extremes:
    """Smallest and largest value of every channel so far."""

    def __init__(self) -> None:
        self.low = self.high = torch.empty(0)

    def add(self, states: Tensor, valid: Tensor | None) -> None:
        """Look at states (B, C, *S) where `valid` (B, 1, *S) says so."""
        low, high = (
            states if valid is None else states.where(valid, sign * torch.inf) for sign in (1, -1)
        )
        axes = (0, *range(2, states.ndim))
        low, high = low.amin(axes), high.amax(axes)
        self.low = torch.minimum(self.low, low) if self.low.numel() else low
        self.high = torch.maximum(self.high, high) if self.high.numel() else high

    def named(self, channels: Sequence[str]) -> Ranges:
        """By channel; those of which no cell counts are left out."""
        pairs = zip(channels, self.low.tolist(), self.high.tolist(), strict=False)
        return {name: (low, high) for name, low, high in pairs if low <= high}


def cell_spacing(dataset: WellDataset) -> tuple[float, ...] | None:
    """Mean distance between cells along every axis of the first trajectory; None where positions
    do not increase.
    """
    layout = dataset.layouts[0]
    with (
        open_file(dataset.fs, layout.path) as file,
        reading(layout.path, "its positions"),
    ):
        lines = [np.asarray(file["dimensions"][axis][()], np.float64) for axis in layout.axes]
    lines = [line[0] if line.ndim == 2 else line for line in lines]
    steps = [float((line[-1] - line[0]) / max(len(line) - 1, 1)) for line in lines]
    return tuple(steps) if all(step > 0 and np.isfinite(step) for step in steps) else None
