"""Which samples make up the batch of a training step, as a pure function of the seed and the step.

Epoch e visits the n samples in the order of a permutation drawn from (seed, e) and cuts it into
floor(n / B) batches of B; what is left over is dropped, and another epoch drops others. The batch
of step k is number k mod floor(n / B) of epoch k div floor(n / B). Nothing about the stream needs
saving: a run resumed at step k sees what the uninterrupted one would have seen. With R processes a
step takes R B samples of the permutation, B for each.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from wavelit.errors import WavelitError

__all__ = ["StepBatchSampler", "spread"]


def spread(n: int, most: int) -> list[int]:
    """At most so many of n places, evenly spread, both ends among them if there are two."""
    if most >= n:
        return list(range(n))
    return [round(place * (n - 1) / max(1, most - 1)) for place in range(most)]


class StepBatchSampler(Sampler[list[int]]):
    """Batches of sample indices for steps `first_step`, `first_step` + 1, ..., `n_steps` - 1.

    `first_step` is a plain attribute, to be set before the loader starts: that is all a resumed run
    has to do.

    Args:
        n_samples: length of the dataset.
        batch_size: samples a batch and process.
        seed: a non-negative number; every seed gives its own stream.
        first_step: step at which iteration starts.
        n_steps: total number of steps of the run; None for an endless stream.
        rank: number of this process among those that share a step.
        n_ranks: how many processes share a step.

    Raises:
        WavelitError: fewer samples than a step takes, or a negative seed or step.
    """

    def __init__(
        self,
        n_samples: int,
        batch_size: int,
        seed: int,
        first_step: int = 0,
        n_steps: int | None = None,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        if batch_size < 1 or n_samples < batch_size * n_ranks:
            raise WavelitError(
                f"{n_samples} training windows cannot fill one step of batch_size={batch_size} on "
                f"{n_ranks} process(es), devices times num_nodes; use a batch_size between 1 and "
                "the number of windows a process"
            )
        if seed < 0 or first_step < 0 or not 0 <= rank < n_ranks:
            raise WavelitError(
                f"seed={seed}, first_step={first_step}, rank={rank} of {n_ranks}: none may be "
                "negative, and the rank must be below the number of processes"
            )
        self.n_samples = n_samples
        self.batch_size = batch_size
        self.seed = seed
        self.first_step = first_step
        self.n_steps = n_steps
        self.rank = rank
        self.n_ranks = n_ranks
        self._epoch = -1
        self._order: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    @property
    def steps_per_epoch(self) -> int:
        return self.n_samples // (self.batch_size * self.n_ranks)

    def indices(self, step: int) -> list[int]:
        """Indices of the samples of a step, `batch_size` of them, in the order of the batch."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = np.random.default_rng((self.seed, epoch)).permutation(self.n_samples)
            self._epoch = epoch
        start = (position * self.n_ranks + self.rank) * self.batch_size
        return [int(i) for i in self._order[start : start + self.batch_size]]

    def __iter__(self) -> Iterator[list[int]]:
        steps = (
            itertools.count(self.first_step)
            if self.n_steps is None
            else range(self.first_step, self.n_steps)
        )
        return map(self.indices, steps)

    def __len__(self) -> int:
        """Total number of steps of the run, whatever `first_step` is."""
        # A TypeError, not another error, is what DataLoader and Lightning take for "has no length".
        if self.n_steps is None:
            raise TypeError("an endless stream of batches has no length")
        return self.n_steps
