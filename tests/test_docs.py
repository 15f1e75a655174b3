"""What the documentation shows runs, and what it quotes is what was measured."""

import contextlib
import io
import json
import re
import runpy
from functools import cache
from pathlib import Path

import pytest
import torch

import wavelit
from wavelit.benchmarks.protocol import THE_EIGHT, Cell, best_lr, is_done, read_rates
from wavelit.cli.cluster import apart
from wavelit.cli.program import COMMANDS, main
from wavelit.cost import cost_of
from wavelit.data.pocketwell import SYSTEMS
from wavelit.model.config import WaveLiTConfig
from wavelit.model.wavelit import WaveLiT
from waves import write_waves

ROOT = Path(__file__).parent.parent


def code_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.long
@pytest.mark.slow
def test_own_data_end_in_a_trained_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("xarray")
    text = "\n".join(code_blocks("docs/your_data.md"))
    for long, short in (
        ("minutes=1", "steps=2"),
        ("steps=100", "steps=2"),
        ("steps=50", "steps=1"),
    ):
        assert long in text
        text = text.replace(long, short)
    script = tmp_path / "own_data.py"
    script.write_text(text)
    scope = runpy.run_path(str(script))
    assert scope["scores"].dataset == "mine"
    assert Path("runs/mine/report-valid.html").exists()
    assert scope["states"].shape == (3, 20, 1, 64, 64)
    assert {path.name for path in Path("datasets").iterdir()} == {"mine", "record", "maps", "sea"}


@pytest.mark.long
@pytest.mark.slow
def test_the_recipes_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The field of docs/your_data.md, which the page sends its readers to.
    for name in ("mine", "other"):
        write_waves(Path("datasets") / name, field="u")
    text = "\n".join(code_blocks("docs/howto.md"))
    for long, short in (
        ("minutes=5", "steps=2"),
        ("steps=1000", "steps=1"),
        ("steps=1200", "steps=2"),
        ("steps=100", "steps=2"),
        ("steps=150", "steps=3"),
        ("steps=50", "steps=1"),
        ("steps=200", "steps=2"),
        ('"1M"', '"nano"'),
    ):
        assert long in text
        text = text.replace(long, short)
    script = tmp_path / "recipes.py"
    script.write_text(text)
    scope = runpy.run_path(str(script))
    assert scope["states"].shape == (1, 20, 1, 16, 16)
    assert scope["again"].n_parameters == scope["own"].n_parameters
    assert scope["shipped"].spatial == 2
    assert sorted(scope["scores"].scores) == ["model", "persistence"]


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: p.name)
def test_commands_exist(page):
    """Every `wavelit ...` in a block of shell names a command and options that there are."""
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.split(" #")[0].split()
            if not words or Path(words[0]).name != "wavelit" or words[1].startswith("-"):
                continue
            if words[1] == "ray":
                # Another command stands behind its own options.
                own, command = apart(words[2:])
                assert {word for word in own if word.startswith("--")} <= options_of("ray"), line
                words = [words[0], *command]
            name = " ".join(words[1:3] if words[1] in ("data", "benchmark") else words[1:2])
            assert name in COMMANDS, line
            known = options_of(name)
            for word in words:
                assert not word.startswith("--") or word.split("=")[0] in known, line


@cache
def options_of(command: str) -> frozenset[str]:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    return frozenset(re.findall(r"--[\w.-]+", shown.getvalue()))


def test_the_site_has_every_page_and_every_module():
    shown = re.findall(r"[\w/]+\.(?:md|ipynb)", (ROOT / "mkdocs.yml").read_text().split("nav:")[1])
    docs = ROOT / "docs"
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    assert {name for name in shown if name.endswith(".md")} == pages
    api = "\n".join(path.read_text() for path in (docs / "api").glob("*.md"))
    for path in (ROOT / "src" / "wavelit").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        if path.stem not in ("__init__", "__main__", "api", "loading", "moved"):
            assert re.search(rf"^::: {re.escape(name)}$", api, re.MULTILINE), name
    for name in set(wavelit.__all__) - {"__version__"}:
        assert f"::: wavelit.{name}\n" in api + "\n", name


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_tree_names_every_file():
    tree = (ROOT / "CONTRIBUTING.md").read_text().split("## Every file")[1]
    systems = {f"{name}.py" for name in SYSTEMS}
    for path in (ROOT / "src" / "wavelit").rglob("*.py"):
        if path.name != "__init__.py" and path.name not in systems:
            assert re.search(rf"(?<![\w.]){re.escape(path.name)}", tree), path
    for name in re.findall(r"[\w]+\.py", tree):
        assert list((ROOT / "src" / "wavelit").rglob(name)), name


def test_the_readme_names_every_room_and_is_short():
    text = (ROOT / "README.md").read_text()
    for folder in (ROOT / "src" / "wavelit").iterdir():
        if (folder / "__init__.py").exists():
            assert f"{folder.name}/" in text, folder
    assert len(text.split("## Licence")[0].split()) <= 500


@pytest.mark.parametrize(
    ("script", "page"),
    [
        ("pocketwell_glance", "pocketwell.md"),
        ("pocketwell_training", "pocketwell.md"),
        ("descriptors", "diagnose.md"),
        ("performance", "performance.md"),
        ("compiled_counts", "performance.md"),
        ("accuracy", "results_first.md"),
        ("stability", "results_first.md"),
        ("attention", "results.md"),
        ("recipe", "results.md"),
        ("paper", "results.md"),
        ("long_rollouts", "results.md"),
        ("transfer", "transfer.md"),
        ("the_well_costs", "the_well.md"),
    ],
)
def test_tables_are_the_measured_ones(script, page, monkeypatch, load_script):
    module = load_script(script)
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / page).read_text() + (ROOT / "README.md").read_text()
    for table in module.tables():
        assert table in text


@pytest.mark.parametrize("preset", ["nano", "1M"])
def test_counts_of_the_page_are_those_of_the_code(preset):
    """The eager ones, which compiled ones stand beside."""
    found = json.loads((ROOT / f"results/compiled/{preset}-256-float32.json").read_text())
    model = WaveLiT(WaveLiTConfig.preset(found["preset"], n_fields=4))
    side, history = found["side"], model.config.n_steps_input
    cost = cost_of(model, torch.randn(1, history, 4, side, side))
    assert (cost.operations, cost.traffic) == (found["eager_operations"], found["eager_bytes"])


def test_a_compiled_step_of_1m_has_a_third_of_the_kernels_and_a_quarter_of_the_bytes():
    """Of the eager ones at commit 542aeb4."""
    found = json.loads((ROOT / "results/compiled/1M-256-bfloat16.json").read_text())
    assert found["compiled_kernels"] <= 1684 / 3
    assert found["compiled_bytes"] <= 5.2e9 / 4


def test_joint_models_are_compared_at_equal_time(load_script, monkeypatch):
    """By the rates of the machine that WaveLiT 0.2 was timed on, too."""
    monkeypatch.chdir(ROOT)
    scores = load_script("transfer_scores")
    for name, folder in scores.CONFIGURATIONS.items():
        runs = scores.found("40min/*-[0-9].json", folder)
        # Where a system is left out, the others share its time.
        for run in (run for run in runs if set(run["windows"]) == set(THE_EIGHT)):
            found = scores.an_eighth(run, folder)
            assert found == pytest.approx(scores.SECOND_MINUTES, rel=0.02), name


def test_the_runner_takes_every_committed_result_for_its_own():
    """Rates, learning rates and settings are those that the results in the repository were run
    with.
    """
    output = ROOT / "results" / "accuracy"
    rates = read_rates(output)
    paths = [*output.glob("lr/*/*.json"), *output.glob("*min/*/*.json")]
    assert paths
    for path in paths:
        result = json.loads(path.read_text())
        cell = Cell(
            **{key: result[key] for key in ("model", "system", "seed", "minutes", "lr", "stage")}
        )
        assert cell.path(output) == path
        assert is_done(cell, rates[cell.model, cell.system], output)
        if cell.stage == "final":
            assert cell.lr == best_lr(cell.model, output)
