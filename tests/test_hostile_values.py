"""Damaged arrays, values, statistics, settings and addresses that no run should be built on:
each is named in one line.
"""

import os
import shutil

import fsspec
import h5py
import numpy as np
import pytest
import yaml
from the_well.data import WellDataset as TheWells
from torch.utils.data import DataLoader

from hostile import PRESSURE, refused, replace, spoilt, train
from wavelit.data.checking.check import check_dataset
from wavelit.data.datamodule import WellDataModule
from wavelit.data.format import handles
from wavelit.data.format.folder import find_files
from wavelit.data.format.hdf5 import UnfitError, has
from wavelit.data.statistics import compute_statistics, load_statistics, write_statistics
from wavelit.data.well import WellDataset
from wavelit.data.writing.write import write_dataset
from wavelit.errors import WavelitError

# --- damage


def damage(folder, item=PRESSURE):
    """Spoil the first compressed chunk of an array."""
    path = folder / "data" / "train" / "two.hdf5"
    with h5py.File(path, "r+") as file:
        replace(
            file, item, data=file[item][()], chunks=(1, *file[item].shape[1:]), compression="gzip"
        )
        place = file[item].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place : place + 8] = b"\xff" * 8
    path.write_bytes(content)


def test_a_damaged_chunk_of_a_field(well_folder):
    damage(well_folder)
    message = r"two\.hdf5: field 'pressure' cannot be read \(.*\); download or write the file again"
    for options in ({}, {"cache_bytes": 2**30}):
        dataset = train(well_folder, **options)
        with pytest.raises(WavelitError, match=message):
            dataset.collate(dataset.__getitems__([11, 14]))
        loader = DataLoader(dataset, batch_size=20, collate_fn=dataset.collate, num_workers=1)
        # As the command line looks for it.
        with pytest.raises(
            WavelitError, match=rf"(?s)^Caught WavelitError in DataLoader worker.*{message}"
        ):
            list(loader)
    with pytest.raises(WavelitError, match=message):
        compute_statistics(str(well_folder))
    (finding,) = [f for f in check_dataset(str(well_folder)) if f.severity == "error"]
    assert finding.message.startswith("field 'pressure' cannot be read (")


@pytest.mark.parametrize(
    "item", ["scalars/a", "dimensions/time", "boundary_conditions/y_wall/mask"]
)
def test_a_damaged_chunk_of_what_is_read_first(well_folder, item):
    with spoilt(well_folder) as file:
        replace(file, item, data=file[item][()], chunks=file[item].shape, compression="gzip")
        place = file[item].id.get_chunk_info(0).byte_offset
    path = well_folder / "data" / "train" / "two.hdf5"
    content = bytearray(path.read_bytes())
    content[place : place + 8] = b"\xff" * 8
    path.write_bytes(content)
    refused(well_folder, f"'({item.split('/')[-1]}|/{item})'.* cannot be read")


def test_a_filter_that_is_not_installed(well_folder):
    with spoilt(well_folder) as file:
        attributes, shape = dict(file[PRESSURE].attrs), file[PRESSURE].shape
        del file[PRESSURE]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk(shape)
        plist.set_filter(32099, h5py.h5z.FLAG_OPTIONAL)
        space, kind = h5py.h5s.create_simple(shape), h5py.h5t.NATIVE_FLOAT
        h5py.h5d.create(file["t0_fields"].id, b"pressure", kind, space, plist)
        file[PRESSURE].attrs.update(attributes)
    refused(
        well_folder,
        "'/t0_fields/pressure' is compressed by filter 32099 .*, which is not installed",
    )


# --- values


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([6, 5, 4, 3, 2, 1, 0], "runs backwards, from 6 to 0"),
        ([0, 0, 0, 0, 0, 0, 0], "is 0 at all its 7 points"),
        ([0, 1, np.nan, 3, 4, 5, 6], "is not finite at point 2"),
        ([0, 1, 3, 2, 4, 5, 6], "goes back from 3 to 2 at point 3"),
        ([0, 1, 2, 2, 3, 4, 5], "repeats 2 at point 3"),
    ],
)
def test_coordinates_that_do_not_increase(well_folder, line, message):
    for name in ("time", "x"):
        folder = well_folder.parent / name
        shutil.copytree(well_folder, folder)
        with spoilt(folder) as file:
            file["dimensions"][name][:7] = line
            if name == "x":
                file["dimensions"][name][7] = (
                    line[-1] - 1 if "back" in message and line[0] else line[-1] + (line[-1] > 0)
                )
        errors = [f.message for f in check_dataset(str(folder)) if f.severity == "error"]
        assert len(errors) == 1
        assert errors[0].startswith(
            f"'{name}' {message.split(',')[0].replace('7', '7' if name == 'time' else '8')}"
        )


def test_a_value_beyond_float32(well_folder):
    with spoilt(well_folder) as file:
        values = file[PRESSURE][()].astype("f8")
        values[1, 2, 3, 4] = -1e300
        replace(file, PRESSURE, data=values)
    dataset = train(well_folder, n_steps_input=4)
    where = r"two\.hdf5: field 'pressure' is -1e\+300 in trajectory 1 at step 2"
    message = rf"{where}, beyond float32; choose units"
    with pytest.raises(WavelitError, match=message):
        dataset.collate(dataset.__getitems__([0, 9]))
    with pytest.raises(WavelitError, match=r"field 'pressure' reaches 1e\+300, beyond float32"):
        compute_statistics(str(well_folder))
    (finding,) = [f for f in check_dataset(str(well_folder)) if f.severity == "error"]
    assert finding.message.startswith(
        "field 'pressure' of trajectory 1 reaches -1e+300, beyond float32; choose units"
    )


@pytest.mark.parametrize("value", [1e300, 1e-60])
def test_a_scalar_beyond_float32(well_folder, value):
    with spoilt(well_folder) as file:
        replace(file, "scalars/a", data=np.array([1.0, value]))
    message = f"scalar 'a' of trajectory 1 is {value:g}, beyond float32; choose units"
    with pytest.raises(WavelitError, match=message.replace("+", r"\+")):
        load_statistics(str(well_folder), train(well_folder).layouts)
    assert [
        f.message[: len(message)] for f in check_dataset(str(well_folder)) if f.severity == "error"
    ] == [message]


def test_whole_numbers_that_float32_rounds(well_folder):
    with spoilt(well_folder) as file:
        values = (1000 * file[PRESSURE][()]).astype("i4")
        replace(file, PRESSURE, data=values)
    write_statistics(str(well_folder))
    assert [f for f in check_dataset(str(well_folder)) if "whole numbers" in f.message] == []
    with spoilt(well_folder) as file:
        file[PRESSURE][0, 0, 0, 0] = 2**24 + 1
    write_statistics(str(well_folder))
    (finding,) = [f for f in check_dataset(str(well_folder)) if "whole numbers" in f.message]
    assert finding.severity == "warning"
    assert (
        "'pressure' of trajectory 0 has whole numbers, such as 16777217, that float32 rounds"
        in finding.message
    )


@pytest.mark.parametrize(
    ("n", "parts"),
    [
        (97, ["no model halves it; resample it, say to 96"]),
        (98, ["built with levels=1", "say to 96"]),
        (96, None),
    ],
)
def test_a_period_that_no_preset_divides(tmp_path, n, parts):
    x, t = np.arange(n), np.arange(8)[:, None]
    u = np.sin(2 * np.pi * x / n + np.arange(3)[:, None, None] - 0.3 * t)
    splits = {"train": 1, "valid": 1, "test": 1}
    write_dataset(
        tmp_path / "d", {"u": u}, splits=splits, name="w", boundary_conditions=["periodic"]
    )
    found = check_dataset(str(tmp_path / "d"))
    assert len(found) == (parts is not None)
    for finding in found:
        assert finding.severity == "warning"
        assert f"axis 'x' is periodic with {n} points, which no preset divides" in finding.message
        assert all(part in finding.message for part in parts)


def test_a_grid_that_is_not_cartesian_is_said(well_folder):
    for path in well_folder.glob("data/*/*.hdf5"):
        with h5py.File(path, "r+") as file:
            file.attrs["grid_type"] = "equiangular"
    (finding,) = [f for f in check_dataset(str(well_folder)) if "grid_type" in f.message]
    assert finding.severity == "warning"
    assert "interpolate onto a Cartesian grid" in finding.message
    data = WellDataModule(str(well_folder), 4)
    with pytest.warns(UserWarning, match="grid_type is 'equiangular'"):
        len(data.train_dataset)


# --- statistics


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"mean: \xe4", "byte 6 is not UTF-8"),
        (b"a: &a [1]\nb: [*a" + b", *a" * 99_999 + b"]", "more than 100000 entries"),
        (b"#" * (16 * 1024**2 + 1), "larger than 16777216 bytes"),
        (b"[1, 2]", "no number or list 'mean' of field 'density'"),
        (b"12", "no number or list 'mean' of field 'density'"),
        (b"", "no number or list 'mean' of field 'density'"),
        (b"mean: {density: 1" + b"0" * 400 + b"}", "a whole number of 401 digits"),
        (b"mean: {density: [", "not a YAML file"),
        (b"mean: !!python/name:os.system", "not a YAML file"),
    ],
)
def test_statistics_that_are_none(well_folder, content, message):
    (well_folder / "stats.yaml").write_bytes(content)
    with pytest.raises(WavelitError, match=message) as caught:
        load_statistics(str(well_folder), train(well_folder).layouts)
    assert "\n" not in str(caught.value)
    assert any(message in f.message for f in check_dataset(str(well_folder)))


@pytest.mark.parametrize(
    ("key", "field", "value", "message"),
    [
        ("std", "mask", -1.0, "'std' of field 'mask' is -1, which no spread is"),
        ("std", "pressure", -1.0, "'std' of field 'pressure' is -1, which no spread is"),
        ("mean", "pressure", 1e300, r"'mean' of field 'pressure' is 1e\+300, beyond float32"),
        ("std_delta", "pressure", 1e-60, "'std_delta' of field 'pressure' is 1e-60, below float32"),
        ("std", "pressure", float("inf"), "'std' of field 'pressure' is not finite"),
    ],
)
def test_statistics_of_no_data(well_folder, key, field, value, message):
    file = well_folder / "stats.yaml"
    table = yaml.safe_load(file.read_text())
    table[key][field] = value
    file.write_text(yaml.safe_dump(table))
    with pytest.raises(WavelitError, match=message):
        load_statistics(str(well_folder), train(well_folder).layouts)


def test_statistics_in_a_pipe(well_folder):
    (well_folder / "stats.yaml").unlink()
    os.mkfifo(well_folder / "stats.yaml")
    with pytest.raises(WavelitError, match=r"stats\.yaml: not a regular file"):
        load_statistics(str(well_folder), train(well_folder).layouts)


# --- settings and addresses


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_steps_input", 0, "n_steps_input must be a whole number from 1 to "),
        ("n_steps_output", -1, "n_steps_output must be a whole number from 1 to "),
        ("batch_size", 0, "batch_size must be a whole number from 1 to "),
        ("batch_size", 2.5, "batch_size must be a whole number from 1 to 2147483647, not 2.5"),
        ("batch_size", True, "batch_size must be a whole number from 1 to 2147483647, not True"),
        ("n_workers", -1, "n_workers must be a whole number from 0 to 256, not -1"),
        ("n_workers", 10**6, "n_workers must be a whole number from 0 to 256, not 1000000"),
        ("cache_bytes", -1, "cache_bytes must be a whole number from 0 to "),
        ("seed", 2**63, "seed must be a whole number from 0 to 9223372036854775807"),
        ("mask_field", 3, "mask_field must be the name of a field, not 3"),
        ("mask_excludes", float("nan"), "mask_excludes must be a number, not nan"),
        ("storage_options", [1], "storage_options must be a dict"),
        ("storage_options", {1: 2}, "storage_options has the key 1; names are due"),
        (
            "storage_options",
            {"a": {"b": [print]}},
            r"storage_options\.a\.b\[0\] is a builtin_function_or_method",
        ),
        (
            "storage_options",
            {"target_protocol": "reference"},
            "the protocol 'reference' reads files elsewhere",
        ),
    ],
)
def test_settings_out_of_bounds(shared_well_folder, name, value, message):
    with pytest.raises(WavelitError, match=message):
        WellDataModule(str(shared_well_folder), **{name: value})


@pytest.mark.parametrize(
    "address", ["reference://d", "simplecache::reference://d", "REFERENCE::file:///d"]
)
def test_a_filesystem_that_reads_elsewhere(address):
    with pytest.raises(WavelitError, match="the protocol 'reference' reads files elsewhere"):
        find_files(address)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/d", "s3://bucket/d", "http://[", "nosuch::memory://d"]
)
def test_an_address_that_cannot_be_reached(address, monkeypatch):
    with pytest.raises(WavelitError) as caught:
        find_files(address)
    assert str(caught.value).startswith(f"{address}: ")
    assert "\n" not in str(caught.value)


def test_an_address_that_fails_while_it_is_read(shared_well_folder, monkeypatch):
    fs = fsspec.filesystem("memory")
    fs.put(str(shared_well_folder), "/failing", recursive=True)
    dataset = WellDataset("memory://failing", well_split_name="train")

    def fail(*_, **__):
        raise ConnectionResetError("the other side hung up")

    monkeypatch.setattr(type(fs), "open", fail)
    with pytest.raises(
        WavelitError, match=r"one\.hdf5: cannot be reached \(the other side hung up\)"
    ):
        dataset[0]
    with pytest.raises(
        WavelitError, match=r"stats\.yaml: cannot be reached \(the other side hung up\)"
    ):
        load_statistics("memory://failing", dataset.layouts)
    monkeypatch.undo()
    fs.rm("/failing", recursive=True)


def test_a_batch_that_memory_cannot_hold(shared_well_folder):
    dataset = train(shared_well_folder)
    dataset.size_tuple = (2**40, 2**20)
    with pytest.raises(WavelitError, match="more memory than there is; lower batch_size"):
        dataset.__getitems__([0])


def test_reading_by_another_librarys_hand(well_folder, monkeypatch):
    # The Well's code looks its names up in what is handed to it; what h5py would say there has a
    # name, too.
    dataset = train(well_folder)
    node = dataset.node(0)[handles.ORDERS[0]]["pressure"]
    assert np.array_equal(node[0, 1], h5py.File(dataset.files_paths[0])[PRESSURE][0, 1])
    with pytest.raises(WavelitError, match=r"one\.hdf5: field 'pressure' cannot be read"):
        node[5]
    theirs = TheWells(path=str(well_folder), well_split_name="train")
    assert dataset.metadata.field_names == theirs.metadata.field_names


def test_an_attribute_whose_presence_hdf5_cannot_tell_is_named():
    class Damaged:
        @property
        def attrs(self):
            raise RuntimeError("Can't determine if attribute exists")

    with pytest.raises(UnfitError, match="root attribute 'mask_field' cannot be read"):
        has(Damaged(), "mask_field", "root attribute 'mask_field'")
