"""DataArrays: whatever the order of their dimensions, the file is that of the arrays in the
order that is due.
"""

import itertools

import h5py
import numpy as np
import pytest

from wavelit.data.writing.write import write_dataset, write_well
from wavelit.errors import WavelitError

xarray = pytest.importorskip("xarray")

N, T, X, Y = 4, 6, 5, 7
RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(N, T, X, Y)).astype(np.float32)
VECTOR = RNG.normal(size=(N, T, X, Y, 2)).astype(np.float32)
SIDES = ["open", "periodic"]
TIMES = 0.5 * np.arange(T)
DIMS = ("trajectory", "time", "x", "y")


def data_array(values=VALUES, dims=DIMS, coords=None, order=None):
    array = xarray.DataArray(values, dims=dims, coords=coords or {})
    return array if order is None else array.transpose(*order)


def write(tmp_path, **changes):
    arguments = {"fields": {"u": data_array()}, "name": "toy", "boundary_conditions": SIDES}
    return write_well(tmp_path / "toy.hdf5", **{**arguments, **changes})


def test_every_order_gives_the_same_file(tmp_path):
    positions = {"x": np.linspace(0, 1, X), "y": np.linspace(-1, 1, Y)}
    plain = write(tmp_path, fields={"u": VALUES}, coordinates=positions, time=TIMES).read_bytes()
    for order in itertools.permutations(DIMS):
        # The axes are in the order given, unless coordinates name them.
        given = data_array(coords={"time": TIMES, **positions}, order=order)
        assert write(tmp_path, fields={"u": given}, coordinates=positions).read_bytes() == plain
        if order.index("x") < order.index("y"):
            assert write(tmp_path, fields={"u": given}).read_bytes() == plain


@pytest.mark.parametrize("trajectory", ["sample", "member", "ensemble", "run", "Run"])
def test_known_names(tmp_path, trajectory):
    given = data_array(dims=(trajectory, "t", "lat", "lon"), order=("t", "lat", trajectory, "lon"))
    with h5py.File(write(tmp_path, fields={"u": given})) as file:
        np.testing.assert_array_equal(file["t0_fields/u"], VALUES)
        assert list(file["dimensions"].attrs["spatial_dims"]) == ["lat", "lon"]


def test_a_dataset_keeps_trajectories_times_and_positions(tmp_path):
    given = data_array(
        coords={"time": TIMES, "x": 3.0 * np.arange(X)}, order=("time", "trajectory", "x", "y")
    )
    depth = data_array(VALUES[:, 0], ("trajectory", "x", "y"), order=("y", "x", "trajectory"))
    speed = data_array(np.arange(N), ("trajectory",))
    folder = write_dataset(
        tmp_path / "toy",
        xarray.Dataset({"u": given}),
        splits={"train": 2, "valid": 1, "test": 1},
        name="toy",
        boundary_conditions=SIDES,
        constant_fields={"depth": depth},
        scalars={"speed": speed, "Re": xarray.DataArray(5.0)},
    )
    for split, part in {"train": slice(0, 2), "valid": slice(2, 3), "test": slice(3, 4)}.items():
        with h5py.File(folder / "data" / split / "toy.hdf5") as file:
            np.testing.assert_array_equal(file["t0_fields/u"], VALUES[part])
            np.testing.assert_array_equal(file["t0_fields/depth"], VALUES[part, 0])
            np.testing.assert_array_equal(file["scalars/speed"], np.arange(N)[part])
            assert file["scalars/Re"][()] == 5
            np.testing.assert_array_equal(file["dimensions/time"], TIMES)
            np.testing.assert_array_equal(file["dimensions/x"], 3.0 * np.arange(X))
            np.testing.assert_array_equal(file["dimensions/y"], np.arange(Y))


@pytest.mark.parametrize("component", ["component", "comp", "vector"])
def test_components_come_last(tmp_path, component):
    v = data_array(VECTOR, (*DIMS, component))
    if component != "vector":
        # By its name it may stand anywhere; another dimension is one by its place alone.
        v = v.transpose(component, "y", "time", "x", "trajectory")
    with h5py.File(write(tmp_path, fields={"u": data_array(), "v": v})) as file:
        np.testing.assert_array_equal(file["t1_fields/v"], VECTOR)


def test_components_that_are_called_after_axes_go_by_name(tmp_path):
    v = data_array(VECTOR[..., ::-1], (*DIMS, "component"), {"component": ["y", "x"]})
    with h5py.File(write(tmp_path, fields={"v": v})) as file:
        np.testing.assert_array_equal(file["t1_fields/v"], VECTOR)
    u = data_array(VECTOR, (*DIMS, "component"), {"component": ["east", "north"]})
    with h5py.File(write(tmp_path, fields={"v": u})) as file:
        np.testing.assert_array_equal(file["t1_fields/v"], VECTOR)


def test_matrices(tmp_path):
    stress = RNG.normal(size=(N, T, X, Y, 2, 2)).astype(np.float32)
    given = data_array(stress, (*DIMS, "component_i", "component_j"))
    with h5py.File(write(tmp_path, fields={"s": given.transpose(..., "time")})) as file:
        np.testing.assert_array_equal(file["t2_fields/s"], stress)


def stored_time(path):
    with h5py.File(path) as file:
        return file["dimensions/time"][()], file["dimensions/time"].attrs["units"]


@pytest.mark.parametrize(
    ("step", "values", "units"),
    [(np.timedelta64(2, "D"), 2.0, "days"), (np.timedelta64(90, "s"), 90.0, "seconds")],
)
def test_dates_are_counted_from_the_first(tmp_path, step, values, units):
    dates = np.datetime64("2020-02-28", "ns") + np.arange(T) * step
    for changes in (
        {"fields": {"u": data_array(coords={"time": dates})}},
        {"fields": {"u": VALUES}, "time": dates},
        {"fields": {"u": VALUES}, "time": list(dates.astype("datetime64[s]").astype(object))},
    ):
        found, unit = stored_time(write(tmp_path, **changes))
        np.testing.assert_allclose(found, values * np.arange(T))
        assert unit == units


def test_calendars_of_cftime(tmp_path):
    cftime = pytest.importorskip("cftime")
    # February has 30 days there.
    dates = [cftime.Datetime360Day(2000, 2, 28 + i) for i in range(3)]
    dates += [cftime.Datetime360Day(2000, 3, 1 + i) for i in range(3)]
    found, unit = stored_time(write(tmp_path, fields={"u": data_array(coords={"time": dates})}))
    np.testing.assert_array_equal(found, np.arange(6))
    assert unit == "days"


def test_an_explicit_time_stands_for_dates(tmp_path):
    dates = np.datetime64("2020-01-01", "ns") + np.arange(T) * np.timedelta64(1, "D")
    given = data_array(coords={"time": dates})
    with h5py.File(write(tmp_path, fields={"u": given}, time=TIMES)) as file:
        np.testing.assert_array_equal(file["dimensions/time"], TIMES)
        assert "units" not in file["dimensions/time"].attrs


def test_units_are_kept(tmp_path):
    given = data_array(coords={"time": TIMES, "x": np.arange(X), "y": np.arange(Y)})
    given.attrs["units"] = "m s-1"
    given["time"].attrs["units"] = "hours"
    given["y"].attrs["units"] = "degrees_north"
    speed = xarray.DataArray(np.ones(N), dims="trajectory", attrs={"units": "Pa"})
    with h5py.File(write(tmp_path, fields={"u": given}, scalars={"p": speed, "q": 1.0})) as file:
        assert file["t0_fields/u"].attrs["units"] == "m s-1"
        assert file["dimensions/time"].attrs["units"] == "hours"
        assert file["dimensions/y"].attrs["units"] == "degrees_north"
        assert file["scalars/p"].attrs["units"] == "Pa"
        assert "units" not in file["dimensions/x"].attrs
        assert "units" not in file["scalars/q"].attrs
    with h5py.File(
        write(tmp_path, fields={"u": VALUES}, units={"u": "K", "time": "s", "x": "m"})
    ) as file:
        units = [file[name].attrs["units"] for name in ("t0_fields/u", "dimensions/time")]
        assert units == ["K", "s"]
        assert file["dimensions/x"].attrs["units"] == "m"


def test_latitude_that_decreases_is_turned_around(tmp_path):
    latitude = np.linspace(60, 20, X)
    v = data_array(VECTOR, (*DIMS[:2], "latitude", "longitude", "component"))
    given = data_array(
        dims=(*DIMS[:2], "latitude", "longitude"), coords={"latitude": latitude}
    ).transpose("longitude", "latitude", "time", "trajectory")
    land = VALUES[0, 0] > 0
    options = {"coordinates": {"latitude": latitude, "longitude": np.arange(Y)}}
    with h5py.File(
        write(tmp_path, fields={"u": given, "v": v}, constant_fields={"land": land}, **options)
    ) as file:
        np.testing.assert_allclose(file["dimensions/latitude"], latitude[::-1])
        np.testing.assert_array_equal(file["t0_fields/u"], VALUES[:, :, ::-1])
        np.testing.assert_array_equal(file["t1_fields/v"], VECTOR[:, :, ::-1])
        # A plain array beside is in the order of the others.
        np.testing.assert_array_equal(file["t0_fields/land"], land[::-1])


def test_one_record_needs_no_trajectory(tmp_path):
    with h5py.File(write(tmp_path, fields={"u": data_array()[0]})) as file:
        np.testing.assert_array_equal(file["t0_fields/u"], VALUES[:1])


def test_a_dataset_stands_for_its_variables(tmp_path):
    given = xarray.Dataset({"u": data_array(), "w": data_array(2 * VALUES)})
    with h5py.File(write(tmp_path, fields=given)) as file:
        np.testing.assert_array_equal(file["t0_fields/w"], 2 * VALUES)


def test_records_in_a_list_may_differ_in_length_and_time(tmp_path):
    start = np.datetime64("2020-01-01", "ns")
    records = [
        data_array(VALUES[i, :n], DIMS[1:], {"time": start + i * 1000 + np.arange(n) * step})
        for i, (n, step) in enumerate(
            [(6, np.timedelta64(1, "h")), (6, np.timedelta64(2, "h")), (5, np.timedelta64(1, "h"))]
        )
    ]
    for record in records:
        record.attrs["units"] = "K"
    folder = write_dataset(
        tmp_path / "toy",
        {"u": records},
        splits={"train": 1, "valid": 1, "test": 1},
        name="toy",
        boundary_conditions=SIDES,
    )
    for split, i in {"train": 0, "valid": 1, "test": 2}.items():
        (path,) = (folder / "data" / split).glob("*.hdf5")
        with h5py.File(path) as file:
            np.testing.assert_array_equal(file["t0_fields/u"][0], VALUES[i, : len(records[i])])
            assert file["t0_fields/u"].attrs["units"] == "K"
            assert file["scalars/time_step"][()] == [3600, 7200, 3600][i]
            assert file["scalars/time_step"].attrs["units"] == "seconds"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            data_array(VALUES[1], DIMS[1:]).assign_attrs(units="degC"),
            r"field 'u' is in 'K' \(field 'u' of record 0\) and in 'degC' .*convert",
        ),
        (
            data_array(VALUES[1], DIMS[1:], {"x": np.arange(X) + 1}),
            "record 0 and field 'u' of record 1 differ in their coordinate 'x'",
        ),
        (data_array(VALUES[1, :, :, :3], DIMS[1:]), "differ in more than their frames"),
        (data_array(VALUES[1], ("time", "lat", "lon")), r"field 'u' of record 1: dimensions"),
    ],
)
def test_records_must_fit(tmp_path, second, message):
    first = data_array(VALUES[0], DIMS[1:], {"x": np.arange(X)}).assign_attrs(units="K")
    with pytest.raises(WavelitError, match=message) as caught:
        write_dataset(
            tmp_path / "toy",
            {"u": [first, second, first, first]},
            splits={"train": 2, "valid": 1, "test": 1},
            name="toy",
            boundary_conditions=SIDES,
        )
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def labels(values):
    return data_array(coords={"trajectory": values})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fields": {"u": data_array(dims=("a", "b", "x", "y"))}},
            r"\(a, b, x, y\), but due are a trajectory dimension",
        ),
        (
            {"fields": {"u": xarray.DataArray(VALUES)}},
            r"\(dim_0, .*\), but due are a trajectory dimension \(trajectory,",
        ),
        (
            {"fields": {"u": data_array(), "v": data_array()[0]}},
            r"field 'v': dimensions \(time, x, y\), but due .* expand_dims",
        ),
        (
            {"fields": {"u": data_array()[:, 0]}},
            r"\(trajectory, x, y\), but due .* a time dimension \(time, t\)",
        ),
        ({"fields": {"u": data_array()[:, :, 0]}}, r"\(trajectory, time, y\), but due"),
        (
            {"fields": {"u": data_array(dims=("run", "member", "x", "y"))}},
            r"\(run, member\) could both be the trajectory",
        ),
        (
            {"fields": {"u": data_array(dims=("run", "time", "t", "y"))}},
            r"\(time, t\) could both be the time",
        ),
        ({"fields": {"u": data_array(dims=("run", "time", 3, "y"))}}, "need names of their own"),
        (
            {"fields": {"u": data_array(), "v": data_array(dims=("run", *DIMS[1:]))}},
            "'trajectory' where field 'v' has 'run'",
        ),
        (
            {"fields": {"u": data_array(), "v": data_array(dims=(*DIMS[:2], "lat", "lon"))}},
            r"field 'v': .* the axes \(x, y\)",
        ),
        ({"fields": {"u": data_array(VECTOR, (*DIMS, "z"))}}, "field 'u': dimensions .* but due"),
        (
            {"fields": {"u": data_array(), "v": data_array(VECTOR[..., :1], (*DIMS, "z"))}},
            "field 'v': dimensions",
        ),
        (
            {"fields": {"u": labels([0, 1, 2, 3]), "v": labels([3, 2, 1, 0])}},
            "differ in their coordinate 'trajectory'",
        ),
        (
            {
                "fields": {
                    "u": data_array(coords={"time": TIMES}),
                    "v": data_array(coords={"time": 2 * TIMES}),
                }
            },
            "differ in .*'time'",
        ),
        (
            {"fields": {"u": data_array(coords={"time": TIMES})}, "time": 2 * TIMES},
            "time differs from .* coordinate 'time'",
        ),
        (
            {
                "fields": {"u": data_array(coords={"x": np.arange(X)})},
                "coordinates": {"x": np.arange(X) + 1, "y": np.arange(Y)},
            },
            r"coordinates\['x'\] differs",
        ),
        ({"coordinates": {"r": np.arange(X), "theta": np.arange(Y)}}, r"the axes \(r, theta\)"),
        (
            {"fields": {"u": data_array(coords={"x": [0, 2, 1, 3, 4]})}},
            "'x': expected 5 increasing",
        ),
        (
            {"fields": {"u": data_array(coords={"x": list("abcde")})}},
            "coordinate 'x' holds no numbers",
        ),
        (
            {"constant_fields": {"k": data_array()}},
            r"field 'k' is constant but has dimension 'time': .*isel\(time=0\)",
        ),
        (
            {"scalars": {"s": data_array(np.arange(T), ("time",))}},
            r"scalar 's': .*got dimensions \(time\)",
        ),
        ({"fields": {"u": xarray.Dataset({"u": data_array()})}}, "got a Dataset: pick one"),
        ({"fields": {"u": data_array().where(data_array() < 2)}}, "field 'u' has a NaN"),
        ({"fields": data_array()}, "fields: expected {name: .*}, got DataArray"),
        ({"fields": {"u": [data_array()[0], VALUES[1]]}}, "field 'u'.*DataArray cannot stand here"),
        ({"fields": {"u": data_array().astype(str)}}, "field 'u': expected real .* got text"),
    ],
)
def test_what_could_be_misread_is_refused(tmp_path, changes, message):
    with pytest.raises(WavelitError, match=message) as caught:
        write(tmp_path, **changes)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
