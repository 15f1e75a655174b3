"""Figures of the demo that the results quote are the ones in results/."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def quoted_rows() -> list[tuple[str, ...]]:
    text = (ROOT / "docs" / "results.md").read_text().split("## The demo")[1]
    return [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in re.findall(r"^\| (?:acoustic|shear).*\|$", text, re.MULTILINE)
    ]


@pytest.mark.parametrize("row", quoted_rows(), ids=lambda row: row[0])
def test_the_page_quotes_the_demo(row):
    system, samples, *figures = row
    record = json.loads((ROOT / "results" / "demo" / f"{system}.json").read_text())
    assert f"{record['environment']['samples']:,}" == samples
    mean = {line["steps"]: line["vrmse"] for line in record["table"] if line["average"] == "mean"}
    for cell, steps in zip(figures, ("one step", "6:12", "13:30"), strict=True):
        model, held = (f"{scores['all']:.3f}" for scores in mean[steps].values())
        assert cell == f"{model} / {held}"


def test_both_demos_are_quoted():
    assert {row[0] for row in quoted_rows()} == {"acoustic_scattering_maze", "shear_flow"}
