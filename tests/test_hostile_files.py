"""Files that others wrote, or meant ill: what can be read is read right, everything else is one
line with file and field.
"""

import h5py
import numpy as np
import pytest
import torch

from hostile import PRESSURE, refused, replace, spoilt, train
from wavelit.data.checking.check import check_dataset
from wavelit.data.checking.describe import describe_dataset
from wavelit.data.datamodule import WellDataModule
from wavelit.data.statistics import compute_statistics
from wavelit.errors import WavelitError


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


# --- sizes
