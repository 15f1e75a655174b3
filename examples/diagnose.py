# Runs in CI.
# What are my data like? A tracer that a steady wind carries over a periodic square: its
# descriptors, the system of PocketWell that is nearest, and the model to start from.
import numpy as np

import wavelit
from wavelit.evaluation.diagnosis import diagnose

x = 2 * np.pi * np.arange(32) / 32
t = 0.1 * np.arange(20)[:, None, None]
phase = np.random.default_rng(0).uniform(0, 6, (10, 1, 1, 1))
tracer = np.sin(x[:, None] - t + phase) * np.cos(2 * (x - 0.5 * t) + phase)
wind = np.broadcast_to([1.0, 0.5], (10, 32, 32, 2)).copy()
options = {"splits": {"train": 8, "valid": 1, "test": 1}, "constant_fields": {"velocity": wind}}
sides = ["periodic", "periodic"]
wavelit.write_dataset("wind", {"tracer": tracer}, name="wind", boundary_conditions=sides, **options)
print(diagnose("wind"))  # diagnose("wind").descriptors has the numbers
