"""Scores are of what the model was trained to read, and say what they rest on: what a second
reader of evaluations and rollouts fell over.
"""

import json
import shutil

import h5py
import numpy as np
import pytest
import torch

import wavelit
from wavelit.cli.program import main
from wavelit.errors import WavelitError
from wavelit.evaluation.averages import Scores
from wavelit.evaluation.scores import Evaluation
from wavelit.evaluation.symmetry import symmetry_ratios
from wavelit.evaluation.verdict import verdict

pytestmark = pytest.mark.usefixtures("undrawn")

OPTIONS = {
    "splits": {"train": 4, "valid": 1, "test": 1},
    "boundary_conditions": ["periodic", "periodic"],
}
U = np.random.default_rng(0).normal(size=(6, 12, 16, 16)).cumsum(1)
RHO = np.exp(np.random.default_rng(1).normal(size=(6, 16, 16)))
MASK = np.zeros((16, 16))
MASK[:4] = 1


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name, fields=None, **options):
    return wavelit.write_dataset(name, fields or {"u": U}, name=name, **{**OPTIONS, **options})


def train(run, data, steps=1):
    small = wavelit.build_model(data, "nano", embed_dim=16, num_heads=2)
    return wavelit.fit(run, data, small, steps=steps)


def one_step(scores):
    return float(scores.scores[scores.model].one_step.mean())


@pytest.mark.long
def test_a_loaded_model_reads_data_as_its_run_did(here):
    write("a", {"u": U, "w": U[::-1], "f": U[:, ::-1]}, constant_fields={"rho": RHO, "m": MASK})
    choice = {"log_constants": ["rho"], "mask_field": "m", "fields": ["u", "w"], "forcings": ["f"]}
    model = train("r", wavelit.WellDataModule("a", **choice))
    assert one_step(wavelit.evaluate(model, "a")) == one_step(wavelit.evaluate("r"))
    # In another order the channels would be others.
    write("b", {"w": U[::-1], "u": U, "f": U[:, ::-1]}, constant_fields={"rho": RHO, "m": MASK})
    with pytest.raises(WavelitError, match="has the fields w, u; the model takes u, w"):
        wavelit.evaluate(model, "b")
    raw = wavelit.WellDataModule("a", **{**choice, "log_constants": None})
    with pytest.raises(WavelitError, match=r"has the constants rho, .*; the model takes log rho, "):
        wavelit.evaluate(model, raw)
    whole = wavelit.WellDataModule("a", **{**choice, "mask_field": None})
    with pytest.raises(WavelitError, match="the model leaves out cells where 'm' is 1"):
        wavelit.evaluate(model, whole)


def test_a_model_is_judged_on_what_it_can_see(here):
    """As its run is: of data with other boundaries, or a scalar without the logarithm that it sees,
    a score would say nothing.
    """
    write("a", scalars={"Re": np.linspace(1, 100, 6)})
    model = wavelit.build_model(wavelit.WellDataModule("a"), "nano", embed_dim=16, num_heads=2)
    assert model.normalizer.scalar_log.tolist() == [True]
    write("walls", scalars={"Re": np.ones(6)}, boundary_conditions=["wall", "periodic"])
    with pytest.raises(WavelitError, match=r"walls has the boundaries .*; the model was trained"):
        wavelit.evaluate(model, "walls")
    write("still", scalars={"Re": np.arange(6.0)[::-1]})
    with pytest.raises(WavelitError, match="has scalar 'Re' 0, of which the model sees the log"):
        wavelit.evaluate(model, "still", "test")
    lines = {name: np.arange(16) * step for name, step in (("x", 1.0), ("y", 3.0))}
    write("wide", scalars={"Re": np.ones(6)}, coordinates=lines, time=2.0 * np.arange(12))
    with pytest.warns(UserWarning, match="which it assumes") as told:
        wavelit.evaluate(model, "wide")
    texts = [str(each.message) for each in told]
    assert any("has cells of 1 x 3; the model was trained on" in text for text in texts)
    assert any("has the time step 2; the model was trained with 1 to 1" in text for text in texts)
    assert all(each.filename == __file__ for each in told if "trained" in str(each.message))


def test_models_by_name_and_joint_ones_are_judged_too(here):
    write("a")
    with pytest.raises(WavelitError, match="fields names 'tracer', which does not vary"):
        wavelit.evaluate("shear_flow", "a")
    with pytest.raises(WavelitError, match="scored on data"):
        wavelit.evaluate("shear_flow")
    joint = wavelit.load("joint-1M")
    with pytest.raises(WavelitError, match=r"a joint model of .*: name one"):
        wavelit.evaluate(joint, "a")
    for given in (joint, "joint-1M", joint["shear_flow"]):
        with pytest.raises(WavelitError, match="fields names 'tracer', which does not vary"):
            wavelit.evaluate(given, "a", system="shear_flow")
    for judge in (wavelit.evaluate, wavelit.export):
        with pytest.raises(WavelitError, match="'active_matter': the model is shear_flow alone"):
            judge(joint["shear_flow"], "a", system="active_matter")


def test_the_command_judges_a_model_by_its_name(here, capsys):
    write("a")
    model = wavelit.build_model(wavelit.WellDataModule("a"), "nano", embed_dim=16, num_heads=2)
    model.save_pretrained("saved")
    assert main(["evaluate", "saved", "--data", "a", "--records", "scores.csv"]) == 0
    said = capsys.readouterr().out
    assert "model" in said
    assert "linear stencil" in said
    assert "report" not in said
    scores = wavelit.evaluate(model, "a")
    assert f"{one_step(scores):.4f}" in said
    assert main(["evaluate", "saved"]) == 2
    assert "scored on data: name a dataset folder" in capsys.readouterr().err
    assert main(["evaluate", "saved", "--data", "a", "--out", "there"]) == 2
    assert "--out is for runs, and this is a model by its name" in capsys.readouterr().err


def test_a_model_is_judged_where_it_is(here):
    write("a")
    model = wavelit.build_model(wavelit.WellDataModule("a"), "nano", embed_dim=16, num_heads=2)
    here, there = (wavelit.evaluate(model, "a", device=each) for each in (None, "cpu"))
    assert one_step(here) == one_step(there)
    with pytest.raises(WavelitError, match="device 'nowhere' cannot be used here"):
        wavelit.evaluate(model, "a", device="nowhere")


@pytest.mark.long
def test_training_windows_are_those_of_the_training(here):
    write("a")
    train("r", wavelit.WellDataModule("a", trajectories=1, batch_size=2))
    ours = wavelit.evaluate("r").training_error
    shutil.move("a", "moved")
    assert wavelit.evaluate("r", "moved").training_error == ours
    write("b", {"u": 2 * U[:, ::-1]})
    elsewhere = wavelit.evaluate("r", "b")
    assert elsewhere.training_error is None
    assert elsewhere.last_validation is None
    shutil.move("b", "a")
    with pytest.warns(UserWarning, match="holds other data than r was trained on"):
        assert wavelit.evaluate("r").training_error is None


@pytest.mark.long
def test_what_was_held_out_is_no_validation_split(here):
    write("a")
    train("r", wavelit.WellDataModule("a", holdout=0.5, batch_size=2))
    found = wavelit.evaluate("r")
    assert "Scored on the last 50% of the time of the training trajectories" in str(found)
    saved = json.loads((here / "r" / "evaluation-valid.json").read_text())
    assert Evaluation.from_dict(saved).held_out == 0.5


@pytest.mark.long
def test_a_model_that_has_learned_nothing_is_not_asked_of_symmetries(here):
    write("a")
    model = train("r", wavelit.WellDataModule("a"))
    with pytest.warns(UserWarning, match="learned so little says nothing of symmetries"):
        symmetry_ratios(model, wavelit.WellDataModule("a"), "flip:x")


@pytest.mark.long
def test_a_run_without_its_curve_is_scored(here):
    write("a")
    train("r", wavelit.WellDataModule("a"))
    shutil.rmtree("r/logs")
    with pytest.warns(UserWarning, match="there is no learning curve"):
        assert wavelit.evaluate("r").last_validation is None
    assert (here / "r" / "report-valid.html").exists()


@pytest.mark.long
def test_a_network_of_ones_own_is_exported(here):
    write("a")
    model = wavelit.fit("r", "a", model=torch.nn.Conv2d(4, 1, 3, padding=1), steps=1)
    assert wavelit.export(model, "net.pt2", (16, 16)).difference < 1e-6


@pytest.mark.long
def test_a_rollout_is_written_with_all_that_its_trajectory_has(here):
    units = {"u": "K", "rho": "kg m-3", "Re": "1", "time": "s"}
    write("a", {"u": U, "f": U[:, ::-1]}, forcings=["f"],
          constant_fields={"rho": RHO, "m": MASK}, units=units, mask_field="m",
          scalars={"Re": np.arange(6) + 1.0, "G": U[:, :, 0, 0]})  # fmt: skip
    train("r", wavelit.WellDataModule("a", log_constants=["rho"]))
    assert main(["rollout", "r", "--field", "u"]) == 0
    with h5py.File("r/rollout-valid-0.hdf5") as file:
        assert [file["t0_fields"][name].attrs["units"] for name in ("u", "truth_u")] == ["K", "K"]
        counted = MASK == 0
        assert np.allclose(file["t0_fields/rho"][0][counted], RHO[4][counted], rtol=1e-5)
        assert np.array_equal(file["t0_fields/m"][0], MASK)
        assert (file.attrs["mask_field"], file.attrs["Re"]) == ("m", 5.0)
        assert file["dimensions/time"].attrs["units"] == "s"
        steps = slice(4, None)
        assert np.allclose(file["t0_fields/f"][0][:, counted], U[4, ::-1][steps][:, counted])
        assert np.allclose(file["scalars/G"][0], U[4, steps, 0, 0])
        assert set(file.attrs["forcings"]) == {"f", "G"}


def test_a_report_names_units(here):
    """By channel; a field whose unit is not known stands without one."""
    units = {"p": "Pa", "u": "m s-1", "time": "h"}
    write("a", {"p": U, "u": np.stack([U, -U], -1), "n": U}, units=units, time=np.arange(12) / 4)
    data = wavelit.WellDataModule("a")
    train("r", data)
    assert data.train_dataset.field_units == {"p": "Pa", "u_x": "m s-1", "u_y": "m s-1"}
    assert "A step is 0.25 h." in wavelit.evaluate("r").remarks()
    shown = '"fields":["p (Pa)","n","u_x (m s-1)","u_y (m s-1)"]'
    page = (here / "r" / "report-valid.html").read_text(encoding="utf8")
    assert shown in page
    assert '"time":{"step":0.25,"unit":"h"}' in page


def test_a_place_that_cannot_be_written_is_refused_before_the_work(here, capsys, monkeypatch):
    write("a")
    train("r", wavelit.WellDataModule("a"))
    (here / "closed").write_text("a file")
    # The work, which would fail.
    for work in ("evaluate_run.evaluate", "evaluate_run.roll_out_one", "compare_runs._rollouts"):
        monkeypatch.setattr(f"wavelit.evaluation.{work}", None)
    for words in (
        "evaluate r --records closed/scores.csv",
        "evaluate r --out closed/here",
        "compare r --report closed/page.html",
        "rollout r --out closed",
    ):
        assert main(words.split()) == 2
        assert "closed: Not a directory" in capsys.readouterr().err


@pytest.mark.long
def test_compared_runs_say_how_many_starts_they_have(here, capsys):
    long = np.random.default_rng(0).normal(size=(1, 120, 16, 16)).cumsum(1)
    wavelit.write_dataset("a", {"u": long}, name="a", split_in_time=(0.6, 0.2, 0.2),
                          boundary_conditions=["periodic"] * 2)  # fmt: skip
    for run in ("r", "q"):
        train(run, wavelit.WellDataModule("a"))
    alone = wavelit.evaluate("r").starts
    assert alone > 1
    assert main(["compare", "r", "q", "--report", "c.html"]) == 0
    assert f"from {alone} starts" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evaluate r --symmetries shift --records s.csv", "--records changes nothing of what"),
        ("rollout r --output elsewhere", "--output is for --pretrained, and --out for a run"),
        ("info --resolution 32 32", "--resolution needs --preset or --joint"),
        ("info --joint joint-1M --fields 7", "--fields says nothing of a joint model"),
    ],
)
def test_options_without_effect_are_refused(words, message, here, capsys):
    assert main(words.split()) == 2
    assert message in capsys.readouterr().err


def scores_of(value, n_rollouts=100):
    return Scores(np.full((10, 1), value), np.full((n_rollouts, 50, 1), value))


def test_a_last_step_or_one_rollout_of_many_does_not_decide_the_case():
    beside = {"persistence": scores_of(1.0)}
    ours = scores_of(0.05)
    ours.rollout[3, -1] = 3.1
    assert verdict("m", {"m": ours, **beside}).startswith("Better than persistence")
    ours.rollout[3, -5:] = 3.1
    said = verdict("m", {"m": ours, **beside})
    assert said.startswith("Better than persistence")
    assert "Unstable from step 46 on: in 1 of 100 rollouts" in said
    ours.rollout[:20, -5:] = 3.1
    assert verdict("m", {"m": ours, **beside}).startswith("Unstable from step 46 on: in 20 of 100")


def test_an_exact_model_has_a_case():
    beside = {"persistence": scores_of(1.0)}
    assert "far above the 0" in verdict("m", {"m": scores_of(0.3), **beside}, 0.0)
    still = {"m": scores_of(0.0), "persistence": scores_of(0.0)}
    assert verdict("m", still).startswith("No better than persistence")


def test_weights_are_those_of_a_run(here):
    write("a")
    with pytest.raises(WavelitError, match="weights are for run folders"):
        wavelit.evaluate(lambda fields, *_: fields[:, -1], "a", weights="best")


def test_a_network_that_is_no_emulator_is_told_before_it_is_called(here):
    write("a")
    with pytest.raises(WavelitError, match=r"where an emulator takes .*: train a network by"):
        wavelit.evaluate(torch.nn.Conv2d(4, 1, 5, padding=2), "a")
