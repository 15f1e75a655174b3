"""Fields chosen by name hold what the whole dataset holds; what is given in advance is told, not
predicted.
"""

import h5py
import numpy as np
import pytest
import torch
import yaml

from conftest import write_dataset as write_synthetic
from conftest import write_file
from wavelit.api import evaluate, fit, load
from wavelit.cli.program import main
from wavelit.data.checking.check import check_dataset
from wavelit.data.datamodule import WellDataModule
from wavelit.data.well import WellDataset
from wavelit.data.writing.write import write_dataset
from wavelit.errors import WavelitError
from wavelit.evaluation.evaluate import predict
from wavelit.evaluation.rollout import rollout

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("undrawn")]

TRAIN = {"well_split_name": "train", "n_steps_input": 2}
ALL = [
    *("density", "pressure", "velocity_x", "velocity_y"),
    *("stress_xx", "stress_xy", "stress_yx", "stress_yy"),
]


def batch_of(dataset, indices=(0, 7)):
    return dataset.collate(dataset.__getitems__(list(indices)))


def channels(names):
    return [ALL.index(name) for name in names]


@pytest.fixture(params=["plain", "compressed", "in memory"])
def stored(request, tmp_path):
    """A dataset folder in which fields are blocks, are compressed float64, or are kept."""
    folder = write_synthetic(tmp_path / "data")
    if request.param == "compressed":
        for path in folder.glob("data/*/*.hdf5"):
            with h5py.File(path, "r+") as file:
                for name in ("t1_fields/velocity", "t2_fields/stress", "t0_fields/density"):
                    values, attributes = file[name][()], dict(file[name].attrs)
                    del file[name]
                    file.create_dataset(name, data=values.astype("f8"), compression="gzip")
                    file[name].attrs.update(attributes)
    return folder, {"cache_bytes": 2**30 if request.param == "in memory" else 0}


def test_chosen_fields_are_those_of_the_whole(stored):
    folder, options = stored
    # In the file's order, scalars first, whatever the order of the choice.
    chosen = WellDataset(
        str(folder), fields=["stress", "velocity_y", "pressure"], **TRAIN, **options
    )
    names = ["pressure", "velocity_y", "stress_xx", "stress_xy", "stress_yx", "stress_yy"]
    assert chosen.field_channels == names
    whole, some = batch_of(WellDataset(str(folder), **TRAIN)), batch_of(chosen)
    assert torch.equal(some.fields, whole.fields[:, :, channels(names)])
    assert torch.equal(some.target, whole.target[:, :, channels(names)])
    assert torch.equal(some.constants, whole.constants)
    assert torch.equal(some.scalars, whole.scalars)


def test_forcings_are_told_at_the_last_step_and_the_next(stored):
    folder, options = stored
    chosen = WellDataset(
        str(folder), forcings=["velocity", "density"], n_steps_output=2, **TRAIN, **options
    )
    whole = batch_of(WellDataset(str(folder), n_steps_output=2, **TRAIN))
    some = batch_of(chosen)
    assert chosen.forcing_channels == ["density", "velocity_x", "velocity_y"]
    given = torch.cat([whole.fields, whole.target], 1)[:, :, [0, 2, 3]]
    assert torch.equal(some.forcings, given)
    predicted = channels(["pressure", *ALL[4:]])
    assert torch.equal(some.target, whole.target[:, :, predicted])
    for step in (0, 1):
        constants, scalars = some.beside(step)
        due = torch.cat([whole.constants, given[:, 1 + step], given[:, 2 + step]], 1)
        assert torch.equal(constants, due)
        assert torch.equal(scalars, whole.scalars)


def test_forcings_are_zero_on_excluded_cells(well_folder):
    dataset = WellDataset(str(well_folder), forcings=["density"], mask_field="mask", **TRAIN)
    batch = batch_of(dataset)
    assert not batch.forcings[..., 0, :].any()
    assert batch.forcings[..., 1:, :].all()


def test_scalars_that_vary_in_time_are_given(tmp_path):
    path = write_file(tmp_path / "data" / "train" / "one.hdf5", 0, vary_scalar_in_time=True)
    dataset = WellDataset(str(tmp_path), forcings=["b"], **TRAIN)
    batch = batch_of(dataset, (1, 3))
    with h5py.File(path) as file:
        line = torch.tensor(file["scalars/b"][()])
    assert torch.equal(batch.scalar_forcings[..., 0], torch.stack([line[1:4], line[3:6]]))
    _, scalars = batch.beside()
    assert torch.equal(scalars[:, -2:], torch.stack([line[2:4], line[4:6]]))
    assert scalars.shape == (2, 4)  # nu, a, then b twice
    assert dataset.forcing_values().shape == (2 * 7, 1)


def test_files_may_declare_what_is_given(well_folder):
    for path in well_folder.glob("data/*/*.hdf5"):
        with h5py.File(path, "r+") as file:
            file.attrs["forcings"] = ["velocity"]
    data = WellDataModule(str(well_folder), n_steps_input=2)
    assert data.field_names == ["density", "pressure", *ALL[4:]]
    assert data.constant_field_names[-4:] == [
        *("velocity_x (now)", "velocity_y (now)", "velocity_x (next)", "velocity_y (next)")
    ]
    assert WellDataModule(str(well_folder), forcings=[]).field_names == ALL


def test_statistics_are_those_of_the_chosen_channels(well_folder):
    data = WellDataModule(
        str(well_folder), n_steps_input=2, fields=["velocity_y", "density"], forcings=["stress_xy"]
    )
    table = yaml.safe_load((well_folder / "stats.yaml").read_text())
    ours = data.statistics
    assert ours.mean == (table["mean"]["density"], table["mean"]["velocity"][1])
    assert ours.delta_std == (table["std_delta"]["density"], table["std_delta"]["velocity"][1])
    whole = WellDataModule(str(well_folder)).statistics
    assert ours.constant_mean == (*whole.constant_mean, *2 * (table["mean"]["stress"][0][1],))
    assert ours.constant_std == (*whole.constant_std, *2 * (table["std"]["stress"][0][1],))


def test_a_scalar_that_is_given_is_seen_in_units_of_its_spread(tmp_path):
    folder = write_synthetic(tmp_path, vary_scalar_in_time=True)
    ours = WellDataModule(str(folder), forcings=["b"]).statistics
    line = np.linspace(0.0, 1.0, 7, dtype=np.float32).astype(float)
    assert ours.scalar_mean[-2:] == pytest.approx(2 * (line.mean(),))
    assert ours.scalar_std[-2:] == pytest.approx(2 * (line.std(),))
    assert ours.scalar_log[-2:] == (False, False)


def driven(fields, constants, scalars):
    """The exact step of u(t+1) = u(t) + f(t+1) - f(t) / 2 + b(t+1)."""
    now, following = constants[:, -2:-1], constants[:, -1:]
    return fields[:, -1] + following - now / 2 + scalars[:, -1, None, None, None]


def test_a_rollout_is_driven_by_what_is_given():
    draw = torch.Generator().manual_seed(0)
    forcings, b = torch.rand(2, 6, 1, 4, 4, generator=draw), torch.rand(2, 6, 1, generator=draw)
    constants, scalars = torch.zeros(2, 3, 4, 4), torch.zeros(2, 1)
    truth = [torch.rand(2, 1, 4, 4, generator=draw)]
    for n in range(5):
        truth.append(
            truth[-1] + forcings[:, n + 1] - forcings[:, n] / 2 + b[:, n + 1, :, None, None]
        )
    given = {"forcings": forcings, "scalar_forcings": b}
    states = rollout(driven, truth[0][:, None], 5, constants, scalars, **given)
    assert torch.allclose(states, torch.stack(truth[1:], 1))
    with pytest.raises(WavelitError, match="forcings have 6 frames, but 7 steps need 8"):
        rollout(driven, truth[0][:, None], 7, constants, scalars, **given)
    with pytest.raises(WavelitError, match=r"forcings must be \(2, 6, F, 4, 4\) beside"):
        rollout(driven, truth[0][:, None], 5, constants, forcings=forcings[:1])


def test_a_prediction_starts_where_its_forcings_do(tmp_path):
    folder = write_synthetic(tmp_path, n_steps=9)
    data = WellDataModule(str(folder), 2, fields=["density"], forcings=["pressure"])
    (trajectory, *_) = data.trajectories("valid")
    seen = []

    def step(fields, constants, scalars):
        seen.append(constants[0, -2:, 0, 0].tolist())
        return fields[:, -1]

    predict(step, trajectory, start=4)
    line = trajectory.forcings[0, :, 0, 0, 0].tolist()
    assert seen == [[line[n], line[n + 1]] for n in range(3, 8)]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"fields": ["speed"]}, "fields names 'speed', which does not vary in time here; known: d"),
        ({"fields": ["mask"]}, "fields names 'mask', which does not vary in time"),
        ({"forcings": ["a"]}, "forcings names 'a', which does not vary in time"),
        (
            {"fields": ["velocity", "velocity_x"]},
            "'velocity' and 'velocity_x' hold the same values",
        ),
        (
            {"fields": ["velocity"], "forcings": ["velocity_y"]},
            "hold the same values; name them on",
        ),
        ({"fields": ["density", "density"]}, "fields names 'density' twice"),
        ({"fields": []}, "no field is left to predict"),
        (
            {"forcings": ["density", "pressure", "velocity", "stress"]},
            "no field is left to predict",
        ),
    ],
)
def test_a_choice_that_cannot_be_made(shared_well_folder, choice, message):
    with pytest.raises(WavelitError, match=message):
        WellDataset(str(shared_well_folder), **TRAIN, **choice)


def test_names_are_a_list(shared_well_folder):
    with pytest.raises(WavelitError, match="fields must be a list of names"):
        WellDataModule(str(shared_well_folder), fields="density")


def test_a_field_that_never_changes_is_named_with_the_way_out(tmp_path):
    folder = write_synthetic(tmp_path)
    table = yaml.safe_load((folder / "stats.yaml").read_text())
    table["std_delta"]["pressure"] = 0.0
    (folder / "stats.yaml").write_text(yaml.safe_dump(table))
    ours = ["density", "velocity", "stress"]
    with pytest.raises(WavelitError) as caught:
        _ = WellDataModule(str(folder)).statistics
    assert f"'pressure' is 0, so it never varies; leave it out, fields={ours}" in str(caught.value)
    assert len(WellDataModule(str(folder), fields=ours).statistics.mean) == 7


def test_a_run_learns_what_is_chosen_and_finds_it_again(tmp_path, capsys):
    folder = write_synthetic(tmp_path / "data", resolution=(16, 16), vary_scalar_in_time=True)
    settings = {
        "data": {"path": str(folder), "n_steps_input": 2, "fields": ["velocity_x", "density"]},
        "train": {"steps": 2, "pushforward": 2, "pushforward_from": 0.0},
    }
    settings["data"] |= {"forcings": ["pressure", "b"], "batch_size": 2}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    model = fit(tmp_path / "run", tmp_path / "run.yaml")
    assert (model.config.n_fields, model.config.n_constant_fields) == (2, 4 + 2)
    assert model.config.n_scalars == 2 + 2
    assert evaluate(tmp_path / "run").field_names == ("density", "velocity_x")
    assert load(tmp_path / "run").config == model.config
    words = ["train", "--config", str(tmp_path / "run.yaml"), "--run", str(tmp_path / "again")]
    main([*words, "--data.fields", "[density]", "--train.steps", "1"])
    assert load(tmp_path / "again").config.n_fields == 1


def test_what_is_written_as_given_is_given(tmp_path):
    rng = np.random.default_rng(0)
    fields = {name: rng.normal(size=(5, 30, 16)).cumsum(1) for name in ("u", "q")}
    inlet = rng.normal(size=(5, 30))
    options = {"name": "driven", "boundary_conditions": ["periodic"], "scalars": {"inlet": inlet}}
    write_dataset(
        tmp_path / "parts", fields, split_in_time=(0.5, 0.25, 0.25), forcings=["q"], **options
    )
    data = WellDataModule(str(tmp_path / "parts"))
    assert data.field_names == ["u"]
    assert data.scalar_names == ["inlet (now)", "inlet (next)"]
    dataset = data.dataset("test")
    batch = dataset.collate(dataset.__getitems__([len(dataset) - 1]))
    # The last window of the last trajectory.
    assert batch.scalar_forcings[0, :, 0].numpy() == pytest.approx(inlet[-1, -5:], rel=1e-6)
    assert batch.forcings[0, :, 0].numpy() == pytest.approx(fields["q"][-1, -5:], rel=1e-6)
    assert check_dataset(tmp_path / "parts") == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"forcings": ["speed"]}, "forcings: 'speed' does not vary in time: name fields, u"),
        ({"forcings": ["u"]}, "no field is left to predict"),
        ({"forcings": "u"}, "forcings must be a list of names"),
        ({"scalars": {"inlet": np.zeros((3, 7))}}, "has 7 values in time where fields have 8"),
    ],
)
def test_what_cannot_be_given(tmp_path, changes, message):
    u = np.random.default_rng(0).normal(size=(3, 8, 16))
    options = {"scalars": {"speed": np.ones(3)}, **changes}
    with pytest.raises(WavelitError, match=message):
        write_dataset(
            tmp_path / "parts",
            {"u": u},
            splits={"train": 1, "valid": 1, "test": 1},
            name="driven",
            boundary_conditions=["periodic"],
            **options,
        )
    assert not (tmp_path / "parts").exists()
