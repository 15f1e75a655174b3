"""PocketWell at a glance: sizes, times, persistence, error growth and wavelet compressibility of
every system, and a picture each.

    wavelit data generate pocketwell
    OMP_NUM_THREADS=1 .venv/bin/python scripts/pocketwell_glance.py measure [SYSTEM ...]
    .venv/bin/python scripts/pocketwell_glance.py render

`measure` adds a line per system to results/pocketwell.csv and draws
docs/images/pocketwell/<system>.png from the datasets of size small; `render` writes the table of
docs/pocketwell.md from the CSV.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tables import asked, markdown, put, read

from wavelit.data.pocketwell import SYSTEMS, System
from wavelit.data.well import WellDataset
from wavelit.evaluation.snapshots import anomaly, haar_shares

ROOT = Path("datasets/pocketwell/small")
TABLE = Path("results/pocketwell.csv")
PAGE = Path("docs/pocketwell.md")
PICTURES = Path("docs/images/pocketwell")
BEGIN, END = "<!-- table: scripts/pocketwell_glance.py render -->", "<!-- end of table -->"

# Relative change of one parameter that tells twin runs apart.
TWIN = 1e-7


def growth_rate(system: System) -> float | None:
    """Growth of the distance of twin runs, per snapshot interval; None for systems without
    parameters to change.

    The distance is the relative L2 norm over all fields, each over its own spread; the rate is the
    slope of its logarithm from ten times its first value until it reaches 0.1, by least squares.
    """
    if not system.parameters[0]:
        return None
    # The first parameter set that lets the system move most: the last one by convention of the
    # modules is the liveliest.
    parameters = system.parameters[-1]
    name = next(iter(parameters))
    shape = system.shapes["small"]
    times = system.times(shape, system.size("small").n_snapshots)
    runs = []
    for factor in (1.0, 1.0 + TWIN):
        rng = np.random.default_rng(0)
        runs.append(
            system.simulate(
                shape, times, {**parameters, name: parameters[name] * factor}, [rng]
            ).fields
        )
    squares = np.zeros(len(times))
    for field, value in runs[0].items():
        a, b = np.asarray(value[0], float), np.asarray(runs[1][field][0], float)
        axes = tuple(range(1, a.ndim))
        squares += ((a - b) ** 2).mean(axes) / (a.var() + 1e-300)
    distance = np.sqrt(squares / len(runs[0]))
    start = distance[distance > 0][0] if (distance > 0).any() else 0.0
    window = (distance > 10 * start) & (distance < 0.1)
    if start == 0 or window.sum() < 5:
        window = distance > 0
    if window.sum() < 5:
        return None
    steps = np.flatnonzero(window)
    return float(np.polyfit(steps, np.log(distance[steps]), 1)[0])


def compressibility(dataset: WellDataset) -> tuple[float, float]:
    """Share of the energy about the mean in the largest 1 % and 5 % of Haar coefficients, mean
    over snapshots and channels.
    """
    shares = []
    for index in range(0, len(dataset), max(1, len(dataset) // 40)):
        state = torch.nan_to_num(dataset[index]["input_fields"][0].movedim(-1, 0))
        kept = haar_shares(anomaly(state), (0.01, 0.05))
        shares.append(kept[:, torch.isfinite(kept[0])])
    one, five = torch.cat(shares, 1).mean(1).tolist()
    return one, five


def picture(dataset: WellDataset, path: Path) -> None:
    """Up to three channels at four times of the longest-lived trajectory of the split."""
    sample = dataset[len(dataset) - 1]
    record = (
        torch.cat([sample["input_fields"], sample["output_fields"]]).movedim(-1, 1).numpy()
    )  # (T, C, *S)
    names = dataset.field_channels
    shown = [0] if len(names) == 1 else [0, 1] if len(names) == 2 else [0, 1, len(names) // 2 + 1]
    steps = np.linspace(0, len(record) - 1, 4).astype(int)
    height, width = record.shape[2:]
    # Long domains lie on their side.
    turn = height > 1.5 * width
    ratio = (width / height) if turn else (height / width)
    figure = Figure(figsize=(8, 0.4 + len(shown) * (2 * ratio + 0.15)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown), 4, squeeze=False)
    for row, channel in enumerate(shown):
        values = record[:, channel]
        low, high = np.nanpercentile(values, (1, 99))
        signed = low < 0 < high
        limit = max(-low, high)
        colours = (
            {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
            if signed
            else {"cmap": "viridis", "vmin": low, "vmax": high}
        )
        for ax, step in zip(axes[row], steps, strict=True):
            ax.imshow(values[step].T if turn else values[step], origin="lower", **colours)
            ax.set_xticks([])
            ax.set_yticks([])
            if row == 0:
                ax.set_title(f"snapshot {step}", fontsize=9)
        axes[row, 0].set_ylabel(names[channel], fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def measure(names: list[str]) -> None:
    lines = {}
    if TABLE.exists():
        lines = {line["system"]: line for line in read(TABLE)}
    for name in names:
        folder, system = ROOT / name, SYSTEMS[name]
        record = json.loads((folder / "pocketwell.json").read_text())
        windows = WellDataset(
            str(folder), well_split_name="valid", n_steps_input=1, n_steps_output=1
        )
        whole = WellDataset(
            str(folder), well_split_name="valid", n_steps_input=1, full_trajectory_mode=True
        )
        one, five = compressibility(windows)
        rate = growth_rate(system)
        lines[name] = {
            "system": name,
            "unseen": system.unseen,
            "grid": "x".join(str(n) for n in record["grid"]),
            "channels": len(windows.field_channels),
            "trajectories": "/".join(
                str(record["trajectories"][s]) for s in ("train", "valid", "test")
            ),
            "snapshots": record["n_snapshots"],
            "megabytes": round(sum(f.stat().st_size for f in folder.rglob("*.hdf5")) / 1e6),
            "seconds": record["seconds"],
            "persistence_vrmse": round(record["persistence_vrmse"]["mean"], 4),
            # Adding zero turns -0.0 into 0.0.
            "growth_per_interval": "" if rate is None else round(rate, 3) + 0.0,
            "haar_energy_1_percent": round(one, 4),
            "haar_energy_5_percent": round(five, 4),
            "version": record["version"],
            "seed": record["seed"],
        }
        picture(whole, PICTURES / f"{name}.png")
        print(lines[name], flush=True)
        TABLE.parent.mkdir(exist_ok=True)
        with TABLE.open("w", newline="") as file:
            writer = csv.DictWriter(file, next(iter(lines.values())).keys())
            writer.writeheader()
            writer.writerows(lines[key] for key in SYSTEMS if key in lines)


def table() -> str:
    """The Markdown table of the CSV's lines."""
    head = [
        "system",
        "grid",
        "channels",
        "trajectories",
        "snapshots",
        "MB",
        "seconds",
        "persistence",
        "growth",
        "Haar 1 %",
        "Haar 5 %",
    ]
    rows = []
    for line in read(TABLE):
        star = " (unseen)" if line["unseen"] == "True" else ""
        name = f"[{line['system']}](pocketwell/{line['system']}.md){star}"
        keys = (
            "grid",
            "channels",
            "trajectories",
            "snapshots",
            "megabytes",
            "seconds",
            "persistence_vrmse",
        )
        cells = [name, *(line[key] for key in keys), line["growth_per_interval"] or "none"]
        cells += [
            f"{float(line[key]):.1%}" for key in ("haar_energy_1_percent", "haar_energy_5_percent")
        ]
        rows.append(cells)
    return markdown(head, rows)


def tables() -> list[str]:
    return [table()]


if __name__ == "__main__":
    options = asked(__doc__)
    torch.set_num_threads(1)
    if options.action == "render":
        put(PAGE, BEGIN, END, table())
        sys.exit()
    measure(
        options.systems or [name for name in SYSTEMS if (ROOT / name / "pocketwell.json").exists()]
    )
