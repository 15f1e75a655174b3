"""Storage that others chose, or meant ill: links, other files, sizes that are not there."""

import os

import h5py
import numpy as np
import pytest
import torch

from hostile import PRESSURE, refused, replace, spoilt, train
from wavelit.data.checking.check import check_dataset
from wavelit.data.checking.describe import describe_dataset
from wavelit.data.datamodule import WellDataModule
from wavelit.data.statistics import compute_statistics
from wavelit.data.writing.write import write_dataset
from wavelit.errors import WavelitError


@pytest.mark.parametrize(
    "item", [PRESSURE, "scalars/a", "dimensions/time", "t1_fields", "boundary_conditions/y_wall"]
)
def test_nothing_outside_the_file_is_opened(well_folder, item, tmp_path):
    # Whoever opens it waits for ever.
    os.mkfifo(tmp_path / "pipe")
    for number, link in enumerate(
        (
            h5py.ExternalLink(str(tmp_path / "pipe"), "/u"),
            h5py.SoftLink("/far/u"),
            h5py.SoftLink(f"/{item}"),
            h5py.SoftLink("/no"),
        )
    ):
        with spoilt(well_folder) as file:
            if number == 1:
                file["far"] = h5py.ExternalLink(str(tmp_path / "pipe"), "/")
            del file[item]
            file[item] = link
        refused(
            well_folder,
            ("link to another file", "link to another file", "loop of links", "link to nothing")[
                number
            ],
        )


def test_links_within_the_file(well_folder):
    due = train(well_folder)[15]
    with spoilt(well_folder) as file:
        file.move("t0_fields", "elsewhere")
        file["t0_fields"] = h5py.SoftLink("elsewhere")
        file.move("elsewhere/pressure", "p")
        file["q"] = h5py.SoftLink("./p")
        file["elsewhere/pressure"] = h5py.SoftLink("/q")
        file["nothing of it"] = h5py.SoftLink("/nothing")
    for key, x in train(well_folder)[15].items():
        assert torch.equal(x, due[key])


@pytest.mark.parametrize("kind", ["virtual", "external"])
def test_arrays_stored_elsewhere(well_folder, tmp_path, kind):
    shape = (2, 7, 8, 6)
    (tmp_path / "raw").write_bytes(bytes(4 * 2 * 7 * 8 * 6))
    with spoilt(well_folder) as file:
        attributes = dict(file[PRESSURE].attrs)
        del file[PRESSURE]
        if kind == "virtual":
            place = h5py.VirtualLayout(shape, "f4")
            place[...] = h5py.VirtualSource(str(tmp_path / "other.h5"), "u", shape=shape)
            file.create_virtual_dataset(PRESSURE, place)
        else:
            file.create_dataset(
                PRESSURE, shape, "f4", external=[(str(tmp_path / "raw"), 0, 4 * 2 * 7 * 8 * 6)]
            )
        file[PRESSURE].attrs.update(attributes)
    refused(well_folder, "'/t0_fields/pressure' lies in other files, which are not read")


def test_files_may_be_links(well_folder):
    due = train(well_folder)[15]
    path = well_folder / "data" / "train" / "two.hdf5"
    path.rename(well_folder / "two")
    path.symlink_to(well_folder / "two")
    assert torch.equal(train(well_folder)[15]["input_fields"], due["input_fields"])


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "link"])
def test_entries_that_are_no_files(well_folder, kind, monkeypatch):
    path = well_folder / "data" / "train" / "two.hdf5"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        import socket

        # The name of a socket must be short.
        monkeypatch.chdir(path.parent)
        socket.socket(socket.AF_UNIX).bind(path.name)
    else:
        path.symlink_to(path.name)
    refused(well_folder, "not a regular file|cannot open this file")


def test_names_of_files_are_fit_to_be_printed(well_folder):
    path = well_folder / "data" / "train" / "two.hdf5"
    path.rename(path.with_name("a\x1b[31m\n.hdf5"))
    with pytest.raises(
        WavelitError, match=r"train: the name of 'a\\x1b\[31m\\n.hdf5' has control characters"
    ):
        train(well_folder)


@pytest.mark.parametrize("cache_bytes", [0, 2**30])
def test_what_is_not_declared_is_not_read(well_folder, cache_bytes, monkeypatch):
    due = train(well_folder)[15]
    with spoilt(well_folder) as file:
        for place in (
            "notes",
            "t0_fields/notes",
            "dimensions/notes",
            "boundary_conditions/y_wall/notes",
        ):
            file.create_dataset(place, (10**12,), "u1", chunks=(2**20,), compression="gzip")
        file["damaged"] = h5py.ExternalLink("nowhere", "/u")
    found = train(well_folder, cache_bytes=cache_bytes)[15]
    assert all(torch.equal(found[key], x) for key, x in due.items())


def test_masks_are_not_read_for_training(well_folder, monkeypatch):
    data = WellDataModule(str(well_folder), batch_size=2)
    next(iter(data.train_dataloader()))
    assert data.train_dataset.node(0)["boundary_conditions"].keys() == []


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("dimensions/x", "'/dimensions/x' has 20000000000 points; from 1 to 16777216 are due"),
        ("dimensions/time", "'/dimensions/time' has 20000000000 points"),
        ("scalars/a", r"scalar 'a' has shape \(20000000000,\)"),
    ],
)
def test_lengths_are_compared_before_anything_is_read(well_folder, item, message):
    with spoilt(well_folder) as file:
        replace(file, item, shape=(2 * 10**10,), dtype="f4", chunks=(1024,))
    refused(well_folder, message)


def test_trajectories_that_nothing_could_count(well_folder):
    with spoilt(well_folder) as file:
        file.attrs["n_trajectories"] = 10**9
        replace(file, "scalars/a", shape=(10**9,), dtype="f8", chunks=(1024,))
    refused(
        well_folder,
        "'n_trajectories' is 1000000000, and 1048576 is the most; spread them over several files",
    )


def test_an_axis_that_no_field_has(well_folder):
    with spoilt(well_folder) as file:
        file.attrs["n_spatial_dims"] = 3
        file["dimensions"].attrs["spatial_dims"] = ["x", "y", "z"]
        file.copy("dimensions/x", "dimensions/z")
        for group in ("t1_fields", "t2_fields"):
            file[group].attrs["field_names"] = []
        for name in ("density", "mask", "pressure", "depth"):
            varying = file["t0_fields"][name].attrs["dim_varying"]
            file["t0_fields"][name].attrs["dim_varying"] = [*varying, False]
    refused(well_folder, "no field varies along axis 'z' of 8 points")


def test_chunks_larger_than_all_there_is(well_folder):
    with spoilt(well_folder) as file:
        shape = (2, 7, 8, 6)
        options = {"chunks": (2, 7, 8, 2**22), "maxshape": (2, 7, 8, None), "compression": "gzip"}
        replace(file, PRESSURE, shape=shape, dtype="f4", **options)
    refused(
        well_folder, "'/t0_fields/pressure' is stored in chunks of 1879048192 bytes but holds 2688"
    )


@pytest.mark.parametrize(("what", "n"), [("n_trajectories", 0), ("x", 0), ("time", 0)])
def test_nothing_at_all(well_folder, what, n):
    with spoilt(well_folder) as file:
        if what == "n_trajectories":
            file.attrs[what] = n
        else:
            replace(file, f"dimensions/{what}", shape=(n,), dtype="f4")
    refused(
        well_folder,
        "is 0; a whole number from 1 on is due" if what == "n_trajectories" else "has 0 points",
    )


@pytest.mark.parametrize("chunks", [None, True])
def test_a_field_that_was_never_written(tmp_path, chunks):
    u = np.random.default_rng(0).normal(size=(6, 12, 16))
    splits = {"train": 4, "valid": 1, "test": 1}
    folder = write_dataset(
        tmp_path / "toy", {"u": u}, splits=splits, name="toy", boundary_conditions=["periodic"]
    )
    n = 50_000
    with h5py.File(folder / "data" / "train" / "toy.hdf5", "r+") as file:
        replace(file, "dimensions/time", data=np.arange(n, dtype="f4"))
        replace(file, "t0_fields/u", shape=(4, n, 16), dtype="f4", chunks=chunks)
    for way in (train, describe_dataset, compute_statistics):
        with pytest.raises(WavelitError, match=r"toy\.hdf5: field 'u' declares 12800000 bytes"):
            way(str(folder))
    errors = [finding for finding in check_dataset(folder) if finding.severity == "error"]
    assert any("holds none: write its values" in finding.message for finding in errors)
    # Compressed fields take less than they declare, too.
    with h5py.File(folder / "data" / "train" / "toy.hdf5", "r+") as file:
        replace(file, "t0_fields/u", data=np.zeros((4, n, 16), "f4"), compression="gzip")
    assert len(train(str(folder), n_steps_input=4)) > 0
