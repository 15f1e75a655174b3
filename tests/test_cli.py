"""The command line end to end on the smallest dataset, and the one line that a mistake gets."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from validation.full_shapes import GRIDS

from wavelit import __version__
from wavelit.benchmarks.entries import PRIORS
from wavelit.benchmarks.protocol import MINUTES, Cell, n_steps, rate_rows
from wavelit.checks.settings import from_mapping
from wavelit.cli.program import COMMANDS, main
from wavelit.data.pocketwell import SYSTEMS
from wavelit.demo import DEMO
from wavelit.evaluation.published import published
from wavelit.training.config import TrainConfig, TrainerConfig
from wavelit.training.run_folder import load_settings
from waves import write_waves

SMALL = [
    "--model.embed_dim",
    "16",
    "--model.num_heads",
    "2",
    "--model.depth",
    "2",
    "--model.levels",
    "1",
    "--model.num_scales",
    "2",
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_waves(tmp_path_factory.mktemp("waves") / "plane_waves")


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    words = [
        "train",
        "--data.path",
        str(dataset),
        "--run",
        str(folder),
        "--train.steps",
        "4",
        *SMALL,
    ]
    assert (
        main(
            [
                *words,
                "--trainer.accelerator",
                "cpu",
                "--trainer.threads",
                "1",
                "--data.batch_size",
                "4",
            ]
        )
        == 0
    )
    return folder


def test_train_evaluate_rollout(run, capsys):
    assert main(["evaluate", str(run), "--device", "cpu"]) == 0
    assert "persistence" in capsys.readouterr().out
    assert (run / "report-valid.html").exists()
    assert main(["rollout", str(run), "--device", "cpu"]) == 0
    assert "rollout-valid-0.hdf5" in capsys.readouterr().out
    assert load_settings(run)["train"]["steps"] == 4


def test_data_commands(dataset, capsys):
    assert main(["data", "check", str(dataset)]) == 0
    assert "no errors" in capsys.readouterr().out
    assert main(["data", "info", str(dataset)]) == 0
    assert "height" in capsys.readouterr().out


def test_info_lists_the_presets(capsys):
    assert main(["info"]) == 0
    assert "10M" in capsys.readouterr().out


def test_print_config_shows_every_entry(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--config", "configs/pocketwell/shear_flow.yaml", "--print_config"])
    assert stop.value.code in (0, None)
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["data"]["path"].endswith("shear_flow")
    assert shown["train"]["lr"] == DEMO.lr


CONFIGS = sorted(Path("configs/pocketwell").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_are_the_recipe_that_was_measured(path):
    """A config says where the data are, how much to train and what is the system's own; the rest
    of the recipe is the default.
    """
    config = yaml.safe_load(path.read_text())
    assert config["data"]["path"] == f"datasets/pocketwell/small/{path.stem}"
    own = PRIORS.get(path.stem, {"data": {}, "model": {}, "train": {}})
    given = {
        k: v for k, v in config["data"].items() if k not in ("path", "batch_size", "mask_field")
    }
    assert given == own["data"]
    samples = config["train"].pop("samples")
    assert config["train"] == own["train"]
    assert config["model"] == {"preset": "nano", **own["model"]}
    rates = {(row["model"], row["system"]): row for row in rate_rows(Path("results/accuracy2"))}
    timed = ("WaveLiT 0.2", path.stem) in rates
    known = path.stem if timed else "acoustic_scattering_maze"
    rate = float(rates["WaveLiT 0.2", known]["ms_per_sample"])
    cell = Cell("WaveLiT 0.2", known, 0, MINUTES, 1.0, "final")
    assert samples == n_steps(cell, rate) * config["data"]["batch_size"]


@pytest.mark.parametrize(
    "path", sorted(Path("configs/the_well").glob("*.yaml")), ids=lambda path: path.stem
)
def test_recipes_of_the_well_are_those_of_the_page(path):
    config = yaml.safe_load(path.read_text())
    TrainConfig(**config["train"])
    TrainerConfig(**config["trainer"])
    assert config["data"]["path"] == f"datasets/{path.stem}"
    grid = " x ".join(map(str, GRIDS[path.stem]))
    of_the_table = {f.resolution.replace("x", " x ") for f in published() if f.dataset == path.stem}
    assert of_the_table <= {grid}
    first, second, *_ = path.read_text().splitlines()
    assert first == f"# wavelit train --config {path} --run runs/{path.stem} --resume auto"
    size = re.fullmatch(rf"# {grid} points, ([\d,]+) GB\..*", second)[1]
    row = f"| {path.stem} | {grid} | {size} GB | {config['data']['batch_size']} |"
    assert row in Path("docs/the_well.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tarin"], "unknown command 'tarin'; known: demo"),
        (["train", "--data.path", "nowhere", "--train.steps", "1"], "nowhere"),
        (["train", "--data.path", "nowhere"], "nowhere/data/train: no such folder"),
        (["train", "{a: 1}"], "{a: 1}/data/train: no such folder"),
        (["train", "--data.path", "nowhere", "--train.step", "1"], "--train.step"),
        (["train", "--data.path", "nowhere", "--train.lr", "fast"], "lr"),
        (["train", "--resume", "nowhere"], "is not a run folder"),
        (["train", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["evaluate", "nowhere"], "is not a run folder"),
        (["rollout", "nowhere"], "is not a run folder"),
        (["data", "check", "nowhere"], "error"),
        (["data", "info", "nowhere"], "nowhere"),
        (["data", "generate", "atlantis"], "unknown systems 'atlantis'"),
        (["demo", "atlantis"], "unknown system 'atlantis'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_gets_one_line_and_status_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_the_preset_writes_nothing(dataset, tmp_path, capsys):
    words = [
        "train",
        "--data.path",
        str(dataset),
        "--run",
        str(tmp_path / "run"),
        "--train.steps",
        "1",
    ]
    assert main([*words, "--model.preset", "7M"]) == 2
    assert "known: nano, nano-0.1, paper, 1M, 3M, 10M" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_second_run_in_a_folder_is_refused(dataset, run, capsys):
    words = ["train", "--data.path", str(dataset), "--run", str(run), "--train.steps", "4", *SMALL]
    assert main(words) == 2
    assert "already holds a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status"), [(["data", "--help"], 0), (["data"], 2), (["benchmark", "-h"], 0)]
)
def test_a_group_of_commands_lists_its_own(words, status, capsys):
    assert main(words) == status
    names = capsys.readouterr()[1 if status else 0].split("{")[1].split("}")[0].split(",")
    assert names == [name.split()[1] for name in COMMANDS if name.startswith(words[0])]


def test_help_explains_every_entry_of_the_architecture(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "DWT levels J; a token covers 2^J cells along each axis." in text
    assert "0: there are none." in text


def test_help_is_quick():
    """It waits for nothing that takes a second to import, here or on a slow machine."""
    code = """
import sys
from wavelit.cli.program import main
status = main(["--help"])
print({"torch", "lightning", "matplotlib", "h5py"} & set(sys.modules), file=sys.stderr)
sys.exit(status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"
    assert all(name.split()[0] in done.stdout for name in COMMANDS)


def test_a_long_name_leaves_reason_and_fix_in_sight(capsys):
    for words in (
        ["data", "info", "x" * 4000],
        ["train", "--data.path", "x" * 4000, "--train.steps", "1"],
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert len(error) < 1200
        assert "no such folder" in error or "File name too long: choose a shorter name" in error
    assert main(["train", "--config="]) == 2
    assert "--config names no file" in capsys.readouterr().err


def test_a_name_of_two_lines_is_one(capsys):
    assert main(["data", "info", "a\nb"]) == 2
    assert main(["a\x1b[31m\nb"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(r"wavelit: error: a\nb/data/train: no such folder")
    assert second.startswith(r"wavelit: error: unknown command 'a\x1b[31m\nb'; known: demo")


def test_an_older_name_of_an_option_is_still_taken(tmp_path, capsys):
    path = tmp_path / "older.yaml"
    path.write_text("data: {path: somewhere}\ntrain: {steps: 3, recompute: true}\n")
    for words in (
        ["--config", str(path)],
        [f"--config={path}"],
        ["--data.path=a", "--train.recompute=true"],
    ):
        with (
            pytest.warns(UserWarning, match="recompute is called activation_checkpointing now"),
            pytest.raises(SystemExit),
        ):
            main(["train", *words, "--print_config"])
        assert yaml.safe_load(capsys.readouterr().out)["train"]["activation_checkpointing"] is True
    with pytest.warns(UserWarning, match="recompute is called"):
        assert from_mapping(
            TrainConfig, {"steps": 1, "recompute": True}, "a file"
        ).activation_checkpointing


def test_paths_are_printed_without_what_a_terminal_obeys(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = "\x1b]31m\u202e{red}"
    words = ["data", "generate", "shear_flow", "--size", "tiny", "--processes", "1", "--root", root]
    # The second time it is there.
    for _ in range(2):
        assert main(words) == 0
        printed = capsys.readouterr()
        assert printed.out.strip() == r"\x1b]31m\u202e{red}/tiny/shear_flow"
        for line in printed.err.splitlines():
            assert line.isprintable()


def test_all_systems_may_be_named_among_others(monkeypatch, capsys):
    """Each is generated once."""
    monkeypatch.setattr("wavelit.data.pocketwell.generate", lambda system, *_, **__: system)
    assert main(["data", "generate", "shear_flow", "pocketwell"]) == 0
    printed = capsys.readouterr().out.split()
    assert printed[0] == "shear_flow"
    assert sorted(printed) == sorted(SYSTEMS)


def test_an_empty_word_is_named(capsys):
    assert main(["train", "--data.path=a", "--train.steps=1", ""]) == 2
    assert "an empty word" in capsys.readouterr().err


def test_a_second_interrupt_is_one_line_too(monkeypatch, capsys):
    """It may come before the program has begun to ignore it."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr("wavelit.cli.program._command", interrupted)
    monkeypatch.setattr("wavelit.cli.program.signal.signal", interrupted)
    assert main() == 130
    assert capsys.readouterr().err == "wavelit: interrupted\n"


# Python prints and drops what is raised in __del__.
INTERRUPTED_IN_A_CALLBACK = """
import signal, sys, time
from wavelit.cli import program as cli
# Of a program in the background, interrupts are ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
class Falling:
    def __del__(self):
        raise KeyboardInterrupt
def command(parser, words):
    Falling()
    for _ in range(500):
        time.sleep(0.01)
cli.COMMANDS["info"] = command
sys.argv = ["wavelit", "info"]
raise SystemExit(cli.main())
"""


def test_an_interrupt_that_falls_into_a_callback_is_not_lost():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IN_A_CALLBACK],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "wavelit: interrupted\n")


def test_a_budget_is_due(dataset, capsys):
    assert main(["train", str(dataset)]) == 2
    assert "name one budget" in capsys.readouterr().err


def test_main_is_a_function_whatever_was_imported_before(capsys):
    import wavelit.cli.program
    from wavelit.cli import main as function

    assert function is not wavelit.cli.program
    assert function(["--version"]) == 0
    assert capsys.readouterr().out.strip() == wavelit.__version__


def test_the_package_is_a_program_too(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["wavelit", "--version"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("wavelit", run_name="__main__")
    assert end.value.code == 0
    assert capsys.readouterr().out.strip() == __version__
