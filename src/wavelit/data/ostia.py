"""A real record in The Well's format: monthly sea-surface temperature of the tropical belt, 2006 to
2010.

The Met Office's OSTIA analysis, averaged over months on 18 x 432 points between 5 S and 5 N, all
around the globe: 54 maps with land. There is one realization only, so that the splits are
contiguous blocks of time, a month apart, each one trajectory: 30 months of training, 10 of
validation and 12, a whole year, of test.

References: Donlon et al., The Operational Sea Surface Temperature and Sea Ice Analysis (OSTIA)
system, Remote Sensing of Environment 116, 2012; package iris-sample-data, file ostia_monthly.nc.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np

from wavelit.data.statistics import write_statistics
from wavelit.data.writing.given import local_path
from wavelit.data.writing.write import write_well
from wavelit.errors import WavelitError, one_line
from wavelit.files.owner import owned

__all__ = ["NAME", "REFERENCE", "SPLIT_MONTHS", "generate_ostia"]

NAME = "ostia_monthly"
# The stored field is kelvin above this, so that the 0 on land lies within the range of the sea.
REFERENCE = 300.0
# First month and the month after the last; months 30 and 41 belong to no split.
SPLIT_MONTHS = {"train": (0, 30), "valid": (31, 41), "test": (42, 54)}


def generate_ostia(
    root: str | Path = "datasets/pocketwell", source: str | Path | None = None, force: bool = False
) -> Path:
    """Write <root>/real/ostia_monthly, or return it if it is there.

    The field `surface_temperature` is in kelvin above 300; the constant field `land` is 1 on land,
    where the temperature is 0; the files declare it as their mask. Time is counted in months from
    April 2006.

    Args:
        root: folder of the datasets.
        source: the netCDF file; that of the package iris-sample-data if absent.
        force: write anew what is there.

    Returns:
        The folder of the dataset.

    Raises:
        WavelitError: the package or the file is missing, or the file is not the record expected, or
            another process writes there.
        OSError: a file cannot be written, for one because the disk is full.
    """
    folder = local_path("root", local_path("root", root) / "real" / NAME)
    if folder.exists() and not force:
        return folder
    source = _installed() if source is None else local_path("source", source, folder=False)
    if not source.is_file():
        raise WavelitError(f"{source}: no such file; install it by `pip install iris-sample-data`")
    temperature, latitude, longitude = _read(source)
    # The folder itself is there only when it is complete.
    with owned(folder.parent, "generating"):
        _write(folder, temperature, latitude, longitude)
    return folder


def _write(
    folder: Path, temperature: np.ndarray, latitude: np.ndarray, longitude: np.ndarray
) -> None:
    land = ~np.isfinite(temperature[0])
    field = np.where(land, 0.0, temperature - REFERENCE)

    # A folder that has the final name is complete.
    temporary = folder.with_name(f".{NAME}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for split, (first, stop) in SPLIT_MONTHS.items():
            write_well(
                temporary / "data" / split / f"{NAME}.hdf5",
                {"surface_temperature": field[None, first:stop]},
                name=NAME,
                boundary_conditions=("open", "periodic"),
                constant_fields={"land": land[None].astype(np.float32)},
                coordinates={"latitude": latitude, "longitude": longitude},
                time=np.arange(first, stop),
                mask_field="land",
                # Months are taken as equal steps, so that no unit of time is given.
                units={
                    "surface_temperature": "K",
                    "latitude": "degrees_north",
                    "longitude": "degrees_east",
                },
            )
        write_statistics(str(temporary), mask_field="land")
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as error:
        error.filename = str(folder)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _installed() -> Path:
    try:
        import iris_sample_data
    except ImportError as error:
        raise WavelitError(
            f"{NAME} needs the package iris-sample-data: install it by `pip install "
            "iris-sample-data`"
        ) from error
    return Path(iris_sample_data.path) / f"{NAME}.nc"


def _read(
    source: Path,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Temperature (54, 18, 432) in kelvin, NaN on land, latitudes and longitudes in degrees."""
    months = max(stop for _, stop in SPLIT_MONTHS.values())
    try:
        with h5py.File(source, "r") as file:
            item = file["surface_temperature"]
            latitude, longitude = (
                np.asarray(file[name][()], np.float64) for name in ("latitude", "longitude")
            )
            due = (months, latitude.size, longitude.size)
            if item.shape != due:
                raise WavelitError(
                    f"{source}: expected temperatures {due}, got {item.shape}; install the file "
                    "anew"
                )
            missing = float(np.ravel(item.attrs["_FillValue"])[0])
            stored = np.asarray(item[()], np.float64)
    except WavelitError:
        raise
    except (OSError, RuntimeError, LookupError, AttributeError, TypeError, ValueError) as error:
        raise WavelitError(
            f"{source}: not the netCDF-4 file of {NAME} ({one_line(error)}); install it anew"
        ) from error
    temperature = np.where(stored == missing, np.nan, stored)
    if (np.isfinite(temperature) != np.isfinite(temperature[0])).any():
        raise WavelitError(f"{source}: land differs from month to month; install the file anew")
    step = np.diff(longitude)
    if not np.allclose(step, 360 / len(longitude), rtol=1e-3):
        raise WavelitError(
            f"{source}: longitudes are no even grid around the globe, steps {step.min():.4g} to "
            f"{step.max():.4g}; install the file anew"
        )
    return temperature, latitude, longitude
