# %% [markdown]
# # A record of the ocean, with land in it
#
# At the end a real record has gone from its NetCDF file to a trained model and a scored rollout.
# The last picture is a map of the prediction, with north up.
# It takes about three minutes on one core; two of them are training.
#
# The record is monthly sea-surface temperature around the globe, between 5° S and 5° N.
# It comes with the package `iris-sample-data`: 54 months, and land where values are missing.

# %%
import os
import tempfile
from pathlib import Path

import iris_sample_data
import matplotlib.pyplot as plt
import numpy as np
import xarray

import wavelit

minutes = 0.06 if os.getenv("WAVELIT_TUTORIALS") == "tiny" else 2
work = Path(tempfile.mkdtemp(prefix="wavelit-"))  # name a folder of yours to keep what is written
file = Path(iris_sample_data.path) / "ostia_monthly.nc"

# %% [markdown]
# ## The record
# xarray reads the file: names of dimensions, positions, dates, units, and NaN on land.
# The mean of the sea is taken off, since float32 keeps seven digits.

# %%
ocean = xarray.open_dataset(file)
temperature = ocean["surface_temperature"]
anomaly = (temperature - 300).assign_attrs(units="K")
land = temperature.isel(time=0, drop=True).isnull()
print(anomaly.dims, anomaly.shape, temperature["time"].values[[0, -1]])
print(f"{float(land.mean()):.0%} of the cells are land")

# %% [markdown]
# ## The dataset
# There is one record, so it is cut in time: 60 % of it to train on, 20 % each for the others.
# Four months are left out between two of them, as many as the model reads at once.
# Months have 28 to 31 days. `equal_steps` says that they count as equal.
#
# The mask is named once, here. The files declare it, and all that follows leaves land out.

# %%
folder = wavelit.write_dataset(
    work / "ocean",
    {"temperature": anomaly},
    split_in_time=(0.6, 0.2, 0.2),
    name="ocean",
    boundary_conditions=["open", "periodic"],  # latitude, longitude
    constant_fields={"land": land},
    mask_field="land",
    equal_steps=True,
)
data = wavelit.WellDataModule(folder)
print(data.train_dataset.layouts[0].axes, data.boundary_conditions)

# %% [markdown]
# The same from the shell, without a line of Python. The mask is made of the missing cells:
#
# ```bash
# wavelit data convert ostia_monthly.nc --to ocean --boundary_conditions open periodic \
#     --fields surface_temperature --mask_from surface_temperature --mask_field land \
#     --split_in_time 0.6 0.2 0.2 --equal_steps
# ```
#
# ## A model and its scores
# Two and a half years are little to learn from, and the winds are not in the record.
# So compare with persistence, which predicts no change.
# Rollouts start from several months of the test record, as far as it reaches.

# %%
model = wavelit.fit(work / "run", data, minutes=minutes)
scores = wavelit.evaluate(work / "run", split="test")
print(scores)

# %% [markdown]
# ## A map
# A rollout of three months from the first four of the test record.
# Land is left white, and latitude points up: positions increase in the file.

# %%
batch = next(iter(data.trajectories("test")))
states = wavelit.rollout(model, batch.fields, 3, batch.constants, valid=batch.valid)
sea = batch.valid[0, 0].numpy()
truth, prediction = batch.target[0, 2, 0].numpy(), states[0, 2, 0].numpy()
maps = {"truth": truth, "prediction": prediction, "error": prediction - truth}

figure, axes = plt.subplots(3, 1, figsize=(9, 5), sharex=True, layout="constrained")
for ax, (name, values) in zip(axes, maps.items(), strict=True):
    shown = np.where(sea, values, np.nan)
    colours = {"cmap": "RdBu_r" if name == "error" else "viridis"}
    colours |= {"vmin": -2, "vmax": 2} if name == "error" else {"vmin": -6, "vmax": 3}
    image = ax.imshow(shown, origin="lower", extent=(0, 360, -5, 5), aspect="auto", **colours)
    ax.set(title=name, ylabel="latitude")
    figure.colorbar(image, ax=ax, label="K")
axes[-1].set_xlabel("longitude")
figure.savefig(work / "map.png")
figure

# %% [markdown]
# `wavelit rollout` draws such maps for any run, and the report has a player.
# Both put latitude up by the names of the axes.
