"""The record of sea-surface temperature: blocks of time that do not touch, land masked, a named
error for other files.
"""

from unittest.mock import Mock

import h5py
import numpy as np
import pytest
import yaml
from the_well.data import WellDataset as TheWellDataset

from wavelit.data import ostia
from wavelit.data.checking.check import check_dataset
from wavelit.data.datamodule import boundary_conditions
from wavelit.data.ostia import NAME, REFERENCE, SPLIT_MONTHS, generate_ostia
from wavelit.data.well import WellDataset
from wavelit.errors import WavelitError
from wavelit.files.owner import owned

FILL = np.float32(1e20)


def record(path, shape=(54, 18, 432), span=360.0):
    """A file like the package's: temperatures in kelvin, two land masses, the same every month."""
    rng = np.random.default_rng(0)
    temperature = (300 + rng.standard_normal(shape)).astype(np.float32)
    temperature[:, :, 10:30] = temperature[:, 4:9, 200] = FILL
    with h5py.File(path, "w") as file:
        file["surface_temperature"] = temperature
        file["surface_temperature"].attrs["_FillValue"] = np.array([FILL])
        file["latitude"] = np.linspace(-5, 4.44, shape[1], dtype=np.float32)
        file["longitude"] = np.arange(shape[2], dtype=np.float32) * span / shape[2]
    return temperature


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    temperature = record(root / "source.nc")
    return generate_ostia(root, root / "source.nc"), temperature


def test_the_blocks_are_the_record_and_apart(made):
    folder, temperature = made
    land = temperature[0] == FILL
    for split, (first, stop) in SPLIT_MONTHS.items():
        with h5py.File(folder / "data" / split / f"{NAME}.hdf5") as file:
            stored = file["t0_fields/surface_temperature"][0]
            np.testing.assert_array_equal(file["t0_fields/land"][0], land)
            np.testing.assert_array_equal(file["dimensions/time"], np.arange(first, stop))
            np.testing.assert_allclose(
                stored[:, ~land], temperature[first:stop, ~land] - REFERENCE, atol=1e-6
            )
            assert (stored[:, land] == 0).all()
    months = [set(range(*block)) for block in SPLIT_MONTHS.values()]
    assert not months[0] & months[1]
    assert not months[1] & months[2]
    # A month of the record lies between two blocks.
    assert min(months[1]) - max(months[0]) == min(months[2]) - max(months[1]) == 2


def test_statistics_are_those_of_the_sea(made):
    folder, temperature = made
    sea = (
        temperature[: SPLIT_MONTHS["train"][1], temperature[0] != FILL].astype(np.float64)
        - REFERENCE
    )
    table = yaml.safe_load((folder / "stats.yaml").read_text())
    assert table["std"]["surface_temperature"] == pytest.approx(sea.std(), rel=1e-6)
    assert table["std_delta"]["surface_temperature"] == pytest.approx(
        np.diff(sea, axis=0).std(), rel=1e-6
    )
    assert check_dataset(str(folder), mask_field="land") == []


def test_both_readers_read_it(made):
    folder, _ = made
    theirs = TheWellDataset(path=str(folder), well_split_name="valid", n_steps_input=4)
    ours = WellDataset(str(folder), well_split_name="valid", n_steps_input=4, mask_field="land")
    assert len(theirs) == len(ours) == 10 - 4
    np.testing.assert_array_equal(theirs[2]["input_fields"], ours[2]["input_fields"])
    assert boundary_conditions(ours) == (("open", "open"), ("periodic", "periodic"))
    batch = ours.collate(ours.__getitems__([0, 5]))
    assert batch.valid is not None
    assert (~batch.valid).sum() == 2 * (18 * 20 + 5)


def test_it_is_made_once(made):
    folder, _ = made
    before = (folder / "stats.yaml").stat().st_mtime_ns
    assert generate_ostia(folder.parents[1], "nowhere.nc") == folder
    assert (folder / "stats.yaml").stat().st_mtime_ns == before
    with pytest.raises(WavelitError, match=r"nowhere\.nc: no such file; .*iris-sample-data"):
        generate_ostia(folder.parents[1], "nowhere.nc", force=True)
    # A failure leaves what was there.
    assert (folder / "stats.yaml").exists()


def test_another_file_is_refused(tmp_path):
    source = tmp_path / "source.nc"
    source.write_text("no")
    with pytest.raises(WavelitError, match="not the netCDF-4 file of ostia_monthly"):
        generate_ostia(tmp_path, source)
    record(source, shape=(53, 18, 432))
    with pytest.raises(
        WavelitError, match=r"expected temperatures \(54, 18, 432\), got \(53, 18, 432\)"
    ):
        generate_ostia(tmp_path, source)
    record(source, span=180.0)
    with pytest.raises(WavelitError, match="no even grid around the globe"):
        generate_ostia(tmp_path, source)
    record(source)
    with h5py.File(source, "r+") as file:
        file["surface_temperature"][7, 0, 0] = FILL
    with pytest.raises(WavelitError, match="land differs from month to month"):
        generate_ostia(tmp_path, source)
    assert not (tmp_path / "real" / NAME).exists()


@pytest.mark.parametrize("damage", ["fill", "text", "group", "number", "chunk"])
def test_a_damaged_file_is_refused(tmp_path, damage):
    source = tmp_path / "source.nc"
    record(source)
    with h5py.File(source, "r+") as file:
        if damage == "fill":
            del file["surface_temperature"].attrs["_FillValue"]
        elif damage == "text":
            file["surface_temperature"].attrs["_FillValue"] = "none"
        elif damage == "group":
            del file["latitude"]
            file.create_group("latitude")
        elif damage == "number":
            del file["surface_temperature"]
            file["surface_temperature"] = 3.0
        else:
            values, fill = (
                file["surface_temperature"][()],
                file["surface_temperature"].attrs["_FillValue"],
            )
            del file["surface_temperature"]
            item = file.create_dataset(
                "surface_temperature", data=values, chunks=(54, 18, 432), compression="gzip"
            )
            item.attrs["_FillValue"] = fill
            offset = item.id.get_chunk_info(0).byte_offset
    if damage == "chunk":
        with source.open("r+b") as stream:
            stream.seek(offset)
            stream.write(b"\xff" * 40)
    with pytest.raises(WavelitError, match=r"source\.nc: .* install (it|the file) anew") as caught:
        generate_ostia(tmp_path, source)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "real").exists()


def test_folders_that_cannot_be(tmp_path):
    source = tmp_path / "source.nc"
    record(source)
    with pytest.raises(WavelitError, match=r"source\.nc is no folder"):
        generate_ostia(source, source)
    with pytest.raises(WavelitError, match="root: expected a path, got None"):
        generate_ostia(None, source)
    with pytest.raises(WavelitError, match="is a folder: source is to be a file"):
        generate_ostia(tmp_path, tmp_path)
    with (
        owned(tmp_path / "real", "generating"),
        pytest.raises(WavelitError, match=r"real is in use: process .* has been generating there"),
    ):
        generate_ostia(tmp_path, source)


def test_a_refused_write_names_the_dataset_and_leaves_nothing(tmp_path, monkeypatch):
    source = tmp_path / "source.nc"
    record(source)
    monkeypatch.setattr(
        ostia, "write_statistics", Mock(side_effect=OSError(28, "No space left on device", "inner"))
    )
    with pytest.raises(OSError, match="No space left") as caught:
        generate_ostia(tmp_path, source)
    assert caught.value.filename == str(tmp_path / "real" / NAME)
    assert list((tmp_path / "real").iterdir()) == []


def test_the_packages_own_file(tmp_path):
    pytest.importorskip("iris_sample_data")
    folder = generate_ostia(tmp_path)
    assert check_dataset(str(folder), mask_field="land") == []
    with h5py.File(folder / "data" / "test" / f"{NAME}.hdf5") as file:
        land = file["t0_fields/land"][0]
        sea = file["t0_fields/surface_temperature"][0][:, land == 0] + REFERENCE
    # Africa and South America lie across the belt; the water is tropical.
    assert 0.2 < land.mean() < 0.3
    assert 285 < sea.min() < sea.max() < 306
