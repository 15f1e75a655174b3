"""A part of a dataset: the same numbers, names and kinds, no more than was asked for, and all or
nothing.
"""

import fsspec
import h5py
import numpy as np
import pytest

import wavelit
from conftest import write_dataset
from wavelit.cli.program import main
from wavelit.data.checking.check import check_dataset
from wavelit.data.datamodule import WellDataModule
from wavelit.data.writing.subset import write_subset
from wavelit.errors import WavelitError


def items(path):
    """Every array and attribute of a file by name."""
    found = {}
    with h5py.File(path) as file:

        def note(name, item):
            for key, value in item.attrs.items():
                found[f"{name}@{key}"] = value
            if isinstance(item, h5py.Dataset):
                found[name] = item[()]

        note("", file)
        file.visititems(note)
    return found


def kept(name, values, attributes, n, t):
    """What of an array of the whole file the subset should hold."""
    if attributes.get(f"{name}@sample_varying"):
        values = values[:n]
        return values[:, :t] if attributes[f"{name}@time_varying"] else values
    if attributes.get(f"{name}@time_varying"):
        return values[:t]
    return values


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("whole") / "five", n_trajectories=5)


@pytest.mark.parametrize(("trajectories", "steps"), [(2, 7), (3, None), (None, 6), (99, 99)])
def test_every_number_and_attribute_is_the_one_of_the_whole(whole, trajectories, steps, tmp_path):
    small = write_subset(whole, tmp_path / "small", trajectories=trajectories, steps=steps)
    for split in ("train", "valid", "test"):
        for path in (whole / "data" / split).iterdir():
            before, after = items(path), items(small / "data" / split / path.name)
            assert before.keys() == after.keys()
            n = min(trajectories or 99, before["@n_trajectories"])
            for name, value in before.items():
                if name == "@n_trajectories":
                    assert after[name] == n
                elif "@" in name:
                    np.testing.assert_array_equal(after[name], value, err_msg=name)
                else:
                    due = kept(name, value, before, n, steps or 99)
                    np.testing.assert_array_equal(after[name], due, err_msg=name)
                    assert after[name].dtype == value.dtype
    assert [f for f in check_dataset(small) if f.severity == "error"] == []


def test_statistics_are_those_of_what_is_kept(whole, tmp_path):
    small = write_subset(whole, tmp_path / "small", trajectories=1, steps=6)
    pressure = []
    for path in (small / "data" / "train").iterdir():
        with h5py.File(path) as file:
            pressure.append(file["t0_fields/pressure"][()])
    index = WellDataModule(small).field_names.index("pressure")
    mean = WellDataModule(small).statistics.mean[index]
    assert mean == pytest.approx(np.concatenate(pressure).astype(np.float64).mean(), rel=1e-5)


def test_files_are_chosen_and_an_address_serves(whole, tmp_path):
    memory = fsspec.filesystem("memory")
    memory.put(str(whole), "/five", recursive=True)
    try:
        small = write_subset("memory://five", tmp_path / "small", files=1, trajectories=2)
    finally:
        memory.rm("/five", recursive=True)
    assert len(list((small / "data" / "train").iterdir())) == 1
    (local,) = (write_subset(whole, tmp_path / "b", files=1, trajectories=2) / "data/train").glob(
        "*"
    )
    (remote,) = (small / "data" / "train").iterdir()
    assert local.name == remote.name
    assert local.read_bytes() == remote.read_bytes()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "say what to keep: files, trajectories, steps"),
        ({"files": 0}, "files"),
        ({"trajectories": -1}, "trajectories"),
        ({"steps": 1}, "steps"),
        ({"steps": 2.5}, "steps"),
    ],
)
def test_what_cannot_be_is_named_and_nothing_written(whole, options, told, tmp_path):
    with pytest.raises(WavelitError, match=told):
        write_subset(whole, tmp_path / "small", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_leaves_nothing(tmp_path):
    folder = write_dataset(tmp_path / "whole")
    (folder / "data" / "test" / "one.hdf5").write_text("no")
    with pytest.raises(WavelitError, match="not an HDF5 file"):
        write_subset(folder, tmp_path / "small", trajectories=1)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_what_is_there_is_left(whole, tmp_path, capsys):
    words = ["data", "subset", str(whole), "--to", str(tmp_path / "small"), "--trajectories", "1"]
    assert main(words) == 0
    before = (tmp_path / "small" / "stats.yaml").read_bytes()
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "small" / "stats.yaml").read_bytes() == before


def test_a_mask_that_is_not_declared_is_told(tmp_path, capsys):
    """Without it the statistics fail, after all has been copied."""
    land = np.zeros((8, 8))
    land[:2] = 1
    height = np.random.default_rng(0).standard_normal((6, 9, 8, 8))
    whole = wavelit.write_dataset(
        tmp_path / "whole",
        {"height": height},
        splits={"train": 2, "valid": 2, "test": 2},
        name="sea",
        boundary_conditions=["wall", "wall"],
        constant_fields={"land": land},
    )
    for path in whole.glob("data/*/*"):
        with h5py.File(path, "a") as file:
            file["t0_fields/height"][:, :, :2] = np.nan
    small = tmp_path / "small"
    words = ["data", "subset", str(whole), "--to", str(small), "--steps", "8"]
    assert main([*words, "--mask_field", "depth"]) == 2
    assert (
        "mask_field 'depth' is not a constant scalar field; those are ['land']"
        in capsys.readouterr().err
    )
    assert not small.exists()
    assert main([*words, "--mask_field", "land"]) == 0
    data = WellDataModule(small, mask_field="land")
    assert data.statistics.mean[0] == pytest.approx(height[:2, :8, 2:].mean(), abs=1e-6)


def test_a_mask_and_units_stay_declared(tmp_path):
    land = np.zeros((8, 8))
    land[:2] = 1
    whole = wavelit.write_dataset(
        tmp_path / "whole",
        {"height": np.random.default_rng(0).standard_normal((6, 9, 8, 8))},
        splits={"train": 2, "valid": 2, "test": 2},
        name="sea",
        boundary_conditions=["wall", "wall"],
        constant_fields={"land": land},
        mask_field="land",
        units={"height": "m"},
    )
    small = write_subset(whole, tmp_path / "small", trajectories=1, steps=8)
    data = WellDataModule(small, batch_size=1)
    assert data.train_dataset.layouts[0].units == {"height": "m"}
    assert next(iter(data.train_dataloader())).valid.float().mean() == 0.75
