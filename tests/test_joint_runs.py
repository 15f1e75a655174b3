"""Runs of joint training: what they leave, resuming, two processes, the commands, and what is
refused.
"""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import wavelit
from runs import ONE_THREAD, differences, run_script, same_weights
from systems import SMALL, joint_data, write_system
from wavelit.cli.program import main
from wavelit.cost import shares_of
from wavelit.data.datamodule import WellDataModule
from wavelit.data.joint import JointDataModule
from wavelit.errors import WavelitError
from wavelit.evaluation.compare_runs import compare_runs
from wavelit.evaluation.joint_runs import evaluate_systems
from wavelit.model.foundation import JointWaveLiT
from wavelit.model.joint_config import JOINT_PRESETS
from wavelit.training.joint import (
    JointTrainConfig,
)
from wavelit.training.joint_configuration import joint_configuration
from wavelit.training.joint_folder import load_joint, load_joint_data
from wavelit.training.joint_run import build_joint, fit_joint, resume_joint

pytestmark = pytest.mark.slow

STEPS = 14
RECIPE = JointTrainConfig(
    steps=STEPS,
    validate_every=5,
    checkpoint_every=4,
    pushforward=2,
    pushforward_from=0.3,
    stability=0.1,
)
SHARES = {"heat": 0.5}
TESTS = str(Path(__file__).parent)


def train(systems, folder) -> JointWaveLiT:
    torch.manual_seed(123)
    data = joint_data({name: Path(path) for name, path in systems.items()}, SHARES)
    return fit_joint(folder, data, build_joint(data, **SMALL), RECIPE, ONE_THREAD)


@pytest.fixture(scope="module", name="run")
def whole_run(three_systems, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("joint") / "whole"
    train(three_systems, folder)
    return folder


def test_a_run_holds_a_curve_for_every_system_and_weights_in_physical_units(run, three_systems):
    rows = list(csv.DictReader((run / "logs" / "metrics.csv").open()))
    for name in three_systems:
        scores = [float(row[f"val_vrmse/{name}"]) for row in rows if row[f"val_vrmse/{name}"]]
        assert len(scores) == 3
        assert scores[-1] < scores[0]
        assert any(row[f"train_loss/{name}"] for row in rows)
    last = [row for row in rows if row["val_vrmse"]][-1]
    each = [float(last[f"val_vrmse/{name}"]) for name in three_systems]
    assert float(last["val_vrmse"]) == pytest.approx(math.prod(each) ** (1 / 3), rel=1e-4)
    model, facts = load_joint(run), json.loads((run / "environment.json").read_text())
    assert facts["steps"] == STEPS
    assert facts["samples"] == STEPS * 4 * 2.5
    assert facts["shared parameters"] == model.n_shared
    data = load_joint_data(run)
    assert data.shares == {"flow": 1.0, "heat": 0.5, "waves": 1.0}
    for name, emulator in model.items():
        assert emulator.signature.field_names == tuple(data.systems[name].field_names)
        batch = next(iter(data.systems[name].windows("valid")))
        following = emulator(batch.fields, *batch.beside())
        error = (following - batch.target[:, 0]).square().mean()
        assert error < (batch.fields[:, -1] - batch.target[:, 0]).square().mean()


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import test_joint_runs
from wavelit.training.joint import JointModule
step = JointModule.training_step
def training_step(self, batch, batch_idx):
    if self.global_step == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)
JointModule.training_step = training_step
test_joint_runs.train({systems!r}, {folder!r})
"""


def test_a_killed_run_ends_like_an_uninterrupted_one(run, three_systems, tmp_path):
    folder = tmp_path / "killed"
    systems = {name: str(path) for name, path in three_systems.items()}
    done = run_script(KILLED.format(tests=TESTS, at=11, systems=systems, folder=str(folder)))
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    # In the middle of the running means, and of the stream of a system of half a share.
    resume_joint(folder)
    checkpoints = [
        torch.load(path / "checkpoints" / "last.ckpt", weights_only=True) for path in (run, folder)
    ]
    assert checkpoints[0]["global_step"] == STEPS
    for key in ("current_model_state", "optimizer_states", "running_losses", "stability"):
        assert key in checkpoints[0], key
    assert differences(*checkpoints) == []
    assert same_weights(run, folder)
    with pytest.raises(WavelitError, match="trained to the end of its budget"):
        resume_joint(folder)


# Two processes on this machine.
PAIR = """
import json, sys
sys.path.insert(0, {tests!r})
from systems import SMALL
from wavelit.cli.program import main
from wavelit.training.joint import JointModule
step = JointModule.training_step
def training_step(self, batch, batch_idx):
    loss = step(self, batch, batch_idx)
    values = [round(running.value, 9) for running in self.running.values()]
    samples = [int(i) for windows in batch.values() for i in windows.indices]
    with open({folder!r} + f"-{{self.global_rank}}", "a") as seen:
        print(json.dumps([samples, values]), file=seen)
    return loss
JointModule.training_step = training_step
small = [word for name, value in SMALL.items() for word in ("--model." + name, str(value))]
sys.exit(main(["train", "--config", {config!r}, "--run", {folder!r},
               "--trainer.accelerator", "cpu", "--trainer.devices", "2", "--train.steps", "4",
               "--train.validate_every", "2", *small]))
"""


@pytest.mark.parametrize("share", [pytest.param(1.0, marks=pytest.mark.slow), 0.5])
def test_two_processes_are_one_training(three_systems, tmp_path, share):
    config, folder = tmp_path / "joint.yaml", tmp_path / "run"
    systems = [
        {"path": str(path), "share": share if name == "heat" else 1.0, "batch_size": 2}
        for name, path in three_systems.items()
    ]
    config.write_text(yaml.safe_dump({"systems": systems}))
    script = tmp_path / "pair.py"
    script.write_text(PAIR.format(tests=TESTS, config=str(config), folder=str(folder)))
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    ranks = [
        [json.loads(line) for line in Path(f"{folder}-{rank}").read_text().splitlines()]
        for rank in (0, 1)
    ]
    assert len(ranks[0]) == len(ranks[1]) == 4
    for (samples, means), (others, theirs) in zip(*ranks, strict=True):
        assert samples != others
        # Both weigh the losses alike.
        assert means == theirs
    assert json.loads((folder / "environment.json").read_text())["samples"] == 4 * 4 * (2 + share)
    assert load_joint(folder)


def test_evaluate_scores_every_system_and_reports_one(run, tmp_path):
    scores = evaluate_systems(run, out=tmp_path)
    assert sorted(scores) == ["flow", "heat", "waves"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"evaluation-{name}-valid.json" for name in ("flow", "heat", "waves")
    ]
    one = wavelit.evaluate(run, system="flow", out=tmp_path)
    assert "growth of the linear part" in (tmp_path / "report-flow-valid.html").read_text()
    np.testing.assert_array_equal(
        one.scores[one.model].one_step, scores["flow"].scores[one.model].one_step
    )
    page = tmp_path / "compared.html"
    beside = compare_runs([run], system="flow", report=page)
    np.testing.assert_array_equal(beside.scores[run.name].one_step, one.scores[one.model].one_step)
    assert page.exists()
    rows = list(csv.DictReader((run / "logs" / "metrics.csv").open()))
    last = [float(row["val_vrmse/flow"]) for row in rows if row["val_vrmse/flow"]][-1]
    assert one.last_validation == pytest.approx(last)
    for weights in ("final", "best"):
        assert isinstance(wavelit.load(run, weights), JointWaveLiT)


def test_the_commands_train_and_score_several_datasets(
    three_systems, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "joint.yaml"
    model = {**SMALL, "adapters": "system"}
    content = {
        "data": {"paths": [str(three_systems["waves"])], "batch_size": 2},
        "systems": [{"path": str(three_systems["flow"]), "name": "channel", "batch_size": 3}],
        "model": model,
        "train": {"samples": 3000, "validate_every": 3},
        "trainer": {"accelerator": "cpu"},
    }
    config.write_text(yaml.safe_dump(content))
    command = ["train", "--config", str(config), "--run", "run", "--train.lr", "0.001"]
    assert main([*command, "--train.steps=2", "--train.validate_every", "2"]) == 0
    said = capsys.readouterr().out
    assert "2 systems:" in said
    assert "channel 0." in said
    settings = yaml.safe_load(Path("run/config.yaml").read_text())
    assert settings["train"]["lr"] == 0.001
    assert settings["train"]["steps"] == 2
    assert [system["batch_size"] for system in settings["systems"]] == [3, 2]
    assert load_joint("run").config.adapters == "system"
    assert main(["evaluate", "run"]) == 0
    said = capsys.readouterr().out
    assert "VRMSE on flow" in said
    assert "VRMSE on waves" in said
    assert main(["rollout", "run", "--system", "waves"]) == 0
    assert Path("run/rollout-waves-valid-0.hdf5").exists()
    paths = [str(three_systems[name]) for name in ("waves", "heat")]
    small = [word for name, value in SMALL.items() for word in (f"--model.{name}", str(value))]
    budget = ["--steps", "1", "--validate_every=1", "--trainer.accelerator", "cpu"]
    assert main(["train", *paths, *budget, *small]) == 0
    # A folder before a file that names others is one more system.
    config.write_text(yaml.safe_dump({**content, "data": {}}))
    words = ["train", paths[1], "--config", str(config), "--run", "more"]
    assert main([*words, "--steps", "1", "--validate_every", "1"]) == 0
    assert list(load_joint("more")) == ["channel", "heat"]
    assert list(load_joint("runs/joint-2-joint-1M")) == ["heat", "waves"]


def test_python_takes_a_list_of_folders(three_systems, tmp_path):
    paths = [three_systems[name] for name in ("waves", "flow")]
    data = JointDataModule(paths)
    model = wavelit.fit(
        tmp_path / "run", data, build_joint(data, **SMALL), steps=1, validate_every=1
    )
    assert list(model) == ["flow", "waves"]
    again = wavelit.fit(
        tmp_path / "again", dict(zip("ab", paths, strict=True)), steps=1, validate_every=1
    )
    assert list(again) == ["a", "b"]
    # The preset: two blocks, with stencils and gains of each system's own.
    assert again["a"].config.depth == 2
    assert again.config.own == ("stencils", "gains")


@pytest.mark.parametrize("path", sorted(Path("configs/joint").glob("*.yaml")), ids=str)
def test_configs_name_what_is_known(path):
    asked = joint_configuration(yaml.safe_load(path.read_text()), str(path))
    assert asked.preset in JOINT_PRESETS
    assert len(asked.data.systems) == 8


def test_what_systems_share_is_printed(run, capsys):
    assert main(["info", "--joint", str(run), "--resolution", "16", "16"]) == 0
    said = capsys.readouterr().out
    model = load_joint(run)
    assert model.describe() in said
    for name, shares in shares_of(model, (16, 16)).items():
        assert f"{name} " in said
        assert shares.parameters == model[name].n_parameters
        assert 0 < shares.shared_flops / shares.flops < 1
    first = {"mixers": "attention", "detail_gate": False, "detail_bound": False}
    for shares in shares_of(build_joint(load_joint_data(run), **SMALL, **first), (16, 16)).values():
        assert 0.5 < shares.shared_flops / shares.flops < 1
    private = build_joint(load_joint_data(run), trunk="private", **SMALL)
    for shares in shares_of(private, (16, 16)).values():
        assert shares.shared_flops == 0


# ------------------------------------------------------------------------------------ bad input


def rod(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    return wavelit.write_dataset(
        folder,
        {"pressure": rng.normal(size=(4, 8, 16)).cumsum(1)},
        splits={"train": 2, "valid": 1, "test": 1},
        name="rod",
        boundary_conditions=["periodic"],
    )


def test_mistakes_name_the_system_and_write_nothing(three_systems, tmp_path):
    waves, flow = str(three_systems["waves"]), str(three_systems["flow"])
    (tmp_path / "empty").mkdir()
    line = str(rod(tmp_path / "rod"))
    short = str(write_system(tmp_path / "short", "heat", (1, 1, 1), n_steps=6))
    mistakes = [
        ([], "name the datasets"),
        ([waves, waves], r"system 'waves' is there twice, .* give each a name of its own"),
        ([waves, str(tmp_path / "empty")], r"empty"),
        ({"a": waves, "b": str(tmp_path / "nothing")}, r"system 'b': .*nothing"),
        ([waves, line], r"system 'rod' has 1 axes, 'waves' has 2"),
        ([waves, short], r"system 'heat': 2 training windows cannot fill one step"),
        ({"a": waves, 3: waves}, r"a system's name must be text, not 3"),
        ({"a": waves, "b": 3}, r"system 'b': its data must be a WellDataModule"),
    ]
    for systems, message in mistakes:
        with pytest.raises(WavelitError, match=message) as refused:
            wavelit.fit(tmp_path / "run", systems, steps=1)
        assert "\n" not in str(refused.value)
        assert not (tmp_path / "run").exists()
    alone = build_joint(JointDataModule([waves]), **SMALL)
    for model in (alone, alone["waves"]):
        with pytest.raises(WavelitError, match=r"datasets by name, also on one: give {name"):
            wavelit.fit(tmp_path / "run", waves, model)
    with pytest.raises(WavelitError, match="several datasets need a joint model"):
        wavelit.fit(tmp_path / "run", [waves, flow], wavelit.load("shear_flow"))
    with pytest.raises(WavelitError, match="unknown preset 'nono'"):
        wavelit.fit(tmp_path / "run", [waves, flow], "nono")
    other = build_joint(JointDataModule([flow]), **SMALL)
    with pytest.raises(WavelitError, match="the model has the systems flow, the data waves"):
        wavelit.fit(tmp_path / "run", [waves], other)
    assert not (tmp_path / "run").exists()


def test_a_joint_run_is_not_taken_for_another(run, tmp_path):
    for call in (
        lambda: wavelit.evaluate(run),
        lambda: wavelit.record_rollout(run),
        lambda: wavelit.load_model(run),
    ):
        with pytest.raises(WavelitError, match=r"joint run of flow, heat, waves: name one of them"):
            call()
    with pytest.raises(WavelitError, match=r"no system 'smoke': it has flow, heat, waves"):
        wavelit.evaluate(run, system="smoke")
    data = WellDataModule(load_joint_data(run).systems["waves"].path)
    bespoke = tmp_path / "bespoke"
    wavelit.fit(bespoke, data, "nano", steps=1, validate_every=1)
    with pytest.raises(WavelitError, match="is the run of one system, not a joint one"):
        wavelit.evaluate(bespoke, system="waves")


def test_a_run_goes_on_with_its_own_data_alone(run, three_systems, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "weights")
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    other = write_system(tmp_path / "other", "flow", seed=1)
    settings["systems"][0]["path"] = str(other)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(WavelitError, match=r"system 'flow': .* is not what .* was trained on"):
        resume_joint(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"systems": 3}, "systems must be a list of datasets, not 3"),
        ({"systems": [{"name": "a"}]}, "has no path"),
        ({"systems": []}, "names no dataset"),
        ({"systems": [{"path": "x", "colour": 1}]}, "unknown entry 'colour'"),
        ({"data": {"paths": "x"}}, "paths must be a list of folders, not 'x'"),
        ({"data": {"paths": ["nowhere"]}}, "nowhere"),
        ({"data": {"paths": ["x"]}, "model": {"n_things": 1}}, "unknown entry 'n_things'"),
        ({"data": {"paths": ["x"]}, "train": {"steps": 1, "b": 1}}, "unknown entry 'b'"),
    ],
)
def test_settings_of_joint_trainings_are_checked(content, message, tmp_path, capsys):
    path = tmp_path / "joint.yaml"
    path.write_text(yaml.safe_dump({"train": {"steps": 1}, **content}))
    assert main(["train", "--config", str(path), "--run", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_options_of_joint_trainings_are_checked(three_systems, tmp_path, capsys):
    waves = str(three_systems["waves"])
    for words, message in (
        (["--colour", "1"], "unknown option --colour"),
        (["--seed", "1", "2"], "2/data/train: no such folder"),
        (["--seed", "much"], "seed must be a whole number"),
    ):
        command = ["train", "--data.paths", waves, "--train.steps", "1", *words]
        assert main([*command, "--run", str(tmp_path / "run")]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
