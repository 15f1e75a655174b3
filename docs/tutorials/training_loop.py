# %% [markdown]
# # Your own training loop
#
# At the end you have trained a WaveLiT in a plain PyTorch loop of some 25 lines, and rolled it out.
# It takes two to three minutes on one core; two of them are training.
# `wavelit.fit` does more: checkpoints, averaged weights, resuming. Take this loop to change things.

# %%
import os
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import wavelit
from wavelit.metrics import vrmse

minutes = 0.06 if os.getenv("WAVELIT_TUTORIALS") == "tiny" else 2
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
states = np.stack(frames, 1)  # (40, 60, 128)
folder = wavelit.write_dataset(
    work / "burgers",
    {"u": states},
    splits={"train": 32, "valid": 4, "test": 4},
    name="burgers",
    boundary_conditions=["periodic"],
    scalars={"viscosity": viscosity[:, 0]},
)

# %% [markdown]
# ## Batches and a model
# The data module gives batches of training windows without end.
# A batch is in physical units: `fields` (B, 4, C, *S), `target` (B, 1, C, *S), `scalars` (B, P).
# `build_model` measures the training data and puts the statistics into the model.

# %%
data = wavelit.WellDataModule(folder, batch_size=8)
model = wavelit.build_model(data, "nano")
batch = next(iter(data.train_dataloader()))
print(tuple(batch.fields.shape), tuple(batch.target.shape), tuple(batch.scalars.shape))
print(f"{model.n_parameters} parameters")

# %% [markdown]
# ## The loop
# The model predicts the change over one step, divided by the spread of such changes.
# `model.increment` gives that, `normalizer.increment` makes the same of the true change.
# `model.loss` is the mean square plus, with the weight given, the mean size of the wavelet bands.
#
# A little noise on the input teaches the model to live with its own errors.

# %%
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.01)
spread = model.normalizer.delta_std.view(-1, 1)  # (C, 1)
start, losses = time.perf_counter(), []
model.train()
for batch in data.train_dataloader():
    progress = (time.perf_counter() - start) / (60 * minutes)
    if progress >= 1:
        break
    for group in optimizer.param_groups:  # a short rise, then a cosine to zero
        group["lr"] = 5e-3 * min(1, progress / 0.05) * 0.5 * (1 + np.cos(np.pi * progress))
    fields = batch.fields + 0.03 * spread * torch.randn_like(batch.fields)
    change = model.normalizer.increment(batch.target[:, 0] - fields[:, -1])
    predicted = model.increment(fields, batch.constants, batch.scalars)
    loss = model.loss(predicted, change, 1.0)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    losses.append(loss.item())
tenth = len(losses) // 10
first, last = np.mean(losses[:tenth]), np.mean(losses[-tenth:])
print(f"{len(losses)} steps; loss {first:.3f} in the first tenth, {last:.3f} in the last")

# %% [markdown]
# ## Scores and a rollout
# What was trained by hand is scored like any other model, with persistence beside it.

# %%
scores = wavelit.evaluate(model, data, "test")
for name, each in scores.scores.items():
    late = each.rollout[:, -1].mean()
    print(f"{name}: VRMSE {each.one_step.mean():.4f} after one step, {late:.3f} at the end")

batch = next(iter(data.trajectories("test")))
prediction = wavelit.rollout(model, batch.fields, batch.target.shape[1], scalars=batch.scalars)
last = vrmse(prediction, batch.target, spatial=1)[0, -1].item()
print(f"the rollout drawn below: viscosity {batch.scalars.item():.4f}, last VRMSE {last:.3f}")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.semilogy(losses, color="lightgrey")
smooth = np.convolve(losses, np.ones(tenth) / tenth, "valid")
left.semilogy(np.arange(len(smooth)) + tenth / 2, smooth)
left.set(xlabel="step", ylabel="training loss")
for step, colour in ((1, "tab:blue"), (20, "tab:orange"), (56, "tab:green")):
    right.plot(x, batch.target[0, step - 1, 0], color=colour, label=f"step {step}")
    right.plot(x, prediction[0, step - 1, 0], "k:")
right.set(xlabel="x", ylabel="u", title="truth, and the prediction dotted")
right.legend()
figure.savefig(work / "burgers.png")
print(f"the picture is in {work}")
