"""Processes that read for a run: signals are the run's, and they end with it."""

from __future__ import annotations

import atexit
import signal
from typing import Any
from weakref import WeakSet

from torch.utils.data import DataLoader, Dataset

__all__ = ["data_loader"]

# Whoever iterates may outlive the loader.
_iterators: WeakSet[Any] = WeakSet()


class _Loader(DataLoader[Any]):
    def _get_iterator(self) -> Any:
        iterator = super()._get_iterator()
        if self.num_workers:
            _iterators.add(iterator)
        return iterator


def data_loader(dataset: Dataset[Any], n_workers: int, **options: Any) -> DataLoader[Any]:
    """A loader with so many reading processes, which leave signals to this one and end with it."""
    return _Loader(
        dataset,
        num_workers=n_workers,
        persistent_workers=n_workers > 0,
        worker_init_fn=_leave_signals,
        **options,
    )


def _leave_signals(worker: int) -> None:
    # A terminal and a scheduler send them to all processes at once; a worker that dies takes the
    # step with it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@atexit.register
def _end_workers() -> None:
    # Multiprocessing would try by SIGTERM, which they ignore, and wait. Registered after its hook,
    # this runs before.
    for iterator in list(_iterators):
        iterator._shutdown_workers()
