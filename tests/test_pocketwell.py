"""PocketWell on disk: the same bytes whatever the processes, taken up after a failure, read by The
Well's own reader."""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from the_well.data import WellDataset
from the_well.data.normalization import ZScoreNormalization

from wavelit.data.pocketwell import SIZES, SYSTEMS, generate
from wavelit.data.pocketwell.acoustic_scattering_maze import maze
from wavelit.data.pocketwell.build import plan
from wavelit.data.pocketwell.system import SolverDivergedError
from wavelit.errors import WavelitError

pytestmark = pytest.mark.long

MAZE = "acoustic_scattering_maze"
# Computed in seconds; The Well's reader reads each of the others in the tests of its own solver.
QUICK = (MAZE, "gray_scott_reaction_diffusion", "helmholtz_staircase", "shear_flow")


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".hdf5", ".yaml")
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("pocketwell")
    for system in QUICK:
        generate(system, "tiny", root=root, processes=2, progress=False)
    return root


@pytest.fixture(
    params=[
        pytest.param(system, marks=() if system in QUICK else pytest.mark.slow)
        for system in SYSTEMS
    ]
)
def folder(root, request):
    return generate(request.param, "tiny", root=root, processes=2, progress=False)


@pytest.mark.slow
def test_one_process_gives_the_bytes_of_two(root, folder, tmp_path):
    again = generate(folder.name, "tiny", root=tmp_path, processes=1, progress=False)
    assert digests(again) == digests(folder)
    assert len(digests(folder)) >= 4


def test_the_wells_reader_reads_every_file(folder):
    spec = SYSTEMS[folder.name]
    shape = spec.shapes["tiny"]
    codes = {"wall": 0, "open": 1, "periodic": 2}
    for split, count in SIZES["tiny"].trajectories.items():
        data = WellDataset(
            path=str(folder),
            well_split_name=split,
            n_steps_input=4,
            n_steps_output=1,
            use_normalization=True,
            normalization_type=ZScoreNormalization,
        )
        assert data.metadata.dataset_name == folder.name
        assert sum(data.metadata.n_trajectories_per_file) == count
        assert set(data.metadata.n_steps_per_trajectory) == {16}
        for index in range(0, len(data), 5):
            sample = data[index]
            assert sample["input_fields"].shape == (4, *shape, data.metadata.n_fields)
            assert sample["input_fields"].isfinite().all()
            assert sample["boundary_conditions"].tolist() == [
                [codes[a], codes[b]] for a, b in spec.boundary_conditions
            ]
            assert sample["space_grid"].shape == (*shape, 2)


def test_maze_fields(root):
    data = WellDataset(path=str(root / "tiny" / MAZE), well_split_name="train", n_steps_input=4)
    assert data.metadata.field_names == {0: ["pressure"], 1: ["velocity_x", "velocity_y"], 2: []}
    assert data.metadata.constant_field_names == {0: ["density", "speed_of_sound"], 1: [], 2: []}
    assert data[0]["boundary_conditions"].tolist() == [[0, 0], [1, 1]]
    density, speed = data[0]["constant_fields"].unbind(-1)
    assert set(density.unique().tolist()) == {3.0, 1e6}
    assert torch.allclose(speed, (4 / density).sqrt())
    # Another maze in each trajectory.
    mazes = {data[i * (len(data) // 4)]["constant_fields"].numpy().tobytes() for i in range(4)}
    assert len(mazes) == 4


def test_shear_flow_fields(root):
    folder = root / "tiny" / "shear_flow"
    data = WellDataset(path=str(folder), well_split_name="train", n_steps_input=4)
    assert data.metadata.field_names == {
        0: ["tracer", "pressure"],
        1: ["velocity_x", "velocity_y"],
        2: [],
    }
    assert data.metadata.constant_scalar_names == ["Reynolds", "Schmidt"]
    seen = {
        tuple(data[i]["constant_scalars"].tolist()) for i in range(0, len(data), len(data) // 4)
    }
    assert seen == {(p["Reynolds"], p["Schmidt"]) for p in SYSTEMS["shear_flow"].parameters}
    for file in folder.rglob("*.hdf5"):
        with h5py.File(file) as f:
            assert list(f.attrs["simulation_parameters"]) == ["Reynolds", "Schmidt"]
            assert (
                file.stem
                == f"shear_flow_Reynolds_{f.attrs['Reynolds']:g}_Schmidt_{f.attrs['Schmidt']:g}"
            )
            assert np.abs(f["t0_fields/pressure"][:].mean((2, 3))).max() < 1e-8


def test_no_snapshot_is_flat_and_persistence_is_neither_trivial_nor_hopeless(folder):
    record = json.loads((folder / "pocketwell.json").read_text())
    assert 0.05 < record["persistence_vrmse"]["mean"] < 0.5
    assert (record["seed"], record["size"], record["version"]) == (
        0,
        "tiny",
        SYSTEMS[folder.name].version,
    )
    for file in folder.rglob("*.hdf5"):
        with h5py.File(file) as f:
            for order, axes in ((0, (2, 3)), (1, (2, 3))):
                for name in f[f"t{order}_fields"].attrs["field_names"]:
                    item = f[f"t{order}_fields"][name]
                    if item.attrs["time_varying"]:
                        # Well above the 1e-7 that VRMSE adds to a variance.
                        assert item[:].var(axes).min() > 1e-6
    stats = yaml.safe_load((folder / "stats.yaml").read_text())
    assert min(np.min(value) for value in stats["std_delta"].values()) > 1e-4


def test_a_complete_dataset_is_used_as_it_is(root, folder, capsys):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert generate(folder.name, "tiny", root=root) == folder
    assert "nothing to compute" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    with pytest.raises(WavelitError, match=r"holds seed 0 .* asked for seed 1 .* force=True"):
        generate(folder.name, "tiny", root=root, seed=1)


def test_another_seed_gives_other_data(root, tmp_path):
    other = generate(MAZE, "tiny", root=tmp_path, seed=1, processes=2, progress=False)
    a, b = digests(other), digests(root / "tiny" / MAZE)
    assert a.keys() == b.keys()
    assert not set(a.values()) & set(b.values())
    forced = generate(MAZE, "tiny", root=tmp_path, seed=0, processes=2, progress=False, force=True)
    assert digests(forced) == b


def fail_for(count, flag, shape, times, parameters, rngs):
    """The maze's solver, except that batches of `count` trajectories diverge while the flag is
    there.
    """
    if Path(flag).exists() and len(rngs) == count:
        raise SolverDivergedError(7)
    return SYSTEMS[MAZE].simulate(shape, times, parameters, rngs)


def test_a_failure_leaves_no_file_and_is_taken_up(root, tmp_path, monkeypatch):
    flag = tmp_path / "flag"
    flag.touch()
    # Training has batches of 3 and 1 trajectories: the second fails first, then the first would.
    monkeypatch.setitem(
        SYSTEMS,
        "flaky",
        dataclasses.replace(
            SYSTEMS[MAZE], batch=3, simulate=functools.partial(fail_for, 1, str(flag))
        ),
    )
    message = (
        "acoustic_scattering_maze: the solver diverged at step 7 \\(seed 0, batch train-0-3\\)"
    )
    with pytest.raises(WavelitError, match=message):
        generate("flaky", "tiny", root=tmp_path, processes=1, progress=False)
    left = [path.name for path in tmp_path.rglob("*") if path.is_file() and path != flag]
    assert "train-0-0.npz" in left
    assert all(name.endswith(".npz") for name in left)

    monkeypatch.setitem(
        SYSTEMS,
        "flaky",
        dataclasses.replace(
            SYSTEMS[MAZE], batch=3, simulate=functools.partial(fail_for, 3, str(flag))
        ),
    )
    resumed = generate("flaky", "tiny", root=tmp_path, processes=1, progress=False)
    # A trajectory does not depend on the batch that it is solved in either.
    assert digests(resumed) == digests(root / "tiny" / MAZE)
    assert not list(resumed.rglob("*.npz"))


def test_files_of_others_are_not_mixed_in(root, tmp_path):
    stranger = tmp_path / "tiny" / MAZE / "data" / "train" / "other.hdf5"
    stranger.parent.mkdir(parents=True)
    stranger.touch()
    with pytest.raises(WavelitError, match=r"other\.hdf5 is no file of this dataset"):
        generate(MAZE, "tiny", root=tmp_path, processes=1, progress=False)


@pytest.mark.parametrize("system", list(SYSTEMS))
@pytest.mark.parametrize("size", list(SIZES))
def test_a_plan_holds_every_trajectory_once(system, size, tmp_path):
    due = SYSTEMS[system].size(size)
    batches = plan(SYSTEMS[system], due, tmp_path)
    assert len({batch.part for batch in batches}) == len(batches)
    for split, count in due.trajectories.items():
        numbers = [number for batch in batches if batch.split == split for number in batch.numbers]
        assert sorted(numbers) == list(range(count))


def test_unknown_names_list_the_known_ones(tmp_path):
    with pytest.raises(
        WavelitError, match=f"unknown system 'maze': expected one of {', '.join(SYSTEMS)}"
    ):
        generate("maze", root=tmp_path)
    with pytest.raises(
        WavelitError, match="unknown size 'huge': expected one of tiny, small, large, double, full"
    ):
        generate(MAZE, "huge", root=tmp_path)
    with pytest.raises(
        WavelitError, match=r"active_matter is not computed in size full: .*shear_flow"
    ):
        generate("active_matter", "full", root=tmp_path)
    with pytest.raises(WavelitError, match="processes"):
        generate(MAZE, "tiny", root=tmp_path, processes=0)


def test_a_finer_maze_is_the_same_maze_on_more_cells():
    small, full = (maze(n, np.random.default_rng(3)) for n in (64, 256))
    assert (full.shape, full.mean()) == ((256, 256), pytest.approx(small.mean(), abs=0.05))
    at = (np.arange(64) * 4 + 2)[:, None], (np.arange(64) * 4 + 2)[None]
    # Walls stand on other cells by rounding alone.
    assert (full[at] == small).mean() > 0.85
    a, b = (SYSTEMS[MAZE].times((n, n), 60) for n in (64, 256))
    np.testing.assert_allclose(a, b)


def test_double_has_twice_the_points():
    grids = {name: spec.shapes for name, spec in SYSTEMS.items() if "double" in spec.shapes}
    assert sorted(grids) == [MAZE, "active_matter", "shear_flow"]
    for shapes in grids.values():
        assert shapes["double"] == tuple(2 * n for n in shapes["small"])


def test_the_wells_own_grids():
    """As validation.full_shapes has them."""
    grids = {name: spec.shapes["full"] for name, spec in SYSTEMS.items() if "full" in spec.shapes}
    assert grids == {
        MAZE: (256, 256),
        "gray_scott_reaction_diffusion": (128, 128),
        "helmholtz_staircase": (1024, 256),
        "shear_flow": (256, 512),
    }
