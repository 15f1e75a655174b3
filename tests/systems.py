"""Three small systems that share fields, for tests of joint models: each a dataset folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from wavelit.data.joint import JointDataModule
from wavelit.data.writing.write import write_dataset
from wavelit.model.foundation import JointWaveLiT
from waves import plane_waves

# Small enough to train in a test.
SMALL = {"embed_dim": 16, "num_heads": 2, "depth": 2, "levels": 1, "detail_dim": 4}


def write_system(
    folder: Path, name: str, counts: Sequence[int] = (6, 2, 2), n_steps: int = 10, seed: int = 0
) -> Path:
    """A dataset called `name`: waves (pressure), flow (pressure, velocity, a scalar, walls) or heat
    (temperature, a constant field, open sides).
    """
    n = sum(counts)
    rng = np.random.default_rng((seed, len(name)))
    u = plane_waves(n, n_steps, seed=seed)
    options: dict = {"boundary_conditions": ["periodic", "periodic"]}
    fields = {"pressure": u}
    if name == "flow":
        velocity = np.stack([u[:, :, ::-1], 2.0 * u.swapaxes(2, 3) + 1.0], -1)
        fields = {"pressure": 0.5 * u, "velocity": velocity}
        options["scalars"] = {"viscosity": rng.uniform(1.0, 20.0, n)}
        options["boundary_conditions"] = ["periodic", "wall"]
    elif name == "heat":
        fields = {"temperature": 3.0 * u - 1.0}
        conductivity = rng.uniform(1.0, 2.0, (n, *u.shape[2:]))
        options["constant_fields"] = {"conductivity": conductivity.astype(np.float32)}
        options["boundary_conditions"] = ["open", "wall"]
    splits = dict(zip(("train", "valid", "test"), counts, strict=True))
    return write_dataset(folder, fields, splits=splits, name=name, **options)


def joint_data(systems: dict, shares: dict | None = None) -> JointDataModule:
    """Systems by name, with targets of two frames."""
    return JointDataModule(systems, shares, n_steps_output=2)


def randomised(joint: JointWaveLiT) -> JointWaveLiT:
    """All weights, those that begin at zero too; then it is as if it had been trained."""
    draw = torch.Generator().manual_seed(1)
    for parameter in joint.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw)
    joint.mark_trained()
    return joint.eval()
