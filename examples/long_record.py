# Runs in CI.
# One long record, cut in time: four fifths to train on, a tenth each to validate and to test.
# Between two of them as many frames are left out as a model reads.
import numpy as np

import wavelit

x, t = 2 * np.pi * np.arange(32) / 32, 0.1 * np.arange(400)[:, None]
record = np.sin(x - t) + 0.5 * np.sin(2 * x + 1.7 * t) + 0.3 * np.sin(3 * x - 2.3 * t)
wavelit.write_dataset(
    "record",
    {"u": record[None]},
    split_in_time=(0.8, 0.1, 0.1),
    name="record",
    boundary_conditions=["periodic"],
)
wavelit.fit("run", "record", steps=10)
print(wavelit.evaluate("run", split="test"))
