"""`wavelit transfer`: what a run is, how long, that it goes on where it was cut, and that the test
split is read last.
"""

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml

from systems import write_system
from wavelit.benchmarks import few_cells, joint_cells, transfer, tuned_cells
from wavelit.benchmarks.few_cells import ARMS
from wavelit.benchmarks.joint_cells import JointCell, steps_of
from wavelit.benchmarks.transfer import run
from wavelit.cli.program import main
from wavelit.data.datamodule import WellDataModule
from wavelit.errors import WavelitError
from wavelit.evaluation.evaluate import evaluate
from wavelit.evaluation.transfer import favoured, ratio, read_pairs, transfer_map
from wavelit.files.plain import read_json
from wavelit.model.foundation import JointWaveLiT
from wavelit.training.joint_folder import load_joint

NAMES = ("waves", "flow", "heat")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("systems")
    for name in NAMES:
        write_system(root / name, name, (6, 3, 3), n_steps=40)
    return root


@pytest.fixture
def place(root, tmp_path):
    """Options of a run: rates of a second a sample, a joint step as dear as its systems' own."""
    systems = [{"name": name, "path": f"elsewhere/{name}"} for name in NAMES]
    systems[0]["share"] = 0.5
    model = {"embed_dim": 8, "num_heads": 2, "depth": 2, "levels": 1, "detail_dim": 2}
    model["own"] = ["gains"]
    content = {
        "data": {"batch_size": 2},
        "systems": systems,
        "model": model,
        "train": {"samples": 7, "lr": 0.004},
    }
    (tmp_path / "joint.yaml").write_text(yaml.safe_dump(content))
    output = tmp_path / "results"
    output.mkdir()
    (output / "cost.json").write_text('{"cost": 1.0}')
    lines = [f"WaveLiT,{name},4,1000" for name in NAMES]
    (output / "rates.csv").write_text("\n".join(["model,system,batch_size,ms_per_sample", *lines]))
    return {
        "config": tmp_path / "joint.yaml",
        "root": root,
        "output": output,
        "runs": tmp_path / "runs",
        "tuning": output,
        "minutes": 0.5,
    }


def test_minutes_become_steps_by_rates_shares_and_cost(place):
    asked = JointCell(1.0, 0).configure(place["config"], place["root"], 1)
    rates = {("WaveLiT", name): float(1000 * (n + 1)) for n, name in enumerate(NAMES)}
    # Two windows a step: of waves in every second one 1 s, of flow 2 s, of heat 3 s each.
    second = 2 * (0.5 * 1 + 2 + 3)
    assert steps_of(10.0, 1.5, asked.data, rates) == int(600 / (1.5 * second))
    with pytest.raises(WavelitError, match="no rate of WaveLiT on heat"):
        steps_of(10.0, 1.5, asked.data, {k: v for k, v in rates.items() if k[1] != "heat"})


def test_a_cell_changes_budget_seed_trunk_and_systems_alone(place):
    cell = JointCell(40.0, 3, "private", "flow")
    asked = cell.configure(place["config"], place["root"], 11)
    assert cell.name == "40min/control-without_flow-3"
    assert list(asked.data.systems) == ["heat", "waves"]
    assert asked.data.systems["heat"].path == str(place["root"] / "heat")
    assert (asked.train.steps, asked.train.samples, asked.train.lr) == (11, None, 0.004)
    assert asked.changes["trunk"] == "private"
    # Of a private trunk everything is a system's own.
    assert "own" not in asked.changes
    assert JointCell(40.0, 3).configure(place["config"], place["root"], 11).changes["own"]
    assert asked.seed == 3
    assert asked.data.shares["waves"] == 0.5
    with pytest.raises(WavelitError, match="without"):
        JointCell(1.0, 0, without="tides").configure(place["config"], place["root"], 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage": "all"}, "stage"),
        ({"minutes": 0}, "minutes"),
        ({"seeds": [-1]}, "seeds"),
        ({"without": ["tides"]}, "tides"),
        ({"config": "nowhere.yaml"}, "nowhere"),
    ],
)
def test_mistakes_are_named_and_write_nothing(change, message, place):
    with pytest.raises((WavelitError, FileNotFoundError), match=message):
        list(run(**{"stage": "joint", **place, **change}))
    assert not place["runs"].exists()


def test_a_cost_is_due_first(place):
    (place["output"] / "cost.json").unlink()
    with pytest.raises(WavelitError, match=r"cost\.json is missing: `wavelit transfer cost`"):
        list(run("joint", **place))


@pytest.mark.slow
def test_joint_and_control_runs_are_scored_once_and_test_is_read_last(place, monkeypatch, capsys):
    words = [f"--{name}={value}" for name, value in place.items()]
    for stage in ("joint", "control"):
        assert main(["transfer", stage, *words]) == 0
    (joint,) = place["output"].glob("0.5min/joint-0.json")
    result = read_json(joint)
    assert set(result["valid"]) == set(NAMES)
    assert "test" not in result
    steps = result["train"]["steps"]
    assert result["windows"] == {"flow": 2 * steps, "heat": 2 * steps, "waves": steps}
    control = read_json(place["output"] / "0.5min" / "control-0.json")
    assert control["shared"] < 0.5 * result["shared"]
    assert control["train"] == result["train"]
    with monkeypatch.context() as patch:
        patch.setattr(joint_cells, "_run", lambda *_: pytest.fail("run again"))
        assert list(run("joint", **place)) == [joint]
    assert len(list(run("test", **place))) == 2
    scored = read_json(joint)
    assert set(scored["test"]) == set(NAMES)
    assert {k: v for k, v in scored.items() if k != "test"} == result
    content = yaml.safe_load(Path(place["config"]).read_text())
    content["train"]["lr"] = 0.001
    Path(place["config"]).write_text(yaml.safe_dump(content))
    with pytest.raises(WavelitError, match="was run with another lr"):
        list(run("joint", **place))


@pytest.mark.slow
def test_a_cell_that_was_cut_goes_on(place, monkeypatch):
    (whole,) = (read_json(path) for path in run("joint", **place))
    (place["output"] / "0.5min" / "joint-0.json").unlink()
    folder = place["runs"] / "0.5min" / "joint-0"
    for path in (folder / "weights").iterdir():
        path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(joint_cells, "fit_joint", lambda *_, **__: pytest.fail("begun anew"))
        (path,) = run("joint", **place)
    again = json.loads(path.read_text())
    assert again["valid"] == whole["valid"]


@pytest.mark.slow
def test_a_few_trajectories_are_given_to_every_arm_alike(place, monkeypatch):
    list(run("joint", **place))
    monkeypatch.setattr(few_cells, "LEARNING_RATES", (1e-2, 1e-3))
    options = place | {"targets": ["flow"], "trajectories": ["2"], "source": "0.5min/joint-0"}
    (path,) = run("few", **options)
    result = read_json(path)
    assert set(result["arms"]) == set(ARMS)
    assert result["chosen"] == favoured(result["arms"])
    assert result["scratch"] in ("scratch nano", "scratch joint")
    for found in result["arms"].values():
        tried = found["by_lr"]
        assert set(tried) == {"0.01", "0.001"}
        assert found["lr"] == float(favoured(tried))
        assert found["holdout"] == tried[str(found["lr"])]["holdout"]
        assert found["valid"]["one_step"] > 0
        assert list(found["valid"]["bands"])[-1] == "details of 2 cells"
    folder = place["runs"] / "few" / "0.5min_joint-0" / "flow-2-0"
    best = load_joint(folder / "free-0.01", "best")["flow"]
    given = WellDataModule(place["root"] / "flow", n_steps_input=best.config.n_steps_input)
    rolled = evaluate(best, given.replaced(trajectories=2), "train").scores["model"].rollout
    n_steps = rolled.shape[1] + given.n_steps_input
    held_out = rolled[:, round(0.8 * n_steps) - n_steps :].mean()
    tried = result["arms"]["free"]["by_lr"]["0.01"]
    assert tried["holdout_rollout"] == pytest.approx(held_out, rel=1e-3)
    settings = yaml.safe_load((folder / "frozen-0.01" / "config.yaml").read_text())
    assert settings["train"]["trunk"] == "frozen"
    assert settings["systems"][0]["trajectories"] == 2
    assert settings["systems"][0]["holdout"] == 0.2
    # What starts from nothing is trained once for all sources.
    assert len(list((place["runs"] / "few" / "scratch" / "0.5min" / "flow-2-0").iterdir())) == 4
    # Of a further seed the learning rates are those of the first.
    (second,) = run("few", **options, seeds=[1])
    for arm, found in read_json(second)["arms"].items():
        assert list(found["by_lr"]) == [str(result["arms"][arm]["lr"])]
    with pytest.raises(WavelitError, match="learning rates are chosen with seed 0"):
        list(run("few", **{**options, "trajectories": ["3"], "seeds": [1]}))


def test_a_joint_model_of_the_package_is_a_start(tmp_path):
    model = few_cells.load_source("joint-1M", tmp_path)
    ours = JointWaveLiT.from_pretrained("pocketwell/joint-1M").state_dict()
    found = model.state_dict()
    assert ours.keys() == found.keys()
    assert all(torch.equal(found[name], ours[name]) for name in ours)
    # A run of that name goes before, trained or not.
    (tmp_path / "joint-1M").mkdir()
    for name in ("joint-1M", "40min/joint-0", "shear_flow"):
        with pytest.raises(WavelitError, match=f"{name} is no trained joint run.*pocketwell/joint"):
            few_cells.load_source(name, tmp_path)


@pytest.mark.parametrize("given", ["0", "many", "1.5"])
def test_trajectories_are_counted(given, place):
    with pytest.raises(WavelitError, match="numbers from 1 on, or 'all'"):
        list(run("few", **place, targets=["heat"], trajectories=[given]))


def test_rates_of_other_systems_count_in_those_that_are_known(place, monkeypatch):
    monkeypatch.setattr(joint_cells, "KNOWN", "waves")
    # Twice as long as waves, whose rate is 1000.
    took = {"waves": (3.0, 1), "heat": (6.0, 1)}
    monkeypatch.setattr(
        joint_cells, "median_turn", lambda its, own, _: (took[its[1]], took[own[1]])
    )
    path = place["output"] / "rates.csv"
    head, waves, *_ = path.read_text().splitlines()
    tuning = place["runs"] / "tuning"
    tuning.mkdir(parents=True)
    path.rename(tuning / "rates.csv")
    (tuning / "rates.csv").write_text(f"{head}\n{waves}\n")
    (found,) = run("rates", **place | {"tuning": tuning, "targets": ["waves", "heat"]})
    assert found == path
    assert joint_cells.read_rates(place["output"]) == {("WaveLiT", "heat"): 2000.0}


def test_where_no_rate_is_known_this_machine_is_the_clock(place, monkeypatch):
    monkeypatch.setattr(joint_cells, "median_turn", lambda *_: ((5.0, 1), (5.0, 1)))
    path = place["output"] / "rates.csv"
    known = path.read_text()
    path.unlink()
    asked = place | {"targets": ["heat"]}
    assert list(run("rates", **asked)) == [path]
    assert joint_cells.read_rates(place["output"]) == {("WaveLiT", "heat"): 5.0}
    tuning = place["runs"] / "tuning"
    tuning.mkdir(parents=True)
    (tuning / "rates.csv").write_text(known.replace("heat", "sea"))
    path.unlink()
    with pytest.raises(WavelitError, match="does not hold it: generate it there, or name a --tun"):
        list(run("rates", **asked | {"tuning": tuning}))


def test_a_target_is_a_dataset_of_the_folder(place):
    with pytest.raises(WavelitError, match="has no dataset 'tides'; it has flow, heat, waves"):
        list(run("few", **place, targets=["tides"]))


@pytest.mark.slow
def test_a_joint_model_is_trained_on_with_one_of_its_systems(place, monkeypatch):
    list(run("joint", **place))
    options = place | {"targets": ["flow"], "source": "0.5min/joint-0"}
    (path,) = run("tuned", **options)
    result = read_json(path)
    assert path == place["output"] / "tuned" / "0.5min_joint-0" / "flow-0.json"
    by_lr = result["one_step_by_lr"]
    assert by_lr[str(result["lr"])] == min(by_lr.values()) == result["valid"]["one_step"]
    with monkeypatch.context() as patch:
        patch.setattr(tuned_cells, "fit_joint", lambda *_, **__: pytest.fail("run again"))
        assert list(run("tuned", **options)) == [path]
    with pytest.raises(WavelitError, match="was run with another minutes"):
        list(run("tuned", **{**options, "minutes": 0.4}))


@pytest.mark.slow
def test_pairs_make_a_map(place, monkeypatch):
    monkeypatch.setattr(few_cells, "LEARNING_RATES", (1e-2,))
    monkeypatch.setattr(transfer, "ALONE", 0.2)
    options = place | {"targets": ["waves", "flow"], "trajectories": ["2"]}
    paths = list(run("pairs", **{**options, "minutes": 0.1}))
    assert [path.stem for path in paths[:2]] == ["alone_waves-0", "alone_flow-0"]
    cells = read_pairs(place["output"])
    assert [(cell["source"], cell["target"]) for cell in cells] == [
        ("flow", "waves"),
        ("waves", "flow"),
    ]
    found = transfer_map(cells)
    assert found.ratios.shape == (2, 2)
    assert (found.elsewhere > 0).sum() == 2
    table, *pictures = run("map", **{**options, "minutes": 0.1})
    assert [path.name for path in pictures] == ["map.png", "profiles.png"]
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["error"] == "one_step"]
    assert [float(row["started"]) for row in rows] == [
        pytest.approx(ratio(cell, arm="started")) for cell in cells
    ]
    with pytest.raises(WavelitError, match="has 0 of 4: `wavelit transfer pairs`"):
        list(run("map", **{**place, "minutes": 0.1}))
