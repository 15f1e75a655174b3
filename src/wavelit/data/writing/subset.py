"""A small dataset out of a large one: some files of each split, some trajectories of each file,
the first states of each trajectory.

What the layout of a file declares is copied, as it is stored but for compression, and nothing else
of the file; of a remote one only what is kept is read. The statistics are those of what is kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from wavelit.checks.arguments import require_mask, require_whole
from wavelit.data.format.examine import layout_problems, read_layout
from wavelit.data.format.folder import SPLITS, address, find_files, open_file, split_folder
from wavelit.data.format.hdf5 import reading
from wavelit.data.format.layout import ORDERS, FileLayout, mask_of
from wavelit.data.sampling import spread
from wavelit.data.statistics import write_statistics
from wavelit.data.writing.contents import RESERVED
from wavelit.data.writing.given import local_path
from wavelit.data.writing.progress import writing_bar
from wavelit.data.writing.write import new_dataset
from wavelit.errors import WavelitError
from wavelit.files.atomic import atomic_path
from wavelit.files.space import ARRAY, FILE, hdf5_file

__all__ = ["write_subset"]

# Attributes of the format and of ours.
OF_ITEMS = (
    "sample_varying",
    "time_varying",
    "dim_varying",
    "symmetric",
    "antisymmetric",
    "units",
    "field_names",
    "spatial_dims",
    "bc_type",
    "associated_dims",
    "associated_fields",
)


def write_subset(
    path: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    files: int | None = None,
    trajectories: int | None = None,
    steps: int | None = None,
    mask_field: str | None = None,
    mask_excludes: float = 1.0,
    storage_options: dict[str, Any] | None = None,
) -> Path:
    """Copy a part of a dataset folder to a new one, its statistics computed anew.

    Args:
        path: the dataset folder, local or any fsspec address.
        to: the new folder; its `data` must not exist yet.
        files: of each split, evenly spread over their names; all if absent.
        trajectories: of each file, the first ones; all if absent.
        steps: states of each trajectory, the first ones; all if absent.
        mask_field: the constant field that marks cells that do not count, where the files declare
            none; statistics leave them out.
        mask_excludes: its value on them.
        storage_options: what fsspec needs to open the address.

    Raises:
        WavelitError: nothing is chosen, a number is not positive, a file is damaged or has no such
            mask, or `to` holds data.
        OSError: a file cannot be written, for one because the disk is full.
    """
    path, to = address(path), local_path("to", to)
    require_mask(mask_field, mask_excludes)
    chosen = {"files": files, "trajectories": trajectories, "steps": steps}
    for name, value in chosen.items():
        if value is not None:
            require_whole(name, value, 2 if name == "steps" else 1)
    if all(value is None for value in chosen.values()):
        raise WavelitError(f"say what to keep: {', '.join(chosen)}, or several of them")
    found = {split: find_files(split_folder(path, split), storage_options) for split in SPLITS}
    copies = [
        (split, fs, names[i])
        for split, (fs, names) in found.items()
        for i in spread(len(names), len(names) if files is None else files)
    ]
    with new_dataset(to):
        for split, fs, name in copies:
            target = to / "data" / split / name.rsplit("/", 1)[-1]
            _copy(fs, name, target, trajectories, steps, mask_field, mask_excludes)
        write_statistics(to, mask_field=mask_field, mask_excludes=mask_excludes)
    return to


def _copy(
    fs: Any,
    name: str,
    target: Path,
    trajectories: int | None,
    steps: int | None,
    mask_field: str | None,
    mask_excludes: float,
) -> None:
    with open_file(fs, name) as old:
        if problems := layout_problems(old):
            raise WavelitError(f"{name}: {problems[0]}")
        layout = read_layout(old, name)
        # Refused before anything is copied.
        mask_of(layout, mask_field, mask_excludes)
        n = min(layout.n_trajectories, trajectories or layout.n_trajectories)
        t = min(layout.n_steps, steps or layout.n_steps)
        whole = layout.n_trajectories * layout.n_steps
        # Constant fields count as if they varied: more is reserved than is needed, and given back.
        size = FILE + sum(
            ARRAY + max(field.nbytes * n * t // whole, field.nbytes * (not field.time_varying))
            for field in layout.fields
        )
        size += 2 * ARRAY * (len(layout.boundaries) + len(layout.scalar_names) + 4)
        with (
            atomic_path(target) as temporary,
            hdf5_file(temporary, size) as new,
            writing_bar(f"copying {target.name}", size) as told,
        ):
            _copy_declared(old, new, layout, n, t, told)


def _copy_declared(
    old: h5py.File,
    new: h5py.File,
    layout: FileLayout,
    n: int,
    t: int,
    told: Callable[[int], None],
) -> None:
    _attributes(old, new, (*RESERVED, *layout.scalar_names))
    new.attrs["n_trajectories"] = n
    for group in ("dimensions", "boundary_conditions", "scalars", *ORDERS.values()):
        _attributes(old[group], new.create_group(group))
    names = [f"dimensions/{line}" for line in ("time", *layout.axes)]
    names += [f"scalars/{scalar}" for scalar in layout.scalar_names]
    names += [f"{field.group}/{field.name}" for field in layout.fields]
    for name in names:
        _values(old[name], new, name, layout.path, n, t, told)
    for boundary in layout.boundaries:
        name = f"boundary_conditions/{boundary.name}"
        _attributes(old[name], new.create_group(name))
        with reading(layout.path, f"'mask' of boundary condition '{boundary.name}'"):
            mask = old[name]["mask"][()]
        new[name].create_dataset("mask", data=mask, track_times=False)


def _values(
    item: h5py.Dataset,
    new: h5py.File,
    name: str,
    path: str,
    n: int,
    t: int,
    told: Callable[[int], None],
) -> None:
    """Copy an array, of its trajectories n, of its states t."""
    by_trajectory, in_time = (
        bool(np.all(item.attrs[flag])) for flag in ("sample_varying", "time_varying")
    )
    # The times are a line of all states, whatever their flag says.
    in_time = in_time or name == "dimensions/time"
    kept = [slice(n)] * by_trajectory + [slice(t)] * in_time
    lengths = [part.stop for part in kept]
    copied = new.create_dataset(
        name, (*lengths, *item.shape[len(kept) :]), item.dtype.newbyteorder("="), track_times=False
    )
    for trajectory in range(n) if by_trajectory else (None,):
        lead: tuple[Any, ...] = () if trajectory is None else (trajectory,)
        with reading(path, f"'/{name}'"):
            values = item[(*lead, *kept[len(lead) :])]
        copied[lead] = values
        told(np.asarray(values).nbytes)
    _attributes(item, copied)


def _attributes(old: Any, new: Any, names: Sequence[str] = OF_ITEMS) -> None:
    """Copy the attributes of these names that are there, their type included."""
    for name in names:
        if name in old.attrs:
            old_id = old.attrs.get_id(name)
            values = np.empty(old_id.shape, old_id.dtype)
            if values.size:
                old_id.read(values)
            new_id = h5py.h5a.create(new.id, name.encode(), old_id.get_type(), old_id.get_space())
            if values.size:
                new_id.write(values)
