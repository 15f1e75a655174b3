"""Grids of runs on a Ray cluster: how a command is split, and that its tasks leave what the command
leaves.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from wavelit.cli.cluster import run_words, split, waves
from wavelit.cli.program import main
from wavelit.data.pocketwell import SYSTEMS
from wavelit.errors import WavelitError


def parts(text: str) -> list[list[str]]:
    return split(text.split())


def told(text: str) -> list[str]:
    return [" ".join(task) for task in parts(text)]


def test_every_combination_is_a_task():
    assert told(
        "benchmark accuracy final --models A B --minutes 2 --seeds 0 1 --output results/a"
    ) == [
        f"benchmark accuracy final --models {model} --minutes 2 --seeds {seed} --output results/a"
        for model in "AB"
        for seed in (0, 1)
    ]
    assert told("transfer few --targets a b --trajectories 1 4 --source s") == [
        f"transfer few --targets {target} --trajectories {n} --source s"
        for target in "ab"
        for n in (1, 4)
    ]
    # A name with a space is one value.
    assert split(["benchmark", "accuracy2", "lr", "--models", "WaveLiT 0.2"]) == [
        ["benchmark", "accuracy2", "lr", "--models", "WaveLiT 0.2"]
    ]
    assert told("benchmark accuracy final --seeds=3 --systems a b b") == [
        f"benchmark accuracy final --seeds 3 --systems {system}" for system in "ab"
    ]
    # A search of learning rates has systems of its own.
    assert told("benchmark accuracy2 lr --models A B --systems a b") == [
        f"benchmark accuracy2 lr --models {model} --systems a b" for model in "AB"
    ]


def test_systems_are_simulated_apart():
    """Each with the cores of its task alone."""
    assert told("data generate --force shear_flow active_matter --size tiny") == [
        f"data generate --force {name} --size tiny --processes 1"
        for name in ("shear_flow", "active_matter")
    ]
    assert told("data generate pocketwell --processes 2") == [
        f"data generate {name} --processes 2" for name in SYSTEMS
    ]
    # Among others it stands for what they are not.
    assert told("data generate ostia_monthly shear_flow pocketwell --processes 2") == [
        f"data generate {name} --processes 2"
        for name in dict.fromkeys(("ostia_monthly", "shear_flow", *SYSTEMS))
    ]
    (task,) = split(["data", "generate", "a"], 3)
    assert task[-2:] == ["--processes", "3"]


def test_seed_0_finds_the_learning_rates_of_the_others():
    first, later = waves(parts("transfer few --targets a b --seeds 0 1 2"))
    assert [" ".join(each) for each in first] == [
        f"transfer few --targets {target} --seeds 0" for target in "ab"
    ]
    assert len(later) == 4
    assert len(list(waves(parts("transfer joint --seeds 0 1")))) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train datasets/mine", "'train datasets/mine' is no grid of runs: data generate, "),
        ("", "'' is no grid of runs"),
        ("transfer pairs --targets a b", "name one of the stages joint, .* not 'pairs'"),
        ("benchmark accuracy --models A", "name one of the stages lr, final, .* not ''"),
        ("benchmark accuracy lr final", "not 'lr final'"),
        ("benchmark accuracy rates", "not 'rates'"),
    ],
)
def test_what_is_no_grid_is_named(words, message):
    with pytest.raises(WavelitError, match=message):
        parts(words)


def test_without_ray_the_fix_is_said(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["ray", "data", "generate", "shear_flow"]) == 2
    assert "pip install 'wavelit[ray]'" in capsys.readouterr().err


# Two minutes by itself: ran well on 567caba.
@pytest.mark.slow
def test_tasks_leave_what_the_command_leaves(tmp_path, monkeypatch, capsys):
    """On a Ray of this machine; a task that fails is named, and the others are done."""
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    words = ["data", "generate", "shear_flow", "helmholtz_staircase", "--size", "tiny"]
    assert main(["ray", *words, "--root", "apart"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert {line.split(": ")[-1] for line in said} == {
        f"apart/tiny/{name}" for name in ("shear_flow", "helmholtz_staircase")
    }
    assert main([*words, "--root", "together"]) == 0
    for path in Path("together").rglob("*.hdf5"):
        other = Path("apart", path.relative_to("together"))
        assert other.read_bytes() == path.read_bytes(), path
    capsys.readouterr()
    assert main(["ray", "data", "generate", "shear_flow", "nothing", "--size", "tiny"]) == 2
    found = capsys.readouterr()
    assert "1 of 2 tasks failed" in found.err
    assert "nothing" in found.err
    assert Path("datasets/pocketwell/tiny/shear_flow/stats.yaml").exists()
    assert main(["ray", "--cpus", "9999", *words]) == 2
    assert "no machine of the cluster has 9999 cores" in capsys.readouterr().err


def test_a_cluster_that_is_not_there_is_said_at_once(monkeypatch, capsys):
    pytest.importorskip("ray")
    words = ["data", "generate", "shear_flow"]
    assert main(["ray", "--address", "127.0.0.1:1", *words]) == 2
    assert "no Ray cluster at 127.0.0.1:1" in capsys.readouterr().err
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert main(["ray", *words]) == 2
    assert "no Ray cluster at 127.0.0.1:1" in capsys.readouterr().err
    assert main(["ray", "--cpus", "0", *words]) == 2
    assert "cpus must be" in capsys.readouterr().err


def test_help_is_that_of_the_command(capsys):
    assert main(["ray", "data", "generate", "--help"]) == 0
    assert "usage: wavelit data generate" in capsys.readouterr().out


def test_a_task_that_breaks_says_why(monkeypatch, tmp_path):
    status, said = run_words(["data", "info", "nothing"], str(tmp_path / "gone"))
    assert (status, said.split(":")[0]) == (1, "FileNotFoundError")
    monkeypatch.chdir(tmp_path)
    status, said = run_words(["data", "info", "nothing"], str(tmp_path))
    assert status == 2
    assert "nothing" in said


@pytest.mark.slow
def test_tune_searches_a_learning_rate(tmp_path):
    """As the example has it: of the best there is a finished run."""
    pytest.importorskip("ray")
    script = Path(__file__).parents[1] / "examples" / "ray_tune.py"
    done = subprocess.run(
        [sys.executable, script],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (line,) = (each for each in done.stdout.splitlines() if each.startswith("learning rate "))
    best = line.removeprefix("learning rate ").split(":")[0]
    assert (tmp_path / "runs" / best / "weights" / "model.safetensors").exists()
