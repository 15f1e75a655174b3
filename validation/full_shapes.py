"""Every command of docs/the_well.md on files of The Well's own shape, without The Well.

    python -m validation.full_shapes --scratch FOLDER [SYSTEMS]

The files are PocketWell's smallest ones on The Well's grids, by linear interpolation, with twelve
states: fields, scalars, boundaries and numbers are as they are there, the physics is not. For every
system: `data check`, three steps of its recipe, the same killed with SIGKILL after the first
checkpoint and started again by the same command, `evaluate` with both histories, `rollout`. The
weights of both trainings must agree bit for bit. A batch is one sample, in float32: what a device
must hold grows with the batch. One JSON a system, in results/full_shapes.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from wavelit.cost import cost_of
from wavelit.data.datamodule import WellDataModule
from wavelit.data.pocketwell import generate
from wavelit.data.statistics import write_statistics
from wavelit.training.run import build_model

ROOT = Path(__file__).parents[1]
# Points along each axis, of the READMEs of The Well's datasets (PolymathicAI/the_well, 215f55d).
GRIDS = {
    "acoustic_scattering_maze": (256, 256),
    "active_matter": (256, 256),
    "gray_scott_reaction_diffusion": (128, 128),
    "helmholtz_staircase": (1024, 256),
    "rayleigh_benard": (512, 128),
    "shear_flow": (256, 512),
    "turbulent_radiative_layer_2D": (128, 384),
    "viscoelastic_instability": (512, 512),
}
FRAMES = 12
STEPS = 3


def stretched(values: NDArray[Any], axes: Sequence[int], grid: Sequence[int]) -> NDArray[Any]:
    """Values on another grid, linearly between the old points, which the old ends keep."""
    for axis, points in zip(axes, grid, strict=True):
        at = np.linspace(0, values.shape[axis] - 1, points)
        low = np.minimum(at.astype(int), max(values.shape[axis] - 2, 0))
        share = (at - low).reshape(-1, *(1,) * (values.ndim - axis - 1))
        following = np.minimum(low + 1, values.shape[axis] - 1)
        values = (1 - share) * values.take(low, axis) + share * values.take(following, axis)
    return values.astype(np.float32)


def copy_stretched(source: Path, target: Path, grid: Sequence[int]) -> None:
    """A file of one trajectory on another grid, all else as it is."""
    target.parent.mkdir(parents=True)
    with h5py.File(source) as old, h5py.File(target, "w") as new:
        for key, value in old.attrs.items():
            new.attrs[key] = value
        new.attrs["n_trajectories"] = 1
        axes = [name for name in ("x", "y", "z") if name in old["dimensions"]]
        points = dict(zip(axes, grid, strict=True))

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group):
                copied: Any = new.require_group(name)
            else:
                copied = new.create_dataset(name, data=_values(name, item, points, grid))
            for key, value in item.attrs.items():
                copied.attrs[key] = value

        old.visititems(visit)


def _values(
    name: str, item: h5py.Dataset, points: dict[str, int], grid: Sequence[int]
) -> NDArray[Any]:
    group, _, rest = name.partition("/")
    values = np.asarray(item[()])
    if group == "dimensions":
        if rest == "time":
            return values[..., :FRAMES]
        axis = values.ndim - 1
        return stretched(values, [axis], [points[rest]])
    if group == "boundary_conditions" and rest.endswith("/mask"):
        # The mask of a side: its first and its last point.
        mask = np.zeros(points[rest[0]], bool)
        mask[0], mask[-1] = values[0], values[-1]
        return mask
    if group.endswith("_fields"):
        first = 0
        if item.attrs["sample_varying"]:
            values, first = values[:1], 1
        if item.attrs["time_varying"]:
            values = values[(slice(None),) * first + (slice(FRAMES),)]
            first += 1
        values = stretched(values, range(first, first + len(grid)), grid)
        # A mask holds zeros and ones.
        return np.round(values) if rest == "mask" else values
    return values[:1] if values.ndim and item.attrs.get("sample_varying") else values


def dataset(system: str, scratch: Path) -> Path:
    """The folder of a system on The Well's grid: one trajectory a split."""
    folder = scratch / "full" / system
    if (folder / "stats.yaml").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    generate(system, "tiny", root=scratch, processes=1, progress=False)
    for split in ("train", "valid", "test"):
        source = min((scratch / "tiny" / system / "data" / split).glob("*.hdf5"))
        copy_stretched(source, folder / "data" / split / source.name, GRIDS[system])
    write_statistics(folder)
    return folder


class Commands:
    """Runs of `wavelit`, each with its status, seconds and peak memory."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.rows: list[dict[str, Any]] = []

    def run(self, *words: str, kill_at: Path | None = None) -> int:
        """The status of a command; where a path is given it is killed as soon as that exists."""
        began = time.monotonic()
        with self.log.open("a") as log:
            print("$ wavelit", *words, file=log, flush=True)
            process = subprocess.Popen(
                [str(Path(sys.executable).with_name("wavelit")), *words], stdout=log, stderr=log
            )
            peak = 0
            while process.poll() is None:
                peak = max(peak, peak_memory(process.pid))
                if kill_at is not None and kill_at.exists():
                    process.kill()
                time.sleep(0.05)
        self.rows.append(
            {
                "command": words[0] if words[0] != "data" else " ".join(words[:2]),
                "status": process.returncode,
                "seconds": round(time.monotonic() - began, 1),
                "peak_gigabytes": round(peak / 1e6, 2),
            }
        )
        return process.returncode


def peak_memory(process: int) -> int:
    """Most kilobytes that a process has held so far; what `wait4` tells counts its parent too."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(lines.get("VmHWM", "0").split()[0])


def dry_run(system: str, scratch: Path) -> dict[str, Any]:
    """What the commands of docs/the_well.md do on a system's files."""
    folder = str(dataset(system, scratch))
    runs = scratch / "runs" / system
    shutil.rmtree(runs, ignore_errors=True)
    runs.mkdir(parents=True)
    commands = Commands(runs / "log.txt")
    recipe = [
        *("train", "--config", str(ROOT / "configs" / "the_well" / f"{system}.yaml")),
        *("--data.path", folder, "--data.batch_size", "1"),
        # A processor has no unit for bfloat16: ten times slower.
        *("--trainer.precision", "32-true", "--train.minutes", "null", "--train.steps", str(STEPS)),
        *("--train.checkpoint_every", "1", "--train.validate_every", str(STEPS)),
        # The history of six and four more are all the states there are.
        *("--train.validate_rollout", "4"),
    ]
    commands.run("data", "check", folder)
    whole, killed, longer = (str(runs / name) for name in ("whole", "killed", "six"))
    commands.run(*recipe, "--run", whole)
    commands.run(
        *recipe, "--run", killed, "--resume", "auto", kill_at=Path(killed, "checkpoints/last.ckpt")
    )
    commands.run(*recipe, "--run", killed, "--resume", "auto")
    commands.run("evaluate", whole)
    commands.run("rollout", whole, "--out", str(runs / "rollout"))
    commands.run(*recipe, "--run", longer, "--data.n_steps_input", "6")
    commands.run("evaluate", longer)
    digests = {digest(Path(run) / "weights" / "model.safetensors") for run in (whole, killed)}
    data = WellDataModule(folder, batch_size=1)
    batch = next(iter(data.train_dataloader()))
    cost = cost_of(build_model(data, "1M"), batch.fields, *batch.beside())
    return {
        "system": system,
        "grid": list(GRIDS[system]),
        "preset": "1M",
        "batch": 1,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "commands": commands.rows,
        "resumed_equals_whole": len(digests) == 1,
        "cost": dataclasses.asdict(cost),
    }


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else f"no {path}"


def main(words: Sequence[str] | None = None) -> int:
    """Run what is asked for; the status is 1 where a command failed or a resumed run differs."""
    parser = argparse.ArgumentParser(prog="validation.full_shapes")
    parser.add_argument("systems", nargs="*", choices=[[], *GRIDS], default=[])
    parser.add_argument("--scratch", type=Path, required=True, help="some gigabytes")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "full_shapes")
    options = parser.parse_args(words)
    options.output.mkdir(parents=True, exist_ok=True)
    failed = 0
    for system in options.systems or GRIDS:
        found = dry_run(system, options.scratch)
        path = options.output / f"{system}.json"
        path.write_text(json.dumps(found, indent=1) + "\n")
        killed = [-signal.SIGKILL]
        statuses = [row["status"] for row in found["commands"]]
        well = found["resumed_equals_whole"] and [s for s in statuses if s] == killed
        print(f"{path}: {'as it should be' if well else 'FAILED'}", flush=True)
        failed |= not well
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
