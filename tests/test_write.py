"""Arrays written in The Well's format: read back by The Well's own reader, refused when wrong,
never half there."""

import hashlib
from unittest.mock import Mock

import h5py
import numpy as np
import pytest
import torch
import yaml
from the_well.data import WellDataset

from wavelit.data.checking.check import check_dataset
from wavelit.data.statistics import write_statistics
from wavelit.data.writing import well_file
from wavelit.data.writing.write import write_dataset, write_well
from wavelit.errors import WavelitError

CODE = {"wall": 0, "open": 1, "periodic": 2}
SHAPES = {1: (12,), 2: (8, 6), 3: (4, 6, 5)}


def arrays(d, n=3, steps=5, seed=0):
    rng = np.random.default_rng(seed)
    s = SHAPES[d]
    fields = {
        "heat": rng.normal(size=(n, steps, *s)),
        "flow": rng.normal(size=(n, steps, *s, d)),
        "stress": rng.normal(size=(n, steps, *s, d, d)),
    }
    return fields, {"depth": rng.normal(size=(n, *s)), "slope": rng.normal(size=(n, *s, d))}


def flat(values, order):
    return values.reshape(*values.shape[: values.ndim - order], -1).astype(np.float32)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_wells_reader_gives_back_what_was_written(tmp_path, d):
    fields, constants = arrays(d)
    sides = [("wall", "open"), "periodic", ("open", "open")][:d]
    speeds = np.array([1.0, 2.0, 3.0])
    path = tmp_path / "data" / "train" / "toy.hdf5"
    write_well(
        path,
        fields,
        name="toy",
        boundary_conditions=sides,
        constant_fields=constants,
        scalars={"Reynolds": 5, "speed": speeds},
        time=np.arange(5) * 0.25,
    )
    data = WellDataset(
        path=str(tmp_path), well_split_name="train", n_steps_input=4, n_steps_output=1
    )
    assert data.metadata.field_names[0] == ["heat"]
    assert len(data.metadata.field_names[1]) == d
    assert len(data.metadata.field_names[2]) == d**2
    assert data.metadata.constant_field_names[0] == ["depth"]
    assert len(data) == 3
    everything = np.concatenate(
        [flat(fields["heat"][..., None], 1), flat(fields["flow"], 1), flat(fields["stress"], 2)], -1
    )
    fixed = np.concatenate(
        [flat(constants["depth"][..., None], 1), flat(constants["slope"], 1)], -1
    )
    for i in range(3):
        sample = data[i]
        assert torch.equal(sample["input_fields"], torch.from_numpy(everything[i, :4]))
        assert torch.equal(sample["output_fields"], torch.from_numpy(everything[i, 4:]))
        assert torch.equal(sample["constant_fields"], torch.from_numpy(fixed[i]))
        assert sample["constant_scalars"].tolist() == [5, speeds[i]]
        expected = [
            [CODE[a], CODE[b]] for a, b in [(s, s) if isinstance(s, str) else s for s in sides]
        ]
        assert sample["boundary_conditions"].tolist() == expected
        assert sample["input_time_grid"].tolist() == [0, 0.25, 0.5, 0.75]


def test_every_pair_of_sides_is_read_back(tmp_path):
    pairs = [
        ("wall", "wall"),
        ("wall", "open"),
        ("open", "wall"),
        ("open", "open"),
        ("periodic", "periodic"),
    ]
    for number, pair in enumerate(pairs):
        path = tmp_path / str(number) / "toy.hdf5"
        write_well(
            path, {"a": np.ones((1, 2, 4, 4))}, name="toy", boundary_conditions=[pair, "open"]
        )
        sample = WellDataset(path=str(path.parent))[0]
        assert sample["boundary_conditions"].tolist() == [[CODE[pair[0]], CODE[pair[1]]], [1, 1]]


def test_the_files_follow_the_specification(tmp_path):
    fields, constants = arrays(2)
    fields["stress"] = fields["stress"] + np.swapaxes(fields["stress"], -1, -2)
    x = np.linspace(0, 1, 8)
    path = write_well(
        tmp_path / "toy.hdf5",
        fields,
        name="toy",
        boundary_conditions=["periodic", ("wall", "open")],
        constant_fields=constants,
        scalars={"Reynolds": 5, "speed": np.ones(3)},
        coordinates={"r": x, "theta": np.arange(6)},
        grid_type="polar",
    )
    with h5py.File(path) as f:
        assert f.attrs["dataset_name"] == "toy"
        assert f.attrs["grid_type"] == "polar"
        assert (f.attrs["n_spatial_dims"], f.attrs["n_trajectories"]) == (2, 3)
        assert list(f.attrs["simulation_parameters"]) == ["Reynolds"]
        assert f.attrs["Reynolds"] == 5
        assert list(f["dimensions"].attrs["spatial_dims"]) == ["r", "theta"]
        assert np.allclose(f["dimensions/r"][:], x)
        for name, varies in (("time", True), ("r", False), ("theta", False)):
            assert f["dimensions"][name].dtype == np.float32
            assert not f["dimensions"][name].attrs["sample_varying"]
            assert f["dimensions"][name].attrs["time_varying"] == varies
        assert list(f["scalars"].attrs["field_names"]) == ["Reynolds", "speed"]
        assert f["scalars/Reynolds"].shape == ()
        assert f["scalars/speed"].shape == (3,)
        assert f["scalars/speed"].attrs["sample_varying"]
        names = {order: list(f[f"t{order}_fields"].attrs["field_names"]) for order in range(3)}
        assert names == {0: ["heat", "depth"], 1: ["flow", "slope"], 2: ["stress"]}
        for order, group in names.items():
            for name in group:
                item = f[f"t{order}_fields/{name}"]
                assert item.dtype == np.float32
                assert item.attrs["dim_varying"].tolist() == [True, True]
                assert item.attrs["sample_varying"]
                assert item.attrs["time_varying"] == (name in fields)
        assert f["t2_fields/stress"].attrs["symmetric"]
        assert not f["t2_fields/stress"].attrs["antisymmetric"]
        sides = f["boundary_conditions"]
        assert set(sides) == {"r_periodic", "theta_wall", "theta_open"}
        assert sides["theta_wall/mask"][:].tolist() == [True] + [False] * 5
        assert sides["theta_open/mask"][:].tolist() == [False] * 5 + [True]
        for side in sides.values():
            assert all(isinstance(name, str) for name in side.attrs["associated_dims"])
            assert len(side.attrs["associated_fields"]) == 0
            assert side.attrs["bc_type"] in ("WALL", "OPEN", "PERIODIC")


def test_xarray_and_other_dtypes(tmp_path):
    xarray = pytest.importorskip("xarray")
    values = np.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    sides = ["periodic", "periodic"]
    digests = set()
    for name, given in (
        ("i", values),
        ("f", values.astype(np.float64)),
        ("x", xarray.DataArray(values, dims=("run", "time", "x", "y"))),
    ):
        path = write_well(
            tmp_path / f"{name}.hdf5", {"a": given}, name="toy", boundary_conditions=sides
        )
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1
    field = xarray.DataArray(
        np.random.default_rng(0).normal(size=(4, 3, 4, 4)), dims=("run", "time", "x", "y")
    )
    folder = write_dataset(
        tmp_path / "x",
        {"a": field},
        splits={"train": 2, "valid": 1, "test": 1},
        name="toy",
        boundary_conditions=sides,
    )
    with h5py.File(folder / "data" / "test" / "toy.hdf5") as f:
        assert np.array_equal(f["t0_fields/a"][:], field.values[3:].astype(np.float32))


GOOD = np.ones((2, 3, 4, 5))
WITH_NAN = np.where(np.arange(120).reshape(2, 3, 4, 5) == 37, np.nan, 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": {}}, "at least one field"),
        ({"fields": {"a": np.ones((2, 3, 4))}}, "field 'a': expected .* got shape \\(2, 3, 4\\)"),
        ({"fields": {"a": GOOD, "b": np.ones((2, 3, 4, 6))}}, "field 'b': expected shape"),
        ({"fields": {"a": GOOD, "b": np.ones((2, 3, 4, 5, 3))}}, "field 'b': expected shape"),
        ({"fields": {"a": np.ones((2, 3, 4, 5, 2, 2, 2))}}, "field 'a': expected shape"),
        ({"fields": {"a": GOOD, "b": WITH_NAN}}, "field 'b' has a NaN.*\\(0, 1, 3, 2\\)"),
        ({"fields": {"a": GOOD * 1e39}}, "field 'a' has a NaN, infinity or float32 overflow"),
        ({"fields": {"a": GOOD * 1j}}, "field 'a': expected real numbers"),
        ({"fields": {"a": np.ones((2, 3, 1, 5))}}, "at least 2 points"),
        ({"boundary_conditions": ["periodic"]}, "field 'a': expected shape"),
        ({"boundary_conditions": "periodic"}, "one entry per axis"),
        (
            {"boundary_conditions": ["periodic", "slip"]},
            "expected periodic, wall, open .* got 'slip'",
        ),
        (
            {"boundary_conditions": ["open", ("periodic", "wall")]},
            "periodic on both sides or on none",
        ),
        ({"constant_fields": {"k": np.ones((3, 4, 5))}}, "field 'k': expected shape \\(2, 4, 5\\)"),
        ({"constant_fields": {"a": np.ones((2, 4, 5))}}, "'a' is given both"),
        ({"scalars": {"Re": np.ones(3)}}, "scalar 'Re'"),
        ({"scalars": {"Re": np.nan}}, "scalar 'Re'"),
        ({"coordinates": {"x": np.arange(4)}}, "coordinates: expected 2 axes"),
        ({"coordinates": {"x": np.arange(5), "y": np.arange(5)}}, "'x': expected 4 increasing"),
        ({"time": [0.0, 1.0, 1.0]}, "'time': expected 3 increasing"),
        (
            {"time": [1.7e9, 1.7e9 + 60, 1.7e9 + 120]},
            "'time' is stored in float32, which rounds its steps",
        ),
        ({"fields": {"du/dx": GOOD}}, "'du/dx' cannot be a name"),
        ({"name": "a/b"}, "'a/b' cannot be a name"),
        ({"scalars": {"n_trajectories": 3.0}}, "'n_trajectories' is an attribute of the format"),
        ({"scalars": {"gas": "argon"}}, "scalar 'gas': expected real numbers"),
        (
            {"coordinates": {"time": np.arange(4), "y": np.arange(5)}},
            "an axis cannot be called 'time'",
        ),
        ({"coordinates": {"x/L": np.arange(4), "y": np.arange(5)}}, "'x/L' cannot be a name"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, changes, message):
    arguments = {
        "fields": {"a": GOOD},
        "name": "toy",
        "boundary_conditions": ["open", "wall"],
        **changes,
    }
    with pytest.raises(WavelitError, match=message) as caught:
        write_well(tmp_path / "toy.hdf5", **arguments)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_whole_or_absent(tmp_path, monkeypatch):
    path = tmp_path / "toy.hdf5"
    write_well(path, {"a": GOOD}, name="toy", boundary_conditions=["open", "wall"])
    before = path.read_bytes()

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(well_file, "_boundaries", fail)
    with pytest.raises(OSError, match="disk full"):
        write_well(path, {"a": 2 * GOOD}, name="toy", boundary_conditions=["open", "wall"])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_statistics_are_the_moments_of_the_training_split(tmp_path):
    parts = []
    for seed, n in ((0, 3), (1, 2)):
        fields, constants = arrays(2, n=n, seed=seed)
        # Far from zero, where a difference of squares would lose the variance.
        fields["heat"] = fields["heat"] + 1e4
        parts.append((fields, constants))
        write_well(
            tmp_path / "data" / "train" / f"{seed}.hdf5",
            fields,
            name="toy",
            boundary_conditions=["open", "wall"],
            constant_fields=constants,
        )
    stats = yaml.safe_load(write_statistics(tmp_path).read_text())
    assert set(stats) == {"mean", "std", "rms", "mean_delta", "std_delta", "rms_delta"}
    for group, order, names in (
        (0, 0, ["heat"]),
        (0, 1, ["flow"]),
        (0, 2, ["stress"]),
        (1, 0, ["depth"]),
        (1, 1, ["slope"]),
    ):
        for name in names:
            values = (
                np.concatenate([part[group][name] for part in parts])
                .astype(np.float32)
                .astype(np.float64)
            )
            axes = tuple(range(values.ndim - order))
            assert np.allclose(stats["mean"][name], values.mean(axes), rtol=1e-12)
            assert np.allclose(stats["std"][name], values.std(axes), rtol=1e-9)
            assert np.allclose(stats["rms"][name], np.sqrt((values**2).mean(axes)), rtol=1e-12)
            assert np.shape(stats["mean"][name]) == (2,) * order
            assert (name in stats["std_delta"]) == (group == 0)
            if group == 0:
                delta = np.diff(values, axis=1)
                assert np.allclose(stats["mean_delta"][name], delta.mean(axes), rtol=1e-9)
                assert np.allclose(stats["std_delta"][name], delta.std(axes), rtol=1e-9)
                assert np.allclose(
                    stats["rms_delta"][name], np.sqrt((delta**2).mean(axes)), rtol=1e-9
                )


def test_a_dataset_is_whole_or_absent(tmp_path, monkeypatch):
    options = {"name": "toy", "boundary_conditions": ["open", "wall"]}
    splits = {"train": 2, "valid": 1, "test": 1}
    field = np.random.default_rng(0).normal(size=(4, 3, 4, 5))
    bad = field.copy()
    bad[3, 0, 0, 0] = np.inf
    with pytest.raises(WavelitError, match=r"test, trajectories 3 to 3: field 'a' has a NaN"):
        write_dataset(tmp_path / "toy", {"a": bad}, splits=splits, **options)
    with pytest.raises(WavelitError, match=r"'mask' of shape \(5, 5\) has 5 .*\(N=4"):
        write_dataset(
            tmp_path / "toy",
            {"a": field},
            splits=splits,
            constant_fields={"mask": np.zeros((5, 5))},
            **options,
        )
    with pytest.raises(WavelitError, match=r"statistics: .*'walls' is not a constant scalar field"):
        write_dataset(tmp_path / "toy", {"a": field}, splits=splits, mask_field="walls", **options)
    assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as patch:
        patch.setattr(well_file, "_boundaries", Mock(side_effect=OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            write_dataset(tmp_path / "toy", {"a": field}, splits=splits, **options)
    assert list(tmp_path.iterdir()) == []
    write_dataset(tmp_path / "toy", {"a": field}, splits=splits, **options)
    with pytest.raises(WavelitError, match="cut in time"):
        write_dataset(
            tmp_path / "one", {"a": field}, splits={"train": 1, "valid": 0, "test": 0}, **options
        )


def test_statistics_of_a_dataset_leave_masked_cells_out(tmp_path):
    field = 50 + np.random.default_rng(0).normal(size=(4, 6, 4, 5))
    mask = np.zeros((4, 4, 5))
    mask[:, 1] = 1
    field[:, :, 1] = -999
    folder = write_dataset(
        tmp_path / "toy",
        {"a": field},
        splits={"train": 2, "valid": 1, "test": 1},
        name="toy",
        boundary_conditions=["open", "wall"],
        constant_fields={"mask": mask},
        mask_field="mask",
    )
    stats = yaml.safe_load((folder / "stats.yaml").read_text())
    assert np.isclose(stats["std"]["a"], field[:2][:, :, [0, 2, 3]].std())
    assert check_dataset(str(folder), n_steps_input=2) == []
    # The files declare their mask, so that statistics made anew are the same.
    write_statistics(folder)
    assert yaml.safe_load((folder / "stats.yaml").read_text()) == stats


def test_a_dataset_from_arrays(tmp_path):
    fields, constants = arrays(2, n=10)
    folder = write_dataset(
        tmp_path / "toy",
        fields,
        splits={"train": 7, "valid": 2, "test": 1},
        name="toy",
        boundary_conditions=["periodic", "wall"],
        constant_fields=constants,
        scalars={"Re": 3.0, "speed": np.arange(10.0)},
    )
    assert (folder / "stats.yaml").exists()
    sizes = {}
    for split in ("train", "valid", "test"):
        data = WellDataset(
            path=str(folder), well_split_name=split, n_steps_input=4, n_steps_output=1
        )
        sizes[split] = len(data)
        first = {"train": 0, "valid": 7, "test": 9}[split]
        assert data[0]["constant_scalars"].tolist() == [3, first]
        assert np.array_equal(
            data[0]["input_fields"][..., 0], fields["heat"][first, :4].astype(np.float32)
        )
    assert sizes == {"train": 7, "valid": 2, "test": 1}
    again = {"name": "toy", "boundary_conditions": ["periodic", "wall"]}
    with pytest.raises(WavelitError, match="exists already"):
        write_dataset(folder, fields, splits={"train": 7, "valid": 2, "test": 1}, **again)
    with pytest.raises(
        WavelitError, match=r"add up to 9 trajectories, but 'heat' of shape .* has 10"
    ):
        write_dataset(tmp_path / "b", fields, splits={"train": 7, "valid": 1, "test": 1}, **again)
    with pytest.raises(WavelitError, match="a positive number for each of train, valid, test"):
        write_dataset(tmp_path / "b", fields, splits={"train": 10}, **again)
    with pytest.raises(WavelitError, match="no such local folder"):
        write_statistics(tmp_path / "b")


def test_a_component_and_a_field_of_one_name_are_refused(tmp_path):
    u = np.random.default_rng(0).normal(size=(1, 5, 8, 6))
    fields = {"g_x": u, "g": np.stack([u, u], -1)}
    with pytest.raises(WavelitError, match="'g_x' names both a component and another field"):
        write_well(tmp_path / "a.hdf5", fields, name="a", boundary_conditions=["open", "open"])
    assert not list(tmp_path.iterdir())
