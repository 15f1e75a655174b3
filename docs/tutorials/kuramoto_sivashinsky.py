# %% [markdown]
# # Chaos in one dimension: the Kuramoto-Sivashinsky equation
#
# At the end you have a solver of your own, a dataset, and a trained model.
# You also have a picture of its rollout, and the time for which that rollout can be trusted.
# It takes about three minutes on one core; two of them are training.
#
# The equation is $u_t = -u u_x - u_{xx} - u_{xxxx}$ on a periodic line.
# The second derivative feeds long waves, the fourth damps short ones, and $u u_x$ joins the two.
# On a line of length 64 the solution is chaotic.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import wavelit
from wavelit.metrics import vrmse

minutes = 0.06 if os.getenv("WAVELIT_TUTORIALS") == "tiny" else 2
work = Path(tempfile.mkdtemp(prefix="wavelit-"))  # name a folder of yours to keep what is written
length, points = 64.0, 128

# %% [markdown]
# ## A solver
# In Fourier space the linear part is exact, and the nonlinear part takes four stages (ETDRK4).
# The coefficients are means over a circle, as in Kassam and Trefethen (2005).
# All trajectories are solved at once; a frame is kept every unit of time.


# %%
def solve(u, n_frames, h=0.25, every=4):
    k = 2 * np.pi / length * np.arange(points // 2 + 1)
    linear = k**2 - k**4
    full, half = np.exp(h * linear), np.exp(h * linear / 2)
    z = h * linear[:, None] + np.exp(1j * np.pi * (np.arange(32) + 0.5) / 32)
    q = h * np.mean((np.exp(z / 2) - 1) / z, 1).real
    a = h * np.mean((-4 - z + np.exp(z) * (4 - 3 * z + z**2)) / z**3, 1).real
    b = h * np.mean((2 + z + np.exp(z) * (z - 2)) / z**3, 1).real
    c = h * np.mean((-4 - 3 * z - z**2 + np.exp(z) * (4 - z)) / z**3, 1).real
    advect = -0.5j * k * (k < 2 / 3 * k[-1])  # the highest third is left out: no aliasing

    def nonlinear(v):
        return advect * np.fft.rfft(np.fft.irfft(v, points) ** 2)

    v, frames = np.fft.rfft(u), [u]
    for step in range(1, (n_frames - 1) * every + 1):
        n0 = nonlinear(v)
        w = half * v + q * n0
        n1 = nonlinear(w)
        n2 = nonlinear(half * v + q * n1)
        n3 = nonlinear(half * w + q * (2 * n2 - n0))
        v = full * v + a * n0 + 2 * b * (n1 + n2) + c * n3
        if step % every == 0:
            frames.append(np.fft.irfft(v, points))
    return np.stack(frames, 1)  # (trajectories, frames, points)


# %% [markdown]
# ## A dataset
# Start from a few random waves, and drop the first 150 frames, until the chaos has settled.
# `write_dataset` takes all trajectories together and cuts them into training, validation and test.

# %%
rng = np.random.default_rng(0)
waves = 2 * np.pi * np.arange(1, 9)[:, None, None] * np.arange(points) / points
phase, size = rng.uniform(0, 2 * np.pi, (8, 40, 1)), rng.normal(size=(8, 40, 1))
u = solve(np.sum(size * np.cos(waves + phase), 0), 251)[:, 150:]  # (40, 101, 128)
splits = {"train": 32, "valid": 4, "test": 4}
data = wavelit.write_dataset(
    work / "ks", {"u": u}, splits=splits, name="ks", boundary_conditions=["periodic"]
)

# %% [markdown]
# ## A model and its rollout
# `fit` builds the smallest preset, measures the training data, and trains for the minutes given.
# Then the model sees four true frames of each test trajectory and goes on alone for 97 steps.
# Arrays are (batch, time, channel, points), in float32.

# %%
model = wavelit.fit(work / "run", data, minutes=minutes)
frames = torch.tensor(u[-4:, :, None], dtype=torch.float32)
truth, prediction = frames[:, 4:], wavelit.rollout(model, frames[:, :4], 97)

# %%
figure, axes = plt.subplots(3, 1, figsize=(8, 6), sharex=True, layout="constrained")
rows = {"truth": truth[0, :, 0], "prediction": prediction[0, :, 0]}
rows["error"] = rows["prediction"] - rows["truth"]
for ax, (name, values) in zip(axes, rows.items(), strict=True):
    colours = {"cmap": "PuOr_r" if name == "error" else "RdBu_r", "vmin": -3.4, "vmax": 3.4}
    area = (0.5, 97.5, 0, length)
    image = ax.imshow(values.T, **colours, origin="lower", aspect="auto", extent=area)
    ax.set(title=name, ylabel="x")
    figure.colorbar(image, ax=ax, label="u")
axes[-1].set_xlabel("time since the last true frame")
figure.savefig(work / "rollout.png")

# %% [markdown]
# ## What chaos means for the score
# VRMSE is the error over the field's own spread: 1 is what its mean would score.
# Two unrelated states score about 1.4.
#
# Two solutions that differ by a hair part exponentially, whoever computes them.
# The rate is the Lyapunov exponent; measure it with the solver alone, from a change of 1e-6.
# Then let the solver itself go on from the model's first prediction.
# That is how far the one-step error reaches when every later step is right.


# %%
def score(states):  # VRMSE against the truth, (4 trajectories, 97 steps)
    return vrmse(torch.as_tensor(states), frames[:, 4:], spatial=1)[..., 0].numpy()


nearby = score(solve(u[-4:, 4] + 1e-6 * rng.normal(size=(4, points)), 97)[:, :, None])
rate = np.polyfit(np.arange(20, 80), np.log(nearby[:, 20:80]).mean(0), 1)[0]
print(f"Lyapunov exponent about {rate:.3f}: errors grow tenfold in {np.log(10) / rate:.0f} units")

errors = {
    "model": score(prediction),
    "solver from the model's first step": score(solve(prediction[:, 0, 0].numpy(), 97)[:, :, None]),
}
figure, ax = plt.subplots(figsize=(8, 3), layout="constrained")
for name, error in errors.items():
    beyond = error > 0.5
    valid = np.where(beyond.any(1), beyond.argmax(1), 97).mean()
    first, last = error[:, 0].mean(), error[:, -1].mean()
    print(f"{name}: VRMSE {first:.4f} at step 1 and {last:.2f} at step 97")
    print(f"    valid for {valid:.0f} units of time, {valid * rate:.1f} Lyapunov times")
    ax.semilogy(np.arange(1, 98), error.mean(0), label=name)
ax.axhline(0.5, color="grey", linewidth=0.8)
ax.set(xlabel="time since the last true frame", ylabel="VRMSE")
ax.legend()
figure.savefig(work / "growth.png")

# %% [markdown]
# Valid is the time until the VRMSE first exceeds 0.5, the mean over the trajectories.
# After it the late scores say nothing about a model: nobody predicts chaos that far.
# So give the one-step score and the valid time. In Lyapunov times it compares across systems.
