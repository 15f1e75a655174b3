"""What increments tell of a dataset: how much of them is transport by a velocity.

    d = u(t+1) - u(t),    g = mean over both frames of v . grad u

R^2 of d on g is the square of their correlation over all cells and windows: the share of the
spread of d that c g + b explains with the best c and b. Gradients are central differences. At a
side that does not wrap, and beside excluded cells, there is none, and the cell does not count.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wavelit.data.batch import Batch
from wavelit.data.signature import cell_spacing
from wavelit.data.well import WellDataset
from wavelit.evaluation.sampled import counted
from wavelit.model.units import same_unit

__all__ = ["CarriedShare", "Correlation", "inner_cells", "transport"]

# The field that carries others, if several have its tensor order.
VELOCITY = "velocity"


def transport(scalars: Tensor, velocity: Tensor, spacing: Sequence[float]) -> Tensor:
    """v . grad u of scalar fields, (C, *S), right on `inner_cells`.

    Args:
        scalars: u, (C, *S), float64.
        velocity: v, (d, *S), a component an axis.
        spacing: Distance between cells along every axis.
    """
    total = torch.zeros_like(scalars)
    for axis, step in enumerate(spacing):
        ahead, behind = (scalars.roll(shift, 1 + axis) for shift in (-1, 1))
        total += velocity[axis] * (ahead - behind) / (2 * step)
    return total


def inner_cells(valid: Tensor | None, grid: Sequence[int], periodic: Sequence[bool]) -> Tensor:
    """Cells that count and whose neighbours along every axis are there and count, bool (*S)."""
    counted = torch.ones(tuple(grid), dtype=torch.bool) if valid is None else valid.bool()
    inner = counted.clone()
    for axis, wraps in enumerate(periodic):
        for shift in (-1, 1):
            inner &= counted.roll(shift, axis)
        if not wraps:
            inner.select(axis, 0).fill_(False)
            inner.select(axis, grid[axis] - 1).fill_(False)
    return inner


class Correlation:
    """Sums for the squared correlation of pairs x, y that come piece by piece, C at a time."""

    def __init__(self, n_channels: int) -> None:
        self._sums = torch.zeros(6, n_channels, dtype=torch.float64)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in pairs (C, N) of float64."""
        terms = (torch.ones_like(x), x, y, x * x, x * y, y * y)
        self._sums += torch.stack([term.sum(1) for term in terms])

    def r_squared(self) -> Tensor:
        """R^2 of y on x, (C,): 0 where x does not vary, NaN where y does not."""
        n, x, y, xx, xy, yy = self._sums
        spread_x, spread_y = xx - x * x / n, yy - y * y / n
        share = (xy - x * y / n).square() / (spread_x * spread_y)
        share = torch.where(spread_x > 0, share, torch.zeros_like(share))
        return torch.where(spread_y > 0, share.clamp(0.0, 1.0), torch.nan)


class CarriedShare:
    """R^2 of the increments of scalar fields on their transport by the dataset's velocity."""

    def __init__(self, dataset: WellDataset) -> None:
        # As channels are ordered.
        fields = sorted(dataset.layouts[0].fields, key=lambda field: field.order)
        self._spacing = cell_spacing(dataset)
        vectors = [field for field in fields if field.order == 1]
        named = [field for field in vectors if field.name == VELOCITY]
        velocity = named[0] if named else vectors[0] if len(vectors) == 1 else None
        self._velocity: tuple[bool, slice] | None = None
        first = {True: 0, False: 0}
        self._scalars: list[int] = []
        for field in fields:
            place = first[field.time_varying]
            first[field.time_varying] += field.n_components
            if field is velocity:
                self._velocity = field.time_varying, slice(place, place + field.n_components)
            if field.time_varying and field.order == 0:
                self._scalars.append(place)
        units = dataset.layouts[0].units
        said = [units[axis] for axis in dataset.layouts[0].axes if units.get(axis)]
        comparable = all(same_unit(said[0], each) for each in said)
        known = None not in (self._velocity, self._spacing)
        self._applies = known and comparable and bool(self._scalars)
        self._sums = Correlation(len(self._scalars))

    def add(self, batch: Batch, periodic: Sequence[bool]) -> None:
        """Take in a window."""
        if not self._applies:
            return
        assert self._velocity is not None
        assert self._spacing is not None
        varies, components = self._velocity
        carried, scalars = [], []
        for frame in (batch.fields[0, 0], batch.target[0, 0]):
            source = frame if varies else batch.constants[0]  # type: ignore[index]
            scalars.append(frame[self._scalars].double())
            velocity = source[components].double()
            carried.append(transport(scalars[-1], velocity, self._spacing))
        where = inner_cells(counted(batch), scalars[0].shape[1:], periodic)
        step = scalars[1] - scalars[0]
        self._sums.add((0.5 * (carried[0] + carried[1]))[:, where], step[:, where])

    def r_squared(self, moved: Tensor) -> Tensor:
        """Of the scalar fields that change; empty where there is no velocity."""
        if not self._applies:
            return torch.empty(0, dtype=torch.float64)
        return self._sums.r_squared()[moved[self._scalars]]
