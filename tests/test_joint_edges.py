"""Joint models in hands that do the unforeseen: processes that read, one dataset twice, options
that meet, and runs that another recipe would take for its own.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

import wavelit
from runs import ONE_THREAD
from systems import SMALL, randomised, write_system
from wavelit.benchmarks.joint_cells import JointCell, cost_of, require_run
from wavelit.cli.joint import train_joint
from wavelit.cli.program import main
from wavelit.data.datamodule import WellDataModule
from wavelit.data.joint import JointDataModule
from wavelit.errors import WavelitError
from wavelit.training.fine_tune import for_dataset
from wavelit.training.joint import JointTrainConfig
from wavelit.training.joint_folder import load_joint
from wavelit.training.joint_run import build_joint, fit_joint, resume_joint

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("undrawn")]

RECIPE = {"steps": 3, "validate_every": 3, "lr": 0.01}
TINY = [word for name, value in SMALL.items() for word in (f"--model.{name}", str(value))]


def trained(folder: Path, systems: dict, **changes) -> Path:
    data = JointDataModule(systems)
    model = build_joint(data, **SMALL, **changes)
    fit_joint(folder, data, model, JointTrainConfig(**RECIPE), ONE_THREAD)
    return folder


@pytest.fixture(scope="module", name="run")
def joint_run(three_systems, tmp_path_factory) -> Path:
    """A joint run of waves and flow, with terms of rank 2."""
    systems = {name: three_systems[name] for name in ("waves", "flow")}
    return trained(tmp_path_factory.mktemp("edges") / "run", systems, rank=2, adapters="system")


def test_a_training_with_processes_that_read_ends(three_systems, tmp_path):
    """They ignore SIGTERM, by which the interpreter would end them, and it would wait for ever."""
    folders = [str(three_systems[name]) for name in ("waves", "heat")]
    script = f"""
import wavelit
from wavelit.data.joint import JointDataModule
from wavelit.training.joint_run import build_joint
data = JointDataModule({folders!r}, n_workers=1)
wavelit.fit({str(tmp_path / "run")!r}, data, build_joint(data, **{SMALL!r}), steps=2)
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert done.stdout.decode().strip().endswith("done")


def test_one_data_module_serves_several_systems_and_stays_as_it_was(three_systems):
    data = WellDataModule(three_systems["waves"], batch_size=2, seed=5)
    before = data.train_sampler.indices(3)
    joint = JointDataModule({"a": data, "b": data}, {"b": 0.5})
    alone = JointDataModule({"a": WellDataModule(three_systems["waves"], batch_size=2)})
    for step in (0, 3, 8):
        assert joint.train_sampler.indices(step)["a"] == alone.train_sampler.indices(step)["a"]
    assert data.seed == 5
    assert data.train_sampler.indices(3) == before
    for_dataset(randomised(build_joint(alone, **SMALL)), data)
    assert data.seed == 5


def test_a_model_of_one_system_takes_one_dataset(three_systems):
    for data in (str(three_systems["waves"]), JointDataModule([three_systems["waves"]])):
        with pytest.raises(WavelitError, match="data must be a WellDataModule"):
            wavelit.build_model(data)


@pytest.mark.parametrize("share", [0.5, [0.5]])
def test_shares_go_by_name(share, three_systems):
    with pytest.raises(WavelitError, match="shares must be a Mapping"):
        JointDataModule({"waves": three_systems["waves"]}, share)
    data = {name: three_systems[name] for name in ("waves", "heat")}
    assert JointDataModule(data, {"heat": np.float32(0.5)}).shares == {"heat": 0.5, "waves": 1.0}


def test_every_dataset_that_is_named_is_trained_on(three_systems, run, tmp_path):
    waves, flow, heat = (str(three_systems[name]) for name in ("waves", "flow", "heat"))
    rest = ["--train.steps", "1"]
    whole = train_joint([waves, *TINY, *rest, "--data.paths", heat, "--run", str(tmp_path / "a")])
    assert sorted(load_joint(whole)) == ["heat", "waves"]
    words = ["--from", str(run), waves, "--data.path", flow, *rest, "--run", str(tmp_path / "b")]
    assert sorted(load_joint(train_joint(words))) == ["flow", "waves"]
    for content, due in (
        ({"data": {"path": waves, "paths": [flow]}}, ["flow", "waves"]),
        # What is typed goes before that of a file.
        ({"data": {"path": heat}, "typed": [waves]}, ["waves"]),
        ({"data": None, "typed": [waves]}, ["waves"]),
    ):
        typed = content.pop("typed", [])
        file, folder = tmp_path / "file.yaml", tmp_path / "c"
        file.write_text(yaml.safe_dump(content))
        words = [*typed, "--config", str(file), "--from", str(run), *rest, "--run", str(folder)]
        assert sorted(load_joint(train_joint(words))) == due
        shutil.rmtree(folder)


@pytest.mark.parametrize("group", ["model", "data"])
def test_a_group_that_is_none_is_named(group, three_systems, tmp_path):
    file = tmp_path / "file.yaml"
    file.write_text(yaml.safe_dump({group: 7, "systems": [{"path": str(three_systems["heat"])}]}))
    with pytest.raises(WavelitError, match=f"{group}: a mapping is due, not 7"):
        train_joint(["--config", str(file), f"--{group}.batch_size", "2"])


def test_low_rank_takes_the_terms_that_are_there(run, three_systems, tmp_path, capsys):
    words = ["--from", str(run), str(three_systems["heat"]), "--trunk", "low-rank"]
    folder = train_joint([*words, "--train.steps", "1", "--run", str(tmp_path / "run")])
    assert load_joint(folder).config.rank == 2
    # A model that is not there is what is wrong.
    words = ["train", str(three_systems["heat"]), "--from", "runs/nosuch", "--trunk", "frozen"]
    assert main(words) == 2
    assert "unknown model" in capsys.readouterr().err


def test_what_is_taken_is_told_by_channel(run, tmp_path, capsys, three_systems):
    """A component alone is known by its channel; a field of another tensor order is not."""
    flow = WellDataModule(three_systems["flow"], fields=["velocity_x"])
    for_dataset(load_joint(run), flow, start="flow")
    assert "fields taken velocity_x" in capsys.readouterr().out
    rng = np.random.default_rng(0)
    other = wavelit.write_dataset(
        tmp_path / "other",
        {"pressure": rng.normal(size=(4, 8, 16, 16, 2))},
        splits={"train": 2, "valid": 1, "test": 1},
        name="other",
        boundary_conditions=["periodic", "periodic"],
    )
    with pytest.warns(UserWarning, match=r"\(pressure: of another tensor order\): the trunk alone"):
        for_dataset(load_joint(run), WellDataModule(other), start="waves")


@pytest.mark.parametrize("name", [["a"], 7, ""])
def test_a_systems_name_is_text(name, three_systems, tmp_path):
    file = tmp_path / "file.yaml"
    entry = {"path": str(three_systems["waves"]), "name": name}
    file.write_text(yaml.safe_dump({"systems": [entry]}))
    with pytest.raises(WavelitError, match="a system's name must be text"):
        train_joint(["--config", str(file), "--train.steps", "1"])


def test_a_run_of_another_recipe_is_not_taken(run, three_systems):
    systems = {name: three_systems[name] for name in ("waves", "flow")}
    data, recipe = JointDataModule(systems), JointTrainConfig(**RECIPE)
    require_run(run, data, recipe, {"rank": 2, "embed_dim": SMALL["embed_dim"]})
    for asked, changes, said in (
        ((data, JointTrainConfig(**RECIPE | {"lr": 0.1})), None, "another lr"),
        ((data, JointTrainConfig(**RECIPE | {"steps": 4})), None, "another steps"),
        ((data, recipe), {"rank": 4}, "another rank"),
        ((JointDataModule(systems, trajectories=2), recipe), None, "another flow, waves"),
        ((JointDataModule(systems, {"flow": 0.5}), recipe), None, "another flow"),
    ):
        with pytest.raises(WavelitError, match=f"{said}: remove it, or name another --runs"):
            require_run(run, *asked, changes)


@pytest.mark.parametrize(
    "content",
    [
        [],
        None,
        {"systems": ["waves"]},
        {"systems": {"waves": "x"}},
        {"systems": [{"name": "waves"}]},
        {"systems": [{"path": "waves"}]},
        {"data": {"paths": ["waves"]}},
        {"systems": [{"name": "waves", "path": "waves"}], "train": 7},
    ],
)
def test_a_configuration_of_cells_names_its_systems(content, tmp_path):
    file = tmp_path / "joint.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(WavelitError, match=r"joint\.yaml") as refused:
        JointCell(1.0, 0).configure(file, tmp_path, 1)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", ["{}", '{"cost": "x"}', '{"cost": 0}', '{"cost": -1}'])
def test_a_cost_is_a_number(content, tmp_path):
    (tmp_path / "cost.json").write_text(content)
    with pytest.raises(WavelitError, match="run `wavelit transfer cost` again"):
        cost_of(tmp_path)


@pytest.mark.parametrize("what", ["constants", "positions"])
def test_a_run_does_not_go_on_with_data_that_were_changed(what, tmp_path):
    heat = write_system(tmp_path / "heat", "heat")
    folder = trained(tmp_path / "run", {"heat": heat})
    (file,) = (heat / "data" / "train").glob("*.hdf5")
    with h5py.File(file, "r+") as opened:
        if what == "constants":
            values = opened["t0_fields"]["conductivity"][()]
            # Its statistics are what they were.
            opened["t0_fields"]["conductivity"][...] = values[::-1]
        else:
            opened["dimensions"]["x"][...] *= 2
    with pytest.raises(WavelitError, match=r"is not what .* was trained on"):
        resume_joint(folder, budget={"steps": 5})


def test_a_joint_model_of_lines_is_described(tmp_path, capsys):
    u = np.random.default_rng(0).normal(size=(4, 8, 16)).cumsum(1)
    line = wavelit.write_dataset(
        tmp_path / "line",
        {"u": u},
        splits={"train": 2, "valid": 1, "test": 1},
        name="line",
        boundary_conditions=["periodic"],
    )
    folder = trained(tmp_path / "run", {"line": line})
    assert main(["info", "--joint", str(folder)]) == 0
    assert "a prediction of 64 points" in capsys.readouterr().out
    assert main(["info", "--joint", str(folder), "--resolution", "8", "8"]) == 2
    assert "a grid of 2 axes was given to a model of 1-D fields" in capsys.readouterr().err
