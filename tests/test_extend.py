"""A run that is given a larger budget, or replaced; the budget that is named last."""

import csv
import dataclasses
import json
import shutil

import pytest
import torch
import yaml

import wavelit
from runs import differences, wave_dataset  # noqa: F401, a fixture
from wavelit.cli.options import budgets
from wavelit.cli.program import main
from wavelit.errors import WavelitError
from wavelit.training.config import TrainConfig
from wavelit.training.run_folder import load_settings
from wavelit.training.run_state import is_trained
from wavelit.training.schedule import learning_rate_factor

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("undrawn")]

SMALL = {"embed_dim": 16, "num_heads": 2, "depth": 2, "levels": 1}


def begin(folder, dataset, **recipe):
    data = wavelit.WellDataModule(dataset)
    model = wavelit.build_model(data, "nano", **SMALL)
    return wavelit.fit(folder, data, model, checkpoint_every=3, **recipe)


@pytest.fixture(scope="module", name="ended")
def ended_run(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ended") / "run"
    begin(folder, dataset, steps=8)
    return folder


def rates(folder) -> dict[int, float]:
    with (folder / "logs" / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row["lr"]) for row in csv.DictReader(file) if row["lr"]}


def test_the_schedule_begins_anew_where_a_run_was_extended():
    plain = TrainConfig(steps=100, warmup=0.1)
    longer = TrainConfig(steps=120, warmup=0.1, restart_at=0.5)
    for step in range(101):
        due = learning_rate_factor(step / 100, plain, 100)
        found = learning_rate_factor((100 + step) / 200, longer, 200)
        assert found == pytest.approx(due, abs=1e-12)
        if step < 100:
            found = learning_rate_factor(step / 200, longer, 200)
            assert found == pytest.approx(due, abs=1e-12)


def test_an_ended_run_goes_on(ended, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(ended, folder)
    before = wavelit.load(folder)
    model = wavelit.resume(folder, steps=12)
    assert "extended from step 8 to 12 steps" in capsys.readouterr().out
    assert differences(before.state_dict(), model.state_dict())
    assert load_settings(folder)["train"]["steps"] == 12
    outcome = json.loads((folder / "environment.json").read_text())
    assert outcome["steps"] == 12
    assert outcome["extended_from"][0]["steps"] == 8
    assert is_trained(folder)
    with pytest.raises(WavelitError, match="has had 12 steps"):
        wavelit.resume(folder, steps=12)


def test_an_extension_that_was_cut_resumes_bit_for_bit(ended, dataset, tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        shutil.copytree(ended, folder)
    wavelit.resume(whole, steps=12)

    class Stop(wavelit.training.run.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 10:
                raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        wavelit.resume(cut, steps=12, callbacks=[Stop()])
    # The weights of the first end are there, and are not those of the run.
    assert not is_trained(cut)
    wavelit.load(cut)
    wavelit.resume(cut)
    assert not differences(*(wavelit.load(f).state_dict() for f in (whole, cut)))


def test_a_run_ends_with_a_checkpoint_to_extend_from(ended):
    """Its budget is no multiple of the steps between checkpoints."""
    state = torch.load(ended / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 8


def test_a_run_that_was_interrupted_takes_the_larger_budget(dataset, tmp_path, capsys):
    class Stop(wavelit.training.run.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 5:
                raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        begin(tmp_path / "run", dataset, steps=8, callbacks=[Stop()])
    wavelit.resume(tmp_path / "run", steps=12)
    assert "goes on over the larger budget" in capsys.readouterr().out
    assert load_settings(tmp_path / "run")["train"]["restart_at"] == 0


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"steps": 8}, "has had 8 steps: extend it to more"),
        ({"samples": 8}, "has had 32 samples"),
        ({"steps": 3, "samples": 9}, "one budget"),
        ({"steps": "many"}, "steps must be a whole number"),
        ({}, "trained to the end"),
    ],
)
def test_a_budget_that_is_no_larger_is_refused(budget, message, ended):
    before = {path: path.read_bytes() for path in ended.glob("*.*")}
    with pytest.raises(WavelitError, match=message):
        wavelit.resume(ended, **budget)
    assert before == {path: path.read_bytes() for path in ended.glob("*.*")}


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["steps", {"epochs": 3}])
def test_a_budget_that_is_none_is_refused(budget, ended):
    with pytest.raises(WavelitError, match="budget: "):
        wavelit.training.run.resume(ended, budget=budget)


def test_what_a_recipe_did_not_have_yet_stays_away(ended, tmp_path):
    """Settings of an older version lack entries: the run goes on as it began, not by what the
    defaults have become since.
    """
    folder = tmp_path / "run"
    shutil.copytree(ended, folder)
    path = folder / "config.yaml"
    settings = yaml.safe_load(path.read_text())
    for name in TrainConfig.LATER:
        del settings["train"][name]
    path.write_text(yaml.safe_dump(settings))
    wavelit.resume(folder, steps=9)
    recipe = load_settings(folder)["train"]
    assert (recipe["field_loss"], recipe["noise_end"]) == ("mse", 1.0)
    known = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    assert set(TrainConfig.LATER) <= set(known)


def test_the_command_extends(ended, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(ended, folder)
    assert main(["train", "--resume", str(folder), "--train.steps", "1e1"]) == 0
    assert "extended from step 8 to 10 steps" in capsys.readouterr().out
    assert main(["train", "--resume", str(folder), "--samples", "44"]) == 0
    assert "to 44 samples" in capsys.readouterr().out
    assert main(["train", "--resume", str(folder), "--lr", "1"]) == 2


def test_a_run_is_replaced_if_asked(ended, dataset, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(ended, folder)
    (folder / "report-valid.html").write_text("of the old run")
    (folder / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(WavelitError, match="--overwrite"):
        begin(folder, dataset, steps=2)
    with pytest.raises(WavelitError, match="noise"):
        begin(folder, dataset, steps=2, noise=-1, overwrite=True)
    with pytest.raises(WavelitError, match="n_steps_output"):
        begin(folder, dataset, steps=2, pushforward=3, overwrite=True)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    begin(folder, dataset, steps=2, overwrite=True)
    assert load_settings(folder)["train"]["steps"] == 2
    assert not (folder / "report-valid.html").exists()
    assert (folder / "notes.txt").read_text() == "mine"
    assert not (folder / "checkpoints" / "previous.ckpt").exists() or max(rates(folder)) < 2


def test_what_is_no_run_is_not_replaced(dataset, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.yaml").write_text("of: something else\n")
    with pytest.raises(WavelitError):
        begin(folder, dataset, steps=2, overwrite=True)
    assert (folder / "config.yaml").read_text() == "of: something else\n"


@pytest.mark.parametrize(
    ("words", "due"),
    [
        (["--train.samples", "8"], {"samples"}),
        (["--train.minutes=0.1"], {"minutes"}),
        ([], {"steps"}),
        (["--config", "other.yaml"], {"samples"}),
        (["--train.steps", "3", "--config=other.yaml"], {"samples"}),
        (["--run", "samples", "--config", "none.yaml"], {"steps"}),
        (["--train.steps", "3", "--train.minutes", "1"], {"steps", "minutes"}),
    ],
)
def test_the_budget_that_is_named_last_holds(words, due, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in (("a", "{steps: 5}"), ("other", "{samples: 9}"), ("none", "{lr: 0.1}")):
        (tmp_path / f"{name}.yaml").write_text(f"train: {text}\n")
    assert {"steps", "samples", "minutes"} - budgets(["--config", "a.yaml", *words]) == due


def test_a_command_goes_before_its_configuration(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(
        f"data: {{path: {dataset}}}\nmodel: {{embed_dim: 16, num_heads: 2}}\n"
        "train: {steps: 1e1, validate_every: 1e9}\n"
    )
    assert main(["train", "--config", "a.yaml", "--run", "run", "--samples", "8"]) == 0
    train = load_settings(tmp_path / "run")["train"]
    assert (train["steps"], train["samples"], train["validate_every"]) == (None, 8, 10**9)


def test_two_budgets_in_one_place_are_refused(dataset, tmp_path, capsys):
    words = ["train", str(dataset), "--run", str(tmp_path / "run")]
    assert main([*words, "--steps", "2", "--minutes", "1"]) == 2
    assert "one budget" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "due"), [("1e1", 10), ("1.5e1", 15), ("2.E0", 2)])
def test_whole_numbers_may_have_an_exponent(text, due):
    assert TrainConfig(steps=text).steps == due
    assert TrainConfig(steps=1, lr="1e-3").lr == 1e-3
    with pytest.raises(WavelitError, match=r"not 0\.15"):
        TrainConfig(steps="1.5e-1")


def test_help_names_no_types_of_python(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for leak in ("<function", "Union[", "Literal[", "PathLike", " object at 0x"):
        assert leak not in said, leak
    assert "(type: mapping" in said
