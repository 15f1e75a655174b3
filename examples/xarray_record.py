# Runs in CI.
# An xarray record: dimensions go by name; dates, units and positions are kept, and latitude, which
# decreases here, is turned around. Arrays of dask and zarr are read piece by piece.
import numpy as np
import xarray

import wavelit

time = np.datetime64("2001-01-01", "ns") + np.timedelta64(1, "D") * np.arange(120)
lat, lon = np.linspace(40, -40, 16), np.arange(0, 360, 11.25)
day, south, east = np.meshgrid(np.arange(120.0), np.radians(lat), np.radians(lon), indexing="ij")
heat = np.cos(south) * np.sin(east - 0.3 * day) + 0.2 * np.cos(2 * east + 0.1 * day)
dims = {"time": time, "latitude": lat, "longitude": lon}
record = xarray.DataArray(heat, dims, list(dims), attrs={"units": "K"}).chunk(time=10)
options = {"name": "heat", "boundary_conditions": ["open", "periodic"]}
wavelit.write_dataset("heat", {"heat": record}, split_in_time=(0.7, 0.15, 0.15), **options)
wavelit.fit("run", "heat", steps=10)
print(wavelit.evaluate("run"))
