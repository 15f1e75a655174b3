"""Files that others wrote, or meant ill: what can be read is read right, everything else is one
line with file and field.
"""

import os

import h5py
import numpy as np
import pytest
import torch

from wavelit.data.checking.check import check_dataset
from wavelit.data.checking.describe import describe_dataset
from wavelit.data.datamodule import WellDataModule
from wavelit.data.statistics import compute_statistics
from wavelit.data.well import WellDataset
from wavelit.data.writing.write import write_dataset
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


def test_every_way_in(well_folder):
    with spoilt(well_folder) as file:
        replace(file, PRESSURE, shape=(2, 7, 8, 6), dtype="c8")
    refused(well_folder, "complex numbers")
    for way in (
        describe_dataset,
        compute_statistics,
        lambda path: WellDataModule(path).train_dataloader(),
    ):
        with pytest.raises(
            WavelitError, match=r"two\.hdf5: '/t0_fields/pressure' holds complex numbers"
        ):
            way(str(well_folder))


@pytest.mark.parametrize("dtype", ["u2", "i4", "f8"])
def test_coordinates_of_other_types(well_folder, dtype):
    for name in ("time", "x"):
        with spoilt(well_folder) as file:
            replace(
                file,
                f"dimensions/{name}",
                data=np.arange(8)[: len(file["dimensions"][name])].astype(dtype),
            )
    dataset = train(well_folder)
    sample = dataset[len(dataset) - 1]
    assert sample["output_time_grid"].tolist() == [1]
    assert sample["space_grid"][:, 0, 0].tolist() == list(range(8))


# --- text and numbers of other writers


def as_bytes(value):
    return np.array([str(entry).encode() for entry in np.atleast_1d(value)])


@pytest.mark.parametrize("form", ["bytes", "padded", "single"])
def test_text_of_a_fixed_length(well_folder, form):
    expected = [train(well_folder)[i] for i in range(6)]
    for path in (well_folder / "data").rglob("*.hdf5"):
        with h5py.File(path, "r+") as file:

            def store(item, name, form=form):
                value = (
                    as_bytes(item.attrs[name]) if np.size(item.attrs[name]) else np.array([], "S1")
                )
                del item.attrs[name]
                if form == "padded" and value.size:
                    kind = h5py.h5t.C_S1.copy()
                    kind.set_size(value.dtype.itemsize + 5)
                    kind.set_strpad(h5py.h5t.STR_SPACEPAD)
                    space = h5py.h5s.create_simple(value.shape)
                    attribute = h5py.h5a.create(item.id, name.encode(), kind, space)
                    attribute.write(value.astype(f"S{value.dtype.itemsize + 5}"))
                elif form == "single" and value.size == 1:
                    item.attrs[name] = np.bytes_(value[0])
                else:
                    item.attrs[name] = value

            for group in ("t0_fields", "t1_fields", "t2_fields", "scalars"):
                store(file[group], "field_names")
            store(file["dimensions"], "spatial_dims")
            for name in ("dataset_name", "grid_type"):
                store(file, name)
            for boundary in file["boundary_conditions"].values():
                store(boundary, "bc_type")
                store(boundary, "associated_dims")
    dataset = train(well_folder)
    for index, due in enumerate(expected):
        for key, x in due.items():
            assert torch.equal(dataset[index][key], x)
    metadata = dataset.metadata
    assert metadata.dataset_name == "synthetic"
    assert metadata.grid_type == "cartesian"
    assert metadata.field_names[0] == ["density", "pressure"]
    assert metadata.boundary_condition_types == ["PERIODIC", "WALL"]
    texts = [
        metadata.dataset_name,
        metadata.grid_type,
        *metadata.scalar_names,
        *dataset.field_channels,
    ]
    assert all(type(text) is str for text in texts)
    assert check_dataset(str(well_folder)) == []
    assert describe_dataset(str(well_folder)).name == "synthetic"


def test_numbers_as_others_store_them(well_folder):
    due = train(well_folder)[15]
    with spoilt(well_folder) as file:
        file.attrs["n_spatial_dims"] = np.array([2.0])
        file.attrs["n_trajectories"] = np.array([2], "u1")
        file[PRESSURE].attrs["sample_varying"] = np.array([1], "i8")
        file[PRESSURE].attrs["time_varying"] = 1.0
        file[PRESSURE].attrs["dim_varying"] = np.array([1, 1], "i4")
    for key, x in train(well_folder)[15].items():
        assert torch.equal(x, due[key])


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float64"]
)
@pytest.mark.parametrize("cache_bytes", [0, 2**30])
def test_types_that_are_numbers(well_folder, dtype, cache_bytes):
    with spoilt(well_folder) as file:
        replace(file, PRESSURE, data=np.abs(file[PRESSURE][()]).astype(dtype))
        due = file[PRESSURE][1, :5].astype(np.float32)
    dataset = train(well_folder, n_steps_input=4, cache_bytes=cache_bytes)
    batch = dataset.collate(dataset.__getitems__([0, 9]))
    assert np.array_equal(torch.cat([batch.fields, batch.target], 1)[1, :, 1], due)


@pytest.mark.parametrize(
    "value", [["a", "b"], "True", np.nan, -1, 2, np.zeros(0), 1 + 2j, h5py.Empty("f4")], ids=repr
)
@pytest.mark.parametrize("name", ["sample_varying", "time_varying", "dim_varying"])
def test_flags_that_are_none(well_folder, name, value):
    with spoilt(well_folder) as file:
        file[PRESSURE].attrs[name] = value
    refused(well_folder, f"'{name}' of ('/t0_fields/pressure'|field 'pressure')")


@pytest.mark.parametrize(
    "value",
    [np.array([2, 2]), "2", np.nan, np.inf, -1, 0, 0.5, 2**62, 1e300, 1 + 2j, h5py.Empty("f4")],
    ids=repr,
)
@pytest.mark.parametrize("name", ["n_spatial_dims", "n_trajectories"])
def test_counts_that_are_none(well_folder, name, value):
    with spoilt(well_folder) as file:
        file.attrs[name] = value
    refused(well_folder, f"root attribute '{name}'")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["pressure", "pressure"], "lists 'pressure' twice"),
        (["../scalars/nu"], "which is a path"),
        (["."], "which is a path"),
        ([""], "is empty"),
        (["a" * 201], "has 201 characters"),
        (["\x1b[31mred"], r"'\\x1b\[31mred', has control characters"),
        (["a\nb"], r"'a\\nb', has control characters"),
        (np.array([b"\xff\xfe"]), "is not UTF-8"),
        ([["a"], ["b"]], "text is due"),
        ([1.0], "text is due"),
        (["velocity"], "dataset '/t0_fields/velocity' is missing"),
    ],
)
def test_names_that_are_none(well_folder, value, message):
    with spoilt(well_folder) as file:
        file["t0_fields"].attrs["field_names"] = value
    refused(well_folder, message)


def test_one_name_for_two_fields(well_folder):
    with spoilt(well_folder) as file:
        file.copy("t1_fields/velocity", "t1_fields/pressure")
        file["t1_fields"].attrs["field_names"] = ["velocity", "forcing", "pressure"]
    refused(well_folder, "field 'pressure' is both in 't0_fields' and in 't1_fields'")


def test_a_scalar_may_be_called_as_a_field(well_folder):
    for path in (well_folder / "data").rglob("*.hdf5"):
        with h5py.File(path, "r+") as file:
            file.move("scalars/b", "scalars/depth")
            file["scalars"].attrs["field_names"] = ["nu", "a", "depth"]
            replace(file, PRESSURE, data=file[PRESSURE][()].astype("f8"))
    dataset = train(well_folder)
    for _ in range(2):
        assert dataset[0]["constant_scalars"][2] == 2.5
        assert dataset[0]["constant_fields"][..., 1].std() > 0


# --- what is due to be an array


@pytest.mark.parametrize(
    ("item", "named"),
    [
        (PRESSURE, "'/t0_fields/pressure'"),
        ("t0_fields/depth", "'/t0_fields/depth'"),
        ("scalars/a", "'/scalars/a'"),
        ("dimensions/time", "'/dimensions/time'"),
        ("dimensions/x", "'/dimensions/x'"),
        ("boundary_conditions/y_wall/mask", "'mask' of boundary condition 'y_wall'"),
    ],
)
@pytest.mark.parametrize(
    "dtype",
    [
        "S4",
        h5py.string_dtype(),
        h5py.vlen_dtype("f4"),
        np.dtype([("a", "f4"), ("b", "f4")]),
        h5py.ref_dtype,
        h5py.enum_dtype({"A": 1, "B": 2}, "i1"),
        np.longdouble,
        "c8",
        "group",
        "empty",
    ],
    ids=str,
)
def test_arrays_of_no_real_numbers(well_folder, item, named, dtype):
    with spoilt(well_folder) as file:
        if dtype == "group":
            del file[item]
            file.create_group(item)
        elif dtype == "empty":
            replace(file, item, data=h5py.Empty("f4"))
        else:
            replace(file, item, shape=file[item].shape, dtype=dtype)
    message = {
        "c8": "complex numbers, .* split it in two",
        "group": "not a dataset",
        "empty": "is empty",
    }
    refused(well_folder, f"{named} .*{message.get(str(dtype), 'not of real numbers')}")


@pytest.mark.parametrize(
    "group",
    ["t0_fields", "scalars", "dimensions", "boundary_conditions", "boundary_conditions/y_wall"],
)
def test_arrays_where_groups_are_due(well_folder, group):
    with spoilt(well_folder) as file:
        del file[group]
        file[group] = np.zeros(3)
    refused(well_folder, f"'{group.rsplit('/', 1)[-1]}' is not a group")


@pytest.mark.parametrize("shape", [(0,), (5,), (7,), (8, 6), (2 * 10**10,)])
def test_a_mask_of_another_length_than_its_axis(well_folder, shape):
    with spoilt(well_folder) as file:
        chunks = (1024,) if shape[0] > 100 else None
        replace(file, "boundary_conditions/y_wall/mask", shape=shape, dtype=bool, chunks=chunks)
    refused(well_folder, "'mask' of boundary condition 'y_wall' has")


def test_a_mask_of_other_values_than_true_and_false(well_folder):
    with spoilt(well_folder) as file:
        replace(file, "boundary_conditions/y_wall/mask", data=np.full(6, np.nan))
    refused(well_folder, "'mask' of boundary condition 'y_wall' has values other than 0 and 1")


# --- links and places outside the file


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
def test_entries_that_are_no_files(well_folder, kind):
    path = well_folder / "data" / "train" / "two.hdf5"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        import socket

        os.chdir(path.parent)
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


# --- sizes


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
