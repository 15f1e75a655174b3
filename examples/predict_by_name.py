# Runs in CI.
# Damped waves with two parameters: train, then predict from fields and parameters by their names.
# Their order does not matter; what is missing, unknown or far from the training data is told.
import numpy as np
import xarray as xr

import wavelit

speed, damping = np.random.default_rng(0).uniform(0.5, 2, (2, 12))
x, t = np.linspace(0, 1, 32, endpoint=False), 0.02 * np.arange(24)
u = np.exp(2j * np.pi * x - (2j * np.pi * speed + damping)[:, None, None] * t[:, None])
waves = {"fields": {"height": u.real, "slope": u.imag}, "boundary_conditions": ["periodic"]}
waves["splits"] = {"train": 10, "valid": 1, "test": 1}
waves["scalars"] = {"speed": speed, "damping": damping}
wavelit.write_dataset("waves", name="waves", coordinates={"x": x}, time=t, **waves)
model = wavelit.fit("run", "waves", steps=100)
labelled = {"slope": (("time", "x"), u[-1, :4].imag), "height": (("x", "time"), u[-1, :4].real.T)}
history = xr.Dataset(labelled, {"x": x, "time": t[:4]})
states = model.predict(history, {"damping": damping[-1], "speed": speed[-1]}, steps=20)
print(states.height.sel(time=0.2, method="nearest"))
