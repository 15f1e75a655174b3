# %% [markdown]
# # Another network, judged the same way
#
# At the end a Fourier neural operator and a WaveLiT have trained on the same data for equal time.
# One table holds the scores of both. It takes six to seven minutes on one core.
# The operator is that of the package `neuraloperator`: `pip install neuraloperator`.
# Any other network of torch goes the same way.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from neuralop.models import FNO

import wavelit

minutes = 0.05 if os.getenv("WAVELIT_TUTORIALS") == "tiny" else 3
work = Path(tempfile.mkdtemp(prefix="wavelit-"))  # name a folder of yours to keep what is written

# %% [markdown]
# ## Data: Burgers' equation
# $u_t + u u_x = \nu u_{xx}$, periodic: waves steepen into fronts, and the viscosity smooths them.
# The viscosity differs between trajectories, so it is a scalar of the dataset.

# %%
rng = np.random.default_rng(0)
n, points, steps, dt = 40, 128, 60, 5e-4
x = np.arange(points) / points
viscosity = 10 ** rng.uniform(-2, -1.5, (n, 1))
phase, size = rng.uniform(0, 2 * np.pi, (n, 3, 1)), rng.normal(size=(n, 3, 1))
u = np.sum(0.6 * size * np.sin(2 * np.pi * np.arange(1, 4)[:, None] * x + phase), axis=1)
k = 2j * np.pi * np.fft.rfftfreq(points, 1 / points)
decay = 1 / (1 - dt * viscosity * k**2)  # viscosity implicit, advection by the midpoint rule
frames = []
for step in range(20 * steps):
    if step % 20 == 0:
        frames.append(u)
    middle = np.fft.irfft(np.fft.rfft(u) - dt / 4 * k * np.fft.rfft(u**2), points)
    u = np.fft.irfft((np.fft.rfft(u) - dt / 2 * k * np.fft.rfft(middle**2)) * decay, points)
folder = wavelit.write_dataset(
    work / "burgers",
    {"u": np.stack(frames, 1)},  # (40, 60, 128)
    splits={"train": 32, "valid": 4, "test": 4},
    name="burgers",
    boundary_conditions=["periodic"],
    scalars={"viscosity": viscosity[:, 0]},
)

# %% [markdown]
# ## The network
# `fit` calls it with one tensor, normalised: the history as channels, then the constant fields,
# then the scalars as constant channels. Here these are 4 frames of one field and one scalar.
# It returns one channel: the change over a step, in units of the spread of such changes.
# `wavelit.wrap(network, predicts="state")` is for a network that returns the next state instead.
#
# Its Fourier weights are complex numbers. Training, averaging and storing take them as they are.


# %%
def operator():
    return FNO(n_modes=(32,), in_channels=5, out_channels=1, hidden_channels=32, n_layers=4)


fno = wavelit.fit(work / "fno", folder, operator(), minutes=minutes, lr=3e-3)
nano = wavelit.fit(work / "nano", folder, "nano", minutes=minutes)

# %% [markdown]
# ## Scores
# A run folder holds weights and the name of the class, not the network: nothing in it is executed.
# Who loads, continues or scores the run gives the network again, made by the same arguments.

# %%
results = {
    "Fourier operator": wavelit.evaluate(work / "fno", split="test", model=operator()),
    "WaveLiT nano": wavelit.evaluate(work / "nano", split="test"),
}
for name, evaluation in results.items():
    model, *others = evaluation.scores.values()
    print(
        f"{name}: one step {model.one_step.mean():.4f}, step 20 {model.rollout[:, 19].mean():.3f}"
    )
persistence = evaluation.scores["persistence"]
print(f"persistence: one step {persistence.one_step.mean():.4f}")
print(fno.n_parameters, "and", nano.n_parameters, "parameters")

# %% [markdown]
# The learning rate of the operator was not searched for, and a wider one may do better.
# What is equal here is time on this processor, data, loss and noise.

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
data = wavelit.WellDataModule(folder)
batch = next(iter(data.trajectories("test")))
models = {"Fourier operator": fno, "WaveLiT": nano}
for panel, (name, model) in zip(axes, models.items(), strict=True):
    states = wavelit.rollout(model, batch.fields, 40, scalars=batch.scalars)
    for step, colour in ((1, "tab:blue"), (20, "tab:orange"), (40, "tab:green")):
        panel.plot(x, batch.target[0, step - 1, 0], color=colour, label=f"step {step}")
        panel.plot(x, states[0, step - 1, 0], "k:")
    panel.set(xlabel="x", title=f"{name}: truth, and the prediction dotted")
axes[0].legend()
figure.savefig(work / "burgers.png")

# %% [markdown]
# ## Further on
# A larger budget continues the same run: `wavelit.resume(folder, network, steps=...)`.

# %%
steps_so_far = torch.load(work / "fno/checkpoints/last.ckpt", weights_only=True)["global_step"]
more = wavelit.resume(work / "fno", operator(), steps=steps_so_far + 50)
print(type(more.network).__name__, "after", steps_so_far + 50, "steps")
print(f"reports of both runs are in {work}")
