"""What is refused or advised can be followed: runs of a joint model without --system, data that
moved, names as plain words, thin grids.
"""

import shutil
import warnings

import numpy as np
import pytest

import wavelit
from wavelit.cli.program import main
from wavelit.cli.words import as_list
from wavelit.data.datamodule import WellDataModule
from wavelit.data.writing.write import write_dataset
from wavelit.errors import WavelitError
from wavelit.evaluation.diagnosis import diagnose
from wavelit.training.fine_tune import for_dataset
from wavelit.training.joint_folder import load_joint_settings
from waves import plane_waves

pytestmark = pytest.mark.usefixtures("undrawn")


def written(folder, u, **options):
    """A periodic dataset of one field, u (8, T, *S)."""
    sides = {"boundary_conditions": ["periodic"] * (u.ndim - 2)}
    counts = {"train": 4, "valid": 2, "test": 2}
    return write_dataset(folder, {"u": u}, splits=counts, name="mine", **sides, **options)


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A dataset whose field no shipped model knows, and a run that started from joint-1M."""
    folder = tmp_path_factory.mktemp("mine")
    written(folder / "data", plane_waves(8, 12))
    words = ["train", str(folder / "data"), "--from", "joint-1M", "--steps", "1"]
    with pytest.warns(UserWarning, match="none of them among those that a start from"):
        assert main([*words, "--run", str(folder / "run")]) == 0
    return folder


def test_the_start_that_is_advised_can_be_made(mine, three_systems):
    found = diagnose(mine / "data", results=mine / "none")
    assert found.model == "pocketwell/joint-1M"
    assert "no shipped model of one system has a field of these names" in str(found)
    assert wavelit.load(found.model)
    # Where names are shared, the nearest of those.
    assert "pressure" in diagnose(three_systems["waves"]).descriptors.fields
    assert diagnose(three_systems["waves"]).model != "pocketwell/joint-1M"


def test_a_run_from_a_joint_model_needs_no_system(mine, capsys):
    run = str(mine / "run")
    assert main(["export", run, str(mine / "run.pt2")]) == 0
    assert main(["evaluate", run, "--symmetries", "shift"]) == 0
    assert "shift:" in capsys.readouterr().out


def test_compare_takes_the_system_of_a_joint_run(three_systems, tmp_path, capsys):
    paths = [str(three_systems[name]) for name in ("waves", "heat")]
    words = ["--preset", "joint-1M", "--depth", "2", "--embed_dim", "16", "--num_heads", "2"]
    run = str(tmp_path / "run")
    small = ["--levels", "1", "--detail_dim", "4", "--steps", "1", "--run", run]
    assert main(["train", "--data.paths", *paths, *words, *small]) == 0
    assert main(["compare", run]) == 2
    assert "--system NAME" in capsys.readouterr().err
    assert main(["compare", run, "--system", "nope"]) == 2
    assert "nope" in capsys.readouterr().err
    assert main(["compare", run, "--system", "heat"]) == 0
    assert "VRMSE on heat" in capsys.readouterr().out


def test_data_that_moved_are_named_with_a_way_out(mine, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(mine / "run", run)
    config = run / "config.yaml"
    there = load_joint_settings(run)["systems"][0]["path"]
    config.write_text(config.read_text().replace(there, str(tmp_path / "gone")))
    for words in (["evaluate", str(run)], ["rollout", str(run)]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert "gone, which is not there: say where it is now, --data FOLDER" in said
        assert main([*words, "--data", there]) == 0
    # Those of other data stand beside the run's own.
    assert not (run / "rollout-valid-0.hdf5").exists()
    assert main(["train", "--resume", str(run), "--steps", "2"]) == 2
    assert "move it back, or make a link there" in capsys.readouterr().err


def test_names_are_taken_as_plain_words():
    for values, text in (
        (["u"], '["u"]'),
        (["a", "b"], '["a", "b"]'),
        # What YAML would read as something else.
        (["yes"], '["yes"]'),
        (["a, b"], '["a, b"]'),
        (["[a, b]"], "[a, b]"),
        (["null"], "null"),
    ):
        assert as_list(values) == text


@pytest.mark.parametrize(
    "words",
    [
        ["--data.fields", "pressure"],
        ["--fields=pressure"],
        ["--data.fields", "pressure", "velocity"],
        ["--fields", "[pressure]"],
        ["--fields", "pressure", "--from", "joint-1M"],
    ],
)
def test_fields_are_chosen_by_plain_words(three_systems, tmp_path, words):
    run = tmp_path / "run"
    assert (
        main(["train", str(three_systems["flow"]), "--steps", "1", "--run", str(run), *words]) == 0
    )
    due = ("pressure", "velocity_x", "velocity_y") if "velocity" in words else ("pressure",)
    assert wavelit.evaluate(run).field_names == due


def test_a_joint_start_takes_a_history_by_its_short_name(mine, tmp_path, capsys):
    words = ["train", str(mine / "data"), "--from", "joint-1M", "--steps", "1"]
    run = tmp_path / "run"
    with pytest.warns(UserWarning, match="the trunk alone is taken over"):
        assert main([*words, "--n_steps_input", "2", "--run", str(run)]) == 0
    assert load_joint_settings(run)["systems"][0]["n_steps_input"] == 2
    assert main([*words, "--keep_statistics"]) == 2
    assert "a joint model takes the statistics of the new data" in capsys.readouterr().err
    assert main(["info", "--joint", "joint-1M", "--resolution", "64", "64"]) == 0


def test_an_odd_grid_is_refused_with_a_fix_that_a_trained_model_has(tmp_path):
    waves = plane_waves(8, 12)
    folder = written(tmp_path / "data", np.concatenate([waves, waves[:, :, :2]], 2))
    model = wavelit.load("joint-1M")
    with pytest.raises(WavelitError, match=r"18 points.*give data on another grid, or train anew"):
        for_dataset(model, folder)
    with pytest.raises(WavelitError, match=r"name it, model\[\"acoustic_scattering_maze\"\]"):
        model.predict({})
    with pytest.raises(WavelitError, match="fields must be a tensor, not ndarray"):
        wavelit.load("shear_flow")(np.zeros((1, 4, 4, 16, 32)))


def test_a_thin_grid_has_no_spectrum(tmp_path):
    folder = written(tmp_path / "data", plane_waves(8, 12)[:, :, :2])
    assert diagnose(folder).descriptors.spectral_slope is None


def test_a_field_about_zero_is_opened_without_a_warning(tmp_path):
    u = plane_waves(8, 12)
    u[:, :, ::2] = -u[:, :, 1::2]  # a mean of zero, to the last digit
    folder = written(tmp_path / "data", 1e3 * u)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert WellDataModule(str(folder)).statistics


def test_a_mask_that_masks_nothing_is_told(tmp_path):
    land = np.zeros((16, 16), np.float32)
    land[3] = 2
    given = {"constant_fields": {"land": land}, "mask_field": "land"}
    with pytest.warns(UserWarning, match="'land' is 1 in no cell, so none is left out"):
        written(tmp_path / "data", plane_waves(8, 12), **given)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train x --steps abc", "--train.steps takes a whole number, not abc"),
        (
            "train x --steps 1 --precision 16",
            "--trainer.precision takes 32-true or bf16-mixed, not",
        ),
        ("train x --steps 1 --depth 2.5", "--model.depth takes preset or a whole number, not 2.5"),
        ("train x --steps 1 --compile maybe", "--train.compile takes true or false, not maybe"),
        ("evaluate runs/x --split train", "--split takes valid or test, not train"),
        (
            "train x --steps 1 --data.fields [{a:1}]",
            "--data.fields takes text, not [{'a:1': None}]",
        ),
        ("train x --steps 1 --data.fields=", "--data.fields takes"),
        ("train x --nope 3", "unrecognized arguments: --nope 3"),
    ],
)
def test_options_are_refused_in_plain_words(words, said, capsys):
    assert main(words.split()) == 2
    assert said in capsys.readouterr().err
