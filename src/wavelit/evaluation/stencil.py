"""The best linear stencil: what a model of a PDE must beat to be worth its name.

    u(t+1) = u(t) + sigma_D . (A x + b)

x holds the 3^d cells around a cell, of every field and frame of the history: the last state, and
the increments between states. Each is in units of its own spread. A and b are fitted by least
squares to the increments of training windows. Periodic axes wrap, at other sides the edge is
repeated. Cells that do not count are left out of the fit.

An explicit finite-difference scheme of a linear equation is such a stencil: where that is all there
is to learn, it is exact.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wavelit.data.batch import Batch
from wavelit.data.datamodule import WellDataModule
from wavelit.errors import WavelitError
from wavelit.model.normalizer import Normalizer

__all__ = ["LinearStencil", "fit_stencil", "fit_windows", "frames_read", "training_windows"]

# Training windows that are looked at, evenly spaced, and how many at a time.
WINDOWS, TOGETHER = 64, 4
# Inputs of the fit: where the history has more, its last two frames are read, or its last one.
MOST_COLUMNS = 2000
# Multiplications that the normal equations may take, about a second, and cells for every unknown
# that there are at least. Cells are drawn from every window so that both hold.
MOST_PRODUCTS, LEAST_CELLS = 2e10, 20
# Of the mean diagonal of the normal equations: for inputs that do not vary, such as a field that is
# constant along an axis.
RIDGE = 1e-10


@dataclass(frozen=True)
class LinearStencil:
    """A fitted stencil, an emulator in physical units.

    Args:
        weight: A, (C, frames C, 3, ...).
        bias: b, (C,).
        normalizer: Of the training data.
        periodic: Whether each axis wraps.
        n_frames: Frames of the history that are read.
    """

    weight: Tensor
    bias: Tensor
    normalizer: Normalizer
    periodic: tuple[bool, ...]
    n_frames: int

    def __call__(
        self, fields: Tensor, constants: Tensor | None = None, scalars: Tensor | None = None
    ) -> Tensor:
        """The next state (B, C, *S) after fields (B, T, C, *S)."""
        normalizer = self.normalizer.to(fields.device)
        x = _features(fields, normalizer, self.n_frames)
        for axis, wraps in enumerate(self.periodic):
            n = x.shape[2 + axis]
            around = _around(torch.arange(-1, n + 1, device=x.device), n, wraps)
            x = x.index_select(2 + axis, around)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(self.periodic) - 1]
        # Large weights cancel: TF32, which CUDA's convolutions take by default, is too coarse.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            y = convolve(x, self.weight.to(x), self.bias.to(x))
        return normalizer.add_increment(fields[:, -1], y)


def training_windows(data: WellDataModule, n_windows: int = WINDOWS) -> Iterator[Batch]:
    """So many windows of the training split, evenly spaced, or all where there are fewer."""
    dataset = data.train_dataset
    chosen = range(0, len(dataset), -(-len(dataset) // n_windows))
    for start in range(0, len(chosen), TOGETHER):
        yield dataset.collate(dataset.__getitems__(chosen[start : start + TOGETHER]))


def fit_stencil(data: WellDataModule) -> LinearStencil | None:
    """Fit a stencil to the training increments of a dataset, in float64 and seconds; None where
    one frame alone has more than 2,000 inputs.

    Args:
        data: The dataset; its statistics scale the inputs.

    Raises:
        WavelitError: There is no window.
    """
    n_fields, periodic = len(data.field_names), _periodic(data)
    n_frames = frames_read(data.n_steps_input, n_fields, len(periodic))
    if n_frames is None:
        return None
    normalizer = Normalizer(n_fields, len(data.constant_field_names), len(data.scalar_names))
    normalizer.set_statistics(data.statistics)
    n_windows = min(WINDOWS, len(data.train_dataset))
    return fit_windows(training_windows(data), normalizer, periodic, n_frames, n_windows)


def fit_windows(
    windows: Iterable[Batch],
    normalizer: Normalizer,
    periodic: tuple[bool, ...],
    n_frames: int,
    n_windows: int,
) -> LinearStencil:
    """Fit a stencil to the increments of windows.

    Args:
        windows: Batches of windows.
        normalizer: Scales the inputs.
        periodic: Whether each axis wraps.
        n_frames: Frames of the history that are read.
        n_windows: About how many windows there are: cells are drawn from each accordingly.

    Raises:
        WavelitError: There is no window.
    """
    n_fields = len(normalizer.mean)
    n_columns = n_frames * n_fields * 3 ** len(periodic) + 1
    gram = torch.zeros(n_columns, n_columns, dtype=torch.float64)
    moments = torch.zeros(n_columns, n_fields, dtype=torch.float64)
    n_rows = int(max(MOST_PRODUCTS / n_columns**2, LEAST_CELLS * n_columns))
    generator = torch.Generator().manual_seed(0)
    found = False
    for batch in windows:
        grid = batch.fields.shape[3:]
        frames = batch.fields[:, -n_frames:].flatten(3)  # (B, frames, C, cells)
        following = batch.target[:, 0].flatten(2)
        for sample in range(len(frames)):
            where = _drawn(batch.valid, sample, frames.shape[3], n_rows // n_windows, generator)
            around = frames[sample][:, :, _neighbours(where, grid, periodic)].double()
            inputs = _features(around[None], normalizer, n_frames)[0]  # (F, rows, 3^d)
            step = following[sample][:, where].double() - frames[sample, -1][:, where].double()
            rows = inputs.movedim(0, 1).flatten(1)
            rows = torch.cat([rows, torch.ones_like(rows[:, :1])], 1)
            gram += rows.T @ rows
            moments += rows.T @ normalizer.increment(step[None])[0].T
            found = found or len(rows) > 0
    if not found:
        raise WavelitError("a stencil is fitted to at least one training window, none came")
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    solution = torch.linalg.solve(gram, moments).T  # (C, F 3^d + 1)
    weight = solution[:, :-1].reshape(n_fields, n_frames * n_fields, *(3,) * len(periodic))
    return LinearStencil(weight.contiguous(), solution[:, -1], normalizer, periodic, n_frames)


def _periodic(data: WellDataModule) -> tuple[bool, ...]:
    return tuple(low == "periodic" for low, _ in data.boundary_conditions)


def frames_read(n_steps_input: int, n_fields: int, spatial: int) -> int | None:
    """How many frames of a history a stencil reads; None: one frame has too many inputs."""
    for n_frames in sorted({n_steps_input, min(2, n_steps_input), 1}, reverse=True):
        if n_frames * n_fields * 3**spatial <= MOST_COLUMNS:
            return n_frames
    return None


def _features(fields: Tensor, normalizer: Normalizer, n_frames: int) -> Tensor:
    """What a stencil reads of fields (B, T, C, *S): the increments between the last frames and the
    last state, (B, frames C, *S), each in units of its spread.
    """
    last = normalizer.fields(fields[:, -1:])
    steps = fields[:, -n_frames:].diff(dim=1)
    scaled = [normalizer.increment(step) for step in steps.unbind(1)]
    return torch.cat([*scaled, last[:, 0]], 1)


def _around(index: Tensor, n: int, wraps: bool) -> Tensor:
    """Cells beside the grid as cells of it."""
    return index % n if wraps else index.clamp(0, n - 1)


def _neighbours(cells: Tensor, grid: Sequence[int], periodic: Sequence[bool]) -> Tensor:
    """Numbers of the 3^d cells around cells (rows,), (rows, 3^d), in the order of a convolution's
    weights.
    """
    places = torch.unravel_index(cells, tuple(grid))
    found = []
    for shift in itertools.product((-1, 0, 1), repeat=len(grid)):
        number = torch.zeros_like(cells)
        for place, step, n, wraps in zip(places, shift, grid, periodic, strict=True):
            number = number * n + _around(place + step, n, wraps)
        found.append(number)
    return torch.stack(found, 1)


def _drawn(
    valid: Tensor | None, sample: int, n_cells: int, most: int, generator: torch.Generator
) -> Tensor:
    """Cells of a sample that count, at most so many of them."""
    cells = torch.arange(n_cells) if valid is None else valid[sample].flatten().nonzero()[:, 0]
    if len(cells) <= max(most, 1):
        return cells
    return cells[torch.randperm(len(cells), generator=generator)[: max(most, 1)]]
