"""A first WaveLiT on every system of PocketWell: `wavelit train` with the system's config and few
samples, then `wavelit evaluate`.

    wavelit data generate pocketwell
    OMP_NUM_THREADS=1 .venv/bin/python scripts/pocketwell_training.py measure [SYSTEM ...]
    .venv/bin/python scripts/pocketwell_training.py render

`measure` trains into runs/pw-<system>, takes up a run that is there, and writes a line per system
to results/pocketwell_training.csv (validation split); `render` writes the table of
docs/pocketwell.md.
"""

import csv
import json
import subprocess
import sys
from pathlib import Path

from tables import asked, markdown, put, read

TABLE = Path("results/pocketwell_training.csv")
PAGE = Path("docs/pocketwell.md")
CONFIGS = Path("configs/pocketwell")
SAMPLES = 1600
BEGIN, END = (
    "<!-- table: scripts/pocketwell_training.py render -->",
    "<!-- end of training table -->",
)
WINDOWS = {
    "one step": "one_step",
    "1:20": "rollout_1_20",
    "6:12": "rollout_6_12",
    "13:30": "rollout_13_30",
}


def measure(systems: list[str]) -> None:
    lines = {}
    if TABLE.exists():
        lines = {line["system"]: line for line in read(TABLE)}
    for system in systems:
        folder = Path("runs") / f"pw-{system}"
        wavelit = [sys.executable, "-m", "wavelit"]
        if not folder.exists():
            config = ["--config", str(CONFIGS / f"{system}.yaml"), f"--train.samples={SAMPLES}"]
            subprocess.run([*wavelit, "train", *config, "--run", str(folder)], check=True)
        if not (folder / "evaluation-valid.json").exists():
            subprocess.run([*wavelit, "evaluate", str(folder)], check=True)
        environment = json.loads((folder / "environment.json").read_text())
        table = json.loads((folder / "evaluation-valid.json").read_text())["table"]
        scores = {line["steps"]: line["vrmse"] for line in table if line["average"] == "mean"}
        line = {
            "system": system,
            "parameters": environment["parameters"],
            "samples": environment["samples"],
        }
        line["train_seconds"] = round(environment["train_seconds"])
        for steps, name in WINDOWS.items():
            model, persistence = (score["all"] for score in list(scores[steps].values())[:2])
            line[name], line[f"persistence_{name}"] = f"{model:.4g}", f"{persistence:.4g}"
        lines[system] = {
            **line,
            "seed": 0,
            "threads": environment["threads"],
            "commit": environment["commit"][:7],
        }
        TABLE.parent.mkdir(exist_ok=True)
        with TABLE.open("w", newline="") as file:
            writer = csv.DictWriter(file, lines[system].keys())
            writer.writeheader()
            writer.writerows(lines[key] for key in sorted(lines))


def table() -> str:
    """The Markdown table of the CSV's lines: model / persistence."""
    rows = []
    for line in read(TABLE):
        cells = [line["system"], f"{int(line['parameters']) / 1e6:.2f}M"]
        cells += [
            f"{_short(line[name])} / {_short(line[f'persistence_{name}'])}"
            for name in WINDOWS.values()
        ]
        rows.append(cells)
    return markdown(["system", "parameters", *WINDOWS], rows)


def _short(score: str) -> str:
    return f"{float(score):.3f}" if float(score) < 10 else f"{float(score):.2g}"


def tables() -> list[str]:
    return [table()]


if __name__ == "__main__":
    options = asked(__doc__)
    if options.action == "render":
        put(PAGE, BEGIN, END, table())
    else:
        measure(options.systems or sorted(path.stem for path in CONFIGS.glob("*.yaml")))
