"""Masks, records cut in time, of several lengths and steps, and records larger than memory."""

import itertools
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
import yaml
from the_well.data import WellDataset as TheWellDataset

from wavelit.data.checking.check import check_dataset
from wavelit.data.datamodule import WellDataModule
from wavelit.data.writing.progress import SMALL, writing_bar
from wavelit.data.writing.sources import Source, source
from wavelit.data.writing.write import write_dataset, write_well
from wavelit.errors import WavelitError

N, T, S = 4, 30, (6, 8)
RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(N, T, *S)).astype(np.float32)
LAND = np.zeros(S, bool)
LAND[1:3, 2:5] = True
HOLED = np.where(LAND, np.nan, VALUES)
SPLITS = {"train": 2, "valid": 1, "test": 1}
OPTIONS = {"splits": SPLITS, "name": "toy", "boundary_conditions": ["open", "periodic"]}


def dataset(tmp_path, fields, **changes):
    options = {**OPTIONS, **changes}
    if "split_in_time" in changes:
        del options["splits"]
    return write_dataset(tmp_path / "toy", fields, **options)


def files(folder, split):
    return sorted((folder / "data" / split).glob("*.hdf5"))


def refused(tmp_path, fields, message, **changes):
    with pytest.raises(WavelitError, match=message) as caught:
        dataset(tmp_path, fields, **changes)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not (tmp_path / "toy").exists()


# --- masks


@pytest.mark.parametrize(
    "given",
    [
        HOLED,
        np.ma.masked_array(VALUES, np.broadcast_to(LAND, VALUES.shape)),
        np.ma.masked_invalid(HOLED.astype(">f8")),
        list(np.ma.masked_invalid(HOLED)),
        np.where(LAND, 9.97e36, VALUES),
        np.where(LAND, np.inf, VALUES.astype(np.float64)),
        torch.from_numpy(HOLED),
    ],
)
def test_what_lies_outside_may_be_missing(tmp_path, given):
    folder = dataset(tmp_path, {"u": given}, constant_fields={"land": LAND}, mask_field="land")
    for split, part in {"train": slice(0, 2), "valid": slice(2, 3), "test": slice(3, 4)}.items():
        with h5py.File(files(folder, split)[0]) as file:
            assert file.attrs["mask_field"] == "land"
            assert file.attrs["mask_excludes"] == 1.0
            np.testing.assert_array_equal(file["t0_fields/u"], np.where(LAND, 0, VALUES[part]))
            # Given once, stored once.
            np.testing.assert_array_equal(file["t0_fields/land"], LAND)
            assert not file["t0_fields/land"].attrs["sample_varying"]
    stats = yaml.safe_load((folder / "stats.yaml").read_text())
    assert stats["std"]["u"] == pytest.approx(VALUES[:2][..., ~LAND].std(dtype=np.float64))
    assert check_dataset(str(folder), mask_field="land") == []
    ours = WellDataModule(folder, mask_field="land")
    batch = next(iter(ours.val_dataloader()))
    assert (~batch.valid).sum() == len(batch.valid) * LAND.sum()
    theirs = TheWellDataset(path=str(folder), well_split_name="valid", n_steps_input=4)
    sample = theirs[0]
    np.testing.assert_array_equal(sample["input_fields"][..., 0], batch.fields[0, :, 0])
    np.testing.assert_array_equal(sample["constant_fields"][..., 0], LAND)


def test_a_mask_of_each_trajectory(tmp_path):
    masks = np.stack([np.roll(LAND, i, 1) for i in range(N)])
    given = np.where(masks[:, None], np.nan, VALUES)
    vector = np.stack([given, 2 * given], -1)
    depth = np.where(masks, np.nan, 1.0)
    folder = dataset(
        tmp_path,
        {"u": given, "v": vector},
        constant_fields={"sea": 1 - masks.astype(int), "depth": depth},
        mask_field="sea",
        mask_excludes=0,
    )
    with h5py.File(files(folder, "test")[0]) as file:
        np.testing.assert_array_equal(file["t0_fields/sea"], 1 - masks[3:])
        np.testing.assert_array_equal(file["t0_fields/depth"], 1 - masks[3:])
        np.testing.assert_array_equal(file["t1_fields/v"][..., 1], 2 * np.nan_to_num(given[3:]))
        assert file.attrs["mask_excludes"] == 0
    assert all("depth" in f.message for f in check_dataset(str(folder)))


def test_write_well_declares_its_mask(tmp_path):
    path = write_well(
        tmp_path / "a.hdf5",
        {"u": HOLED},
        name="toy",
        boundary_conditions=["open"] * 2,
        constant_fields={"land": LAND},
        mask_field="land",
    )
    with h5py.File(path) as file:
        assert file.attrs["mask_field"] == "land"
        assert (file["t0_fields/u"][()][..., LAND] == 0).all()


MORE = np.where(np.roll(LAND, 1, 0), np.nan, HOLED)


@pytest.mark.parametrize(
    ("values", "land", "message", "changes"),
    [
        (MORE, LAND, r"'u' has a NaN.*\(0, 0, 3, 2\).*mask_field 'land' is not 1 in that cell", {}),
        (np.ma.masked_invalid(MORE), LAND, "field 'u' has a NaN.* is not 1 in that cell", {}),
        (HOLED, LAND, "'u' has a NaN.*declared by a constant field", {"mask_field": None}),
        (HOLED, LAND, "is not 0 in that cell", {"mask_excludes": 0}),
        (HOLED, LAND[:, :7], r"'land' of shape \(6, 7\) has 6 along its first axis", {}),
        (HOLED, np.zeros((N, 6, 7)), r"'land': expected shape \(2, 6, 8\)", {}),
        (HOLED, np.zeros((N, *S, 2)), "'land': expected one number a cell, of shape", {}),
        (HOLED, np.ones(S), "'land' is 1 in every cell, so that none is left", {}),
        (
            HOLED,
            np.stack([LAND, LAND, LAND | True, LAND]),
            "valid.*'land' of trajectory 0 is 1 in every cell",
            {},
        ),
        (HOLED, np.where(LAND, np.nan, 0), "'land' is not finite everywhere", {}),
        (HOLED, np.ma.masked_array(LAND, LAND), "'land' is not finite everywhere", {}),
        (
            HOLED,
            LAND,
            "'sea' is not a constant scalar field: name one of land",
            {"mask_field": "sea"},
        ),
    ],
)
def test_masks_that_do_not_fit(tmp_path, values, land, message, changes):
    options = {"constant_fields": {"land": land}, "mask_field": "land", **changes}
    refused(tmp_path, {"u": values}, message, **options)


# --- records cut in time


def test_a_record_is_cut_in_time(tmp_path):
    times = 10 + 0.5 * np.arange(T)
    folder = dataset(
        tmp_path,
        {"u": VALUES},
        split_in_time=(0.46, 0.27, 0.27),
        time=times,
        scalars={"Re": np.arange(N)},
    )
    used = []
    for split, (start, stop) in {"train": (0, 10), "valid": (14, 20), "test": (24, 30)}.items():
        (path,) = files(folder, split)
        with h5py.File(path) as file:
            np.testing.assert_array_equal(file["t0_fields/u"], VALUES[:, start:stop])
            np.testing.assert_array_equal(file["dimensions/time"], times[start:stop])
            np.testing.assert_array_equal(file.attrs["split_in_time"], [0.46, 0.27, 0.27])
            np.testing.assert_array_equal(file["scalars/Re"], np.arange(N))
        used.append((start, stop))
    # At least a history lies between two splits.
    assert all(b[0] - a[1] == 4 for a, b in itertools.pairwise(used))
    assert check_dataset(str(folder)) == []


def test_a_cut_without_gap_uses_every_frame(tmp_path):
    folder = dataset(tmp_path, {"u": VALUES}, split_in_time=(0.8, 0.1, 0.1), gap=0)
    lengths = [h5py.File(files(folder, split)[0])["t0_fields/u"].shape[1] for split in SPLITS]
    assert lengths == [24, 3, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"split_in_time": (0.8, 0.1, 0.1)},
            "of 30 frames, less 2 gaps of 4, gives 18, 2, 2 frames",
        ),
        ({"split_in_time": (0.8, 0.1, 0.1), "gap": 40}, "of 30 frames, less 2 gaps of 40"),
        ({"split_in_time": (0.8, 0.2)}, "three positive shares of time that add up to 1"),
        ({"split_in_time": (0.8, 0.1, 0.2)}, "three positive shares"),
        ({"split_in_time": (1.0, 0, 0)}, "three positive shares"),
        ({"split_in_time": "0.8"}, "three positive shares"),
        ({"split_in_time": 0.8}, "three positive shares"),
        ({"split_in_time": (0.5, 0.25, 0.25), "gap": -1}, "gap must be a whole number"),
        ({"split_in_time": (0.5, 0.25, 0.25), "gap": 4.0}, "gap must be a whole number"),
    ],
)
def test_cuts_that_cannot_be(tmp_path, changes, message):
    refused(tmp_path, {"u": VALUES}, message, **changes)


def test_either_splits_or_a_cut(tmp_path):
    with pytest.raises(WavelitError, match="exclude each other"):
        write_dataset(tmp_path / "toy", {"u": VALUES}, **OPTIONS, split_in_time=(0.8, 0.1, 0.1))


# --- lengths and steps


def test_records_of_several_lengths(tmp_path):
    lengths = [30, 20, 30, 20]
    given = [VALUES[i, :n] for i, n in enumerate(lengths)]
    vector = [np.stack([each, each], -1) for each in given]
    folder = dataset(
        tmp_path,
        {"u": given, "v": vector},
        splits={"train": 2, "valid": 1, "test": 1},
        constant_fields={"k": VALUES[:, 0], "land": LAND},
        scalars={"Re": np.arange(N)},
    )
    expected = {"train": [(0, 0), (1, 1)], "valid": [(2, 0)], "test": [(3, 1)]}
    for split, members in expected.items():
        found = files(folder, split)
        assert [path.name for path in found] == [f"toy_{number}.hdf5" for _, number in members]
        for path, (i, _) in zip(found, members, strict=True):
            with h5py.File(path) as file:
                np.testing.assert_array_equal(file["t0_fields/u"], given[i][None])
                np.testing.assert_array_equal(file["t1_fields/v"], vector[i][None])
                np.testing.assert_array_equal(file["t0_fields/k"], VALUES[i : i + 1, 0])
                assert file["scalars/Re"][()] == i
                assert "time_step" not in file["scalars"]
    assert len(WellDataModule(folder).train_dataset) == 26 + 16


def test_each_record_is_cut_in_time(tmp_path):
    given = [VALUES[0], VALUES[1, :24]]
    folder = dataset(tmp_path, {"u": given}, split_in_time=(0.4, 0.3, 0.3), gap=2)
    found = [h5py.File(path)["t0_fields/u"] for path in files(folder, "test")]
    np.testing.assert_array_equal(found[0], VALUES[:1, 22:])
    np.testing.assert_array_equal(found[1], VALUES[1:2, 18:24])


def test_time_steps_are_written_as_a_scalar(tmp_path):
    steps = np.array([0.1, 0.2, 0.1, 0.4])
    time = [step * np.arange(T) for step in steps]
    folder = dataset(tmp_path, {"u": VALUES}, time=time, units={"time": "s"})
    data = WellDataModule(folder)
    assert data.scalar_names == ["time_step"]
    found = sorted(layout.scalars["time_step"][0] for layout in data.train_dataset.layouts)
    assert found == pytest.approx([0.1, 0.2])
    with h5py.File(files(folder, "test")[0]) as file:
        np.testing.assert_allclose(file["dimensions/time"], time[3], rtol=1e-6)
        assert file["scalars/time_step"].attrs["units"] == "s"
    assert not [f for f in check_dataset(str(folder)) if "time between frames" in f.message]


def test_equal_lines_share_a_file(tmp_path):
    time = np.tile(0.5 * np.arange(T), (N, 1))
    folder = dataset(tmp_path, {"u": VALUES}, time=time, scalars={"time_step": 7.0})
    (path,) = files(folder, "train")
    assert path.name == "toy.hdf5"
    with h5py.File(path) as file:
        assert file["scalars/time_step"][()] == 7


def test_a_scalar_of_that_name_may_hold_the_steps(tmp_path):
    steps = np.array([0.1, 0.2, 0.1, 0.4])
    time = steps[:, None] * np.arange(T)
    folder = dataset(tmp_path, {"u": VALUES}, time=time, scalars={"time_step": steps})
    assert WellDataModule(folder).scalar_names == ["time_step"]


UNEVEN = np.cumsum(np.r_[0, np.tile([31, 30], 15)][:T])


def test_an_irregular_axis_may_be_called_regular(tmp_path):
    folder = dataset(tmp_path, {"u": VALUES}, time=UNEVEN, equal_steps=True)
    with h5py.File(files(folder, "train")[0]) as file:
        np.testing.assert_array_equal(file["dimensions/time"], UNEVEN)


@pytest.mark.parametrize(
    ("fields", "changes", "message"),
    [
        (VALUES, {"time": UNEVEN}, "'time' is not evenly spaced: steps from 30 to 31.*equal_steps"),
        (
            VALUES,
            {"time": [np.arange(T)] * 3 + [UNEVEN]},
            "'time' of trajectory 3 is not evenly spaced",
        ),
        (VALUES, {"time": [np.arange(T)] * 3}, "3 lines for 4 trajectories"),
        (
            VALUES,
            {"time": [np.arange(T)] * 3 + [np.arange(9)]},
            "'time of trajectory 3': expected 30",
        ),
        (
            VALUES,
            {
                "time": np.array([1, 2, 1, 1])[:, None] * np.arange(T),
                "scalars": {"time_step": np.ones(N)},
            },
            r"scalar 'time_step' is \[1.0, .*from 1 to 2",
        ),
        (
            [VALUES[0], VALUES[1, :9], VALUES[2], VALUES[3]],
            {"time": np.arange(T)},
            "one line of 30",
        ),
        (
            [VALUES[0], VALUES[1, :, :5], VALUES[2], VALUES[3]],
            {},
            "differ in more than their frames",
        ),
        ([VALUES[0], VALUES[1, :9]], {}, "add up to 4 trajectories, but 'u' has 2"),
    ],
)
def test_records_that_do_not_fit(tmp_path, fields, changes, message):
    refused(tmp_path, {"u": fields}, message, **changes)


def test_fields_must_agree_in_lengths(tmp_path):
    given = [VALUES[i, : 20 + i] for i in range(N)]
    other = [VALUES[i, :20] for i in range(N)]
    refused(tmp_path, {"u": given, "v": other}, "'v' of trajectory 1 has 20 frames where .* has 21")
    refused(tmp_path, {"u": given, "v": VALUES}, "'v' of trajectory 0 has 30 frames")
    refused(tmp_path, {"u": given, "v": other[:3]}, "'v' has 3 trajectories where field 'u' has 4")


def test_units_of_what_is_not_there(tmp_path):
    refused(tmp_path, {"u": VALUES}, "units: 'w' is no field, scalar or axis", units={"w": "m"})
    refused(tmp_path, {"u": VALUES}, "units: that of 'u' must be a text", units={"u": 3})


# --- arrays of other makes, read in pieces


@pytest.mark.parametrize("dtype", [">f4", "<f8", ">f8", "f2", "i1", ">i2", "u4", "i8", "bool"])
def test_dtypes_and_byte_orders(tmp_path, dtype):
    given = (10 * VALUES).astype(dtype)
    with h5py.File(tmp_path / "given.h5", "w") as file:
        for value in (given, file.create_dataset("u", data=given)):
            folder = tmp_path / str(type(value).__name__)
            write_dataset(folder, {"u": value}, **OPTIONS)
            with h5py.File(files(folder, "test")[0]) as found:
                assert found["t0_fields/u"].dtype == np.dtype("<f4")
                np.testing.assert_array_equal(found["t0_fields/u"], given[3:].astype(np.float32))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (VALUES.astype("S4"), "field 'u': expected real numbers, got text"),
        (VALUES * 1j, "field 'u': expected real numbers, got dtype complex64: split"),
        (np.zeros((N, T, *S), [("a", "f4")]), "field 'u': expected real numbers, got dtype"),
    ],
)
def test_datasets_of_no_numbers(tmp_path, data, message):
    with h5py.File(tmp_path / "given.h5", "w") as file:
        refused(tmp_path, {"u": file.create_dataset("u", data=data)}, message)


def test_fill_values_of_hdf5(tmp_path):
    with h5py.File(tmp_path / "given.h5", "w") as file:
        item = file.create_dataset("u", data=np.where(LAND, np.float32(1e20), VALUES))
        item.attrs["_FillValue"], item.attrs["units"] = np.array([1e20]), "K"
        refused(tmp_path, {"u": item}, "field 'u' has a NaN")
        # A group stands for its arrays.
        folder = dataset(tmp_path, file, constant_fields={"land": LAND}, mask_field="land")
        with h5py.File(files(folder, "test")[0]) as found:
            np.testing.assert_array_equal(found["t0_fields/u"], np.where(LAND, 0, VALUES[3:]))
            assert found["t0_fields/u"].attrs["units"] == "K"
        item.attrs["scale_factor"] = 0.1
        refused(tmp_path / "b", {"u": item}, "packed by 'scale_factor'.*xarray")


def test_a_source_is_read_as_its_array(monkeypatch):
    monkeypatch.setattr("wavelit.data.writing.sources.PIECE_BYTES", 4 * 8 * 60)
    array = RNG.normal(size=(5, 7, 6, 8))
    turned = source("a", array).transpose((3, 0, 1, 2)).flip([0, 2])
    expected = np.flip(array.transpose(3, 0, 1, 2), (0, 2))
    for found, due in (
        (turned, expected),
        (turned.cut(slice(2, 6)).cut(slice(1, 5), 2), expected[2:6, :, 1:5]),
        (Source.stack(turned.each()[1:3]), expected[1:3]),
        (turned.grow().cut(slice(1, 3), 1), expected[None, 1:3]),
    ):
        assert found.shape == due.shape
        for lead in (0, 1, 2):
            pieces = [(index, found.read(index)) for index in found.pieces(lead)]
            whole = np.full(due.shape, np.nan)
            for index, piece in pieces:
                assert np.isnan(whole[index]).all()
                whole[index] = piece
            np.testing.assert_array_equal(whole, due)


LIMITED = """
import resource, sys
import numpy as np, torch, wavelit, zarr

folder, frames, shape = sys.argv[1], 600, (256, 256)
given = zarr.create_array(
    folder + ".zarr", shape=(1, frames, *shape), chunks=(1, 8, *shape), dtype="f8",
    compressors=None,
)
noise = np.random.default_rng(0).normal(size=(8, *shape))
for i in range(0, frames, 8):
    given[0, i : i + 8] = noise + i
assert given.nbytes >= 300 * 2**20
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
wavelit.write_dataset(
    folder, {"u": given}, split_in_time=(0.8, 0.1, 0.1), name="toy",
    boundary_conditions=["open", "open"],
)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="kilobytes of the peak are Linux's")
def test_a_record_is_written_in_less_memory_than_it_takes(tmp_path):
    pytest.importorskip("zarr")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "toy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    # MiB. Statistics take the most, whatever the length: copies of a piece of 64 MiB.
    assert float(done.stdout) < 280


@pytest.mark.parametrize("kind", ["dask", "zarr", "xarray", "hdf5", "numpy"])
def test_arrays_are_read_in_pieces(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("wavelit.data.writing.sources.PIECE_BYTES", 4 * 48 * 7)
    sizes = []
    read = Source.read
    monkeypatch.setattr(
        Source, "read", lambda *args: sizes.append((piece := read(*args)).nbytes) or piece
    )
    if kind == "dask":
        given = pytest.importorskip("dask.array").from_array(VALUES, chunks=(1, 3, 6, 8))
    elif kind == "zarr":
        zarr = pytest.importorskip("zarr")
        given = zarr.create_array(
            tmp_path / "a.zarr", shape=VALUES.shape, chunks=(1, 3, 6, 8), dtype="f4"
        )
        given[:] = VALUES
    elif kind == "xarray":
        xarray = pytest.importorskip("xarray")
        given = xarray.DataArray(VALUES, dims=("run", "time", "x", "y")).chunk(run=1, time=3)
    elif kind == "hdf5":
        given = h5py.File(tmp_path / "a.h5", "w").create_dataset("u", data=VALUES)
    else:
        given = VALUES.astype(">f8")
    folder = dataset(tmp_path, {"u": given})
    with h5py.File(files(folder, "train")[0]) as file:
        np.testing.assert_array_equal(file["t0_fields/u"], VALUES[:2])
    # Whole chunks of three frames, as many as fit in seven.
    assert max(sizes) == 4 * 48 * (
        6 if kind in ("dask", "zarr", "xarray") else 7 - (kind == "numpy")
    )
    assert sum(sizes) == given.nbytes


def test_zarr_groups_and_stores_half_written(tmp_path):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    item = group.create_array("u", shape=VALUES.shape, chunks=(1, 30, 6, 8), dtype="f4")
    item.attrs["units"] = "K"
    item[:3] = VALUES[:3]
    refused(tmp_path, group, "field 'u': 1 of its 4 chunks were never written, .* read as 0.0")
    item[3] = VALUES[3]
    folder = dataset(tmp_path, group)
    with h5py.File(files(folder, "test")[0]) as found:
        np.testing.assert_array_equal(found["t0_fields/u"], VALUES[3:])
        assert found["t0_fields/u"].attrs["units"] == "K"


def test_a_bar_on_a_terminal_alone(capsys):
    from rich.console import Console

    for terminal, size, drawn in (
        (True, 2 * SMALL, True),
        (False, 2 * SMALL, False),
        (True, 9, False),
    ):
        console = Console(force_terminal=terminal, force_jupyter=False, width=80)
        with writing_bar("writing toy", size, console) as told:
            told(size)
        assert ("writing toy" in capsys.readouterr().out) == drawn
