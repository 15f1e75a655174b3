# Runs in CI.
# A joint model of waves to the right and to the left goes on with four records of a third kind: a
# frozen trunk, and the last fifth of their time in place of a validation split. `wavelit train
# third --from joint --trunk frozen --trajectories 4 --holdout 0.2` does the same.
import numpy as np

import wavelit

x, t = 2 * np.pi * np.arange(32) / 32, 0.2 * np.arange(24)[:, None]
phase = np.random.default_rng(0).uniform(0, 6, (12, 1, 1))
shared = {"splits": {"train": 8, "valid": 2, "test": 2}, "boundary_conditions": ["periodic"]}
for name, speed in {"right": 1.0, "left": -1.0, "third": 0.5}.items():
    height = np.sin(x + phase - speed * t) + 0.5 * np.sin(2 * x - phase - 2 * speed * t)
    wavelit.write_dataset(name, {"height": height}, name=name, **shared)
wavelit.fit("joint", ["right", "left"], steps=5, validate_every=5)
few = wavelit.WellDataModule("third", trajectories=4, holdout=0.2)
model = wavelit.fit("run", few, wavelit.load("joint"), trunk="frozen", steps=5, validate_every=5)
print(wavelit.evaluate("run", split="test"))
states = wavelit.rollout(model, next(iter(few.windows("test"))).fields, 5)
