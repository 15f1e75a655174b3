# Runs in CI.
# One model for two systems that share a field: waves to the right and waves to the left, of which
# the second also carry a tracer. Each is an emulator by its name; a report of one, or tables of
# both with `wavelit evaluate run`.
import numpy as np

import wavelit

x, t = 2 * np.pi * np.arange(32) / 32, 0.2 * np.arange(20)[:, None]
phase = np.random.default_rng(0).uniform(0, 6, (12, 1, 1))
right, left = (np.sin(x + phase - c * t) + 0.5 * np.sin(2 * x - phase - 2 * c * t) for c in (1, -1))
shared = {"splits": {"train": 8, "valid": 2, "test": 2}, "boundary_conditions": ["periodic"]}
wavelit.write_dataset("right", {"height": right}, name="right", **shared)
wavelit.write_dataset("left", {"height": left, "tracer": left**2}, name="left", **shared)
joint = wavelit.fit("run", ["right", "left"], steps=20, validate_every=20)
print(joint.describe())
print(wavelit.evaluate("run", system="left"))  # and run/report-left-valid.html
print(wavelit.evaluate(joint["right"], "right", split="test"))
joint.save_pretrained("weights")  # JointWaveLiT.from_pretrained("weights") gives it back
