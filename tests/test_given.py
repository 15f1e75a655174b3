"""What a user gives to be written: taken as it is or refused in one line, never by another
library's error.
"""

import h5py
import numpy as np
import pytest
import torch

from wavelit.data.writing.given import LARGEST
from wavelit.data.writing.write import write_dataset, write_well
from wavelit.errors import WavelitError
from wavelit.files.owner import owned

GOOD = np.random.default_rng(0).normal(size=(4, 3, 5, 6)).astype(np.float32)
SPLITS = {"train": 2, "valid": 1, "test": 1}
LAND = np.zeros(GOOD.shape, bool)
LAND[..., :2, :] = True
DATES = np.datetime64("2020-01-01") + np.arange(3)


def dataset(tmp_path, **changes):
    arguments = {
        "fields": {"a": GOOD},
        "splits": SPLITS,
        "name": "toy",
        "boundary_conditions": ["open", "wall"],
    }
    return write_dataset(changes.pop("path", tmp_path / "toy"), **{**arguments, **changes})


def stored(folder, item="t0_fields/a"):
    values = []
    for split in SPLITS:
        with h5py.File(folder / "data" / split / "toy.hdf5") as file:
            values.append(file[item][()])
    return np.concatenate(values)


def masked(values):
    values = np.asarray(values, float)
    return np.ma.masked_array(values, np.arange(values.size).reshape(values.shape) == 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"fields": {"a": np.ma.masked_array(np.where(LAND, 9.97e36, GOOD), LAND)}},
        {"fields": {"a": list(np.ma.masked_array(GOOD, LAND))}},
        {"constant_fields": {"k": np.ma.masked_array(GOOD[:, 0], LAND[:, 0])}},
        {"scalars": {"Re": masked(np.ones(4))}},
        {"scalars": {"Re": np.ma.masked}},
        {"coordinates": {"x": masked(np.arange(5)), "y": np.arange(6)}},
        {"time": masked(np.arange(3))},
    ],
)
def test_a_mask_is_not_dropped(tmp_path, changes):
    with pytest.raises(WavelitError, match=r"masked.*array\.filled\(0\).*mask_field") as caught:
        dataset(tmp_path, **changes)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_mask_hides_nothing(tmp_path):
    folder = dataset(tmp_path, fields={"a": np.ma.masked_array(GOOD, np.zeros(GOOD.shape, bool))})
    np.testing.assert_array_equal(stored(folder), GOOD)


@pytest.mark.parametrize(
    "given",
    [
        GOOD.tolist(),
        list(GOOD),
        torch.from_numpy(GOOD),
        torch.from_numpy(GOOD).requires_grad_(),
        list(torch.from_numpy(GOOD).requires_grad_()),
        torch.from_numpy(GOOD).double(),
        GOOD.astype(">f8"),
        np.asfortranarray(GOOD),
        torch.from_numpy(GOOD.transpose(0, 1, 3, 2).copy()).transpose(2, 3),
    ],
)
def test_arrays_of_every_make(tmp_path, given):
    np.testing.assert_array_equal(stored(dataset(tmp_path, fields={"a": given})), GOOD)


def test_half_precision_tensors(tmp_path):
    given = torch.from_numpy(GOOD).bfloat16()
    np.testing.assert_array_equal(
        stored(dataset(tmp_path, fields={"a": given})), given.float().numpy()
    )


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_tensors_of_a_gpu(tmp_path):
    np.testing.assert_array_equal(
        stored(dataset(tmp_path, fields={"a": torch.from_numpy(GOOD).cuda()})), GOOD
    )


BEYOND = GOOD.astype(np.float64)
BEYOND[2, 1, 0, 3] = 3.5e38


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fields": {"a": GOOD * 1j}},
            "field 'a': expected real numbers, got dtype complex64: split",
        ),
        (
            {"fields": {"a": torch.from_numpy(GOOD) * 1j}},
            "field 'a': expected real numbers, got dtype complex64",
        ),
        (
            {"fields": {"a": BEYOND}},
            r"float32 overflow at index \(0, 1, 0, 3\), where it is 3.5e\+38",
        ),
        (
            {"fields": {"a": GOOD.astype(object)}},
            "field 'a': expected real numbers, got dtype object",
        ),
        ({"fields": {"a": GOOD.astype(str)}}, "field 'a': expected real numbers, got text"),
        ({"fields": {"a": "waves.npy"}}, "field 'a': expected real numbers, got text"),
        ({"fields": {"a": None}}, "field 'a': expected real numbers, got None"),
        ({"fields": {"a": {}}}, "field 'a': expected real numbers, got dict"),
        ({"fields": {"a": (x for x in GOOD)}}, "field 'a': expected real numbers, got generator"),
        (
            {"fields": {"a": [[1.0], [1.0, 2.0]]}},
            "field 'a': expected real numbers, but they make no array",
        ),
        (
            {"fields": {"a": torch.from_numpy(GOOD).to_sparse()}},
            "field 'a': .* without plain storage",
        ),
        (
            {"fields": {"a": torch.empty(GOOD.shape, device="meta")}},
            "field 'a': .* without plain storage",
        ),
        (
            {"fields": {"a": np.broadcast_to(np.datetime64("2020-01-01"), GOOD.shape)}},
            "field 'a': .* got dates",
        ),
        ({"fields": {"a": 3.0}}, r"'a' of shape \(\) has none"),
        ({"fields": {"a": []}}, r"'a' of shape \(0,\) has 0"),
        ({"fields": {"a": np.ones((4, 0, 5, 6))}}, "at least 2 points an axis"),
        ({"fields": GOOD}, "fields: expected {name: array of shape .*}, got ndarray"),
        ({"fields": None}, "at least one field"),
        ({"constant_fields": [GOOD]}, "constant_fields: expected {name: .*}, got list"),
        ({"scalars": 5}, "scalars: expected {name: number}, got int"),
        (
            {"scalars": {"Re": 1e39}},
            r"scalar 'Re': expected one number finite in float32.* got 1e\+39",
        ),
        ({"scalars": {"Re": 1 + 1j}}, "scalar 'Re': expected real numbers"),
        ({"scalars": {"Re": 10**400}}, "scalar 'Re': expected real numbers"),
        ({"coordinates": [1, 2]}, "coordinates: expected {name: positions}, got list"),
        (
            {"coordinates": {"x": np.arange(5)[::-1], "y": np.arange(6)}},
            "'x': expected 5 increasing .* 3.0 after 4.0",
        ),
        (
            {"coordinates": {"x": np.arange(5) + 1e9, "y": np.arange(6)}},
            "'x' is stored in float32, where",
        ),
        (
            {"coordinates": {"x": np.arange(5) * 1e38, "y": np.arange(6)}},
            r"4e\+38 at index 4, which float32",
        ),
        ({"time": DATES[::-1]}, "'time': expected 3 increasing .* -86400.0 after 0.0"),
        ({"time": [DATES[0], np.datetime64("NaT"), DATES[2]]}, "'time': .* got nan at index 1"),
        ({"time": ["0", "1", "2"]}, "'time': expected real numbers, got text"),
        ({"time": [0, 1]}, r"'time': expected 3 increasing finite numbers, got shape \(2,\)"),
        ({"time": 0.5}, r"'time': expected 3 increasing finite numbers, got shape \(\)"),
        (
            {"time": [0.0, np.nan, 1.0]},
            "'time': expected 3 increasing finite numbers, got nan at index 1",
        ),
        ({"boundary_conditions": None}, "boundary_conditions: expected one entry per axis"),
        ({"boundary_conditions": 2}, "boundary_conditions: expected one entry per axis"),
        (
            {"boundary_conditions": {"x": "open", "y": "wall"}},
            "boundary_conditions: expected one entry per axis",
        ),
        ({"boundary_conditions": [1, 2]}, "expected periodic, wall, open .* got 1"),
        ({"boundary_conditions": ["open", None]}, "expected periodic, wall, open .* got None"),
        ({"boundary_conditions": ["open", np.ones((2, 2))]}, "expected periodic, wall, open"),
        (
            {"splits": {"train": 0.8, "valid": 0.1, "test": 0.1}},
            "splits: .* whole number of its trajectories",
        ),
        ({"splits": {"train": 2.0, "valid": 1, "test": 1}}, "splits: .* whole number"),
        ({"splits": {"train": 2, "valid": True, "test": 1}}, "splits: .* whole number"),
        ({"splits": {"train": 4, "valid": 1, "test": -1}}, "splits: .* whole number"),
        ({"splits": {"train": 3, "valid": 1}}, "splits: .* whole number"),
        ({"splits": {"train": "2", "valid": 1, "test": 1}}, "splits: .* whole number"),
        ({"splits": None}, "splits: .* got None"),
        ({"splits": [2, 1, 1]}, r"splits: .* got \[2, 1, 1\]"),
        (
            {"mask_field": "walls"},
            "'walls' is not a constant scalar field: name one of constant_fields",
        ),
        ({"mask_field": 3}, "'3' is not a constant scalar field"),
        (
            {"mask_excludes": "land"},
            "mask_excludes: expected the number of excluded cells, got land",
        ),
        ({"mask_excludes": np.nan}, "mask_excludes"),
        ({"path": None}, "path: expected a path, got None"),
        ({"path": b"toy"}, "path: expected a path"),
        ({"path": ""}, "path: expected a path"),
        ({"path": "a\0b"}, "path: expected a path"),
        ({"path": __file__}, "test_given.py is no folder"),
        ({"path": f"{__file__}/toy"}, "test_given.py is no folder"),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_line(tmp_path, changes, message):
    with pytest.raises(WavelitError, match=message) as caught:
        dataset(tmp_path, **changes)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert list(tmp_path.iterdir()) == []


BAD_NAMES = [
    "",
    " ",
    ".",
    "..",
    "a/b",
    "/a",
    "a\0b",
    "a\nb",
    "\x1b[31m",
    "\ud800",
    "\u202egnp",
    "n" * 201,
    3,
    None,
    b"a",
]


@pytest.mark.parametrize("bad", BAD_NAMES)
def test_names_that_no_file_can_hold(tmp_path, bad):
    for changes in (
        {"fields": {bad: GOOD}},
        {"fields": {"a": GOOD}, "constant_fields": {bad: GOOD[:, 0]}},
        {"scalars": {bad: 1.0}},
        {"coordinates": {bad: np.arange(5), "y": np.arange(6)}},
        {"name": bad},
    ):
        with pytest.raises(WavelitError, match=r"cannot be a name|expected a name") as caught:
            dataset(tmp_path, **changes)
        assert str(caught.value).isprintable()
    with pytest.raises(WavelitError, match=r"grid_type: "):
        write_well(
            tmp_path / "a.hdf5",
            {"a": GOOD},
            name="a",
            boundary_conditions=["open"] * 2,
            grid_type=bad,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [".toy", "..toy", "a\\b", "é" * 101])
def test_a_datasets_name_is_that_of_its_files(tmp_path, bad):
    with pytest.raises(WavelitError, match=r"name: .* cannot be the name of a file"):
        dataset(tmp_path, name=bad)
    assert list(tmp_path.iterdir()) == []


def test_names_at_the_limit(tmp_path):
    name = "é" * 100
    folder = dataset(tmp_path, name=name, fields={"ü" * 200: GOOD}, scalars={"ν": LARGEST})
    with h5py.File(folder / "data" / "train" / f"{name}.hdf5") as file:
        assert list(file["t0_fields"].attrs["field_names"]) == ["ü" * 200]
        assert np.isfinite(file["scalars/ν"][()])


def test_a_file_is_not_a_folder(tmp_path):
    with pytest.raises(WavelitError, match="is a folder: path is to be a file"):
        write_well(tmp_path, {"a": GOOD}, name="toy", boundary_conditions=["open", "wall"])


def test_a_folder_is_written_by_one_process(tmp_path):
    with owned(tmp_path / "toy", "training"):
        with pytest.raises(
            WavelitError, match=r"toy is in use: process .* has been training there"
        ):
            dataset(tmp_path)
        assert (tmp_path / "toy").exists()
    folder = dataset(tmp_path)
    assert {path.name for path in folder.iterdir()} == {"data", "stats.yaml"}
