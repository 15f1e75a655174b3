# Runs in CI.
# Records with different time steps in one set: each has its own line of times, and models are told
# the step of each as a scalar.
import numpy as np

import wavelit

x, steps = 2 * np.pi * np.arange(32) / 32, np.tile([0.05, 0.1, 0.2, 0.4], 3)
times = [step * np.arange(40) for step in steps]
wavelit.write_dataset(
    "waves",
    {"u": [np.sin(x - t[:, None]) + np.sin(2 * x + t[:, None]) for t in times]},
    splits={"train": 8, "valid": 2, "test": 2},
    name="waves",
    boundary_conditions=["periodic"],
    time=times,
)
print(wavelit.WellDataModule("waves").scalar_names)  # ['time_step']
wavelit.fit("run", "waves", steps=10)
print(wavelit.evaluate("run"))
