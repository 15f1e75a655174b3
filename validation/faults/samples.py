"""Tiny datasets in The Well's format, written by h5py alone, and an independent reading of what the
package accepts.

train/a, train/b,   2 trajectories of 8 steps on 16 points or 8 x 8; periodic, the second axis
valid/a, test/a     between walls
fields              t0 density, constant mask, depth along the last axis; t1 velocity, t2 stress
scalars             nu of a file, a of a trajectory
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

__all__ = ["SPECIAL", "STYLES", "compare", "hdf5_files", "write_sample", "write_statistics"]

STYLES = ("contiguous", "chunked", "gzip", "shuffled", "fixed", "early")
STEPS, TRAJECTORIES, INPUT = 8, 2, 2
SHAPES = {1: (16,), 2: (8, 8)}
FILES = (("train", "a"), ("train", "b"), ("valid", "a"), ("test", "a"))


# What may stand where a file is due, by name: each makes it at a path where nothing is.
SPECIAL: dict[str, Callable[[Path], None]] = {
    "empty": Path.touch,
    "fifo": os.mkfifo,
    "folder": Path.mkdir,
    "loop": lambda path: path.symlink_to(path),
}


def write_sample(root: Path, spatial: int, style: str = "contiguous", seed: int = 0) -> Path:
    """A valid dataset folder."""
    for number, (split, name) in enumerate(FILES):
        path = root / "data" / split / f"{name}.hdf5"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, spatial, style, np.random.default_rng((seed, number)), 0.5 + number % 2)
    write_statistics(root)
    return root


def hdf5_files(root: Path, split: str = "*") -> list[Path]:
    return sorted(root.glob(f"data/{split}/*.hdf5"))


def _write(path: Path, spatial: int, style: str, rng: np.random.Generator, nu: float) -> None:
    shape, axes = SHAPES[spatial], "xy"[:spatial]
    options: dict[str, Any] = {
        "chunked": {"chunks": True},
        "gzip": {"chunks": True, "compression": "gzip"},
        "shuffled": {"chunks": True, "compression": "gzip", "shuffle": True, "fletcher32": True},
    }.get(style, {})

    def names(*values: str) -> Any:
        return np.array(values, "S16") if style == "fixed" else list(values)

    def walk(*components: int) -> np.ndarray:
        steps = rng.standard_normal((TRAJECTORIES, STEPS, *shape, *components))
        return (0.3 * steps.cumsum(1) + 5.0).astype(np.float32)

    def put(
        group: h5py.Group, name: str, data: Any, sample: bool, time: bool, dims: Any = None
    ) -> None:
        item = group.create_dataset(name, data=data, **(options if np.ndim(data) > 1 else {}))
        item.attrs["sample_varying"], item.attrs["time_varying"] = sample, time
        if dims is not None:
            item.attrs["dim_varying"] = dims

    every = [True] * spatial
    with h5py.File(path, "w", libver="earliest" if style == "early" else None) as file:
        file.attrs["dataset_name"], file.attrs["grid_type"] = "sample", "cartesian"
        file.attrs["n_spatial_dims"], file.attrs["n_trajectories"] = spatial, TRAJECTORIES
        file.attrs["simulation_parameters"], file.attrs["nu"] = names("nu"), nu
        group = file.create_group("dimensions")
        group.attrs["spatial_dims"] = names(*axes)
        put(group, "time", np.arange(STEPS, dtype=np.float32), False, True)
        for axis, n in zip(axes, shape, strict=True):
            put(group, axis, np.arange(n, dtype=np.float32) / n, False, False)
        group = file.create_group("boundary_conditions")
        for axis, n, kind in zip(axes, shape, ("PERIODIC", "WALL"), strict=False):
            side = group.create_group(f"{axis}_{kind.lower()}")
            side.attrs["bc_type"], side.attrs["associated_dims"] = kind, names(axis)
            side.attrs["associated_fields"] = names()
            side.attrs["sample_varying"] = side.attrs["time_varying"] = False
            mask = np.zeros(n, bool)
            mask[[0, -1]] = True
            side["mask"] = mask
        group = file.create_group("scalars")
        group.attrs["field_names"] = names("nu", "a")
        put(group, "nu", np.float32(nu), False, False)
        put(group, "a", rng.uniform(1, 2, TRAJECTORIES).astype(np.float32), True, False)
        group = file.create_group("t0_fields")
        group.attrs["field_names"] = names("density", "mask", "depth")
        put(group, "density", np.abs(walk()) + 0.1, True, True, every)
        mask = np.zeros(shape, np.float32)
        mask[:2] = 1.0
        put(group, "mask", mask, False, False, every)
        depth = rng.standard_normal(shape[-1]).astype(np.float32)
        put(group, "depth", depth, False, False, [False] * (spatial - 1) + [True])
        group = file.create_group("t1_fields")
        group.attrs["field_names"] = names("velocity")
        put(group, "velocity", walk(spatial), True, True, every)
        group = file.create_group("t2_fields")
        group.attrs["field_names"] = names(*(["stress"] if spatial == 2 else []))
        if spatial == 2:
            put(group, "stress", walk(2, 2), True, True, every)


def write_statistics(root: Path) -> None:
    """stats.yaml of the training files, by the plain formulas on whole arrays."""
    table: dict[str, dict[str, Any]] = {}
    arrays: dict[tuple[str, int, bool], list[np.ndarray]] = {}
    for path in hdf5_files(root, "train"):
        with h5py.File(path, "r") as file:
            for order in range(3):
                for name in _names(file[f"t{order}_fields"].attrs["field_names"]):
                    item = file[f"t{order}_fields"][name]
                    key = (name, order, bool(item.attrs["time_varying"]))
                    arrays.setdefault(key, []).append(np.asarray(item[()], np.float64))
    for (name, order, changing), values in arrays.items():
        kinds = {"": values}
        if changing:
            kinds["_delta"] = [np.diff(each, axis=1) for each in values]
        for suffix, each in kinds.items():
            data = np.concatenate(each)
            axes = tuple(range(data.ndim - order))
            for key, value in (("mean", data.mean(axes)), ("std", data.std(axes))):
                table.setdefault(key + suffix, {})[name] = value.tolist()
            table.setdefault(f"rms{suffix}", {})[name] = np.sqrt((data**2).mean(axes)).tolist()
    (root / "stats.yaml").write_text(yaml.safe_dump(table))


def _names(value: Any) -> list[str]:
    if isinstance(value, h5py.Empty):
        return []
    return [
        name.decode() if isinstance(name, bytes) else str(name) for name in np.atleast_1d(value)
    ]


def compare(root: Path, rng: np.random.Generator, n_samples: int = 3) -> tuple[int, list[str]]:
    """Samples of every split as the package gives them beside the numbers in the files.

    Returns:
        How many were compared, and where they differ; the package's own errors pass through.
    """
    from wavelit.data.datamodule import WellDataModule

    module, compared, different = WellDataModule(str(root), n_steps_input=INPUT), 0, []
    for split in ("train", "valid", "test"):
        dataset = module.dataset(split)
        folder = root / "data" / split
        files = [
            h5py.File(path, "r") for path in sorted([*folder.glob("*.hdf5"), *folder.glob("*.h5")])
        ]
        n_windows = sum(map(_n_windows, files))
        if n_windows != len(dataset):
            different.append(f"{split}: {len(dataset)} windows, but {n_windows} in the files")
            continue
        for index in rng.integers(n_windows, size=n_samples).tolist():
            batch = dataset.collate(dataset.__getitems__([index]))
            due = _window(*_place(files, index))
            given = {
                "fields": batch.fields[0],
                "target": batch.target[0],
                "constants": None if batch.constants is None else batch.constants[0],
                "scalars": None if batch.scalars is None else batch.scalars[0],
            }
            for name, values in given.items():
                found = None if values is None else values.numpy()
                if (found is None) != (due[name] is None) or (
                    found is not None and not np.array_equal(found, due[name], equal_nan=True)
                ):
                    different.append(f"{split}, sample {index}: {name} differ")
            compared += 1
        module.dataset(split).close()
    return compared, different


def _n_windows(file: h5py.File) -> int:
    return int(file.attrs["n_trajectories"]) * (file["dimensions"]["time"].shape[-1] - INPUT)


def _place(files: list[h5py.File], index: int) -> tuple[h5py.File, int, int]:
    """File, trajectory and first step of a window."""
    for file in files:
        if index < _n_windows(file):
            return file, *divmod(index, file["dimensions"]["time"].shape[-1] - INPUT)
        index -= _n_windows(file)
    raise IndexError(index)


def _window(file: h5py.File, trajectory: int, first: int) -> dict[str, np.ndarray | None]:
    """One window by h5py: channels first, in float32."""
    axes = _names(file["dimensions"].attrs["spatial_dims"])
    shape = tuple(file["dimensions"][axis].shape[-1] for axis in axes)
    frames: list[np.ndarray] = []
    constants: list[np.ndarray] = []
    for order in range(3):
        group = file[f"t{order}_fields"]
        for name in _names(group.attrs["field_names"]):
            item = group[name]
            place = (trajectory,) if item.attrs["sample_varying"] else ()
            changing = bool(item.attrs["time_varying"])
            values = np.asarray(
                item[(*place, slice(first, first + INPUT + 1))] if changing else item[place]
            )
            if not np.can_cast(values.dtype, np.complex128, "same_kind") and values.dtype != bool:
                raise TypeError(f"'{name}' holds no numbers")
            if values.dtype.kind == "c" and values.imag.any():
                raise TypeError(f"'{name}' holds complex numbers")
            varies = np.atleast_1d(item.attrs["dim_varying"])
            stored = tuple(n if v else 1 for n, v in zip(shape, varies, strict=True))
            components = len(axes) ** order
            values = values if changing else values[None]
            values = values.real.reshape(len(values), *stored, components)
            values = np.broadcast_to(values, (len(values), *shape, components))
            (frames if changing else constants).append(np.moveaxis(values, -1, 1))
    every = np.concatenate([each.astype(np.float64) for each in frames], 1).astype(np.float32)
    scalars = []
    for name in _names(file["scalars"].attrs["field_names"]):
        item = file["scalars"][name]
        scalars.append(np.float32(item[trajectory] if item.attrs["sample_varying"] else item[()]))
    return {
        "fields": every[:INPUT],
        "target": every[INPUT:],
        "constants": np.concatenate(constants, 1)[0].astype(np.float32) if constants else None,
        "scalars": np.array(scalars, np.float32) if scalars else None,
    }
