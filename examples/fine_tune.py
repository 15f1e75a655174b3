# Runs in CI.
# A model trained on the fields u and v goes on with w, v and u: what it knows is kept by name, what
# is new begins at zero, and the learning rate is a tenth. `wavelit train --from` does the same.
import numpy as np

import wavelit

x, t = 2 * np.pi * np.arange(32) / 32, 0.2 * np.arange(20)[:, None]
phase = np.random.default_rng(0).uniform(0, 6, (12, 1, 1))
fields = {"u": np.sin(x + phase - t), "v": np.sin(x - phase + t), "w": np.cos(2 * x + phase - t)}
shared = {"splits": {"train": 8, "valid": 2, "test": 2}, "boundary_conditions": ["periodic"]}
two, three = ({name: fields[name] for name in names} for names in ("uv", "wvu"))
wavelit.write_dataset("two", two, name="two", **shared)
wavelit.write_dataset("three", three, name="three", **shared)
model = wavelit.fit("first", "two", steps=40)
finer = wavelit.fit("second", "three", model=wavelit.load("first"), steps=20)
print([each.name for each in finer.signature.fields])
