"""Time a training step of WaveLiT beside The Well's CNextU-Net at the same batch: forward, loss, backward, AdamW.

    make baselines
    OMP_NUM_THREADS=1 .venv-baselines/bin/python benchmarks/training_step.py --output results/training_step.csv

Each figure is the median over rounds that visit the models in turn, so that a slow moment of the machine hits both. Quote
the ratio: absolute times depend on the machine and on what else it does.
"""

import argparse
import csv
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch
from the_well.benchmark.models import UNetConvNext
from torch import nn

from wavelit.losses import increment_loss
from wavelit.model import WaveLiT, WaveLiTConfig

FIELDS, CONSTANTS, HISTORY = 3, 2, 4


def wavelit_step(preset: str, side: int, batch: int) -> tuple[Callable[[], None], int]:
    """A step of WaveLiT with its wavelet loss, at the channel counts of acoustic_scattering_maze."""
    boundary = (("wall", "wall"), ("open", "open"))
    config = WaveLiTConfig.preset(
        preset, n_fields=FIELDS, n_constant_fields=CONSTANTS, boundary_conditions=boundary
    )
    model = WaveLiT(config)
    fields = torch.randn(batch, HISTORY, FIELDS, side, side)
    constants = torch.randn(batch, CONSTANTS, side, side)
    target = torch.randn(batch, FIELDS, side, side)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step() -> None:
        loss = increment_loss(model, model.increment(fields, constants), target, 0.3)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step, model.n_parameters


def cnextunet_step(side: int, batch: int) -> tuple[Callable[[], None], int]:
    """A step of The Well's CNextU-Net at its benchmark size, with a squared loss."""
    model: nn.Module = UNetConvNext(
        dim_in=HISTORY * FIELDS + CONSTANTS,
        dim_out=FIELDS,
        n_spatial_dims=2,
        spatial_resolution=(side, side),
        init_features=42,
        blocks_per_stage=2,
    )
    x = torch.randn(batch, HISTORY * FIELDS + CONSTANTS, side, side)
    target = torch.randn(batch, FIELDS, side, side)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step() -> None:
        loss = (model(x) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step, sum(p.numel() for p in model.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sides", type=int, nargs="+", default=[64])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    rows = []
    for side in options.sides:
        steps = {
            "WaveLiT nano": wavelit_step("nano", side, options.batch),
            "WaveLiT 1M": wavelit_step("1M", side, options.batch),
            "CNextU-Net": cnextunet_step(side, options.batch),
        }
        times: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(options.rounds + 2):
            for name, (step, _) in steps.items():
                start = time.perf_counter()
                step()
                times[name].append(time.perf_counter() - start)
        # The first two rounds warm up.
        median = {name: statistics.median(values[2:]) / options.batch * 1e3 for name, values in times.items()}
        for name, (_, parameters) in steps.items():
            rows.append(
                {
                    "model": name,
                    "parameters": parameters,
                    "side": side,
                    "batch": options.batch,
                    "ms_per_sample": round(median[name], 2),
                    "speed_over_cnextunet": round(median["CNextU-Net"] / median[name], 2),
                    "threads": options.threads,
                    "rounds": options.rounds,
                    "torch": torch.__version__,
                    "machine": platform.processor() or platform.machine(),
                    "commit": commit.stdout.strip(),
                }
            )
    with options.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(f"{row['model']:13s} {row['side']}x{row['side']}  {row['ms_per_sample']:8.1f} ms a sample  "
              f"{row['speed_over_cnextunet']:5.2f} x CNextU-Net")  # fmt: skip


if __name__ == "__main__":
    main()
