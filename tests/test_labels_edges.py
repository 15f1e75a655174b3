"""Labels and units are heeded wherever they stand: what a third reader of one's own data fell
over.
"""

import numpy as np
import pytest
import xarray as xr

import wavelit
from wavelit.data.checking.check import check_dataset
from wavelit.data.datamodule import WellDataModule
from wavelit.data.signature import is_signature_of, signature_of
from wavelit.data.writing.convert import convert
from wavelit.errors import WavelitError
from wavelit.evaluation.increments import CarriedShare

pytestmark = pytest.mark.usefixtures("undrawn")

SIDES = ["periodic", "periodic"]
SPLITS = {"train": 4, "valid": 1, "test": 1}
U = np.random.default_rng(0).normal(size=(6, 12, 16, 16)).cumsum(1)
LAND = np.zeros((16, 16))
LAND[:4] = 1


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name, fields=None, **options):
    given = {"splits": SPLITS, "boundary_conditions": SIDES, **options}
    return wavelit.write_dataset(name, fields or {"u": U}, name=name, **given)


def messages(folder):
    return [finding.message for finding in check_dataset(folder)]


def test_constants_do_not_count_in_masked_cells(here):
    """Files from elsewhere hold any number there."""
    import h5py

    write("a", constant_fields={"land": LAND, "depth": 5 + U[0, 0]}, mask_field="land")
    for path in (here / "a").rglob("*.hdf5"):
        with h5py.File(path, "a") as file:
            file["t0_fields/depth"][..., :4, :] = -3000.0
    data = WellDataModule("a")
    (batch,) = data.trajectories("test")
    depth, land = batch.constants[
        0, [data.constant_field_names.index(n) for n in ("depth", "land")]
    ]
    assert (depth[:4] == 0).all()
    assert (depth[4:] != 0).all()
    assert np.array_equal(land, LAND)


def test_records_keep_their_order(here):
    """Files are read by name, and those of other times have names of their own."""
    fields = np.arange(14.0)[:, None, None, None] + U[:1, :6]
    times = [np.arange(6.0) + i for i in range(14)]
    write("a", {"u": list(fields)}, time=times, splits={"train": 1, "valid": 1, "test": 12})
    starts = [float(b.fields[0, 0, 0].mean()) for b in WellDataModule("a").trajectories("test")]
    assert starts == sorted(starts)


def test_indices_of_a_matrix_go_by_name():
    a = np.random.default_rng(1).normal(size=(6, 12, 16, 16, 2, 2))
    dims = ("trajectory", "time", "x", "y", "component_i", "component_j")
    own = xr.DataArray(a, dims=dims)
    write("a", {"a": own})
    write("b", {"a": own.transpose(..., "component_j", "component_i")})
    first, second = (next(iter(WellDataModule(n).trajectories("test"))) for n in ("a", "b"))
    assert np.array_equal(first.fields, second.fields)


def test_positions_and_times_may_be_arrays_with_units():
    hours = xr.DataArray(np.arange(12.0), dims="time", attrs={"units": "hours"})
    places = xr.DataArray(0.5 * np.arange(16), dims="x", attrs={"units": "km"})
    write("a", time=hours, coordinates={"x": places, "y": np.arange(16)})
    signature = signature_of(WellDataModule("a"))
    assert (signature.time_unit, signature.axis_units) == ("hours", ("km", ""))


def test_renamed_dimensions_keep_their_positions(here):
    dims = ("nt", "nx", "ny")
    lines = {"time": ("nt", 0.5 * np.arange(12)), "x": ("nx", 0.25 * np.arange(16))}
    for n in range(3):
        xr.Dataset({"u": (dims, U[n]), **lines}).to_netcdf(here / f"{n}.nc")
    convert(
        [f"{n}.nc" for n in range(3)],
        "a",
        boundary_conditions=SIDES,
        dims={"nt": "time", "nx": "x"},
        splits={"train": 1, "valid": 1, "test": 1},
    )
    signature = signature_of(WellDataModule("a"))
    assert signature.time_step == pytest.approx((0.5, 0.5))
    assert signature.spacing == pytest.approx((0.25, 1.0))


def test_numbers_in_days_are_numbers(here):
    """They are no spans of time, whatever version of xarray reads them."""
    for n in range(3):
        period = (("time", "x", "y"), U[n], {"units": "days"})
        xr.Dataset({"period": period, "tau": ((), 2.5, {"units": "hours"})}).to_netcdf(f"{n}.nc")
    convert(
        [f"{n}.nc" for n in range(3)],
        "a",
        boundary_conditions=SIDES,
        scalars=["tau"],
        splits={"train": 1, "valid": 1, "test": 1},
    )
    data = WellDataModule("a")
    assert (data.field_names, data.scalar_names) == (["period"], ["tau"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fields": {"u": 1e-50 * U}}, r"'u' holds numbers up to .*, which float32 rounds to 0"),
        ({"scalars": {"nu": 1e-50 * np.ones(6)}}, r"'nu': float32 rounds 1e-50 to 0: choose units"),
        ({"fields": {"u": np.where(U > 0, U, 9.969209968386869e36)}}, "where nothing was written"),
    ],
)
def test_numbers_that_are_none_are_refused(given, message):
    with pytest.raises(WavelitError, match=message):
        write("a", **given)


def test_small_numbers_beside_others_are_stored():
    write("a", {"u": U * np.where(np.arange(12) < 3, 1e-50, 1.0)[:, None, None]})


@pytest.mark.long
def test_units_are_heeded_in_scores():
    given = {"units": {"u": "K", "time": "hours", "x": "km", "y": "km"}}
    write("a", **given)
    model = wavelit.fit("r", "a", steps=1)
    for what in (model, "r"):
        for other in ({"u": "degC"}, {"x": "m"}):
            name = write(f"{next(iter(other))}-{what is model}", units=given["units"] | other)
            with pytest.raises(WavelitError, match=r"the model was trained on (K|km): convert it"):
                wavelit.evaluate(what, name)
        days = write(f"days-{what is model}", units=given["units"] | {"time": "days"})
        with pytest.warns(UserWarning, match=r"time step 24 hours; .* with 1 to 1 hours"):
            wavelit.evaluate(what, days)
        wide = {"x": 5.0 * np.arange(16), "y": np.arange(16)}
        wide = write(f"wide-{what is model}", coordinates=wide, **given)
        with pytest.warns(UserWarning, match="cells of 5 x 1; the model was trained on 1 x 1"):
            wavelit.evaluate(what, wide)


@pytest.mark.long
def test_fine_tuning_signs_anew():
    """The same numbers, by the same name, with labels that they lacked."""
    write("a")
    model = wavelit.fit("r", "a", steps=1)
    assert is_signature_of(model.signature, WellDataModule("a"))
    lines = {"lon": np.arange(16), "lat": np.arange(16)}
    given = {"name": "a", "splits": SPLITS, "boundary_conditions": SIDES}
    wavelit.write_dataset("b/a", {"u": U}, units={"u": "K"}, coordinates=lines, **given)
    data = WellDataModule("b/a")
    assert not is_signature_of(model.signature, data)
    again = wavelit.fit("s", data, model, steps=1)
    assert again.signature == signature_of(data)


@pytest.mark.long
def test_units_of_forcings_count_in_fine_tuning():
    wind = np.random.default_rng(2).normal(size=U.shape)
    write("a", {"u": U, "wind": wind}, forcings=["wind"], units={"wind": "m s-1"})
    write("b", {"u": U, "wind": 1.944 * wind}, forcings=["wind"], units={"wind": "knots"})
    model = wavelit.fit("r", "a", steps=1)
    with pytest.raises(WavelitError, match="'wind' is in knots in the data and in m s-1 in"):
        wavelit.fit("s", "b", model, steps=1, keep_statistics=True)
    with pytest.warns(UserWarning, match="statistics"):
        again = wavelit.fit("s", "b", model, steps=1)
    ratio = again.normalizer.constant_std / model.normalizer.constant_std
    assert ratio.tolist() == pytest.approx([1.944, 1.944], rel=1e-2)


def test_axes_in_two_units_have_no_transport():
    v = np.random.default_rng(3).normal(size=(*U.shape, 2))
    for name, units in (("a", {"x": "m", "y": "m"}), ("b", {"x": "m", "y": "km"})):
        write(name, {"u": U, "velocity": v}, units=units)
    shares = [CarriedShare(WellDataModule(name).train_dataset) for name in ("a", "b")]
    assert [each._applies for each in shares] == [True, False]


def test_the_check_does_not_judge_what_is_given():
    wind = np.broadcast_to(np.arange(12.0)[:, None, None], U.shape)
    write("a", {"u": U, "wind": wind}, forcings=["wind"])
    assert not [each for each in messages("a") if "scores say little" in each]


def test_land_at_both_ends_is_no_period():
    land = np.zeros((16, 16))
    land[[0, -1]] = 1
    write("a", constant_fields={"land": land}, mask_field="land")
    assert not [each for each in messages("a") if "repeat its first" in each]
