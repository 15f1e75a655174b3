"""From a system to a dataset on disk: in parallel, resumable, the same bytes for the same seed.

The trajectories of a split that share their parameters form one file; a file is cut into batches of
fixed size. A worker process solves one batch with one thread and leaves it as a `.npz` part,
written under a temporary name and renamed, in a folder whose name holds seed and version: an
interrupted run takes up the parts that it finds. The parts are then joined into HDF5 files,
`stats.yaml` is computed, and `pocketwell.json` is written last: a folder that has it is complete. A
trajectory's random generator is seeded by (seed, system, split, number in the split), so neither
the number of processes nor the order of the batches matters. One process at a time writes into a
dataset, and its workers end with it, however it ends.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.context import BaseContext
from pathlib import Path

import h5py
import numpy as np
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

import wavelit
from wavelit.checks.arguments import require_whole, shown
from wavelit.data.format.folder import SPLITS
from wavelit.data.pocketwell.registry import SYSTEMS
from wavelit.data.pocketwell.system import SIZES, Size, SolverDivergedError, System, Trajectories
from wavelit.data.statistics import write_statistics
from wavelit.data.writing.given import local_path
from wavelit.data.writing.write import write_well
from wavelit.errors import WavelitError, one_line, printable
from wavelit.files.atomic import atomic_path, sweep
from wavelit.files.owner import LOCK, OWNER, owned

__all__ = ["generate", "generate_one", "persistence_vrmse"]

RECORD = "pocketwell.json"
LARGEST_SEED = 2**63 - 1
# A core is busy with one; more of them than a few a core only fill the memory.
MOST_PROCESSES_A_CORE = 4
# What numpy and zipfile raise for files that are no parts, or parts cut short or changed.
DAMAGED = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Batch:
    """Trajectories of one file that are solved together, and the part that will hold them."""

    split: str
    parameters: Mapping[str, float]
    numbers: tuple[int, ...]
    part: Path


def generate(
    system: str,
    size: str = "small",
    root: str | Path = "datasets/pocketwell",
    seed: int = 0,
    processes: int | None = None,
    progress: bool = True,
    force: bool = False,
) -> Path:
    """Compute a dataset, or return the one that is there.

    Worker processes import the calling script: it calls this under `if __name__ == "__main__":`.

    Args:
        system: a name of `SYSTEMS`.
        size: a name of `SIZES`: tiny, small, large, or for some systems double or full.
        root: the dataset is made in <root>/<size>/<system>.
        seed: seed of all random draws.
        processes: worker processes of one thread each; the number of cores if absent.
        progress: show a bar with the time left.
        force: compute anew, removing what is there.

    Returns:
        The folder of the dataset.

    Raises:
        WavelitError: an argument is unknown or out of bounds; a complete dataset of another seed or
            version is there, or its record is damaged; another process computes it; a solver
            diverged; a worker process was ended.
        OSError: a file cannot be written, for one because the disk is full.
    """
    spec = _system(system, size)
    cores = os.cpu_count() or 1
    n_processes = (
        cores
        if processes is None
        else require_whole("processes", processes, 1, MOST_PROCESSES_A_CORE * cores)
    )
    seed = require_whole("seed", seed, 0, LARGEST_SEED)
    folder = local_path("root", local_path("root", root) / size / system)
    console = Console(stderr=True, quiet=not progress)
    if force or not _complete(folder, spec, seed):
        with owned(folder, "generating"):
            sweep(folder)
            if force:
                _empty(folder)
            # Whoever held the folder until now may have completed it.
            if not _complete(folder, spec, seed):
                return _compute(spec, size, folder, seed, n_processes, console)
    _say(
        console,
        f"{folder} is complete (seed {seed}, version {spec.version}): nothing to compute",
    )
    return folder


def _say(console: Console, line: str) -> None:
    """A line as it is: a path may hold what markup is made of, or what a terminal obeys."""
    console.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def _compute(
    spec: System, size: str, folder: Path, seed: int, n_processes: int, console: Console
) -> Path:
    start = time.perf_counter()
    parts = folder / f"parts-seed{seed}-version{spec.version}"
    batches = plan(spec, spec.size(size), parts)
    missing = [batch for batch in batches if not _solved(batch)]
    if len(missing) < len(batches):
        _say(
            console,
            f"{folder}: {len(batches) - len(missing)} of {len(batches)} batches are there already",
        )
    _solve(spec, size, seed, missing, n_processes, console)
    _assemble(spec, size, folder, batches)
    write_statistics(folder)
    record = {
        "system": folder.name,
        "size": size,
        "seed": seed,
        "version": spec.version,
        "wavelit": wavelit.__version__,
        "grid": list(spec.shapes[size]),
        "trajectories": dict(spec.size(size).trajectories),
        "n_snapshots": spec.size(size).n_snapshots,
        "seconds": round(time.perf_counter() - start, 2),
        "persistence_vrmse": persistence_vrmse(folder / "data" / "valid"),
    }
    with atomic_path(folder / RECORD) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf8")
    shutil.rmtree(parts)
    _say(console, f"{folder} computed in {record['seconds']:.0f} s")
    return folder


def generate_one(
    system: str, folder: str | Path, size: str = "small", split: str = "valid"
) -> Path:
    """Compute the first trajectory of a split, seed 0, alone: in seconds, in this process.

    The folder's data/train holds it too, as readers look there for names and grid. It is the
    dataset's own trajectory up to the rounding of operations on several of them at once, which a
    chaotic system blows up in time.

    Args:
        system: a name of `SYSTEMS`.
        folder: a new folder for the record.
        size: a name of `SIZES`.
        split: valid or test.

    Returns:
        The folder.

    Raises:
        WavelitError: unknown system, size or split, another process computes it, or the solver
            diverged.
        OSError: as `generate`.
    """
    spec, folder = _system(system, size), local_path("folder", folder)
    if split not in ("valid", "test"):
        raise WavelitError(f"unknown split {shown(split)}: expected valid or test")
    with owned(folder, "generating"):
        first = Batch(split, spec.parameters[0], (0,), folder / "part.npz")
        _solve_batch(spec, size, 0, first)
        _assemble(spec, size, folder, [first, replace(first, split="train")])
        first.part.unlink()
    return folder


def _system(name: str, size: str) -> System:
    if not isinstance(name, str) or name not in SYSTEMS:
        raise WavelitError(f"unknown system {shown(name)}: expected one of {', '.join(SYSTEMS)}")
    if not isinstance(size, str) or size not in SIZES:
        raise WavelitError(f"unknown size {shown(size)}: expected one of {', '.join(SIZES)}")
    if size not in SYSTEMS[name].shapes:
        those = ", ".join(other for other, spec in SYSTEMS.items() if size in spec.shapes)
        sizes = ", ".join(SYSTEMS[name].shapes)
        raise WavelitError(
            f"{name} is not computed in size {size}: expected one of {sizes}, or one of {those}"
        )
    return SYSTEMS[name]


def plan(system: System, size: Size, parts: Path) -> list[Batch]:
    """The batches of a dataset, in the order of its files."""
    batches = []
    for split in SPLITS:
        for index, parameters in enumerate(system.parameters):
            numbers = range(index, size.trajectories[split], len(system.parameters))
            for first in range(0, len(numbers), system.batch):
                some = tuple(numbers[first : first + system.batch])
                batches.append(
                    Batch(split, parameters, some, parts / f"{split}-{index}-{first}.npz")
                )
    return batches


def persistence_vrmse(split: Path) -> dict[str, float]:
    """One-step VRMSE of predicting no change: mean over components, times, samples; per field
    and overall.
    """
    # Here, as torchmetrics doubles the time in which a worker process starts.
    from wavelit.metrics import vrmse

    scores: dict[str, list[torch.Tensor]] = {}
    for file in sorted(split.glob("*.hdf5")):
        with h5py.File(file, "r") as f:
            spatial = int(f.attrs["n_spatial_dims"])
            for order in range(3):
                group = f[f"t{order}_fields"]
                for name in group.attrs["field_names"]:
                    if group[name].attrs["time_varying"]:
                        data = (
                            torch.from_numpy(group[name][:])
                            .reshape(*group[name].shape[: 2 + spatial], -1)
                            .movedim(-1, 2)
                        )
                        scores.setdefault(name, []).append(
                            vrmse(data[:, :-1], data[:, 1:], spatial)
                        )
    joined = {name: torch.cat(items) for name, items in scores.items()}
    means = {name: float(score.mean()) for name, score in joined.items()}
    return {"mean": float(torch.cat(list(joined.values()), -1).mean()), **means}


def _solve(
    system: System, size: str, seed: int, batches: Sequence[Batch], processes: int, console: Console
) -> None:
    """Compute the parts of the given batches in worker processes."""
    if not batches:
        return
    # BLAS reads these once, as a worker starts: two threads change the order of sums, and waste a
    # busy machine.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("trajectories"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    try:
        pool = ProcessPoolExecutor(
            min(processes, len(batches)), _context(), initializer=_start_worker
        )
    except OSError as error:
        raise WavelitError(
            f"{system.name}: worker processes cannot start ({one_line(error)}): free space in "
            "shared memory, /dev/shm, or close other programs"
        ) from error
    try:
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(
                f"{system.name} ({size})", total=sum(len(batch.numbers) for batch in batches)
            )
            # Workers start here; one that is cut short in it would end in a traceback of its own.
            with _interrupted_later():
                futures = {
                    pool.submit(_solve_batch, system, size, seed, batch): batch for batch in batches
                }
            for future in as_completed(futures):
                future.result()
                bar.advance(task, len(futures[future].numbers))
    except (BrokenProcessPool, EOFError, ConnectionError) as error:
        # The last two come from the process that starts the others.
        raise WavelitError(
            f"{system.name}: a worker process ended: call generate under `if __name__ == "
            "'__main__':`, or free memory, or ask for fewer processes"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _context() -> BaseContext:
    """Processes that begin without this one's threads and locks."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # One import of torch serves all workers.
    context.set_forkserver_preload([__name__])
    return context


@contextmanager
def _interrupted_later() -> Iterator[None]:
    """Raise an interrupt at the end of the block, not within it. Other threads than the main one
    have none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if asked:
        raise KeyboardInterrupt


def _start_worker() -> None:
    # More threads are slower on these small grids, and the order of sums must not depend on their
    # number.
    torch.set_num_threads(1)
    # An interrupt is the parent's to handle; it lets the running batches end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # Workers hold both ends of the queue that they wait for, and keep the fork server: without the
    # parent, which alone holds the other end of this pipe, they would wait for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _solve_batch(system: System, size: str, seed: int, batch: Batch) -> None:
    shape = system.shapes[size]
    times = system.times(shape, system.size(size).n_snapshots)
    key = (seed, zlib.crc32(system.name.encode()), SPLITS.index(batch.split))
    rngs = [
        np.random.default_rng(np.random.SeedSequence((*key, number))) for number in batch.numbers
    ]
    try:
        solved = system.simulate(shape, times, batch.parameters, rngs)
    except SolverDivergedError as error:
        raise WavelitError(
            f"{system.name}: the solver diverged at step {error.step} (seed {seed}, batch "
            f"{batch.part.stem}): try another seed"
        ) from error
    arrays = {f"field/{name}": array for name, array in solved.fields.items()}
    arrays |= {f"constant/{name}": array for name, array in solved.constant_fields.items()}
    with atomic_path(batch.part) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def _assemble(system: System, size: str, folder: Path, batches: Sequence[Batch]) -> None:
    """Join the parts into one HDF5 file per split and parameter set."""
    files: dict[Path, list[Batch]] = {}
    for batch in batches:
        label = "".join(f"_{name}_{value:g}" for name, value in batch.parameters.items())
        files.setdefault(folder / "data" / batch.split / f"{system.name}{label}.hdf5", []).append(
            batch
        )
    if strange := set((folder / "data").rglob("*.hdf5")) - set(files):
        raise WavelitError(
            f"{min(strange)} is no file of this dataset: remove it, or pass force=True"
        )
    shape = system.shapes[size]
    for path, members in files.items():
        pieces = [_load(batch.part) for batch in members]
        write_well(
            path,
            {
                name: np.concatenate([piece.fields[name] for piece in pieces])
                for name in pieces[0].fields
            },
            name=system.name,
            boundary_conditions=system.boundary_conditions,
            constant_fields={
                name: np.concatenate([piece.constant_fields[name] for piece in pieces])
                for name in pieces[0].constant_fields
            },
            scalars=members[0].parameters,
            coordinates=system.coordinates(shape),
            time=system.times(shape, system.size(size).n_snapshots),
        )


def _solved(batch: Batch) -> bool:
    """Whether its part is there and whole: one that is damaged is removed, to be computed anew."""
    if not batch.part.exists():
        return False
    try:
        solved = _load(batch.part)
    except WavelitError:
        pass
    else:
        arrays = [*solved.fields.values(), *solved.constant_fields.values()]
        if solved.fields and all(len(array) == len(batch.numbers) for array in arrays):
            return True
    batch.part.unlink()
    return False


def _load(part: Path) -> Trajectories:
    groups: dict[str, dict[str, np.ndarray]] = {"field": {}, "constant": {}}
    try:
        with np.load(part) as stored:
            for key in stored.files:
                group, name = key.split("/", 1)
                # Of no axis, it would have no length.
                groups[group][name] = np.atleast_1d(stored[key])
    except DAMAGED as error:
        raise WavelitError(
            f"{part} is damaged ({one_line(error)}): remove it, to compute it anew"
        ) from error
    return Trajectories(groups["field"], groups["constant"])


def _empty(folder: Path) -> None:
    """Remove what is in a folder that is owned, the record first: what is left of it is not
    complete.
    """
    (folder / RECORD).unlink(missing_ok=True)
    for item in folder.iterdir():
        if item.name in (LOCK, OWNER):
            continue
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        else:
            item.unlink()


def _complete(folder: Path, system: System, seed: int) -> bool:
    """Whether the dataset is there.

    Raises:
        WavelitError: one of another seed or version is, or its record is damaged.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf8"))
        record["seed"], record["version"]
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WavelitError(
            f"{path} is damaged, no record of a dataset's seed and version: pass force=True to "
            "compute it anew"
        ) from error
    if (record["seed"], record["version"]) != (seed, system.version):
        raise WavelitError(
            f"{folder} holds seed {shown(record['seed'])} of version {shown(record['version'])}, "
            f"asked for seed {seed} of version {system.version}: pass force=True to replace it, or "
            "another root"
        )
    return True
