"""A sample of a training split: windows of two frames, at random places of equal parts of it.

Every file and regime of a dataset has its part, and a seed fixes the choice. How many windows are
read is bounded by their number and by their values, so that a grid of 256^3 takes no longer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from wavelit.data.batch import Batch
from wavelit.data.datamodule import boundary_conditions
from wavelit.data.well import WellDataset

__all__ = ["SampledWindows", "counted", "windows"]

# Windows that are looked at, and values that they may have in all.
WINDOWS, MOST_VALUES = 128, 2**27


class SampledWindows:
    """Windows of a training split at any lag, chosen by a seed."""

    def __init__(
        self, path: str, seed: int, mask: tuple[str | None, float], storage: dict[str, Any] | None
    ) -> None:
        self.path, self._seed, self._mask, self._storage = path, seed, mask, storage
        self.dataset = self.at(1)
        self.periodic = tuple(low == "periodic" for low, _ in boundary_conditions(self.dataset))
        grid = self.dataset.metadata.spatial_resolution
        self.state_size = len(self.dataset.field_channels) * math.prod(int(n) for n in grid)

    def at(self, lag: int) -> WellDataset:
        """Pairs of frames so many steps apart."""
        return WellDataset(
            self.path,
            well_split_name="train",
            mask_field=self._mask[0],
            mask_excludes=self._mask[1],
            n_steps_input=1,
            n_steps_output=1,
            min_dt_stride=lag,
            max_dt_stride=lag,
            storage_options=self._storage,
            boundary_return_type=None,
            return_grid=False,
        )

    def choose(self, n_windows: int, most: int, values: int) -> list[int]:
        """Numbers of at most so many of `n_windows` windows, one from each of equal parts."""
        n = min(n_windows, most, max(1, values // (2 * self.state_size)))
        edges = [i * n_windows // n for i in range(n + 1)]
        rng = np.random.default_rng(self._seed)
        return [int(rng.integers(low, high)) for low, high in itertools.pairwise(edges)]

    def halves(self) -> tuple[list[int], list[int]]:
        """Windows that a stencil is fitted to, and those that it is judged on."""
        # One of each, whatever the size.
        chosen = self.choose(len(self.dataset), WINDOWS, max(MOST_VALUES, 4 * self.state_size))
        places = [self.dataset.locate(index)[:2] for index in chosen]
        trajectories = sorted(set(places))
        if len(trajectories) == 1:
            last = len(chosen) - max(1, len(chosen) // 4) if len(chosen) > 1 else 1
            return chosen[:last], chosen[last:]
        order = np.random.default_rng(self._seed).permutation(len(trajectories))
        n = max(1, len(trajectories) // 4)
        apart = {trajectories[number] for number in order[:n]}
        return (
            [index for index, place in zip(chosen, places, strict=True) if place not in apart],
            [index for index, place in zip(chosen, places, strict=True) if place in apart],
        )


def windows(dataset: WellDataset, chosen: Sequence[int]) -> Iterator[Batch]:
    for index in chosen:
        yield dataset.collate(dataset.__getitems__([index]))


def counted(batch: Batch) -> Tensor | None:
    return None if batch.valid is None else batch.valid[0, 0]
