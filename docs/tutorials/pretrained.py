# %% [markdown]
# # A trained model on numpy arrays
#
# At the end you have predicted a shear flow with a model that comes with the package.
# You also know for how many steps it is better than predicting no change.
# It takes less than a minute on one core; nothing is trained.

# %%
import os
import tempfile
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import numpy as np
import torch

import wavelit
from wavelit.data.pocketwell import generate_one
from wavelit.metrics import vrmse

n_steps = 20 if os.getenv("WAVELIT_TUTORIALS") == "tiny" else 56
work = Path(tempfile.mkdtemp(prefix="wavelit-"))  # name a folder of yours to keep what is written

# %% [markdown]
# ## A flow
# Layers of fluid slide past each other and roll up; a tracer shows it.
# `generate_one` solves the equations for one trajectory of the test split.
# The model has seen other trajectories of this system in training, not this one.

# %%
folder = generate_one("shear_flow", work / "flow", split="test")
path = next((folder / "data" / "test").glob("*.hdf5"))
with h5py.File(path) as file:
    tracer = file["t0_fields/tracer"][:]  # (trajectories, frames, 64, 128)
    pressure = file["t0_fields/pressure"][:]
    velocity = file["t1_fields/velocity"][:]  # the two components last
    parameters = {name: float(file["scalars"][name][()]) for name in ("Reynolds", "Schmidt")}
print(tracer.shape, velocity.shape, parameters)

# %% [markdown]
# ## What the model takes
# One array (batch, time, channel, height, width) in float32, in the units of the data.
# Channels are the scalar fields, then the components of the vectors.
# The parameters are (batch, number). Normalisation is inside the model.
#
# The model counts channels and cannot tell them apart: a wrong order gives wrong fields, no error.
# The data module of a dataset lists the right one.

# %%
data = wavelit.WellDataModule(folder)
print(data.field_names, data.scalar_names)

states = np.concatenate([np.stack([tracer, pressure], 2), np.moveaxis(velocity, -1, 2)], axis=2)
states = states.astype(np.float32)  # (B, T, C, H, W)
scalars = np.array([[parameters[name] for name in data.scalar_names]], np.float32)  # (B, P)

model = wavelit.load("shear_flow")
print(f"{model.n_parameters} parameters, {model.config.n_steps_input} frames of history")

# %% [markdown]
# ## Prediction
# Called, the model gives the next state. `rollout` feeds its predictions back, step after step.

# %%
history = torch.from_numpy(states[:, :4])
with torch.no_grad():
    following = model(history, None, torch.from_numpy(scalars))  # (B, C, H, W)
prediction = wavelit.rollout(model, history, n_steps, scalars=scalars)  # (B, n_steps, C, H, W)
print(tuple(following.shape), tuple(prediction.shape))

# %% [markdown]
# ## Is it any good?
# VRMSE is the error over the field's own spread: 0 is perfect, 1 is no better than the mean.
# It divides by the spread at that step: as a field fades, the same error scores higher.
# Persistence predicts no change; a model is worth its time while it is well below that.

# %%
truth = torch.from_numpy(states[:, 4 : 4 + n_steps])
still = wavelit.rollout(wavelit.persistence, history, n_steps)
errors = {
    "WaveLiT": vrmse(prediction, truth, spatial=2)[0].numpy(),  # (n_steps, C)
    "persistence": vrmse(still, truth, spatial=2)[0].numpy(),
}
for name, error in errors.items():
    row = ", ".join(f"step {s}: {error[s - 1].mean():.3f}" for s in (1, 5, 10, 20, n_steps))
    print(f"{name:12s}{row}")
for channel, name in enumerate(data.field_names):
    worse = errors["WaveLiT"][:, channel] >= errors["persistence"][:, channel]
    when = f"up to step {worse.argmax()}" if worse.any() else f"at all {n_steps} steps"
    print(f"{name}: better than persistence {when}")

# %%
figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
for name, error in errors.items():
    ax.semilogy(np.arange(1, n_steps + 1), error.mean(1), label=name)
ax.axhline(1, color="grey", linewidth=0.8)
ax.set(xlabel="rollout step", ylabel="VRMSE, mean over fields")
ax.legend()
figure.savefig(work / "errors.png")

# %% [markdown]
# Look at the fields too: a score does not say whether an error is a shift or a blur.

# %%
rows = {"truth": truth, "WaveLiT": prediction, "persistence": still, "error": prediction - truth}
figure, axes = plt.subplots(4, 3, figsize=(8, 6), layout="constrained")
for line, (name, values) in zip(axes, rows.items(), strict=True):
    colours = {"cmap": "PuOr_r" if name == "error" else "RdBu_r", "vmin": -0.5, "vmax": 0.5}
    for ax, step in zip(line, (1, n_steps // 2, n_steps), strict=True):
        image = ax.imshow(values[0, step - 1, 0], **colours)
        ax.set(xticks=[], yticks=[], title=f"step {step}" if name == "truth" else "")
    line[0].set_ylabel("WaveLiT's error" if name == "error" else name)
    figure.colorbar(image, ax=line, label="tracer", shrink=0.9)
figure.savefig(work / "tracer.png")
print(f"pictures in {work}")
