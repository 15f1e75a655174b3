"""A part of a dataset: trajectories spread over its files, a share of their time kept for
validation, and statistics of what is given for training alone.
"""

import dataclasses

import h5py
import numpy as np
import pytest
import yaml

import wavelit
from conftest import numpy_statistics
from wavelit.data.datamodule import WellDataModule
from wavelit.data.format.folder import find_files, split_folder
from wavelit.data.part import Part
from wavelit.errors import WavelitError

FIELDS = ("density", "pressure", "velocity", "stress")
# The fixture's training split, one.hdf5 and two.hdf5, has two trajectories of seven steps each.
# How many of each file are given: of N, those at places floor((i + 1/2) 4 / N).
GIVEN = {1: (0, 1), 2: (1, 1), 3: (1, 2), 4: (2, 2)}


def truth(folder, trajectories: int, steps: int) -> dict[str, np.ndarray]:
    """Values (N, T, *S, component...) of the trajectories and steps that are given."""
    parts: dict[str, list[np.ndarray]] = {}
    paths = sorted((folder / "data" / "train").glob("*.hdf5"))
    for path, n in zip(paths, GIVEN[trajectories], strict=True):
        with h5py.File(path) as file:
            for order, name in ((0, "density"), (0, "pressure"), (1, "velocity"), (2, "stress")):
                values = file[f"t{order}_fields"][name][()].astype(np.float64)
                parts.setdefault(name, []).append(values[:n, :steps])
    return {name: np.concatenate(each) for name, each in parts.items()}


def spoil(folder, file: str, place) -> None:
    """Values that no statistics and no window may see."""
    with h5py.File(folder / "data" / "train" / file, "r+") as opened:
        for order, name in ((0, "density"), (0, "pressure"), (1, "velocity"), (2, "stress")):
            opened[f"t{order}_fields"][name][place] = np.nan


@pytest.mark.parametrize(
    ("there", "n", "counts"),
    [
        ((2, 2), 1, [0, 1]),
        ((6, 6, 6, 6), 4, [1, 1, 1, 1]),
        ((6, 6, 6, 6), 1, [0, 0, 1, 0]),
        ((4, 4, 4, 4, 4, 4), 4, [1, 0, 1, 1, 0, 1]),
        ((3, 3, 3, 2, 3, 2, 2, 3, 3), 4, [0, 1, 0, 1, 0, 1, 0, 0, 1]),
        ((24,), 4, [4]),
        ((1, 5), 6, [1, 5]),
        ((1, 5), 5, [1, 4]),
    ],
)
def test_trajectories_are_spread_over_the_files(there, n, counts, shared_well_folder):
    (layout, *_) = WellDataModule(shared_well_folder).train_dataset.layouts
    layouts = [dataclasses.replace(layout, n_trajectories=each) for each in there]
    assert Part(n).counts(layouts, "train") == counts
    assert Part().counts(layouts, "train") == list(there)


def test_no_file_gives_more_than_it_has(shared_well_folder):
    (layout, *_) = WellDataModule(shared_well_folder).train_dataset.layouts
    rng = np.random.default_rng(0)
    for _ in range(200):
        there = rng.integers(1, 9, rng.integers(1, 7))
        layouts = [dataclasses.replace(layout, n_trajectories=int(each)) for each in there]
        n = int(rng.integers(1, there.sum() + 1))
        counts = Part(n).counts(layouts, "train")
        assert sum(counts) == n
        assert all(0 <= given <= each for given, each in zip(counts, there, strict=True))


def test_what_is_given_are_the_first_of_each_file(well_folder):
    whole = WellDataModule(well_folder, n_steps_input=2)
    spoil(well_folder, "one.hdf5", 1)
    data = WellDataModule(well_folder, n_steps_input=2, trajectories=np.int64(3), seed=3)
    assert data.arguments["trajectories"] == 3
    assert [type(data.arguments["trajectories"]), data.holdout] == [int, None]
    # Five windows a trajectory.
    assert len(data.train_dataset) == 15
    every, some = whole.train_dataset, data.train_dataset
    for index in range(15):
        # The first file is spoilt beyond what is given alone.
        batch = some.collate(some.__getitems__([index]))
        assert np.isfinite(batch.fields.numpy()).all()
        # Five windows of the first file, ten of the other.
        assert some.locate(index) == every.locate(index if index < 5 else index + 5)
    seen = {i for step in range(9) for i in data.train_sampler.indices(step)}
    assert max(seen) < 15
    assert len(data.rollout_dataset("train")) == 3
    assert len(data.rollout_dataset("valid")) == 2
    one = WellDataModule(well_folder, n_steps_input=2, trajectories=1)
    assert [layout.path[-8:] for layout in one.train_dataset.layouts] == ["two.hdf5"]
    assert one.replaced(trajectories=None).n_trajectories is None


@pytest.mark.parametrize(("trajectories", "holdout"), [(3, None), (1, None), (4, 0.3), (3, 0.3)])
def test_statistics_are_those_of_what_is_given(well_folder, trajectories, holdout):
    steps = 7 if holdout is None else 5
    due = truth(well_folder, trajectories, steps)
    if trajectories == 3:
        spoil(well_folder, "one.hdf5", 1)
    if holdout:
        spoil(well_folder, "one.hdf5", (slice(None), slice(5, None)))
        # Validation does see them, and says so.
    data = WellDataModule(well_folder, n_steps_input=2, trajectories=trajectories, holdout=holdout)
    found, values = data.statistics, {}
    for what, change in (("mean", None), ("std", None), ("delta_std", 1)):
        columns = []
        for name, order in zip(FIELDS, (0, 0, 1, 2), strict=True):
            x = due[name] if change is None else np.diff(due[name], axis=1)
            axes = tuple(range(x.ndim - order))
            columns.append(np.ravel(x.mean(axes) if what == "mean" else x.std(axes)))
        values[what] = np.concatenate(columns)
        np.testing.assert_allclose(getattr(found, what), values[what], rtol=1e-6, err_msg=what)
    assert len(found.scalar_mean) == 3
    with h5py.File(well_folder / "data" / "train" / "two.hdf5") as file:
        a = file["scalars"]["a"][()]
    if trajectories == 1:
        place = data.scalar_names.index("a")
        assert found.scalar_mean[place] == pytest.approx(float(a[0]))


def test_without_a_part_the_file_is_read(well_folder):
    table = numpy_statistics(well_folder)
    table["mean"]["density"] = 17.0
    (well_folder / "stats.yaml").write_text(yaml.safe_dump(table))
    place = WellDataModule(well_folder).field_names.index("density")
    assert WellDataModule(well_folder).statistics.mean[place] == 17.0
    some = WellDataModule(well_folder, trajectories=4)
    assert some.statistics.mean[place] == pytest.approx(truth(well_folder, 4, 7)["density"].mean())


@pytest.mark.parametrize("cache_bytes", [0, 2**30])
def test_no_window_crosses_the_cut(well_folder, cache_bytes):
    data = WellDataModule(
        well_folder, n_steps_input=1, holdout=0.4, trajectories=3, cache_bytes=cache_bytes
    )
    stored = truth(well_folder, 3, 7)["density"]
    train, valid = data.train_dataset, data.dataset("valid")
    # Round(0.6 x 7) = 4 steps, and 3.
    assert (len(train), len(valid)) == (3 * 3, 3 * 2)
    place = data.field_names.index("density")
    for dataset, first, n in ((train, 0, 3), (valid, 4, 2)):
        for index in range(len(dataset)):
            batch = dataset.collate(dataset.__getitems__([index]))
            trajectory, start = divmod(index, n)
            for frame, x in ((first + start, batch.fields), (first + start + 1, batch.target)):
                np.testing.assert_array_equal(x[0, 0, place], stored[trajectory, frame])
    (whole, *_) = data.trajectories("valid")
    assert whole.target.shape[1] == 2
    np.testing.assert_array_equal(whole.target[0, -1, place], stored[0, 6])
    assert len(data.dataset("test")) == 2 * 6


def test_forcings_are_cut_with_the_rest(tmp_path):
    rng, n = np.random.default_rng(0), 5
    heat, inlet = rng.normal(size=(n, 10, 8)), rng.normal(size=(n, 10))
    folder = wavelit.write_dataset(
        tmp_path / "forced",
        {"u": rng.normal(size=(n, 10, 8)), "heat": heat},
        splits={"train": 3, "valid": 1, "test": 1},
        name="forced",
        boundary_conditions=["periodic"],
        scalars={"inlet": inlet},
        forcings=["heat", "inlet"],
    )
    data = WellDataModule(folder, n_steps_input=2, trajectories=2, holdout=0.3)
    values = data.train_dataset.forcing_values()
    np.testing.assert_allclose(values[:, 0], inlet[:2, :7].ravel(), rtol=1e-6)
    np.testing.assert_allclose(data.statistics.constant_mean[0], heat[:2, :7].mean(), rtol=1e-5)
    valid = data.dataset("valid")
    batch = valid.collate(valid.__getitems__([len(valid) - 1]))
    np.testing.assert_allclose(batch.forcings[0, :, 0], heat[1, 7:], rtol=1e-6)
    np.testing.assert_allclose(batch.scalar_forcings[0, :, 0], inlet[1, 7:], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trajectories": 0}, "trajectories must be a whole number from 1"),
        ({"trajectories": 2.5}, "trajectories must be a whole number"),
        ({"trajectories": 5}, r"trajectories=5 are asked for, of 4: ask for as many at most"),
        ({"holdout": 0}, "holdout must be a share between 0 and 1, not 0"),
        ({"holdout": 1.0}, "holdout must be a share between 0 and 1, not 1.0"),
        ({"holdout": "half"}, "holdout must be a finite number"),
        ({"holdout": 0.7}, r"holdout=0.7 leaves 2 of 7 steps for training, but a window needs 4"),
    ],
)
def test_parts_that_there_are_not(shared_well_folder, options, message):
    with pytest.raises(WavelitError, match=message) as refused:
        WellDataModule(shared_well_folder, n_steps_input=3, **options).statistics  # noqa: B018
    assert "\n" not in str(refused.value)


def test_a_held_out_share_that_is_too_short_is_named(shared_well_folder):
    data = WellDataModule(shared_well_folder, n_steps_input=3, holdout=0.3)
    assert len(data.train_dataset) == 2 * 4
    with pytest.raises(WavelitError, match=r"holdout=0\.3 leaves 2 of 7 steps for validation"):
        data.windows("valid")


def test_files_are_named_as_statistics_name_them(shared_well_folder):
    """Statistics of a part go by the paths of its files."""
    _, files = find_files(split_folder(str(shared_well_folder), "train"))
    data = WellDataModule(shared_well_folder, trajectories=4)
    assert [layout.path for layout in data.train_dataset.layouts] == list(files)
