"""Files of a dataset, spoilt, and what reading and checking must say of them."""

import h5py
import pytest

from wavelit.data.checking.check import check_dataset
from wavelit.data.well import WellDataset
from wavelit.errors import WavelitError

PRESSURE = "t0_fields/pressure"


def spoilt(folder):
    return h5py.File(folder / "data" / "train" / "two.hdf5", "r+")


def train(folder, **options):
    return WellDataset(str(folder), well_split_name="train", **options)


def replace(file, item, **options):
    """Store an array in another way, its attributes as they were."""
    attributes = dict(file[item].attrs)
    if "data" not in options and "shape" not in options:
        options["data"] = file[item][()]
    del file[item]
    file.create_dataset(item, **options)
    for name, value in attributes.items():
        file[item].attrs[name] = value


def refused(folder, message):
    """Reading and checking refuse the file, in one line."""
    with pytest.raises(WavelitError, match=message) as caught:
        train(folder)
    assert "two.hdf5: " in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
    errors = [
        f
        for f in check_dataset(str(folder))
        if f.severity == "error" and f.file.endswith("two.hdf5")
    ]
    assert errors
    assert all(finding.message.isprintable() for finding in errors)
