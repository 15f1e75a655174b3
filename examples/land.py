# Runs in CI.
# A record with land in it: missing values are declared once, when writing. Statistics, checks,
# training, scores and pictures leave these cells out.
import numpy as np

import wavelit

y, x = np.mgrid[0:16, 0:32]
land = (x - 10) ** 2 + (y - 8) ** 2 < 20
phase = np.random.default_rng(0).uniform(0, 6, (10, 1, 1, 1))
waves = np.sin(2 * np.pi * x / 32 + phase - 0.2 * np.arange(20)[:, None, None]) * np.cos(y / 5)
splits, sides = {"train": 8, "valid": 1, "test": 1}, ["wall", "periodic"]
mask = {"constant_fields": {"land": land}, "mask_field": "land"}
options = {"splits": splits, "name": "sea", "boundary_conditions": sides}
wavelit.write_dataset("sea", {"height": np.where(land, np.nan, waves)}, **options, **mask)
wavelit.fit("run", "sea", steps=10)
print(wavelit.evaluate("run"))
