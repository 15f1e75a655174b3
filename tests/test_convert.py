"""NetCDF and zarr files to datasets: what the call on their arrays writes, or one line and
nothing.
"""

import h5py
import numpy as np
import pytest

from wavelit.cli.program import main
from wavelit.data.checking.check import check_dataset
from wavelit.data.writing.convert import convert
from wavelit.data.writing.write import write_dataset
from wavelit.errors import WavelitError

xarray = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")

T, X, Y = 24, 6, 8
RNG = np.random.default_rng(0)
LAND = np.zeros((X, Y), bool)
LAND[2:4, 1:3] = True
SIDES = ["open", "periodic"]
SPLITS = {"train": 1, "valid": 1, "test": 1}


def record(seed=0, frames=T, step=6, **changes):
    """Dates, a latitude that decreases, land, units; packed as files of reanalyses are."""
    values = np.where(LAND, np.nan, np.random.default_rng(seed).normal(size=(frames, X, Y)))
    data = xarray.Dataset(
        {
            "sst": (("time", "latitude", "longitude"), values, {"units": "K"}),
            "wind": (("time", "latitude", "longitude", "component"), np.stack([values] * 2, -1)),
            "land": (("latitude", "longitude"), LAND.astype("i1")),
            "depth": (("latitude", "longitude"), np.where(LAND, np.nan, 1.0 + np.arange(Y))),
            "drag": ((), 0.1 * (1 + seed), {"units": "1"}),
        },
        {
            "time": np.datetime64("2001-01-01", "ns")
            + np.arange(frames) * np.timedelta64(step, "h"),
            "latitude": ("latitude", np.linspace(50, 40, X), {"units": "degrees_north"}),
            "longitude": 45.0 * np.arange(Y),
        },
        {"viscosity": 2.0 + seed},
    )
    return data.assign(**changes)


def to_file(tmp_path, data, name="a.nc"):
    path = tmp_path / name
    if path.suffix == ".zarr":
        pytest.importorskip("zarr")
        chunks = {"sst": {"chunks": (8, X, Y)}, "wind": {"chunks": (8, X, Y, 2)}}
        data.to_zarr(path, consolidated=False, encoding=chunks)
    else:
        packed = {"dtype": "i2", "scale_factor": 1e-3, "_FillValue": -32768}
        data.to_netcdf(path, engine="h5netcdf", encoding={"sst": packed})
    return path


def stored(folder, split, name):
    (path,) = (folder / "data" / split).glob("*.hdf5")
    with h5py.File(path) as file:
        return file[name][()]


@pytest.mark.parametrize("name", ["a.nc", "a.zarr"])
def test_it_does_what_the_call_does(tmp_path, name):
    path = to_file(tmp_path, record(), name)
    words = ["--boundary_conditions", "open,wall", "periodic", "--fields", "sst", "wind"]
    words += ["--constant_fields", "depth", "--scalars", "drag", "viscosity"]
    words += ["--mask_field", "land", "--split_in_time", "0.4", "0.3", "0.3", "--gap", "2"]
    converted = tmp_path / "toy"
    assert main(["data", "convert", str(path), "--to", str(converted), *words]) == 0
    options = {"consolidated": False} if path.is_dir() else {}
    data = xarray.open_dataset(path, engine="zarr" if path.is_dir() else "h5netcdf", **options)
    called = write_dataset(
        tmp_path / "called",
        {"sst": data.sst, "wind": data.wind},
        constant_fields={"depth": data.depth, "land": data.land},
        scalars={"drag": data.drag.values[None], "viscosity": [2.0]},
        units={"drag": "1"},
        name="toy",
        boundary_conditions=[("open", "wall"), "periodic"],
        split_in_time=(0.4, 0.3, 0.3),
        gap=2,
        mask_field="land",
    )
    for split in SPLITS:
        one, other = (f / "data" / split / "toy.hdf5" for f in (converted, called))
        assert one.read_bytes() == other.read_bytes()
    with h5py.File(converted / "data" / "test" / "toy.hdf5") as file:
        expected = np.where(LAND, 0, data.sst.values)[-6:, ::-1]
        np.testing.assert_allclose(file["t0_fields/sst"][0], expected, rtol=1e-6)
        np.testing.assert_allclose(file["dimensions/latitude"], np.linspace(40, 50, X))
        np.testing.assert_array_equal(file["dimensions/time"], 21600 * np.arange(18, 24))
        assert file["dimensions/time"].attrs["units"] == "seconds"
        assert file["t0_fields/sst"].attrs["units"] == "K"
        assert file["dimensions/latitude"].attrs["units"] == "degrees_north"
        np.testing.assert_array_equal(file["t0_fields/land"], LAND[::-1])
        assert file["scalars/viscosity"][()] == 2
    assert check_dataset(str(converted), n_steps_input=2) == []


def test_a_file_a_record(tmp_path):
    files = [to_file(tmp_path, record(i), f"{i}.nc") for i in range(3)]
    folder = convert(
        files,
        tmp_path / "toy",
        boundary_conditions=SIDES,
        splits=SPLITS,
        mask_from="sst",
        scalars=["drag"],
    )
    for i, split in enumerate(SPLITS):
        values = np.where(LAND, 0, record(i).sst.values)[:, ::-1]
        np.testing.assert_allclose(stored(folder, split, "t0_fields/sst")[0], values, atol=1e-3)
        np.testing.assert_array_equal(stored(folder, split, "t0_fields/mask"), LAND[::-1])
        assert stored(folder, split, "scalars/drag") == pytest.approx(0.1 * (1 + i))
    # All that varies in time, and no more.
    with h5py.File(folder / "data" / "train" / "toy.hdf5") as file:
        assert list(file["t0_fields"].attrs["field_names"]) == ["sst", "mask"]
        assert list(file["t1_fields"].attrs["field_names"]) == ["wind"]


def test_records_along_a_dimension_and_of_several_steps(tmp_path):
    several = xarray.concat([record(i)[["sst"]] for i in range(2)], "case")
    files = [
        to_file(tmp_path, several, "a.nc"),
        to_file(tmp_path, record(2, frames=20, step=12)[["sst"]].expand_dims("case"), "b.nc"),
    ]
    words = ["--boundary_conditions", *SIDES, "--dims", "case=trajectory", "--mask_from", "sst"]
    words += ["--splits", "1", "1", "1", "--name", "waters"]
    folder = tmp_path / "toy"
    assert main(["data", "convert", *map(str, files), "--to", str(folder), *words]) == 0
    steps = [stored(folder, split, "scalars/time_step").item() for split in SPLITS]
    assert steps == [6 * 3600, 6 * 3600, 12 * 3600]
    assert stored(folder, "test", "t0_fields/sst").shape == (1, 20, X, Y)


def half_written(tmp_path):
    """As a program that was killed leaves it: all is declared, one of three chunks is not there,
    and reads as 0.
    """
    whole = record().fillna(1.0)
    path = to_file(tmp_path, whole.assign(wind=1 + whole.wind.astype("i4") ** 2), "half.zarr")
    next(iter((path / "wind" / "c").iterdir())).rename(tmp_path / "lost")
    return path


@pytest.mark.parametrize(
    ("second", "changes", "message"),
    [
        (lambda at: at / "none.nc", {}, r"none\.nc: no such file"),
        (lambda at: at.joinpath("a.nc").write_text("no") and at / "a.nc", {}, "no NetCDF file or"),
        (lambda at: at.joinpath("z.zarr").mkdir() or at / "z.zarr", {}, "no NetCDF file or zarr"),
        (None, {"fields": ["sss"]}, r"first\.nc: no variable 'sss': there are .*sst"),
        (None, {"constant_fields": ["bottom"]}, "no variable 'bottom'"),
        (None, {"scalars": ["drug"]}, "no number 'drug' among its variables and attributes"),
        (None, {"scalars": ["sst"]}, "scalar 'sst' has shape"),
        (None, {"mask_from": "none"}, "no variable 'none'"),
        (None, {"mask_from": None, "mask_field": "seas"}, "no variable 'seas'"),
        (None, {"mask_from": None}, "field 'sst' has a NaN"),
        (None, {"mask_excludes": 0.0}, "mask_from marks cells by 1"),
        (None, {"dims": {"lat": "y"}}, "no dimension 'lat': there are .*latitude"),
        (None, {"dims": {"latitude": "longitude"}}, "dims: .*choose other names"),
        (None, {"dims": {"time": "date"}}, "no variable has a time dimension"),
        (None, {"boundary_conditions": ["open"] * 3}, "and 3 axes, one per boundary condition"),
        (
            lambda at: to_file(at, record(sst=record().sst.assign_attrs(units="degC"))),
            {},
            r"field 'sst' is in 'K' .* and in 'degC'",
        ),
        (
            lambda at: to_file(at, record(drag=record().drag.assign_attrs(units="s"))),
            {"scalars": ["drag"]},
            r"scalar 'drag' is in 's', but in '1' in another file",
        ),
        (
            lambda at: to_file(at, record(latitude=np.linspace(51, 41, X))),
            {},
            "differ in their coordinate 'latitude'",
        ),
        (lambda at: to_file(at, record().isel(longitude=slice(5))), {}, "'longitude'"),
        (half_written, {}, "variable 'wind': 1 of its .* chunks were never written"),
    ],
)
def test_what_cannot_be_converted_is_one_line(tmp_path, second, changes, message):
    files = [to_file(tmp_path, record(), name) for name in ("first.nc", "other.nc")]
    files.append(to_file(tmp_path, record(1), "second.nc") if second is None else second(tmp_path))
    options = {
        "boundary_conditions": SIDES,
        "splits": SPLITS,
        "fields": None,
        "mask_from": "sst",
        **changes,
    }
    with pytest.raises(WavelitError, match=message) as caught:
        convert(files, tmp_path / "toy", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "toy").exists()


def test_words_that_mean_nothing(tmp_path, capsys):
    path = to_file(tmp_path, record())
    words = ["data", "convert", str(path), "--to", str(tmp_path / "toy")]
    for more, message in (
        (["--boundary_conditions", "open", "open", "--dims", "a"], "--dims: expected OLD=NEW"),
        (["--boundary_conditions", "shut", "open"], "expected periodic, wall, open"),
        (["--boundary_conditions", *SIDES, "--splits", "1", "2"], "splits: expected a positive"),
        ([], "boundary_conditions"),
    ):
        assert main([*words, *more]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "toy").exists()
