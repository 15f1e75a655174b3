"""What the documentation shows runs, and what it quotes is what was measured."""

import json
import re
import runpy
from pathlib import Path

import pytest

from wavelit.benchmarks.protocol import Cell, best_lr, is_done, read_rates
from wavelit.data.pocketwell import SYSTEMS

ROOT = Path(__file__).parent.parent


def code_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_tutorial_ends_in_a_trained_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = code_blocks("docs/your_data.md")
    assert "minutes=1" in block
    shortened = block.replace("minutes=1", "steps=2").replace('"nano"', '"nano", embed_dim=16')
    script = tmp_path / "tutorial.py"
    script.write_text(shortened)
    scope = runpy.run_path(str(script))
    assert Path(scope["report"]).exists()
    assert scope["evaluation"].dataset == "mine"


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
        ("performance", "performance.md"),
        ("accuracy", "results.md"),
        ("stability", "results.md"),
    ],
)
def test_tables_are_the_measured_ones(script, page, monkeypatch, load_script):
    module = load_script(script)
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / page).read_text() + (ROOT / "README.md").read_text()
    for table in module.tables():
        assert table in text


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
