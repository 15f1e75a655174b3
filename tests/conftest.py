"""Fixtures: a tiny synthetic dataset in The Well's format, written with h5py alone."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

AXES = "xyz"


@pytest.fixture
def load_script(monkeypatch) -> Callable[[str], ModuleType]:
    """Imports a script of scripts/ by name, with the modules beside it."""
    folder = Path(__file__).parent.parent / "scripts"

    def load(name: str) -> ModuleType:
        monkeypatch.syspath_prepend(folder)
        for path in folder.glob("*.py"):
            monkeypatch.delitem(sys.modules, path.stem, raising=False)
        spec = importlib.util.spec_from_file_location(f"script_{name}", folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def write_file(
    path: Path,
    seed: int,
    resolution: tuple[int, ...] = (8, 6),
    n_trajectories: int = 2,
    n_steps: int = 7,
    scalar: float | None = None,
    vary_scalar_in_time: bool = False,
) -> Path:
    """One file: density, pressure, velocity, stress; constants mask, depth (along the last axis
    only), forcing; scalars nu, a, b.

    Values are a smooth walk plus noise, so that neither a field nor its increment is constant. The
    mask is 1 on the first row of cells.
    """
    rng = np.random.default_rng(seed)
    spatial = len(resolution)
    axes = AXES[:spatial]

    def walk(*components: int) -> np.ndarray:
        steps = rng.standard_normal((n_trajectories, n_steps, *resolution, *components))
        return (0.3 * steps.cumsum(1) + 5.0).astype(np.float32)

    def field(
        group: h5py.Group, name: str, data: np.ndarray, sample: bool, time: bool, dims: list[bool]
    ) -> None:
        dataset = group.create_dataset(name, data=data)
        dataset.attrs["sample_varying"] = sample
        dataset.attrs["time_varying"] = time
        dataset.attrs["dim_varying"] = dims

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["dataset_name"] = "synthetic"
        file.attrs["grid_type"] = "cartesian"
        file.attrs["n_spatial_dims"] = spatial
        file.attrs["n_trajectories"] = n_trajectories
        file.attrs["simulation_parameters"] = ["nu"]
        file.attrs["nu"] = 1e-3 if scalar is None else scalar

        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = list(axes)
        for name, n in (("time", n_steps), *zip(axes, resolution, strict=True)):
            dimensions[name] = np.linspace(0.0, 1.0, n, dtype=np.float32)
            dimensions[name].attrs["sample_varying"] = False
            dimensions[name].attrs["time_varying"] = name == "time"

        boundaries = file.create_group("boundary_conditions")
        kinds = ["periodic", "wall", "open"]
        for axis, n, kind in zip(axes, resolution, kinds, strict=False):
            group = boundaries.create_group(f"{axis}_{kind}")
            group.attrs["bc_type"] = kind.upper()
            group.attrs["associated_dims"] = [axis]
            group.attrs["associated_fields"] = []
            group.attrs["sample_varying"] = False
            group.attrs["time_varying"] = False
            # The wall stands on the low side only: the high side is open.
            mask = np.zeros(n, dtype=bool)
            mask[0] = True
            mask[-1] = kind == "periodic"
            group["mask"] = mask

        scalars = file.create_group("scalars")
        scalars.attrs["field_names"] = ["nu", "a", "b"]
        values = {"nu": np.float32(1e-3 if scalar is None else scalar), "b": np.float32(2.5)}
        values["a"] = rng.uniform(1.0, 2.0, n_trajectories).astype(np.float32)
        if vary_scalar_in_time:
            values["b"] = np.linspace(0.0, 1.0, n_steps, dtype=np.float32)
        for name in ("nu", "a", "b"):
            scalars[name] = values[name]
            scalars[name].attrs["sample_varying"] = name == "a"
            scalars[name].attrs["time_varying"] = name == "b" and vary_scalar_in_time

        every = [True] * spatial
        t0 = file.create_group("t0_fields")
        t0.attrs["field_names"] = ["density", "mask", "pressure", "depth"]
        field(t0, "density", np.abs(walk()) + 0.1, True, True, every)
        excluded = np.zeros(resolution, dtype=np.float32)
        excluded[0] = 1.0
        field(t0, "mask", excluded, False, False, every)
        field(t0, "pressure", walk(), True, True, every)
        depth = rng.standard_normal(resolution[-1]).astype(np.float32)
        field(t0, "depth", depth, False, False, [False] * (spatial - 1) + [True])
        t1 = file.create_group("t1_fields")
        t1.attrs["field_names"] = ["velocity", "forcing"]
        field(t1, "velocity", walk(spatial), True, True, every)
        forcing = rng.standard_normal((n_trajectories, *resolution, spatial)).astype(np.float32)
        field(t1, "forcing", forcing, True, False, every)
        t2 = file.create_group("t2_fields")
        t2.attrs["field_names"] = ["stress"]
        field(t2, "stress", walk(spatial, spatial), True, True, every)
    return path


def write_dataset(root: Path, **options: Any) -> Path:
    """A dataset folder: two files for training, one for validation, one for test; stats.yaml by
    numpy.
    """
    for number, (split, name) in enumerate(
        [("train", "one"), ("train", "two"), ("valid", "one"), ("test", "one")]
    ):
        scalar = (1e-3, 1e-1)[number % 2]
        write_file(
            root / "data" / split / f"{name}.hdf5", seed=number, **{"scalar": scalar, **options}
        )
    (root / "stats.yaml").write_text(yaml.safe_dump(numpy_statistics(root)))
    return root


def numpy_statistics(root: Path) -> dict[str, dict[str, Any]]:
    """The Well's statistics of the training split, by the plain formula on whole arrays."""
    table: dict[str, dict[str, Any]] = {}
    files = [h5py.File(path, "r") for path in sorted((root / "data" / "train").glob("*.hdf5"))]
    for order in range(3):
        group = f"t{order}_fields"
        for name in files[0][group].attrs["field_names"]:
            changing = files[0][group][name].attrs["time_varying"]
            arrays = [file[group][name][()].astype(np.float64) for file in files]
            axes = tuple(range(arrays[0].ndim - order))
            kinds = [("", np.concatenate(arrays))]
            if changing:
                kinds.append(("_delta", np.concatenate([np.diff(a, axis=1) for a in arrays])))
            for suffix, data in kinds:
                table.setdefault(f"mean{suffix}", {})[name] = data.mean(axes).tolist()
                table.setdefault(f"std{suffix}", {})[name] = data.std(axes).tolist()
                table.setdefault(f"rms{suffix}", {})[name] = np.sqrt((data**2).mean(axes)).tolist()
    for file in files:
        file.close()
    return table


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings and reports without pictures, for tests of all else: drawing takes most of the time
    of either where models are tiny.
    """
    from wavelit.evaluation import report, watch
    from wavelit.evaluation.pictures import new_figure

    monkeypatch.setattr(watch, "rollout_figure", lambda *_, **__: new_figure(0.1))
    monkeypatch.setattr(report, "rollout_figure", lambda *_, **__: None)
    monkeypatch.setattr(report, "training_figure", lambda *_: None)
    monkeypatch.setattr(report, "animation", lambda *_, **__: None)
    monkeypatch.setattr(report, "png", lambda _: b"no picture")


@pytest.fixture(scope="session")
def shared_well_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 2-D dataset folder that tests only read."""
    return write_dataset(tmp_path_factory.mktemp("well") / "synthetic")


@pytest.fixture
def well_folder(tmp_path: Path, shared_well_folder: Path) -> Path:
    """A fresh 2-D dataset folder that a test may spoil."""
    return Path(shutil.copytree(shared_well_folder, tmp_path / "synthetic"))


@pytest.fixture(scope="session")
def three_systems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of waves, flow and heat by name, which tests only read."""
    from systems import write_system

    root = tmp_path_factory.mktemp("systems")
    return {name: write_system(root / name, name) for name in ("waves", "flow", "heat")}
