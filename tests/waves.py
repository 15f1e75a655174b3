"""A toy with an exact solution: sums of plane waves on a periodic square, each turning at its
own frequency.
"""

from pathlib import Path

import numpy as np

from wavelit.data.writing.write import write_dataset


def plane_waves(n_trajectories: int, n_steps: int, side: int = 16, seed: int = 0) -> np.ndarray:
    """u(t, x) = sum over k of a_k cos(k . x - |k| t + phase), (N, T, side, side), dt = 0.2."""
    rng = np.random.default_rng(seed)
    x = 2 * np.pi * np.arange(side) / side
    time = 0.2 * np.arange(n_steps)[:, None, None]
    u = np.zeros((n_trajectories, n_steps, side, side))
    for trajectory in u:
        for k in ((1, 0), (0, 1), (1, 1), (2, -1)):
            amplitude, phase = rng.normal(), rng.uniform(0, 2 * np.pi)
            trajectory += amplitude * np.cos(
                k[0] * x[:, None] + k[1] * x - np.hypot(*k) * time + phase
            )
    return u.astype(np.float32)


def write_waves(folder: Path, n_steps: int = 12, field: str = "height") -> Path:
    """Plane waves as a dataset folder: 6 trajectories for training, 2 for validation, 2 for
    test.
    """
    return write_dataset(
        folder,
        {field: plane_waves(10, n_steps)},
        splits={"train": 6, "valid": 2, "test": 2},
        name="plane_waves",
        boundary_conditions=["periodic", "periodic"],
    )
