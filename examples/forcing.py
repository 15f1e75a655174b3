# Runs in CI.
# A field and a number that are known in advance: the model is told the heating and the control at
# the last step and at the next, predicts the temperature alone, and is scored on it alone.
import numpy as np

import wavelit

rng, x, t = np.random.default_rng(0), 2 * np.pi * np.arange(32) / 32, 0.1 * np.arange(40)
control = np.sin(t + rng.uniform(0, 6, (12, 1)))  # (12 trajectories, 40 steps)
heating = control[..., None] * np.cos(x - t[:, None])  # (12, 40, 32)
temperature = 0.1 * np.cumsum(heating, 1) + rng.normal(size=(12, 1, 1))
fields = {"temperature": temperature, "heating": heating, "dust": np.full_like(heating, 3.0)}
splits = {"train": 8, "valid": 2, "test": 2}
options = {"splits": splits, "name": "heat", "boundary_conditions": ["periodic"]}
wavelit.write_dataset("heat", fields, scalars={"control": control}, forcings=["heating"], **options)
data = wavelit.WellDataModule("heat", fields=["temperature"])  # the dust never changes
wavelit.fit("run", data, steps=10)
print(wavelit.evaluate("run"))
