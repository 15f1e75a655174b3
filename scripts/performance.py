"""The tables of docs/performance.md, from results/speed; the page says how those are made.

.venv/bin/python scripts/performance.py
"""

import math
from pathlib import Path

from tables import markdown, put, read

SPEED = Path("results/speed")
# An earlier state of the code on another machine.
XEON = SPEED / "xeon"
MACHINES = {"AMD EPYC": SPEED, "Intel Xeon, earlier": XEON}
SCORES = Path("results/pocketwell_training.csv")
PAGE = Path("docs/performance.md")


# What is aimed at: words, part, what its lines must hold, column, at least or at most, the bar.
AIMS = (
    ("reader, x The Well's, 64²", "reader", {"case": "files", "grid": "64x64"}, "ratio", ">=", 10),
    (
        "reader, x The Well's, 256²",
        "reader",
        {"case": "files", "grid": "256x256"},
        "ratio",
        ">=",
        3,
    ),
    *(
        (
            f"{wavelet}, {words}",
            "transforms",
            {"case": "transform", "wavelet": name},
            column,
            sense,
            bar,
        )
        for wavelet, name in (("Haar", "haar"), ("CDF 5/3", "bior2.2"))
        for words, column, sense, bar in (
            ("x ptwt", "ptwt_over_wavelit", ">=", 5),
            ("over a copy of its bytes", "wavelit_over_copy_bound", "<=", 4),
        )
    ),
    *(
        (
            f"training step of `nano`, x {rival}, 64² / 128² / 256²",
            "training",
            {"model": "WaveLiT nano"},
            f"speed_over_{rival}",
            ">=",
            8,
        )
        for rival in ("CNextU-Net", "U-Net", "FNO")
    ),
    (
        "its share of matrix products",
        "training",
        {"model": "WaveLiT nano"},
        "share_of_products",
        ">=",
        0.4,
    ),
    *(
        (
            f"prediction of `{preset}` at 512², {words}",
            "inference",
            {"model": f"WaveLiT {preset}", "side": "512"},
            column,
            sense,
            bar,
        )
        for preset, speed in (("1M", 4), ("3M", 2))
        for words, column, sense, bar in (
            ("x CNextU-Net", "speed_over_CNextU-Net", ">=", speed),
            ("of its memory", "memory_over_CNextU-Net", "<=", 0.5),
        )
    ),
    (
        "cost in N, exponent of each doubling from 64² to 1024²",
        "scaling",
        {},
        "exponent_since_last",
        "<=",
        1.05,
    ),
    ("`wavelit --help`, s", "startup", {"case": "wavelit --help"}, "seconds", "<=", 0.5),
    (
        "`import wavelit` beyond torch, s",
        "startup",
        {"case": "import wavelit, beyond import torch"},
        "seconds",
        "<=",
        2,
    ),
)


def aims() -> str:
    """Every aim on both machines; in bold where it is missed."""
    rows = []
    for words, part, where, column, sense, bar in AIMS:
        cells = [words, f"{'at least' if sense == '>=' else 'at most'} {bar:g}"]
        for folder in MACHINES.values():
            lines = [row for row in read(folder / f"{part}.csv") if where.items() <= row.items()]
            values = [value for row in lines if not math.isnan(value := float(row[column]))]
            missed = [value < bar if sense == ">=" else value > bar for value in values]
            cells.append(
                " / ".join(
                    f"**{v:.3g}**" if m else f"{v:.3g}" for v, m in zip(values, missed, strict=True)
                )
            )
        rows.append(cells)
    return markdown(["what", "aim", *MACHINES], rows)


def reader() -> str:
    head = ["grid", "case", "wavelit, samples/s", "The Well, samples/s", "ratio"]
    keys = ["grid", "case", "wavelit_samples_per_second", "the_well_samples_per_second", "ratio"]
    return markdown(head, [[row[key] for key in keys] for row in read(SPEED / "reader.csv")])


def transforms() -> str:
    head = ["what", "wavelet", "wavelit, ms", "ptwt, ms", "ptwt / wavelit", "wavelit / copy bound"]
    head.append("ptwt / wavelit, memory given back")
    keys = [
        "case",
        "wavelet",
        "wavelit_ms",
        "ptwt_ms",
        "ptwt_over_wavelit",
        "wavelit_over_copy_bound",
    ]
    other = read(SPEED / "default_allocator" / "transforms.csv")
    cells = [
        [*(row[key] for key in keys), default["ptwt_over_wavelit"]]
        for row, default in zip(read(SPEED / "transforms.csv"), other, strict=True)
    ]
    return markdown(head, cells)


def training() -> str:
    rows = read(SPEED / "training.csv")
    ratios = [key for key in rows[0] if key.startswith("speed_over_")]
    head = [
        "model",
        "grid",
        "batch",
        "ms a sample",
        *(f"x {key.removeprefix('speed_over_')}" for key in ratios),
    ]
    head += ["matrix products", "their bound, ms"]
    cells = []
    for row in rows:
        own = [
            row["model"],
            f"{row['side']}²",
            row["batch"],
            row["ms_per_sample"],
            *(row[key] for key in ratios),
        ]
        cells.append(
            [*own, f"{float(row['share_of_products']):.0%}", row["products_bound_ms_per_sample"]]
        )
    return markdown(head, cells)


def profile() -> str:
    rows = [*read(XEON / "profile.csv"), *read(SPEED / "profile.csv")]
    labels = list(dict.fromkeys(row["label"] for row in rows))
    head = [
        "kind",
        *(f"{label}, share" for label in labels),
        *(f"{label}, calls a step" for label in labels),
    ]
    by = {(row["label"], row["kind"]): row for row in rows}
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    cells = [
        [
            kind,
            *(f"{float(by[label, kind]['share']):.0%}" for label in labels),
            *(by[label, kind]["calls"] for label in labels),
        ]
        for kind in kinds
    ]
    whole = [by[label, kinds[0]]["ms_per_sample_unprofiled"] for label in labels]
    cells.append(["ms a sample, without the profiler", *whole, *("" for _ in labels)])
    return markdown(head, cells)


def compiled() -> str:
    head = ["model", "grid", "batch", "eager, ms a sample", "compiled, ms a sample", "compiling, s"]
    keys = [
        "model",
        "side",
        "batch",
        "eager_ms_per_sample",
        "compiled_ms_per_sample",
        "compile_seconds",
    ]
    return markdown(head, [[row[key] for key in keys] for row in read(SPEED / "compiled.csv")])


def inference() -> str:
    head = ["model", "grid", "ms", "x CNextU-Net", "memory, MB", "of CNextU-Net's"]
    cells = [
        [
            row["model"],
            f"{row['side']}²",
            row["ms"],
            row["speed_over_CNextU-Net"],
            row["memory_mb"],
            row["memory_over_CNextU-Net"],
        ]
        for row in read(SPEED / "inference.csv")
    ]
    return markdown(head, cells)


def scaling() -> str:
    rows = read(SPEED / "scaling.csv")
    head = ["grid", "ms", "memory, MB", "exponent since the last grid"]
    cells = [
        [
            f"{row['side']}²",
            row["ms"],
            row["memory_mb"],
            row["exponent_since_last"].replace("nan", ""),
        ]
        for row in rows
    ]
    cells.append(
        ["all, exponent", rows[0]["exponent_of_time"], rows[0]["exponent_of_memory"], ""],
    )
    return markdown(head, cells)


def solvers() -> str:
    scores = {row["system"]: row["one_step"] for row in read(SCORES)}
    head = [
        "system",
        "grid",
        "solver, s",
        "nano, s",
        "speed-up",
        "one-step VRMSE of the first model",
    ]
    cells = [
        [
            row["system"],
            row["grid"],
            row["solver_s_per_time"],
            row["emulator_s_per_time"],
            row["speed_up"],
            f"{float(scores[row['system']]):.3f}",
        ]
        for row in read(XEON / "solvers.csv")
    ]
    return markdown(head, cells)


def startup() -> str:
    return markdown(
        ["what", "seconds"], [[row["case"], row["seconds"]] for row in read(SPEED / "startup.csv")]
    )


TABLES = {
    f.__name__: f
    for f in (
        aims,
        reader,
        transforms,
        training,
        profile,
        compiled,
        inference,
        scaling,
        solvers,
        startup,
    )
}


def tables() -> list[str]:
    return [make() for make in TABLES.values()]


if __name__ == "__main__":
    for name, make in TABLES.items():
        put(PAGE, f"<!-- table: {name} -->", f"<!-- end: {name} -->", make())
