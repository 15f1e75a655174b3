"""The reader against The Well's own, its batches, and the named error of every bad file."""

import multiprocessing
import os
import pickle
import shutil

import fsspec
import h5py
import numpy as np
import pytest
import torch
from pytorch_lightning.utilities import move_data_to_device
from the_well.data import WellDataset as TheWells
from the_well.data.normalization import ZScoreNormalization
from torch.utils.data import DataLoader

from conftest import write_dataset, write_file
from hostile import train
from wavelit.data.batch import Batch
from wavelit.data.datamodule import WellDataModule, boundary_conditions
from wavelit.data.format import handles
from wavelit.data.well import WellDataset
from wavelit.errors import WavelitError


def assert_same_samples(ours, theirs):
    assert len(ours) == len(theirs)
    for index in range(len(theirs)):
        a, b = ours[index], theirs[index]
        assert a.keys() == b.keys()
        for key in b:
            assert a[key].dtype == b[key].dtype
            assert torch.equal(a[key], b[key]), (index, key)


@pytest.fixture
def in_memory_filesystem(shared_well_folder):
    """The address of a copy of the dataset on fsspec's memory filesystem."""
    fs = fsspec.filesystem("memory")
    fs.put(str(shared_well_folder), "/copy", recursive=True)
    yield "memory://copy"
    fs.rm("/copy", recursive=True)


# --- samples


@pytest.mark.parametrize("cache_bytes", [0, 2**30])
@pytest.mark.parametrize(
    "options",
    [
        {"n_steps_input": 4, "n_steps_output": 1},
        {"n_steps_input": 2, "n_steps_output": 3, "min_dt_stride": 1},
        {"n_steps_input": 2, "n_steps_output": 1, "min_dt_stride": 2, "max_dt_stride": 2},
        {"n_steps_input": 2, "full_trajectory_mode": True},
        {"n_steps_input": 2, "full_trajectory_mode": True, "start_output_steps_at_t": 4},
        {"n_steps_input": 1, "boundary_return_type": None, "return_grid": False},
        {"restrict_num_samples": 5, "restriction_seed": 1},
        {"include_filters": ["two"]},
    ],
    ids=str,
)
def test_samples_are_the_wells(shared_well_folder, options, cache_bytes):
    where = {"path": str(shared_well_folder), "well_split_name": "train", **options}
    assert_same_samples(WellDataset(**where, cache_bytes=cache_bytes), TheWells(**where))


@pytest.mark.parametrize("resolution", [(9,), (4, 5, 6)])
def test_samples_are_the_wells_in_1d_and_3d(tmp_path, resolution):
    folder = str(write_dataset(tmp_path, resolution=resolution, vary_scalar_in_time=True))
    where = {"path": folder, "well_split_name": "train", "n_steps_input": 2}
    assert_same_samples(WellDataset(**where), TheWells(**where))


def test_trajectories_of_different_length(tmp_path):
    write_file(tmp_path / "a.hdf5", seed=0, n_steps=6, n_trajectories=3)
    write_file(tmp_path / "b.h5", seed=1, n_steps=9, n_trajectories=1)
    assert_same_samples(
        WellDataset(str(tmp_path), n_steps_input=3), TheWells(path=str(tmp_path), n_steps_input=3)
    )


@pytest.mark.parametrize(
    "storage", [{"chunks": True}, {"chunks": (1, 2, 4, 3), "compression": "gzip"}, "offset"]
)
def test_however_a_field_is_stored(well_folder, storage):
    for path in (well_folder / "data" / "train").glob("*.hdf5"):
        with h5py.File(path, "r+") as file:
            density = file["t0_fields/density"]
            values, attrs = density[()], dict(density.attrs)
            if storage != "offset":
                del file["t0_fields/density"]
                file["t0_fields"].create_dataset("density", data=values, **storage).attrs.update(
                    attrs
                )
        if storage == "offset":
            # A user block shifts all that HDF5 counts from its own beginning.
            path.rename(path.with_suffix(".old"))
            with (
                h5py.File(path.with_suffix(".old")) as old,
                h5py.File(path, "w", userblock_size=512) as file,
            ):
                for name in old:
                    old.copy(name, file)
                file.attrs.update(old.attrs)
    where = {"path": str(well_folder), "well_split_name": "train", "n_steps_input": 3}
    assert_same_samples(WellDataset(**where), TheWells(**where))


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_other_numbers_than_float32(well_folder, dtype):
    path = well_folder / "data" / "train" / "two.hdf5"
    with h5py.File(path, "r+") as file:
        pressure = file["t0_fields/pressure"]
        values, attrs = pressure[()], dict(pressure.attrs)
        del file["t0_fields/pressure"]
        file["t0_fields"].create_dataset("pressure", data=values.astype(dtype)).attrs.update(attrs)
    where = {"path": str(well_folder), "well_split_name": "train", "n_steps_input": 3}
    ours = WellDataset(**where)
    assert_same_samples(ours, TheWells(**where))
    assert ours.collate(ours.__getitems__([0, len(ours) - 1])).fields.dtype == torch.float32


def test_normalized_and_transformed_samples_are_the_wells(shared_well_folder):
    def double(data, metadata):
        for fields in data["variable_fields"].values():
            for x in fields.values():
                x.mul_(metadata.time_idx + 2.0)
        return data

    where = {"path": str(shared_well_folder), "well_split_name": "train", "n_steps_input": 2}
    for options in (
        {"transform": double},
        {"use_normalization": True, "normalization_type": ZScoreNormalization},
    ):
        ours, theirs = WellDataset(**where, **options), TheWells(**where, **options)
        assert not torch.equal(ours[0]["input_fields"], WellDataset(**where)[0]["input_fields"])
        assert_same_samples(ours, theirs)


def test_a_file_cut_while_open_is_named(well_folder):
    dataset = train(well_folder, n_steps_input=2)
    dataset[0]
    os.truncate(dataset.files_paths[0], os.path.getsize(dataset.files_paths[0]) // 8)
    with pytest.raises(WavelitError, match=r"one.hdf5: ends before its data do"):
        dataset[0]


def test_metadata_is_the_wells(shared_well_folder):
    where = {"path": str(shared_well_folder), "well_split_name": "valid"}
    ours, theirs = WellDataset(**where).metadata, TheWells(**where).metadata
    ours.boundary_condition_types.sort()
    theirs.boundary_condition_types.sort()
    assert ours == theirs


def test_a_field_stored_along_the_first_axis_only(well_folder):
    # The Well's own reader fails on this layout, which its format allows.
    path = well_folder / "data" / "valid" / "one.hdf5"
    profile = np.arange(8, dtype=np.float32)
    with h5py.File(path, "r+") as file:
        del file["t0_fields/depth"]
        file["t0_fields/depth"] = profile
        for name, value in (
            ("sample_varying", False),
            ("time_varying", False),
            ("dim_varying", [True, False]),
        ):
            file["t0_fields/depth"].attrs[name] = value
    constant = WellDataset(str(well_folder), well_split_name="valid")[0]["constant_fields"]
    assert torch.equal(constant[..., 1], torch.tensor(profile)[:, None].expand(8, 6))


def test_samples_do_not_share_memory_with_the_cache(shared_well_folder):
    dataset = WellDataset(str(shared_well_folder), well_split_name="train", cache_bytes=2**30)
    before = {key: x.clone() for key, x in dataset[0].items()}
    for key in ("input_fields", "constant_fields"):
        dataset[0][key].zero_()
    assert all(torch.equal(dataset[0][key], before[key]) for key in before)


def test_index_outside_the_dataset(shared_well_folder):
    dataset = WellDataset(str(shared_well_folder), well_split_name="train")
    for index in (-1, len(dataset)):
        with pytest.raises(IndexError):
            dataset[index]


def test_memory_filesystem(in_memory_filesystem, shared_well_folder):
    theirs = TheWells(path=str(shared_well_folder), well_split_name="train")
    assert_same_samples(WellDataset(in_memory_filesystem, well_split_name="train"), theirs)
    data, local = (
        WellDataModule(str(path), batch_size=3)
        for path in (in_memory_filesystem, shared_well_folder)
    )
    assert data.statistics == local.statistics
    assert torch.equal(
        next(iter(data.train_dataloader())).fields, next(iter(local.train_dataloader())).fields
    )


def test_few_remote_files_stay_open(in_memory_filesystem, shared_well_folder, monkeypatch):
    monkeypatch.setattr(handles, "MAX_OPEN_REMOTE", 1)
    dataset = WellDataset(in_memory_filesystem, well_split_name="train")
    theirs = TheWells(path=str(shared_well_folder), well_split_name="train")
    assert_same_samples(dataset, theirs)
    assert len(dataset._handles) == 1


# --- handles


def test_files_are_opened_once(shared_well_folder, monkeypatch):
    dataset = WellDataset(str(shared_well_folder), well_split_name="train")
    opened = []
    monkeypatch.setattr(
        handles, "open_file", lambda fs, path, **_: opened.append(path) or h5py.File(path, "r")
    )
    for index in [*range(len(dataset)), *range(len(dataset))]:
        dataset[index]
    assert sorted(opened) == sorted(dataset.files_paths)


def test_close_and_reopen(shared_well_folder):
    dataset = WellDataset(str(shared_well_folder), well_split_name="train")
    before = dataset[0]["input_fields"]
    file = dataset._handles[0].file
    dataset.close()
    assert not file
    assert torch.equal(dataset[0]["input_fields"], before)


@pytest.mark.parametrize("cache_bytes", [0, 2**30])
def test_pickles_without_handles_or_data(shared_well_folder, cache_bytes):
    dataset = WellDataset(str(shared_well_folder), well_split_name="train", cache_bytes=cache_bytes)
    dataset[0]
    state = pickle.dumps(dataset)
    assert len(state) < 20_000
    assert_same_samples(pickle.loads(state), dataset)


# A spawned worker imports everything anew, which takes seconds: one is enough.
@pytest.mark.parametrize(
    ("method", "n_workers", "cache_bytes"), [("fork", 2, 0), ("fork", 2, 2**30), ("spawn", 1, 0)]
)
def test_workers_read_the_same(shared_well_folder, method, n_workers, cache_bytes):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this platform")
    dataset = WellDataset(str(shared_well_folder), well_split_name="train", cache_bytes=cache_bytes)
    # The parent's handles are open when the workers start.
    expected = [
        dataset.collate(dataset.__getitems__([i, i + 1])) for i in range(0, len(dataset), 2)
    ]
    loader = DataLoader(
        dataset,
        batch_size=2,
        collate_fn=dataset.collate,
        num_workers=n_workers,
        multiprocessing_context=method,
    )
    for _ in range(2 if method == "fork" else 1):
        for batch, due in zip(loader, expected, strict=True):
            assert torch.equal(batch.fields, due.fields)
            assert torch.equal(batch.indices, due.indices)
    assert torch.equal(dataset[0]["input_fields"], expected[0].fields[0].movedim(1, -1))


# --- batches


def test_batch_is_channels_first(shared_well_folder):
    dataset = WellDataset(
        str(shared_well_folder), well_split_name="train", n_steps_input=3, n_steps_output=2
    )
    indices = [4, 0, 7]
    batch = dataset.collate(dataset.__getitems__(indices))
    assert batch.fields.shape == (3, 3, 8, 8, 6)
    assert batch.target.shape == (3, 2, 8, 8, 6)
    assert batch.constants.shape == (3, 4, 8, 6)
    assert batch.scalars.shape == (3, 3)
    assert batch.indices.tolist() == indices
    assert batch.valid is None
    assert all(x.is_contiguous() for x in batch if x is not None)
    for row, index in enumerate(indices):
        sample = dataset[index]
        assert torch.equal(batch.fields[row], sample["input_fields"].permute(0, 3, 1, 2))
        assert torch.equal(batch.target[row], sample["output_fields"].permute(0, 3, 1, 2))
        assert torch.equal(batch.constants[row], sample["constant_fields"].permute(2, 0, 1))
        assert torch.equal(batch.scalars[row], sample["constant_scalars"])


def test_a_batch_is_made_of_its_samples(shared_well_folder):
    dataset = train(shared_well_folder, n_steps_input=3)
    samples = dataset.__getitems__([4, 0, 7])
    single = [{**dataset[sample["index"]], "index": sample["index"]} for sample in samples]
    batch, copied = dataset.collate(samples), dataset.collate(single)
    assert batch.fields.data_ptr() == samples[0]["input_fields"].data_ptr()
    for ours, due in zip(batch, copied, strict=True):
        assert (ours is None and due is None) or torch.equal(ours, due)


def test_values_whose_sum_overflows_are_finite(well_folder):
    spoil(well_folder, "t0_fields/pressure", (1, slice(2, 4), 3, 3), 3e38)
    dataset = train(well_folder, n_steps_input=4)
    assert dataset.collate(dataset.__getitems__([9])).fields.amax() == np.float32(3e38)


def test_channels_carry_their_names(shared_well_folder):
    dataset = WellDataset(str(shared_well_folder), well_split_name="valid")
    batch = dataset.collate(dataset.__getitems__([0]))
    names = [
        "density",
        "pressure",
        "velocity_x",
        "velocity_y",
        "stress_xx",
        "stress_xy",
        "stress_yx",
        "stress_yy",
    ]
    assert dataset.field_channels == names
    assert dataset.constant_channels == ["mask", "depth", "forcing_x", "forcing_y"]
    with h5py.File(dataset.files_paths[0]) as file:
        stress, velocity = file["t2_fields/stress"], file["t1_fields/velocity"]
        for channel, index in ((4, (0, 0)), (5, (0, 1)), (6, (1, 0)), (7, (1, 1))):
            assert np.array_equal(batch.fields[0, 0, channel], stress[(0, 0, ..., *index)])
        assert np.array_equal(batch.target[0, 0, 3], velocity[0, 1, ..., 1])


def test_batch_moves(shared_well_folder):
    dataset = WellDataset(str(shared_well_folder), well_split_name="train")
    batch = dataset.collate(dataset.__getitems__([0, 1]))
    for moved in (batch.to("meta"), move_data_to_device(batch, torch.device("meta"))):
        assert isinstance(moved, Batch)
        assert moved.fields.device.type == moved.indices.device.type == "meta"
        assert moved.valid is None


def spoil(folder, field, index, value=np.nan, split="train", name="two"):
    with h5py.File(folder / "data" / split / f"{name}.hdf5", "r+") as file:
        file[field][index] = value


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("field", "index", "message"),
    [
        (
            "t1_fields/velocity",
            (1, 2, 3, 3, 1),
            "two.hdf5: field 'velocity_y' is not finite in trajectory 1 at step 2",
        ),
        (
            "t0_fields/pressure",
            (1, 4, 3, 3),
            "field 'pressure' is not finite in trajectory 1 at step 4",
        ),
        ("t1_fields/forcing", (1, 3, 3, 0), "field 'forcing_x' is not finite in trajectory 1;"),
        ("scalars/a", (1,), "scalar 'a' of trajectory 1 is not finite"),
    ],
)
def test_a_value_that_is_not_finite_is_named(well_folder, field, index, message, value):
    spoil(well_folder, field, index, value)
    dataset = WellDataset(str(well_folder), well_split_name="train", n_steps_input=4)
    # The second file's second trajectory starts at sample 9 of 12; its first window ends at step 4.
    with pytest.raises(WavelitError, match=message):
        dataset.collate(dataset.__getitems__([0, 9]))
    dataset.collate(dataset.__getitems__([0, 6]))


def test_mask_excludes_cells(well_folder):
    spoil(well_folder, "t1_fields/velocity", (1, slice(1, 3), 0, 3, 1))
    spoil(well_folder, "t1_fields/forcing", (1, 0, 2, 0))
    dataset = WellDataset(
        str(well_folder), well_split_name="train", n_steps_input=4, mask_field="mask"
    )
    batch = dataset.collate(dataset.__getitems__([0, 9]))
    assert batch.valid.shape == (2, 1, 8, 6)
    assert batch.valid.dtype == torch.bool
    assert not batch.valid[:, :, 0].any()
    assert batch.valid[:, :, 1:].all()
    assert batch.n_filled.tolist() == [0, 3]
    assert batch.fields[1, 1, 3, 0, 3] == batch.constants[1, 2, 0, 2] == 0.0
    # What an excluded cell holds, finite or not, is nobody's input.
    assert torch.all(batch.fields[:, :, :, 0] == 0)
    assert torch.all(batch.target[:, :, :, 0] == 0)
    assert batch.fields[1, 1, 3, 1, 2] != 0.0
    inverted = WellDataset(
        str(well_folder),
        well_split_name="train",
        n_steps_input=4,
        mask_field="mask",
        mask_excludes=0.0,
    )
    with pytest.raises(
        WavelitError, match="field 'velocity_y' is not finite in trajectory 1 at step 1"
    ):
        inverted.collate(inverted.__getitems__([9]))


@pytest.mark.parametrize("left", [0, 1])
def test_a_mask_that_leaves_no_spread_is_named(well_folder, left):
    path = well_folder / "data" / "train" / "two.hdf5"
    with h5py.File(path, "r+") as file:
        mask = file["t0_fields/mask"]
        mask[...] = 1.0
        mask[(0,) * mask.ndim] = 1 - left
    dataset = WellDataset(
        str(well_folder), well_split_name="train", n_steps_input=4, mask_field="mask"
    )
    message = r"two.hdf5: mask_field 'mask' leaves less than two cells of trajectory 0, it is 1 on"
    with pytest.raises(WavelitError, match=message):
        dataset.collate(dataset.__getitems__(range(len(dataset))))


def test_a_declared_mask_is_the_one_given_by_name(well_folder):
    options = {"well_split_name": "train", "n_steps_input": 4}
    named = WellDataset(str(well_folder), mask_field="mask", **options)
    for path in well_folder.glob("data/*/*.hdf5"):
        with h5py.File(path, "r+") as file:
            file.attrs.update({"mask_field": "mask", "mask_excludes": 1.0})
    declared = WellDataset(str(well_folder), **options)
    ours, theirs = (each.collate(each.__getitems__([0, 3])) for each in (declared, named))
    assert theirs.valid is not None
    for a, b in zip(ours, theirs, strict=True):
        assert a is b is None or torch.equal(a, b)


@pytest.mark.parametrize("mask_field", ["density", "forcing", "walls"])
def test_mask_must_be_a_constant_scalar_field(shared_well_folder, mask_field):
    with pytest.raises(
        WavelitError, match=rf"mask_field '{mask_field}' .* those are \['mask', 'depth'\]"
    ):
        WellDataset(str(shared_well_folder), well_split_name="train", mask_field=mask_field)


def test_time_varying_scalar_is_refused_by_name(tmp_path):
    dataset = WellDataset(
        str(write_dataset(tmp_path, vary_scalar_in_time=True)), well_split_name="train"
    )
    with pytest.raises(WavelitError, match="scalar 'b' varies in time"):
        dataset.collate(dataset.__getitems__([0]))


# --- boundary conditions


def test_boundary_conditions(tmp_path):
    folder = write_dataset(tmp_path, resolution=(4, 5, 6))
    dataset = WellDataset(str(folder), well_split_name="train")
    assert boundary_conditions(dataset) == (
        ("periodic", "periodic"),
        ("wall", "open"),
        ("open", "open"),
    )
    codes = {0.0: "wall", 1.0: "open", 2.0: "periodic"}
    theirs = [tuple(codes[v] for v in ends) for ends in dataset[0]["boundary_conditions"].tolist()]
    assert tuple(theirs) == boundary_conditions(dataset)


def test_periodic_holds_at_both_ends_whatever_the_mask(well_folder):
    for name in ("one", "two"):
        spoil(well_folder, "boundary_conditions/x_periodic/mask", slice(None), False, name=name)
    dataset = WellDataset(str(well_folder), well_split_name="train")
    assert boundary_conditions(dataset)[0] == ("periodic", "periodic")


def test_files_must_agree_on_boundaries(well_folder):
    spoil(well_folder, "boundary_conditions/y_wall/mask", -1, True)
    with pytest.raises(
        WavelitError, match=r"two.hdf5: boundary conditions .* are not those of .*one.hdf5"
    ):
        boundary_conditions(WellDataset(str(well_folder), well_split_name="train"))


# --- the data module


def test_cache_has_a_limit(shared_well_folder):
    size = sum(layout.nbytes for layout in train(shared_well_folder).layouts)
    assert train(shared_well_folder, cache_bytes=size).in_memory
    assert not train(shared_well_folder, cache_bytes=size - 1).in_memory


def test_cached_data_need_no_file(well_folder):
    dataset = train(well_folder, cache_bytes=2**30)
    before = dataset[3]["input_fields"]
    dataset.load()
    shutil.rmtree(well_folder)
    assert torch.equal(dataset[3]["input_fields"], before)
    assert dataset[len(dataset) - 1]["input_fields"].isfinite().all()
