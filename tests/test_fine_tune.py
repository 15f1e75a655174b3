"""A trained joint model on other data: what it knows is kept by name, a frozen trunk stays as it is
bit for bit, and what comes of it is a run like any.
"""

import dataclasses
import json
import shutil
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml

import wavelit
from runs import ONE_THREAD, differences, run_script, same_weights
from systems import SMALL, randomised, write_system
from wavelit.cli.program import main
from wavelit.data.datamodule import WellDataModule
from wavelit.data.joint import JointDataModule
from wavelit.errors import WavelitError
from wavelit.evaluation.compare_runs import compare_runs
from wavelit.model.foundation import JointWaveLiT, SystemEmulator
from wavelit.model.vocabulary import key_of
from wavelit.training.fine_tune import for_dataset, made_ready
from wavelit.training.joint import JointModule, JointTrainConfig
from wavelit.training.joint_folder import load_joint, load_joint_data
from wavelit.training.joint_run import build_joint, fit_joint, resume_joint
from wavelit.training.transfer import names_of, take
from waves import plane_waves

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("undrawn")]

RECIPE = {"steps": 3, "validate_every": 3, "noise": 0.05}
CHOICES = {
    "field": {"adapters": "field"},
    "system": {"adapters": "system"},
    "rank": {"adapters": "field", "rank": 2},
}


@pytest.fixture(scope="module", name="trained", params=CHOICES)
def trained_model(request, three_systems):
    """A model of waves and flow, as if trained."""
    data = JointDataModule({name: three_systems[name] for name in ("waves", "flow")})
    return randomised(build_joint(data, **SMALL, **CHOICES[request.param]))


@pytest.fixture(scope="module", name="run")
def joint_run(three_systems, tmp_path_factory) -> Path:
    """A joint run of waves and flow, whose blocks are shared whole."""
    folder = tmp_path_factory.mktemp("joint") / "run"
    data = JointDataModule({name: three_systems[name] for name in ("waves", "flow")})
    model = build_joint(data, **SMALL, adapters="field", own=())
    fit_joint(folder, data, model, JointTrainConfig(**RECIPE), ONE_THREAD)
    return folder


def write_jet(folder: Path, fields: str = "pvd", side: int = 16) -> Path:
    """Pressure and velocity as in flow, and a dye that no other system has."""
    u = plane_waves(5, 8, seed=7)
    values = {
        "dye": 0.1 * u**2,
        "pressure": 0.5 * u,
        "velocity": np.stack([u[:, :, ::-1], 2.0 * u.swapaxes(2, 3) + 1.0], -1),
    }
    return wavelit.write_dataset(
        folder,
        {name: values[name][:, :, :side] for name in values if name[0] in fields},
        splits={"train": 3, "valid": 1, "test": 1},
        name="jet",
        boundary_conditions=["periodic", "wall"],
        scalars={"viscosity": np.linspace(5.0, 20.0, 5)},
    )


def batch_of(data: WellDataModule):
    dataset = data.train_dataset
    return dataset.collate(dataset.__getitems__([0, 5]))


def doubled(model: SystemEmulator, batch) -> torch.Tensor:
    """In float64, so that what differs is no rounding."""
    copy = model.alone()[model.name].double()
    return copy(batch.fields.double(), *(x if x is None else x.double() for x in batch.beside()))


def test_the_architecture_of_a_system_is_that_of_the_model(run, three_systems, tmp_path, capsys):
    """An entry that would change it is not passed over."""
    path, new = tmp_path / "settings.yaml", tmp_path / "new"
    system = {"path": str(three_systems["flow"]), "model": {"conserve": False}}
    path.write_text(yaml.safe_dump({"systems": [system], "train": {"steps": 1}}))
    assert main(["train", "--config", str(path), "--from", str(run), "--run", str(new)]) == 2
    assert "leave model out of flow" in capsys.readouterr().err
    assert not new.exists()


def test_a_system_of_the_same_name_is_taken_whole(trained, three_systems, capsys):
    data = WellDataModule(three_systems["flow"])
    fine = for_dataset(trained, data)
    assert capsys.readouterr().out == "flow starts from flow: fields taken pressure, velocity\n"
    assert (list(fine), fine.trained, fine.training) == (["flow"], True, False)
    ours, theirs = fine["flow"].state_dict(), trained["flow"].state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=0, msg=name)
    assert fine["flow"].signature == trained["flow"].signature


def test_the_nearest_system_gives_what_both_have(trained, tmp_path, capsys):
    """The first prediction of known fields is that of the system, in the same units."""
    data = WellDataModule(write_jet(tmp_path / "jet"))
    fine = for_dataset(trained, data)
    said = capsys.readouterr().out
    assert said == "jet starts from flow: fields taken pressure, velocity; new dye\n"
    old, new = trained["flow"], fine["jet"]
    assert [each.name for each in new.signature.fields] == ["dye", "pressure", "velocity"]
    means = torch.tensor(data.statistics.mean)
    torch.testing.assert_close(new.normalizer.mean, means.float())
    before = new.normalizer.mean.clone()
    # Statistics are those of the data; for the comparison, those of what is known are not.
    buffers = {name for name, _ in new.named_buffers()}
    take(old, new, names_of(old.signature), names_of(new.signature), True, buffers)
    assert not torch.equal(before, new.normalizer.mean)
    batch = batch_of(data)
    known = batch._replace(fields=batch.fields[:, :, 1:])
    torch.testing.assert_close(
        doubled(new, batch)[:, 1:], doubled(old, known), rtol=1e-9, atol=1e-9
    )
    loss = (new.increment(batch.fields, *batch.beside()) - 1).square().mean()
    loss.backward()
    slow = [name for name, p in new.named_parameters() if p.grad is None or not p.grad.any()]
    # Spacing and time step are one, their logarithms zero; the dye's prediction is zero at first.
    assert set(slow) <= {"conditioner.facts.weight", "detail.read.blocks.3"}


@pytest.mark.parametrize("trained", ["field", "system"], indirect=True)
def test_another_grid_history_and_order_of_fields(trained, tmp_path):
    folder = write_jet(tmp_path / "jet", "vp", side=8)
    fine = for_dataset(trained, folder)
    assert fine["jet"].n_steps_input == trained["flow"].n_steps_input
    for history in (1, 6):
        data = WellDataModule(folder, n_steps_input=history)
        fine = for_dataset(trained, data, "waves")
        assert fine["jet"].n_steps_input == history
        batch = batch_of(data)
        assert fine["jet"](batch.fields, *batch.beside()).shape == batch.fields[:, 0].shape
    # Waves know no velocity of their own; with a vocabulary, the model does.
    rows = fine["jet"].head.weight.detach().abs().sum(1)
    q = fine["jet"].tokenizer.n_coefficients
    velocity = fine["jet"].signature.field_names.index("velocity_x") * q
    assert bool(rows[velocity : velocity + q].any()) == (trained.config.adapters == "field")


def test_without_a_common_field_the_trunk_alone_is_taken(trained, three_systems):
    with pytest.warns(UserWarning, match="none of them among those that a start from flow knows"):
        fine = for_dataset(trained, three_systems["heat"])
    ours, theirs = fine.state_dict(), trained.state_dict()
    assert trunk_names(fine) == trunk_names(trained)
    for name in trunk_names(trained):
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0, msg=name)
    assert not fine["heat"].skip.weight.any()
    batch = batch_of(WellDataModule(three_systems["heat"]))
    assert fine["heat"](batch.fields, *batch.beside()).isfinite().all()


@pytest.mark.parametrize("trained", ["field", "system"], indirect=True)
def test_several_datasets_keep_by_name_and_add_the_new(trained, three_systems):
    data = JointDataModule(three_systems)
    with pytest.warns(UserWarning, match="trunk alone"):
        more = made_ready(trained, data)
    assert list(more) == ["flow", "heat", "waves"]
    state = more.state_dict()
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0, msg=name)
    # What is new goes with the seed, and what is known does not.
    with pytest.warns(UserWarning, match="trunk alone"):
        other = made_ready(trained, data, seed=3)
    weights = dict(more.named_parameters())
    changed = {name for name, p in other.named_parameters() if not torch.equal(p, weights[name])}
    assert changed
    assert changed.isdisjoint(name for name, _ in trained.named_parameters())


def test_a_model_of_one_system_is_a_start_too(trained, three_systems):
    one = trained["waves"].alone()
    assert one.trained
    fine = for_dataset(trained["waves"], three_systems["flow"])
    skip = fine["flow"].skip.weight
    assert skip.any()
    assert fine.n_parameters > 0
    assert list(one) == ["waves"]


def trunk_names(joint: JointWaveLiT) -> set[str]:
    trunk = {id(parameter) for parameter in joint.trunk_parameters()}
    names = {name for name, parameter in joint.named_parameters() if id(parameter) in trunk}
    assert any(name.startswith("vocabulary.blocks.mix") for name in names)
    assert any(name.startswith("trunk.conditioner") for name in names)
    return names


def require_frozen(path: Path, joint: JointWaveLiT) -> None:
    """Compare a trunk with what a checkpoint holds: averaged weights and those that are trained."""
    checkpoint, due = torch.load(path, weights_only=True), joint.state_dict()
    for kind in ("state_dict", "current_model_state"):
        for name in trunk_names(joint):
            found = checkpoint[kind][f"model.{name}"].numpy().tobytes()
            assert found == due[name].numpy().tobytes(), (kind, name)


@pytest.mark.parametrize("trunk", ["frozen", "low-rank"])
def test_a_frozen_trunk_is_what_it_was_bit_for_bit(run, three_systems, tmp_path, trunk):
    joint, folder = load_joint(run), tmp_path / "fine"
    before = {name: value.clone() for name, value in joint.state_dict().items()}
    model = wavelit.fit(
        folder, three_systems["flow"], joint, **RECIPE, trunk=trunk, trainer=ONE_THREAD
    )
    assert isinstance(model, SystemEmulator)
    assert all(p.requires_grad for p in model.parameters())
    require_frozen(folder / "checkpoints" / "last.ckpt", joint)
    after = load_joint(folder)
    state = after.state_dict()
    moved = {
        name for name in state if name in before and not torch.equal(state[name], before[name])
    }
    assert moved.isdisjoint(trunk_names(joint))
    assert moved >= {name for name in state if name.startswith("vocabulary.blocks.write/pressure")}
    assert f"systems.{key_of('flow')}.skip.weight" in moved
    ups = [value for name, value in state.items() if name.endswith(".up")]
    assert after.config.rank == (4 if trunk == "low-rank" else 0)
    assert bool(ups) == (trunk == "low-rank")
    assert all(value.any() for value in ups)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert settings["train"]["trunk"] == trunk
    assert settings["train"]["lr"] == JointTrainConfig.lr


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import wavelit
from runs import ONE_THREAD
from wavelit.training.joint import JointModule
step = JointModule.training_step
def training_step(self, batch, batch_idx):
    if self.global_step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)
JointModule.training_step = training_step
wavelit.fit({folder!r}, {data!r}, wavelit.load({run!r}), steps=10, validate_every=5,
            checkpoint_every=3, trunk={trunk!r}, trainer=ONE_THREAD)
"""


@pytest.mark.slow
@pytest.mark.parametrize("trunk", ["frozen", "low-rank"])
def test_a_killed_run_keeps_its_trunk_frozen(run, three_systems, tmp_path, trunk):
    killed, whole, flow = tmp_path / "killed", tmp_path / "whole", str(three_systems["flow"])
    words = {"tests": str(Path(__file__).parent), "run": str(run), "data": flow, "trunk": trunk}
    done = run_script(KILLED.format(**words, folder=str(killed)))
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    resume_joint(killed)
    wavelit.fit(
        whole,
        flow,
        wavelit.load(run),
        steps=10,
        validate_every=5,
        checkpoint_every=3,
        trunk=trunk,
        trainer=ONE_THREAD,
    )
    assert same_weights(whole, killed)
    paths = [folder / "checkpoints" / "last.ckpt" for folder in (whole, killed)]
    assert differences(*(torch.load(path, weights_only=True) for path in paths)) == []
    require_frozen(paths[1], load_joint(run))


def test_the_trunk_has_a_learning_rate_of_its_own(trained, three_systems):
    names = {"flow": ["p", "vx", "vy"], "waves": ["p"]}
    recipe = JointTrainConfig(steps=5, trunk_lr=0.1, weight_decay=0.3)
    groups = JointModule(trained, recipe, 0, 8, names).parameter_groups()
    plain = JointModule(trained, dataclasses.replace(recipe, trunk_lr=1.0), 0, 8, names)
    assert sum(len(group["params"]) for group in groups) == len(list(trained.parameters()))
    trunk = {id(p) for p in trained.trunk_parameters()}
    for group in groups:
        assert {id(p) in trunk for p in group["params"]} == {group["lr_factor"] == 0.1}
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for group in plain.parameter_groups():
        assert "lr_factor" not in group
        assert {decays[id(p)] for p in group["params"]} == {group["weight_decay"]}


@pytest.mark.slow
def test_a_slow_trunk_moves_less(run, three_systems, tmp_path):
    joint = load_joint(run)
    tiny = wavelit.fit(
        tmp_path / "slow", three_systems["flow"], joint, **RECIPE, trunk_lr=1e-3, trainer=ONE_THREAD
    )
    moved = {
        name: (value - joint["flow"].state_dict()[name]).abs().max().item()
        for name, value in tiny.state_dict().items()
        if value.is_floating_point() and value.numel()
    }
    slow = max(value for name, value in moved.items() if name.startswith(("pyramid", "norm.")))
    # Adam's steps are of the learning rate.
    assert 0 < slow < 1e-2 * moved["skip.weight"]


def test_a_fine_tuned_run_is_a_run_like_any(run, three_systems, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    jet = write_jet(tmp_path / "jet")
    words = ["train", "--from", str(run), str(jet), "--run", "fine", "--seed", "2"]
    words += ["--data.trajectories", "2", "--holdout", "0.4", "--data.n_steps_input", "2"]
    words += ["--trainer.accelerator", "cpu", "--steps", "2", "--validate_every=2"]
    assert main([*words, "--system", "waves", "--trunk", "frozen"]) == 0
    said = capsys.readouterr().out
    assert "jet starts from waves: fields taken pressure, velocity; new dye" in said
    assert "are the trunk's, which is frozen" in said
    (system,) = yaml.safe_load(Path("fine/config.yaml").read_text())["systems"]
    assert (system["trajectories"], system["holdout"], system["n_steps_input"]) == (2, 0.4, 2)
    facts = json.loads(Path("fine/fields.json").read_text())["jet"]
    data = load_joint_data("fine").systems["jet"]
    assert facts["statistics, mean"] == pytest.approx(data.statistics.mean)
    assert len(data.train_dataset) == 2 * 3
    # Without a name everywhere.
    scores = wavelit.evaluate("fine", out="out")
    assert scores.field_names == ("dye", "pressure", "velocity_x", "velocity_y")
    assert scores.scores[scores.model].one_step.shape[-1] == 4
    assert sorted(path.name for path in Path("out").glob("*-valid.*")) == [
        "evaluation-valid.json",
        "report-valid.html",
    ]
    model = wavelit.load("fine")
    assert (type(model), model.name, model.n_steps_input) == (SystemEmulator, "jet", 2)
    batch = batch_of(data)
    assert wavelit.rollout(model, batch.fields, 2, *batch.beside()).shape[1] == 2
    assert wavelit.load("fine", "best").signature == model.signature
    model.save_pretrained("weights")
    assert same_state(wavelit.load("weights"), model)
    assert main(["train", "--resume", "fine", "--steps", "3"]) == 0
    assert "extended from step 2 to 3 steps" in capsys.readouterr().out
    assert json.loads(Path("fine/environment.json").read_text())["steps"] == 3
    assert load_joint("fine").config.systems.keys() == {"jet"}


def same_state(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return differences(dict(a.state_dict()), dict(b.state_dict())) == []


@pytest.mark.slow
def test_commands_take_a_fine_tuned_run(run, three_systems, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flow, heat, waves = (str(three_systems[name]) for name in ("flow", "heat", "waves"))
    budget = ["--steps", "2", "--validate_every", "2", "--trainer.accelerator", "cpu"]
    assert main(["train", flow, "--from", str(run / "weights"), *budget]) == 0
    assert main(["train", "--from", str(run), *budget, flow, "--trunk", "low-rank"]) == 0
    assert main(["train", flow, *budget, "--run", "bespoke"]) == 0
    fine = ["runs/flow-from-weights", "runs/flow-from-run"]
    assert load_joint(fine[1]).config.rank == 4
    capsys.readouterr()
    assert main(["evaluate", fine[0]]) == 0
    assert "VRMSE on flow" in capsys.readouterr().out
    assert Path(fine[0], "report-valid.html").exists()
    assert main(["evaluate", fine[0], "--system", "flow"]) == 0
    assert Path(fine[0], "report-flow-valid.html").exists()
    assert main(["rollout", fine[0]]) == 0
    assert Path(fine[0], "rollout-valid-0.hdf5").exists()
    assert main(["compare", *fine, "bespoke", "--report", "compare.html"]) == 0
    assert compare_runs([fine[0], "bespoke"]).dataset == "flow"
    # A run with terms of low rank is a start of such.
    with pytest.warns(UserWarning, match="trunk alone"):
        assert main(["train", heat, "--from", fine[1], *budget, "--trunk", "low-rank"]) == 0
    assert load_joint("runs/heat-from-flow-from-run").config.rank == 4
    words = ["train", "--from", str(run), waves, heat, *budget, "--run", "more"]
    with pytest.warns(UserWarning, match="trunk alone"):
        assert main([*words, "--data.trajectories", "3"]) == 0
    assert list(load_joint("more")) == ["heat", "waves"]
    settings = yaml.safe_load(Path("more/config.yaml").read_text())["systems"]
    assert [each["trajectories"] for each in settings] == [3, 3]
    # A bespoke model on a part of its data.
    assert main(["train", flow, *budget, "--run", "few", "--trajectories", "2"]) == 0
    assert yaml.safe_load(Path("few/config.yaml").read_text())["data"]["trajectories"] == 2
    assert main(["train", "--resume", "more", "--samples", "40"]) == 0


def test_mistakes_are_named_and_nothing_is_written(run, three_systems, tmp_path, capsys):
    flow, waves = str(three_systems["flow"]), str(three_systems["waves"])
    rod = wavelit.write_dataset(
        tmp_path / "rod",
        {"pressure": np.random.default_rng(0).normal(size=(3, 8, 16))},
        splits={"train": 1, "valid": 1, "test": 1},
        name="rod",
        boundary_conditions=["periodic"],
    )
    joint = ["--from", str(run)]
    for words, message in (
        ([flow, *joint, "--system", "smoke"], "knows no system 'smoke': it has flow, waves"),
        ([flow, waves, *joint, "--system", "flow"], "flow is what one dataset starts from"),
        ([str(rod), *joint], "the model is of 2-D fields"),
        ([flow, *joint, "--trunk", "sideways"], "unknown trunk 'sideways': expected one of free"),
        ([flow, *joint, "--trunk", "frozen", "--trunk_lr", "0.1"], "leave one of them out"),
        ([flow, *joint, "--trunk_lr", "0"], "trunk_lr must be a finite number greater than 0"),
        ([flow, *joint, "--model.depth", "3"], "the architecture is that of"),
        ([flow, *joint, "--rank", "few"], "rank must be a whole number"),
        ([flow, *joint, "--trajectories", "0"], "trajectories must be a whole number"),
        ([flow, *joint, "--trajectories", "99"], "trajectories=99 are asked for, of 6"),
        ([flow, *joint, "--keep_statistics"], "--keep_statistics is of models of one system"),
        ([flow, waves, "--from", "shear_flow"], "shear_flow is of one system"),
        ([flow, "--from", "shear_flow", "--trunk", "frozen"], "shear_flow is none"),
        ([flow, "--trunk", "frozen"], "--trunk is for a joint model that is fine-tuned"),
        ([flow, waves, "--train.trunk", "frozen"], "trunk frozen is for a trained model"),
        ([str(tmp_path / "nothing"), *joint], "nothing"),
        (joint, "names no dataset"),
    ):
        command = ["train", *words, "--steps", "1", "--run", str(tmp_path / "fine")]
        assert main(command) == 2, words
        said = capsys.readouterr().err.strip().splitlines()
        assert message in said[-1], words
        assert len(said) == 1, words
        assert not (tmp_path / "fine").exists()


def test_a_rank_is_that_of_the_model(trained, three_systems):
    if trained.config.rank:
        with pytest.raises(WavelitError, match="terms of rank 2, not 3: leave rank out"):
            for_dataset(trained, three_systems["flow"], rank=3)
    elif trained.config.adapters == "field":
        fine = for_dataset(trained, three_systems["flow"], rank=3)
        ups = [p for name, p in fine.named_parameters() if name.endswith(".up")]
        assert {p.shape[1] for p in ups} == {3}
        assert not any(p.any() for p in ups)


def test_mistakes_in_python(run, three_systems, tmp_path):
    flow = three_systems["flow"]
    joint = load_joint(run)
    for call, message in (
        (lambda: for_dataset(wavelit.load("shear_flow"), flow), "model must be a JointWaveLiT"),
        (lambda: for_dataset(joint, flow, "smoke"), "knows no system 'smoke'"),
        (lambda: wavelit.fit(tmp_path / "x", flow, joint, lr=1, colour=2), "colour"),
        (
            lambda: wavelit.fit(tmp_path / "x", flow, joint, keep_statistics=True),
            "keep_statistics is for a model that is not joint",
        ),
        (lambda: wavelit.load_model(run), "is a joint run of flow, waves"),
        (lambda: wavelit.WaveLiT.from_pretrained(run), "is of a joint model of flow, waves"),
        (
            lambda: JointWaveLiT.from_pretrained("pocketwell/shear_flow"),
            "is of a model of one system",
        ),
        (lambda: wavelit.resume(run, steps=2), "has had 3 steps: extend it to more"),
        (lambda: wavelit.resume(run, model=joint), "which its folder holds: leave model out"),
    ):
        with pytest.raises(WavelitError, match=message) as refused:
            call()
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_an_extended_joint_run_goes_on(run, tmp_path):
    folder = tmp_path / "more"
    shutil.copytree(run, folder)
    joint = wavelit.resume(folder, samples=48)
    assert list(joint) == ["flow", "waves"]
    facts = json.loads((folder / "environment.json").read_text())
    assert (facts["steps"], facts["samples"]) == (6, 48)
    assert facts["extended_from"][0]["samples"] == 24
    with pytest.raises(WavelitError, match="trained to the end"):
        wavelit.resume(folder)


@pytest.mark.slow
def test_a_part_of_a_system_alone(three_systems, tmp_path):
    """Sizes differ by system in a file of settings."""
    config = {
        "systems": [
            {"path": str(three_systems["flow"]), "trajectories": 2},
            {"path": str(write_system(tmp_path / "waves", "waves")), "holdout": 0.3},
        ],
        "model": SMALL,
        "data": {"n_steps_input": 2},
        "train": {"steps": 1, "validate_every": 1},
        "trainer": {"accelerator": "cpu"},
    }
    path = tmp_path / "joint.yaml"
    path.write_text(yaml.safe_dump(config))
    assert main(["train", "--config", str(path), "--run", str(tmp_path / "run")]) == 0
    data = load_joint_data(tmp_path / "run").systems
    assert (data["flow"].n_trajectories, data["waves"].holdout) == (2, 0.3)
    assert len(data["flow"].train_dataset) == 2 * 8
    # The held-out part begins at frame 7, and a rollout after its history of two.
    file, *_ = wavelit.record_rollout(tmp_path / "run", system="waves")
    with h5py.File(file) as opened:
        assert opened["dimensions/time"][()].tolist() == [9.0]
