"""Every bad file or folder gives one line that names the file, the field and the fix."""

import os
import shutil

import fsspec
import h5py
import numpy as np
import pytest
import torch

from conftest import write_file
from wavelit.data.well import WellDataset
from wavelit.errors import WavelitError


def train(folder, **options):
    return WellDataset(str(folder), well_split_name="train", **options)


def test_missing_folder(tmp_path):
    with pytest.raises(WavelitError, match="data/train: no such folder"):
        train(tmp_path / "nowhere")


def test_no_files(well_folder):
    for path in (well_folder / "data" / "train").iterdir():
        path.unlink()
    with pytest.raises(WavelitError, match=r"no file ending in .hdf5 or .h5"):
        train(well_folder)


def test_no_file_left_by_the_filters(shared_well_folder):
    with pytest.raises(WavelitError, match="No HDF5 files found"):
        train(shared_well_folder, include_filters=["three"])


def test_unknown_split(well_folder):
    with pytest.raises(
        WavelitError, match=r"unknown split 'validation' .*: use one of train, valid, test"
    ):
        WellDataset(str(well_folder), well_split_name="validation")


def test_unknown_protocol():
    with pytest.raises(WavelitError, match="no filesystem for this address"):
        train("nosuch://bucket/dataset")


@pytest.mark.parametrize("keep", [0, 7, 0.5, 0.99])
def test_truncated_file(well_folder, keep):
    path = well_folder / "data" / "train" / "two.hdf5"
    os.truncate(path, keep if isinstance(keep, int) else int(path.stat().st_size * keep))
    kind = "truncated HDF5 file" if isinstance(keep, float) else "not an HDF5 file"
    with pytest.raises(WavelitError, match=f"two.hdf5: {kind}"):
        train(well_folder)


def test_not_an_hdf5_file(well_folder):
    (well_folder / "data" / "train" / "two.hdf5").write_text("pressure,velocity\n" * 100)
    with pytest.raises(WavelitError, match=r"two.hdf5: not an HDF5 file"):
        train(well_folder)


def test_not_an_hdf5_file_on_a_remote_filesystem():
    fs = fsspec.filesystem("memory")
    fs.pipe("/bad/data/train/one.hdf5", b"pressure,velocity\n" * 100)
    with pytest.raises(WavelitError, match=r"one.hdf5: not an HDF5 file"):
        train("memory://bad")
    fs.rm("/bad", recursive=True)


@pytest.mark.parametrize(
    "group", ["dimensions", "boundary_conditions", "scalars", "t0_fields", "t1_fields", "t2_fields"]
)
def test_missing_group(well_folder, group):
    with h5py.File(well_folder / "data" / "train" / "two.hdf5", "r+") as file:
        del file[group]
    with pytest.raises(WavelitError, match=f"two.hdf5: group '{group}' is missing"):
        train(well_folder)


@pytest.mark.parametrize(
    ("item", "attribute"),
    [
        ("/", "dataset_name"),
        ("/", "grid_type"),
        ("/", "n_spatial_dims"),
        ("/", "n_trajectories"),
        ("/dimensions", "spatial_dims"),
        ("/dimensions/time", "sample_varying"),
        ("/boundary_conditions/x_periodic", "bc_type"),
        ("/boundary_conditions/x_periodic", "associated_dims"),
        ("/scalars", "field_names"),
        ("/scalars/nu", "time_varying"),
        ("/t1_fields", "field_names"),
        ("/t1_fields/velocity", "dim_varying"),
        ("/t2_fields/stress", "sample_varying"),
    ],
)
def test_missing_attribute(well_folder, item, attribute):
    with h5py.File(well_folder / "data" / "train" / "two.hdf5", "r+") as file:
        del file[item].attrs[attribute]
    with pytest.raises(
        WavelitError, match=f"two.hdf5: .*attribute '{attribute}'.* is missing"
    ) as caught:
        train(well_folder)
    assert item.rsplit("/")[-1] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("item", "shape", "message"),
    [
        (
            "t0_fields/pressure",
            (2, 7, 8, 5),
            r"field 'pressure' has shape \(2, 7, 8, 5\) .* promise \(2, 7, 8, 6\)",
        ),
        ("t0_fields/pressure", (2, 6, 8, 6), r"promise \(2, 7, 8, 6\)"),
        ("t1_fields/velocity", (2, 7, 8, 6), r"field 'velocity' .* promise \(2, 7, 8, 6, 2\)"),
        ("t2_fields/stress", (2, 7, 8, 6, 4), r"field 'stress' .* promise \(2, 7, 8, 6, 2, 2\)"),
        ("t0_fields/depth", (8,), r"field 'depth' .* promise \(6,\)"),
        ("scalars/a", (3,), r"scalar 'a' has shape \(3,\) .* promise \(2,\)"),
        ("dimensions/x", (), "'/dimensions/x' is a single number"),
    ],
)
def test_another_shape_than_promised(well_folder, item, shape, message):
    with h5py.File(well_folder / "data" / "train" / "two.hdf5", "r+") as file:
        attributes = dict(file[item].attrs)
        del file[item]
        file[item] = np.zeros(shape, dtype=np.float32)
        file[item].attrs.update(attributes)
    with pytest.raises(WavelitError, match=f"two.hdf5: .*{message}"):
        train(well_folder)


def test_another_byte_order(well_folder):
    with h5py.File(well_folder / "data" / "train" / "two.hdf5", "r+") as file:
        item = file["t0_fields/pressure"]
        values, attributes = item[()], dict(item.attrs)
        del file["t0_fields/pressure"]
        file["t0_fields/pressure"] = values.astype(values.dtype.newbyteorder())
        file["t0_fields/pressure"].attrs.update(attributes)
    with pytest.raises(
        WavelitError, match=r"two\.hdf5: '/t0_fields/pressure' is stored in another byte order"
    ):
        train(well_folder)


def test_a_name_that_is_a_pattern(shared_well_folder, tmp_path):
    shutil.copytree(shared_well_folder, tmp_path / "waves[1]")
    with pytest.raises(WavelitError, match="which The Well's reader takes for a pattern"):
        train(tmp_path / "waves[1]")


def test_missing_dataset(well_folder):
    with h5py.File(well_folder / "data" / "train" / "two.hdf5", "r+") as file:
        del file["t1_fields/velocity"]
    with pytest.raises(WavelitError, match=r"two.hdf5: dataset '/t1_fields/velocity' is missing"):
        train(well_folder)


def test_unknown_boundary_type(well_folder):
    with h5py.File(well_folder / "data" / "train" / "two.hdf5", "r+") as file:
        file["boundary_conditions/y_wall"].attrs["bc_type"] = "SLIP"
    with pytest.raises(
        WavelitError, match="'y_wall' is of type 'slip'; one of wall, open, periodic"
    ):
        train(well_folder)


def test_files_must_agree(well_folder):
    write_file(well_folder / "data" / "train" / "two.hdf5", seed=1, resolution=(8, 7))
    with pytest.raises(
        WavelitError, match=r"two.hdf5: resolution is \(8, 7\) but \(8, 6\) in .*one.hdf5"
    ):
        train(well_folder)
    write_file(well_folder / "data" / "train" / "two.hdf5", seed=1)
    with h5py.File(well_folder / "data" / "train" / "two.hdf5", "r+") as file:
        file["t0_fields"].attrs["field_names"] = ["density", "mask", "depth"]
    with pytest.raises(
        WavelitError, match=r"two.hdf5: fields and scalars .* are not those of .*one.hdf5"
    ):
        train(well_folder)


def test_too_short_for_history_and_target(shared_well_folder):
    assert len(train(shared_well_folder, n_steps_input=4, n_steps_output=3)) == 4
    message = (
        "one.hdf5: 7 steps a trajectory, but a window of n_steps_input=4 and n_steps_output=4 "
        "needs 8"
    )
    with pytest.raises(WavelitError, match=message):
        train(shared_well_folder, n_steps_input=4, n_steps_output=4)
    for name in ("n_steps_input", "n_steps_output", "min_dt_stride"):
        for value in (0, np.array("text"), torch.zeros(2, dtype=torch.complex64)):
            with pytest.raises(WavelitError, match=f"{name} must be a whole number of at least 1"):
                train(shared_well_folder, **{name: value})


@pytest.mark.parametrize(
    ("step", "message"), [(-0.5, "runs backwards, from -0 to -3"), (np.nan, "is not finite")]
)
def test_a_time_that_does_not_increase_is_refused(well_folder, step, message):
    with h5py.File(well_folder / "data" / "valid" / "one.hdf5", "r+") as file:
        file["dimensions/time"][...] = step * np.arange(len(file["dimensions/time"]))
    train(well_folder)
    with pytest.raises(WavelitError, match=rf"valid/one.hdf5: 'time' {message}"):
        WellDataset(path=str(well_folder), well_split_name="valid")


def test_units_are_kept_and_what_is_no_text_is_none(well_folder):
    with h5py.File(well_folder / "data" / "train" / "one.hdf5", "r+") as file:
        file["t0_fields/density"].attrs["units"] = "kg m-3"
        file["t0_fields/pressure"].attrs["units"] = 3.0
        file["dimensions/time"].attrs["units"] = np.bytes_("s")
        file.attrs["split_in_time"] = [0.8, 0.1, 0.1]
    first, second = train(well_folder).layouts
    assert first.units == {"density": "kg m-3", "time": "s"}
    assert first.split_in_time
    assert not second.units
    assert not second.split_in_time


def test_files_declare_the_same_mask(well_folder):
    with h5py.File(well_folder / "data" / "train" / "two.hdf5", "r+") as file:
        file.attrs.update({"mask_field": "mask", "mask_excludes": 1.0})
    with pytest.raises(WavelitError, match=r"two.hdf5: mask is Mask\(field='mask'.* but None in"):
        train(well_folder)
