"""Every command of docs/the_well.md on files of The Well's own shape, without The Well.

    python -m validation.full_shapes --scratch FOLDER [SYSTEMS]

The files are PocketWell's smallest ones on The Well's grids, by linear interpolation, with twelve
states: fields, scalars, boundaries and numbers are as they are there, the physics is not. For those
that PocketWell lacks the fields are smooth noise that moves. For every
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
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from wavelit.cost import cost_of
from wavelit.data.datamodule import WellDataModule
from wavelit.data.pocketwell import generate
from wavelit.data.statistics import write_statistics
from wavelit.data.writing.write import write_dataset
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
    "acoustic_scattering_discontinuous": (256, 256),
    "acoustic_scattering_inclusions": (256, 256),
    "euler_multi_quadrants_openBC": (512, 512),
    "euler_multi_quadrants_periodicBC": (512, 512),
    "MHD_64": (64, 64, 64),
    "planetswe": (256, 512),
    "rayleigh_benard_uniform": (512, 128),
    "turbulence_gravity_cooling": (64, 64, 64),
}


class Layout(NamedTuple):
    """What a dataset that PocketWell lacks holds, of the same READMEs."""

    fields: tuple[str, ...]
    vectors: tuple[str, ...]
    boundaries: tuple[Any, ...]
    constants: tuple[str, ...] = ()
    scalars: tuple[str, ...] = ()


LAYOUTS = {
    "acoustic_scattering_discontinuous": Layout(
        ("pressure",),
        ("velocity",),
        (("wall", "wall"), ("open", "open")),
        ("density", "speed_of_sound"),
    ),
    "euler_multi_quadrants_openBC": Layout(
        ("density", "energy", "pressure"), ("momentum",), ("open", "open"), scalars=("gamma",)
    ),
    "MHD_64": Layout(
        ("density",), ("velocity", "magnetic_field"), ("periodic",) * 3, scalars=("Ms", "Ma")
    ),
    # On a sphere; here on a strip of the same points.
    "planetswe": Layout(("height",), ("velocity",), (("wall", "wall"), "periodic")),
    "turbulence_gravity_cooling": Layout(
        ("density", "pressure", "temperature"),
        ("velocity",),
        ("open",) * 3,
        scalars=("T0", "rho0", "Z"),
    ),
}
# Whose fields another has too.
ALIKE = {"rayleigh_benard_uniform": "rayleigh_benard"}
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
    if system in LAYOUTS:
        return noise_of(system, folder)
    source_of = ALIKE.get(system, system)
    generate(source_of, "tiny", root=scratch, processes=1, progress=False)
    for split in ("train", "valid", "test"):
        source = min((scratch / "tiny" / source_of / "data" / split).glob("*.hdf5"))
        copy_stretched(source, folder / "data" / split / source.name, GRIDS[system])
    write_statistics(folder)
    return folder


def noise_of(system: str, folder: Path) -> Path:
    """A dataset of smooth noise that moves, one trajectory a split."""
    layout, grid = LAYOUTS[system], GRIDS[system]
    draw = np.random.default_rng(0)
    axes = tuple(range(1, 1 + len(grid)))

    def smooth(count: int) -> NDArray[Any]:
        spectrum = np.fft.rfftn(draw.standard_normal((count, *grid)), axes=axes)
        waves = np.meshgrid(
            *(np.fft.fftfreq(n, 1 / n) for n in grid[:-1]),
            np.fft.rfftfreq(grid[-1], 1 / grid[-1]),
            indexing="ij",
        )
        spectrum *= np.exp(-sum(w**2 for w in waves) / 32)
        values = np.fft.irfftn(spectrum, grid, axes)
        # Positive, as densities are.
        return np.exp(values / (2 * values.std())).astype(np.float32)

    def moving(components: int) -> NDArray[Any]:
        first = smooth(3 * components)
        states = np.stack([np.roll(first, step, 1) for step in range(FRAMES)], 1)
        states = states.reshape(3, components, *states.shape[1:])
        return np.moveaxis(states, 1, -1)

    return write_dataset(
        folder,
        {name: moving(1)[..., 0] for name in layout.fields}
        | {name: moving(len(grid)) for name in layout.vectors},
        splits=dict.fromkeys(("train", "valid", "test"), 1),
        name=system,
        boundary_conditions=list(layout.boundaries),
        constant_fields={name: smooth(3) for name in layout.constants},
        scalars={name: np.array([1.0, 1.5, 2.0]) for name in layout.scalars},
    )


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


def recipe_of(system: str) -> Path:
    """Its recipe for training at full size."""
    return ROOT / "configs" / "the_well" / f"{system}.yaml"


def dry_run(system: str, scratch: Path) -> dict[str, Any]:
    """What the commands of docs/the_well.md do on a system's files."""
    folder = str(dataset(system, scratch))
    runs = scratch / "runs" / system
    shutil.rmtree(runs, ignore_errors=True)
    runs.mkdir(parents=True)
    commands = Commands(runs / "log.txt")
    recipe = [
        *("train", "--config", str(recipe_of(system))),
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
    model = yaml.safe_load(recipe_of(system).read_text())["model"]
    cost = cost_of(build_model(data, **model), batch.fields, *batch.beside())
    return {
        "system": system,
        "grid": list(GRIDS[system]),
        "model": model,
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
