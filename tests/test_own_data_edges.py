"""What is given is written, trained on and named as it is, or refused in a line: what a second
reader of the pages on one's own data fell over.
"""

import warnings

import h5py
import numpy as np
import pytest
import yaml

import wavelit
from wavelit.cli.program import main
from wavelit.data.checking.check import check_dataset
from wavelit.errors import WavelitError

pytestmark = pytest.mark.usefixtures("undrawn")

OPTIONS = {
    "splits": {"train": 4, "valid": 1, "test": 1},
    "boundary_conditions": ["periodic", "periodic"],
}
U = np.random.default_rng(0).normal(size=(6, 12, 16, 16)).cumsum(1)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name="a", fields=None, **options):
    return wavelit.write_dataset(name, fields or {"u": U}, name=name, **{**OPTIONS, **options})


def messages(folder):
    return [finding.message for finding in check_dataset(folder)]


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    ["--steps 1 --run r a b", "a --steps 1 b --run r", "--overwrite a b --steps 1 --run r"],
)
def test_datasets_are_all_taken_wherever_they_stand(words, here):
    write("a")
    write("b")
    assert main(["train", *words.split(), "--n_steps_input", "2"]) == 0
    systems = yaml.safe_load((here / "r" / "config.yaml").read_text())["systems"]
    assert [(each["name"], each["n_steps_input"]) for each in systems] == [("a", 2), ("b", 2)]


@pytest.mark.long
def test_what_print_config_writes_is_read(here, capsys):
    write("a")
    with pytest.raises(SystemExit):
        main(["train", "a", "--steps", "1", "--run", "r", "--print_config"])
    (here / "train.yaml").write_text(capsys.readouterr().out)
    assert main(["train", "--config", "train.yaml"]) == 0
    # A run at its end says that nothing of a second command holds.
    assert main(["train", "a", "--steps", "5", "--run", "r", "--resume", "auto"]) == 0
    assert "r has come to its end with its own settings" in capsys.readouterr().out
    words = ["train", "a", "--steps", "5", "--run", "r", "--resume", "auto", "--overwrite"]
    assert main(words) == 2
    assert "leave one of them out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fields": {"u": U, "w": np.repeat(U, 2, 1)}}, "'w' of trajectory 0 has 24 frames"),
        ({"fields": {"w": np.repeat(U, 2, 1), "u": U}}, "'u' of trajectory 0 has 12 frames"),
        ({"scalars": {"F": np.ones((6, 99))}}, "'F' of shape .* has 99 values in time"),
        ({"scalars": {"u": np.ones(6)}}, "'u' is the name of a scalar and of a field"),
        ({"time": 2000 + np.arange(12) / 365.25}, "rounds its steps by more than a hundredth"),
        ({"time": np.arange(12).astype("timedelta64[M]")}, "months and years differ in length"),
        ({"gap": 7}, "gap is between splits in time"),
        ({"mask_excludes": 5.0}, "mask_excludes is a value of mask_field"),
    ],
)
def test_what_does_not_fit_is_not_written(given, message, here):
    with pytest.raises(WavelitError, match=message):
        write(**given)
    assert not (here / "a").exists()


def test_months_are_days_of_the_calendar(here):
    months = np.arange("2001-01", "2002-01", dtype="datetime64[M]")
    write(time=months, equal_steps=True)
    data = wavelit.WellDataModule("a")
    days = (months.astype("datetime64[D]") - np.datetime64("2001-01-01")).astype(float)
    assert np.array_equal(data.train_dataset.node(0)["dimensions"]["time"][:], days)


def test_a_scalar_that_varies_in_time_can_be_left_out(here):
    write(fields={"u": U, "f": U[::-1]}, scalars={"G": U[:, :, 0, 0]})
    names = {
        forcings: wavelit.WellDataModule(
            "a", forcings=None if forcings is None else list(forcings)
        ).scalar_names
        for forcings in (None, (), ("f",), ("G",))
    }
    told = ["G (now)", "G (next)"]
    assert names == {None: told, (): [], ("f",): [], ("G",): told}
    batch = next(iter(wavelit.WellDataModule("a", forcings=["f"]).epoch()))
    assert batch.scalar_forcings is None
    assert batch.forcings is not None


def test_a_mask_that_leaves_nothing_out_is_told_in_training(here):
    land = np.zeros((16, 16))
    land[:4] = 1
    write(constant_fields={"land": land})
    with pytest.raises(WavelitError, match="mask_excludes 2 is a value of a mask"):
        _ = wavelit.WellDataModule("a", mask_excludes=2.0).train_dataset
    data = wavelit.WellDataModule("a", mask_field="land", mask_excludes=2.0)
    with pytest.warns(UserWarning, match="'land' is 2 in no cell, so none is left out"):
        wavelit.fit("r", data, steps=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*in no cell")
        wavelit.fit("q", wavelit.WellDataModule("a", mask_field="land"), steps=1)


def test_the_check_allows_what_training_allows(here):
    write(fields={"u": U, "f": 0 * U}, forcings=["f"])
    assert not [found for found in check_dataset("a") if found.severity == "error"]


def test_a_field_that_no_list_names_is_told(here):
    write()
    with h5py.File("a/data/train/a.hdf5", "a") as file:
        file["t0_fields/extra"] = file["t0_fields/u"][()]
    assert any("'t0_fields/extra' is not in the 'field_names'" in each for each in messages("a"))


def test_a_period_that_is_stored_with_both_its_ends_is_told(here):
    # An even number of points, as is due.
    closed = np.concatenate([U[..., :15], U[..., :1]], -1)
    write("a")
    write("b", {"u": closed})
    said = "axis 'y' is periodic, and its last points repeat its first"
    assert any(message.startswith(said) for message in messages("b"))
    assert not any("repeat its first" in message for message in messages("a"))


def test_a_field_that_float32_cannot_resolve_is_not_called_constant(here):
    write(fields={"u": 0.01 * np.sin(U) + 1e5})
    with pytest.raises(WavelitError, match=r"does not resolve about its mean of 1e\+05: subtract"):
        _ = wavelit.WellDataModule("a").statistics


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 2}, "batch_size is not of the recipe: give it to wavelit.WellDataModule"),
        ({"divergence_free": True}, "give it to wavelit.build_model"),
        ({"trunk": "frozen"}, "give it to a joint model that is fine-tuned"),
        ({"model": "shear_flow"}, r"is a trained model, not a preset: give wavelit.load"),
        ({"keep_statistics": True}, "a preset has no statistics"),
    ],
)
def test_settings_that_belong_elsewhere_are_told_where(given, message, here):
    write()
    with pytest.raises(WavelitError, match=message):
        wavelit.fit("r", "a", **given)
    assert not (here / "r").exists()
