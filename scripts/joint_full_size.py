"""One step of a joint model at the resolutions of The Well: time and memory on a CPU.

    python scripts/joint_full_size.py datasets/pocketwell/small results/transfer/full_size.json

PocketWell's systems have the fields, constants and scalars of The Well's; here they get the grids
of The Well as well, filled with noise. A step is forward and back for one window of every system,
with only the blocks' inputs kept for the backward pass.
"""

import dataclasses
import json
import resource
import sys
import time
from pathlib import Path

import torch

from wavelit.benchmarks.protocol import THE_EIGHT
from wavelit.benchmarks.timing import environment
from wavelit.data.datamodule import WellDataModule
from wavelit.data.pocketwell import SYSTEMS
from wavelit.data.signature import signature_of
from wavelit.model.foundation import JointWaveLiT
from wavelit.model.joint_config import JOINT_PRESETS, JointConfig, SystemConfig
from wavelit.model.wavelit import configuration_of

PRESET, THREADS = "joint-10M", 2
# As The Well's files have them.
RESOLUTIONS = {
    "acoustic_scattering_maze": (256, 256),
    "active_matter": (256, 256),
    "gray_scott_reaction_diffusion": (128, 128),
    "helmholtz_staircase": (1024, 256),
    "rayleigh_benard": (512, 128),
    "shear_flow": (256, 512),
    "turbulent_radiative_layer_2D": (128, 384),
    "viscoelastic_instability": (512, 512),
}


def build(root: Path) -> JointWaveLiT:
    systems = {}
    for name in THE_EIGHT:
        data = WellDataModule(str(root / name), mask_field=SYSTEMS[name].mask_field)
        config = configuration_of(
            dataclasses.replace(data.metadata, spatial_resolution=RESOLUTIONS[name]),
            data.boundary_conditions,
            "nano",
            n_constant_fields=len(data.constant_field_names),
            n_scalars=len(data.scalar_names),
            **JOINT_PRESETS[PRESET],
        )
        systems[name] = SystemConfig(config, signature_of(data))
    return JointWaveLiT(JointConfig(systems))


def gigabytes() -> float:
    """The most that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def step(model: JointWaveLiT) -> dict[str, dict[str, float]]:
    """Forward and back of one window of each system, gradients summed."""
    found = {}
    for name, emulator in model.items():
        config, began = emulator.config, time.perf_counter()
        shape = RESOLUTIONS[name]
        fields = torch.randn(1, config.n_steps_input, config.n_fields, *shape)
        constants = torch.randn(1, config.n_constant_fields, *shape)
        scalars = torch.rand(1, config.n_scalars)
        increment = emulator.increment(
            fields,
            constants if config.n_constant_fields else None,
            scalars if config.n_scalars else None,
        )
        (increment - torch.randn_like(increment)).square().mean().backward()
        found[name] = {
            "seconds": round(time.perf_counter() - began, 1),
            "most gigabytes so far": round(gigabytes(), 2),
        }
        print(name, found[name], flush=True)
    return found


def main(root: Path, output: Path) -> None:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    model = build(root)
    model.checkpoint_activations(True)
    print(model.describe(), flush=True)
    result = {"preset": PRESET, "parameters": model.n_parameters, "shared": model.n_shared}
    result |= {"systems": step(model)}
    assert all(p.grad is not None for p in model.parameters())
    result |= {"gigabytes": round(gigabytes(), 2)} | environment()
    output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
