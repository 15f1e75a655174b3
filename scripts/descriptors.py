"""Descriptors of PocketWell's systems, which `wavelit diagnose` compares datasets with.

    wavelit data generate pocketwell
    OMP_NUM_THREADS=1 .venv/bin/python scripts/descriptors.py measure [SYSTEM ...]
    .venv/bin/python scripts/descriptors.py render

`measure` writes src/wavelit/evaluation/descriptors.json, a row a system and the settings, from the
datasets of size small under --root. Growth of twin runs is that of results/pocketwell.csv. `render`
writes the table of docs/diagnose.md from the JSON.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from tables import markdown, put, read

from wavelit import __version__
from wavelit.data.pocketwell import SYSTEMS
from wavelit.evaluation.descriptors import DESCRIPTORS, Descriptors, measure_descriptors
from wavelit.files.atomic import atomic_path

ROOT = Path("datasets/pocketwell/small")
TABLE = Path("src/wavelit/evaluation/descriptors.json")
GLANCE = Path("results/pocketwell.csv")
PAGE = Path("docs/diagnose.md")
BEGIN, END = "<!-- table: scripts/descriptors.py render -->", "<!-- end of table -->"
SEED = 0


def row(folder: Path, system: str) -> Descriptors:
    """The descriptors of a dataset of a system, with the growth of its twin runs."""
    glance = next(line for line in read(GLANCE) if line["system"] == system)
    growth = glance["growth_per_interval"]
    found = measure_descriptors(folder, seed=SEED)
    # What is beyond depends on the processor.
    digits = {name: float(f"{value:.6g}") for name, value in found.values.items()}
    return replace(found, **{**digits, "growth": float(growth) if growth else None})


def measure(systems: list[str], root: Path) -> None:
    known = json.loads(TABLE.read_text())["systems"] if TABLE.exists() else {}
    settings = {
        "size": "small",
        "seed": SEED,
        "split": "train",
        "wavelit": __version__,
        "torch": torch.__version__,
        "command": "scripts/descriptors.py measure",
        "growth": str(GLANCE),
    }
    for system in systems:
        known[system] = row(root / system, system).to_dict()
        print(json.dumps({name: known[system][name] for name in DESCRIPTORS}), flush=True)
        ordered = {name: known[name] for name in SYSTEMS if name in known}
        with atomic_path(TABLE) as scratch:
            text = json.dumps({"settings": settings, "systems": ordered}, indent=1)
            scratch.write_text(text + "\n", encoding="utf8")


def table() -> str:
    """The Markdown table of the JSON's rows."""
    rows = []
    for system, values in json.loads(TABLE.read_text())["systems"].items():
        numbers = [values[name] for name in DESCRIPTORS]
        rows.append([system, *("n/a" if x is None else f"{x:.3g}" for x in numbers)])
    return markdown(["system", *(name.replace("_", " ") for name in DESCRIPTORS)], rows)


def tables() -> list[str]:
    return [table()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["measure", "render"])
    parser.add_argument("systems", nargs="*")
    parser.add_argument("--root", type=Path, default=ROOT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.action == "render":
        put(PAGE, BEGIN, END, table())
    else:
        measure(options.systems or list(SYSTEMS), options.root)
