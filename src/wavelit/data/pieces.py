"""The values of a field of an open file, in pieces of bounded size: what statistics and checks go
through.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavelit.data.format.hdf5 import reading
from wavelit.data.format.layout import FieldLayout, FileLayout, Mask

__all__ = ["Piece", "pieces"]

CHUNK_BYTES = 64 * 1024**2


class Piece(NamedTuple):
    """Consecutive frames (N, *S, component...) of one field and trajectory, from step `start` on.

    `before` (1, ...) is the frame before them, None at the start of the trajectory; `keep` (*S)
    tells the cells that count, None when all do.
    """

    trajectory: int
    start: int
    frames: NDArray[np.float64]
    before: NDArray[np.float64] | None
    keep: NDArray[np.bool_] | None
    n_components: int

    @property
    def counted(self) -> NDArray[np.float64]:
        """Values (cells and frames, component) that count."""
        return self._select(self.frames)

    @property
    def counted_steps(self) -> NDArray[np.float64]:
        """Increments (cells and steps, component) that count, the one into the first frame
        included.
        """
        lead = 0 if self.before is None else 1
        steps = np.empty((len(self.frames) - 1 + lead, *self.frames.shape[1:]))
        # Excluded cells may hold infinities, of whose difference numpy warns.
        with np.errstate(invalid="ignore"):
            np.subtract(self.frames[1:], self.frames[:-1], out=steps[lead:])
            if self.before is not None:
                np.subtract(self.frames[:1], self.before, out=steps[:1])
        return self._select(steps)

    def variances(self, most: int) -> NDArray[np.float64]:
        """Variances over the cells that count of at most so many frames or a few more, (frames,
        component); none where no cell counts.
        """
        some = self.frames[:: max(1, len(self.frames) // most)]
        cells = self._select(some).reshape(len(some), -1, self.n_components)
        with np.errstate(invalid="ignore", over="ignore"):
            return cells.var(1) if cells.shape[1] else np.empty((0, self.n_components))

    def _select(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return (x if self.keep is None else x[:, self.keep]).reshape(-1, self.n_components)


def pieces(
    file: Any,
    layout: FileLayout,
    field: FieldLayout,
    declared: Mask | None,
    trajectories: Sequence[int] | None = None,
) -> Iterator[Piece]:
    """Go through a field of an open file in float64, in pieces of bounded size; through some of its
    trajectories alone if they are named.

    A field that is the same for all trajectories comes once, as trajectory 0, unless the mask
    differs between them. The mask itself counts everywhere.
    """
    mask = None
    if declared is not None and declared.field != field.name:
        mask = next(f for f in layout.fields if f.name == declared.field)
    dataset = file[field.group][field.source]
    components = (len(layout.axes),) * field.order
    by_trajectory = field.sample_varying or (mask is not None and mask.sample_varying)
    n_frames = layout.n_steps if field.time_varying else 1
    step = max(1, CHUNK_BYTES // (8 * math.prod(layout.resolution) * field.n_components))
    every = range(layout.n_trajectories) if trajectories is None else trajectories
    for trajectory in every if by_trajectory else (0,):
        keep = None
        if mask is not None and declared is not None:
            with reading(layout.path, f"field '{mask.name}'"):
                stored = file["t0_fields"][mask.name][(trajectory,) if mask.sample_varying else ()]
            on_grid = _on_grid(stored[None], mask.dim_varying, layout.resolution)[0]
            keep = on_grid != declared.excludes
        lead = (trajectory,) if field.sample_varying else ()
        before = None
        for start in range(0, n_frames, step):
            stop = min(start + step, n_frames)
            index = (*lead, slice(start, stop)) if field.time_varying else lead
            with reading(layout.path, f"field '{field.name}'"):
                frames = np.asarray(dataset[index], dtype=np.float64)
            if not field.time_varying:
                frames = frames[None]
            if keep is not None:
                frames = _on_grid(frames, field.dim_varying, layout.resolution, components)
            yield Piece(trajectory, start, frames, before, keep, field.n_components)
            before = frames[-1:]


def _on_grid(
    x: NDArray[Any],
    varying: tuple[bool, ...],
    resolution: tuple[int, ...],
    components: tuple[int, ...] = (),
) -> NDArray[Any]:
    """Repeat frames (N, stored axes..., component...) along the axes that are not stored."""
    stored = tuple(n if varies else 1 for n, varies in zip(resolution, varying, strict=True))
    return np.broadcast_to(
        x.reshape(len(x), *stored, *components), (len(x), *resolution, *components)
    )
