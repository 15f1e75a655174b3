"""How large the fields become far beyond the data's end, from the weights that `wavelit benchmark
accuracy` left.

    # What is in runs/accuracy and not in the CSV yet; then the table of docs/results_first.md.
    .venv-baselines/bin/python scripts/stability.py measure [MODEL ...]
    .venv/bin/python scripts/stability.py
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from accuracy import SHOWN
from accuracy_scores import runs
from safetensors.torch import load_file
from tables import markdown, put, read

from wavelit.benchmarks.accuracy import open_data, set_up
from wavelit.benchmarks.entries import build
from wavelit.benchmarks.protocol import THE_EIGHT, Cell
from wavelit.benchmarks.timing import environment, write_rows
from wavelit.evaluation.rollout import rollout
from wavelit.metrics import vrmse

RESULT = Path("results/accuracy/stability.csv")
WEIGHTS = Path("runs/accuracy")
DATASETS = Path("datasets/pocketwell/small")
PAGE = Path("docs/results_first.md")
STEPS = 200


def measure(models: Sequence[str]) -> None:
    """Roll every trajectory of validation out from its start; one row for every weights file
    whose result is in the tables.
    """
    set_up()
    rows = list(map(dict, read(RESULT))) if RESULT.exists() else []
    done = {(row["model"], row["system"], int(row["seed"])) for row in rows}
    for (model, system), each in sorted(runs().items()):
        for result in each if not models or model in models else ():
            cell = Cell(
                **{
                    key: result[key]
                    for key in ("model", "system", "seed", "minutes", "lr", "stage")
                }
            )
            weights = cell.path(WEIGHTS).with_suffix(".safetensors")
            if (model, system, result["seed"]) not in done and weights.exists():
                largest = _largest(result, weights)
                row = {"model": model, "system": system, "seed": result["seed"], "steps": STEPS}
                rows.append({**row, "largest": f"{largest:.3g}", **environment()})
                write_rows(RESULT, rows)
                print(rows[-1], flush=True)


def _largest(result: dict, weights: Path) -> float:
    """max |u| of the steps predicted over max |u| of the data, of the field in which it is
    largest; infinite if not finite.
    """
    data = open_data(result["system"], DATASETS, result["seed"])
    model = build(result["model"], data, result["seed"])
    model.load_state_dict(load_file(weights))
    predicted, true, scores = [], [], []
    for batch in data.trajectories("valid", batch_size=4):
        states = rollout(model, batch.fields, STEPS, batch.constants, batch.scalars, batch.valid)
        for each, found in ((states, predicted), (batch.fields, true), (batch.target, true)):
            found.append(each.abs().amax((0, 1, *range(3, each.ndim))))
        scores.append(vrmse(states[:, :1], batch.target[:, :1], model.spatial, valid=batch.valid))
    score, expected = float(torch.cat(scores).mean()), result["valid"]["rollout_by_step"][0]
    if not math.isclose(score, expected, rel_tol=0.01):
        raise SystemExit(
            f"{weights} has VRMSE {score} at the first step, its result {expected}: of another run"
        )
    ratio = float((torch.stack(predicted).amax(0) / torch.stack(true).amax(0)).max())
    return ratio if math.isfinite(ratio) else math.inf


def table() -> str:
    """Largest over the seeds that were measured."""
    found: dict[tuple[str, str], float] = {}
    for row in read(RESULT):
        key = row["model"], row["system"]
        found[key] = max(found.get(key, 0.0), float(row["largest"]))
    models = [name for name in SHOWN if any((name, s) in found for s in THE_EIGHT)]
    rows = [
        [s, *(_number(found[name, s]) if (name, s) in found else "" for name in models)]
        for s in THE_EIGHT
    ]
    return markdown(["system", *models], rows)


def _number(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.0e}" if value >= 1000 else f"{value:.3g}"


def tables() -> list[str]:
    return [table()]


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2:])
    else:
        put(PAGE, "<!-- stability: scripts/stability.py -->", "<!-- end of stability -->", table())
