# %% [markdown]
# # Your own arrays
#
# At the end your own numpy arrays are a dataset, checked, and a model is trained on them.
# Its scores are in a table, its rollout is a picture and an HDF5 file.
# It takes about three minutes on one core; two of them are training.
#
# The arrays stand for yours: waves in a box with walls.
# Their speed varies over the box, and every trajectory has a damping of its own.

# %%
import os
import tempfile
from pathlib import Path

import h5py
import numpy as np

import wavelit
from wavelit.data.checking.check import check_dataset
from wavelit.evaluation.figures import rollout_figure, save

minutes = 0.06 if os.getenv("WAVELIT_TUTORIALS") == "tiny" else 2
work = Path(tempfile.mkdtemp(prefix="wavelit-"))  # name a folder of yours to keep what is written

# %% [markdown]
# ## The arrays
# All trajectories stand together, the first axis counts them:
# fields are (N, T, *grid), constant fields (N, *grid), scalars (N,).
# A vector field would have its components last, (N, T, *grid, 2).

# %%
rng = np.random.default_rng(0)
n, steps, shape = 28, 40, (40, 32)
x, y = np.meshgrid(np.linspace(0, 1.25, 40), np.linspace(0, 1, 32), indexing="ij")


def bumps(width):  # one Gaussian per trajectory, (N, *grid)
    cx, cy = rng.uniform(0.2, 1.0, (n, 1, 1)), rng.uniform(0.2, 0.8, (n, 1, 1))
    return np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / width**2)


speed, damping = 1 - 0.5 * bumps(0.3), rng.uniform(0, 2, n)
pressure, rate = np.zeros((n, steps, *shape)), np.zeros((n, steps, *shape))
p, q, dt, dx = bumps(0.1), np.zeros((n, *shape)), 0.01, 1 / 31
for step in range(steps):
    pressure[:, step], rate[:, step] = p, q
    for _ in range(4):  # p_t = q, q_t = c² lap p - damping q; mirrored at the walls
        wide = np.pad(p, ((0, 0), (1, 1), (1, 1)), "edge")
        laplacian = wide[:, 2:, 1:-1] + wide[:, :-2, 1:-1] + wide[:, 1:-1, 2:] + wide[:, 1:-1, :-2]
        q = q + dt * (speed**2 * (laplacian - 4 * p) / dx**2 - damping[:, None, None] * q)
        p = p + dt * q

# %% [markdown]
# ## The dataset
# The splits count trajectories, in order; shuffle yours if their order means something.
# Boundaries are named per axis: `"periodic"`, `"wall"`, `"open"`, or a pair for the two sides.

# %%
folder = wavelit.write_dataset(
    work / "box",
    {"pressure": pressure, "rate": rate},
    splits={"train": 20, "valid": 4, "test": 4},
    name="box",
    boundary_conditions=["wall", "wall"],
    constant_fields={"speed": speed},
    scalars={"damping": damping},
    coordinates={"x": x[:, 0], "y": y[0]},
    time=4 * dt * np.arange(steps),
)
findings = check_dataset(str(folder))
for finding in findings:
    print(finding.severity, finding.file, finding.message)
print(f"{len(findings)} findings")

# %% [markdown]
# No finding is a clean bill. A NaN would have been refused before, with its place in the array.
#
# ## Training and scores
# The run folder gets the weights, the learning curve, and with `evaluate` a report in HTML.
# Compare with persistence, which predicts no change: only what is well below it was learned.

# %%
model = wavelit.fit(work / "run", folder, minutes=minutes, validate_every=400)
scores = wavelit.evaluate(work / "run", split="test")
print(scores)

# %% [markdown]
# ## A rollout on arrays
# The model takes (batch, 4 frames, channel, *grid) in float32; channels stand in the order given.
# Constant fields are (batch, channel, *grid), scalars (batch, number).
#
# The picture is of the last test trajectory; its lowest panel is the mean over all of them.

# %%
states = np.stack([pressure, rate], 2).astype(np.float32)[-1:]
constants, scalars = speed[-1:, None].astype(np.float32), damping[-1:, None].astype(np.float32)
prediction = wavelit.rollout(model, states[:, :4], steps - 4, constants, scalars)

figure = rollout_figure(
    states[0, 4:], prediction[0], ["pressure", "rate"], evaluation=scores, steps=[1, 6, 18, 36]
)
save(figure, work / "rollout.png")
figure

# %% [markdown]
# ## Files
# `record_rollout` writes one trajectory of a split as HDF5 in The Well's format, PNG and GIF.
# The prediction has the fields' own names, the truth stands beside it.

# %%
files = wavelit.record_rollout(work / "run", split="test", trajectory=3)
with h5py.File(files[0]) as file:
    for name, values in file["t0_fields"].items():
        print(name, values.shape)
print(f"all files are in {work}")
