"""Random windows a second from local files: `WellDataset` beside The Well's own reader, same files,
same indices.

A window is a history of 4 frames and one frame of target, of 4 channels (two scalars, one vector)
in float32. Both readers have the options of `WellDataModule` (`boundary_return_type=None`,
`return_grid=False`), except in the case that names The Well's defaults; one process reads, except
where workers are named. Before anything is timed, every window is compared bit for bit. The files
fit the page cache: the software is measured, not the disk.

WaveLiT's windows lie channels first in memory, as `collate` wants them; "files, channels last" adds
the copy to The Well's memory order. In the cases with batches each reader makes its own batches:
WaveLiT's channels first by `collate`, The Well's channels last by torch's default.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from the_well.data import WellDataset as TheWellDataset
from torch.utils.data import DataLoader

from wavelit.benchmarks.timing import Row, medians
from wavelit.data.well import WellDataset
from wavelit.data.writing.write import write_well

__all__ = ["measure"]

# Grid points an axis: trajectories a file, frames a trajectory.
FILES: Mapping[int, tuple[int, int]] = {64: (4, 60), 256: (2, 30)}
N_FILES = 3
N_STEPS_INPUT = 4
N_WINDOWS = 96
BATCH_SIZE = 8
N_WORKERS = 2


def measure() -> list[Row]:
    """Windows a second of both readers and their ratio, per grid and case."""
    rows: list[Row] = []
    for n, (n_trajectories, n_steps) in FILES.items():
        rows += _rows(n, n_trajectories, n_steps)
    return rows


def _rows(
    n: int, n_trajectories: int, n_steps: int, n_windows: int = N_WINDOWS, rounds: int = 7
) -> list[Row]:
    """The cases on a grid of n x n points."""
    with _folder(n, n_trajectories, n_steps) as folder:
        options: dict[str, Any] = {"path": folder, "n_steps_input": N_STEPS_INPUT}
        module = {**options, "boundary_return_type": None, "return_grid": False}
        ours, theirs = WellDataset(**module), TheWellDataset(**module)
        cached = WellDataset(**module, cache_bytes=2**40)
        defaults, their_defaults = WellDataset(**options), TheWellDataset(**options)
        indices = np.random.default_rng(0).integers(0, len(theirs), n_windows).tolist()
        for a, b in ((ours, theirs), (cached, theirs), (defaults, their_defaults)):
            _require_equal(a, b, indices)
        read: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
            "files": (partial(_read, ours, indices), partial(_read, theirs, indices)),
            "files, channels last": (
                partial(_read_channels_last, ours, indices),
                partial(_read, theirs, indices),
            ),
            "files, The Well's defaults": (
                partial(_read, defaults, indices),
                partial(_read, their_defaults, indices),
            ),
            "memory": (partial(_read, cached, indices), partial(_read, theirs, indices)),
        }
        for n_workers in (0, N_WORKERS):
            read[f"files, batches of {BATCH_SIZE}, {n_workers} workers"] = (
                partial(_exhaust, _loader(ours, indices, n_workers, ours.collate)),
                partial(_exhaust, _loader(theirs, indices, n_workers, None)),
            )
        rows: list[Row] = []
        for case, (ours_read, theirs_read) in read.items():
            seconds = medians({"ours": ours_read, "theirs": theirs_read}, rounds)
            rows.append(
                {
                    "grid": f"{n}x{n}",
                    "case": case,
                    "wavelit_samples_per_second": round(n_windows / seconds["ours"], 1),
                    "the_well_samples_per_second": round(n_windows / seconds["theirs"], 1),
                    "ratio": round(seconds["theirs"] / seconds["ours"], 2),
                }
            )
        ours.close()
        defaults.close()
        return rows


@contextmanager
def _folder(n: int, n_trajectories: int, n_steps: int) -> Iterator[str]:
    """A folder of files as `write_well` writes them, removed at the end."""
    rng = np.random.default_rng(0)
    lead = (n_trajectories, n_steps, n, n)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(N_FILES):
            fields = {
                name: rng.standard_normal((*lead, *components), np.float32)
                for name, components in (("density", ()), ("pressure", ()), ("velocity", (2,)))
            }
            write_well(
                f"{folder}/{number}.hdf5",
                fields,
                name="noise",
                boundary_conditions=["periodic", "wall"],
                scalars={"viscosity": rng.random(n_trajectories)},
            )
        yield folder


def _require_equal(ours: WellDataset, theirs: Any, indices: Sequence[int]) -> None:
    for index in indices:
        a, b = ours[index], theirs[index]
        assert a.keys() == b.keys()
        assert all(a[key].dtype == b[key].dtype and torch.equal(a[key], b[key]) for key in b), index


def _read(dataset: Any, indices: Sequence[int]) -> None:
    for index in indices:
        dataset[index]


def _read_channels_last(dataset: WellDataset, indices: Sequence[int]) -> None:
    for index in indices:
        for x in dataset[index].values():
            x.contiguous()


def _loader(
    dataset: Any, indices: Sequence[int], n_workers: int, collate: Callable[[Any], Any] | None
) -> Iterable[Any]:
    with warnings.catch_warnings():
        # A machine with fewer cores than workers is warned about.
        warnings.simplefilter("ignore")
        return DataLoader(
            dataset,
            batch_sampler=[
                list(indices[i : i + BATCH_SIZE]) for i in range(0, len(indices), BATCH_SIZE)
            ],
            collate_fn=collate,
            num_workers=n_workers,
            persistent_workers=n_workers > 0,
        )


def _exhaust(loader: Iterable[Any]) -> None:
    for _ in loader:
        pass
