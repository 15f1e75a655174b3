"""Prediction by name: the order of names does not matter, what does not fit is refused, xarray
comes back as xarray.
"""

import copy
import dataclasses
import itertools
import warnings

import numpy as np
import pytest
import torch
import xarray as xr

import wavelit
from wavelit.errors import WavelitError
from wavelit.model.config import WaveLiTConfig
from wavelit.model.labelled import by_index
from wavelit.model.normalizer import Statistics
from wavelit.model.rollout import rollout
from wavelit.model.signature import Quantity, Signature
from wavelit.model.wavelit import WaveLiT

GRID, T = (8, 4), 2
WIDE = (-10.0, 10.0)
SIGNATURE = Signature(
    dataset="toy",
    n_steps_input=T,
    fields=(
        Quantity("pressure", ("pressure",), unit="Pa", ranges=(WIDE,)),
        Quantity("velocity", ("velocity_x", "velocity_y"), 1, "m s-1", (WIDE, WIDE)),
    ),
    constants=(
        Quantity("depth", ("depth",), ranges=(WIDE,)),
        Quantity("land", ("land",), ranges=((0.0, 0.0),)),
    ),
    scalars=(
        Quantity("Rayleigh", ("Rayleigh",), ranges=((1e4, 1e6),)),
        Quantity("Prandtl", ("Prandtl",), ranges=((0.5, 2.0),)),
    ),
    axes=("x", "y"),
    axis_units=("km", "km"),
    boundary_conditions=(("periodic", "periodic"),) * 2,
    spacing=(0.5, 0.25),
    time_step=(0.1, 0.1),
    time_unit="days",
    mask="land",
)

FORCED = dataclasses.replace(
    SIGNATURE,
    constants=(),
    mask="",
    scalars=(),
    forcing_fields=(Quantity("sun", ("sun",), ranges=(WIDE,)),),
    forcing_scalars=(Quantity("inlet", ("inlet",), ranges=((0.0, 1.0),)),),
)


@pytest.fixture(scope="module")
def model():
    """Random weights of float64 that depend on every input."""
    torch.manual_seed(0)
    config = WaveLiTConfig.preset(
        "nano",
        n_fields=3,
        n_constant_fields=2,
        n_scalars=2,
        n_steps_input=T,
        embed_dim=8,
        num_heads=2,
        detail_dim=4,
    )
    model = WaveLiT(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    ones = (1.0, 1.0, 1.0)
    model.normalizer.set_statistics(
        Statistics(
            (0.0,) * 3, ones, (0.1,) * 3, (0.0,) * 2, ones[:2], (11.0, 0.0), ones[:2], (True, False)
        )
    )
    model.signature = SIGNATURE
    return model


def arrays(n=None, frames=T):
    rng = np.random.default_rng(0)
    lead = () if n is None else (n,)
    land = np.zeros(GRID)
    land[0] = 1.0
    return {
        "pressure": rng.normal(size=(*lead, frames, *GRID)),
        "velocity": rng.normal(size=(*lead, frames, *GRID, 2)),
        "depth": rng.normal(size=GRID),
        "land": land,
    }


SCALARS = {"Rayleigh": 1e5, "Prandtl": 1.0}


def by_order(model, given, steps=3):
    """The same by `rollout`, stacked by hand."""
    n = 1 if given["pressure"].ndim == 3 else len(given["pressure"])
    p = given["pressure"].reshape(n, -1, *GRID)[:, -T:]
    v = given["velocity"].reshape(n, -1, *GRID, 2)[:, -T:]
    fields = np.stack([p, v[..., 0], v[..., 1]], 2)
    fields[:, :, :, 0] = 0.0
    depth = np.where(given["land"] == 1.0, 0.0, given["depth"])
    constants = np.broadcast_to(np.stack([depth, given["land"]]), (n, 2, *GRID))
    scalars = np.broadcast_to([1e5, 1.0], (n, 2))
    return rollout(model, fields, steps, constants, scalars, constants[:, 1:] != 1.0)


@pytest.mark.parametrize("n", [None, 3])
@pytest.mark.parametrize("frames", [T, 5])
def test_names_go_to_their_channels_in_any_order(n, frames, model):
    given = arrays(n, frames)
    due = by_order(model, given)
    due = due[0] if n is None else due
    for names in itertools.islice(itertools.permutations(given), 0, 24, 5):
        for scalars in (SCALARS, dict(reversed(SCALARS.items()))):
            found = model.predict({name: given[name] for name in names}, scalars, 3)
            assert list(found) == ["pressure", "velocity"]
            assert np.array_equal(found["pressure"], due.take(0, -3))
            for component in (0, 1):
                expected = due.take(1 + component, -3)
                assert np.array_equal(found["velocity"][..., component], expected)


def test_scalars_that_are_swapped_make_a_difference(model):
    given = arrays()
    right = model.predict(given, SCALARS)["pressure"]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        wrong = model.predict(given, {"Rayleigh": 1.0, "Prandtl": 1e5})["pressure"]
    assert [str(each.message).split()[1] for each in told] == ["'Rayleigh'", "'Prandtl'"]
    assert np.abs(right - wrong).max() > 1e-6


def test_components_may_stand_by_their_own_names(model):
    given = arrays()
    due = model.predict(given, SCALARS, 2)
    apart = {
        **given,
        "velocity_y": given["velocity"][..., 1],
        "velocity_x": given["velocity"][..., 0],
    }
    del apart["velocity"]
    found = model.predict(apart, SCALARS, 2)
    assert sorted(found) == ["pressure", "velocity_x", "velocity_y"]
    for number, axis in enumerate("xy"):
        assert np.array_equal(found[f"velocity_{axis}"], due["velocity"][..., number])


def test_one_scalar_a_sample(model):
    given = arrays(2)
    both = model.predict(given, {**SCALARS, "Prandtl": np.array([0.5, 2.0])})
    for number, value in enumerate((0.5, 2.0)):
        one = {k: v[number] if v.ndim > 3 else v for k, v in given.items()}
        alone = model.predict(one, {**SCALARS, "Prandtl": value})
        np.testing.assert_allclose(both["pressure"][number], alone["pressure"], atol=1e-12)


@pytest.mark.parametrize("kind", ["<f4", ">f8", ">f4", "f2", "i4"])
def test_any_type_and_order_of_bytes(kind, model):
    given = {name: np.round(value) for name, value in arrays().items()}
    due = model.predict(given, SCALARS)
    found = model.predict({name: value.astype(kind) for name, value in given.items()}, SCALARS)
    assert np.array_equal(found["velocity"], due["velocity"])


def test_tensors_give_tensors(model):
    given = arrays()
    found = model.predict({k: torch.from_numpy(v) for k, v in given.items()}, SCALARS)
    assert isinstance(found["pressure"], torch.Tensor)
    assert np.array_equal(found["pressure"], model.predict(given, SCALARS)["pressure"])


def test_a_mask_stands_for_the_constant_that_marks_it(model):
    given = arrays()
    due = model.predict(given, SCALARS, 2)
    land = given.pop("land") == 1.0
    given["pressure"][:, land] = np.nan
    given["velocity"] = np.ma.masked_array(
        given["velocity"], np.broadcast_to(land[..., None], given["velocity"].shape)
    )
    found = model.predict(given, SCALARS, 2, mask=land)
    assert np.array_equal(found["pressure"], due["pressure"])
    assert (found["pressure"][:, land] == 0).all()
    # Nor do constants count there.
    for there in (0.0, np.nan, -3000.0):
        given["depth"] = np.where(land, there, given["depth"])
        found = model.predict(given, SCALARS, 2, mask=land)
        assert np.array_equal(found["pressure"], due["pressure"])


@pytest.mark.parametrize(
    ("changes", "scalars", "message"),
    [
        ({"pressure": None}, SCALARS, "no pressure; this model takes pressure, velocity"),
        ({"presure": np.zeros(3)}, SCALARS, "unknown name 'presure'"),
        ({}, {"Rayleigh": 1e5}, "scalars: no Prandtl"),
        ({}, {**SCALARS, "prandtl": 1}, "scalars: unknown name 'prandtl'"),
        ({}, {**SCALARS, "Rayleigh": -1e5}, "'Rayleigh' must be positive"),
        ({}, {**SCALARS, "Prandtl": np.ones(3)}, r"'Prandtl' must be a number"),
        ({}, {**SCALARS, "Prandtl": np.nan}, "'Prandtl' must be finite"),
        ({"pressure": np.zeros(GRID)}, SCALARS, r"field 'pressure' must be \(T, x, y\) or"),
        ({"velocity": np.zeros((T, *GRID, 3))}, SCALARS, r"'velocity' must be \(T, x, y, 2\)"),
        ({"pressure": np.zeros((1, *GRID))}, SCALARS, "'pressure' has 1 frames; .*history is 2"),
        ({"pressure": np.zeros((T + 1, *GRID))}, SCALARS, "'velocity' has 2 frames, 'pressure' 3"),
        ({"velocity": np.zeros((T, 8, 8, 2))}, SCALARS, r"'velocity' has .* \[2, 8, 8\]"),
        ({"pressure": np.zeros((2, T, *GRID))}, SCALARS, "'velocity' has samples"),
        ({"depth": np.zeros((4, 4))}, SCALARS, "constant 'depth' is of the grid"),
        ({"pressure": np.zeros((T, *GRID), complex)}, SCALARS, "'pressure' must be an array of"),
        ({"pressure": np.full((T, *GRID), np.inf)}, SCALARS, "'pressure' holds 56 values"),
        ({"pressure": np.full((T, *GRID), "a")}, SCALARS, "'pressure' must be an array of"),
        ({"velocity_x": np.zeros((T, *GRID))}, SCALARS, "unknown name 'velocity_x'"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(changes, scalars, message, model):
    given = {name: value for name, value in {**arrays(), **changes}.items() if value is not None}
    with pytest.raises(WavelitError, match=message) as caught:
        model.predict(given, scalars)
    assert len(str(caught.value).splitlines()) == 1


def test_masks_that_do_not_fit_are_named(model):
    given = arrays()
    for mask in (np.zeros(GRID), np.zeros((3, 3), bool)):
        with pytest.raises(WavelitError, match="mask must be bool"):
            model.predict(given, SCALARS, mask=mask)
    with pytest.raises(WavelitError, match="mask differs from the constant 'land'"):
        model.predict(given, SCALARS, mask=np.zeros(GRID, bool))
    with pytest.raises(WavelitError, match="arrays must be"):
        model.predict(given["pressure"], SCALARS)
    with pytest.raises(WavelitError, match="steps must be"):
        model.predict(given, SCALARS, 0)


def test_without_a_signature_the_way_out_is_named():
    model = WaveLiT(WaveLiTConfig.preset("nano", n_fields=1))
    with pytest.raises(WavelitError, match=r"do not name its fields: use wavelit\.rollout"):
        model.predict({"u": np.zeros((4, 16, 16))})


def test_values_far_outside_the_training_range_are_told_once(model):
    given = arrays()
    given["pressure"][0, 1, 1] = 25.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.predict(given, SCALARS, 3)
    (told,) = caught
    assert told.filename == __file__
    assert "field 'pressure' is" in str(told.message)
    assert "to 25 Pa, far from the -10 to 10 Pa" in str(told.message)
    # Not in cells that do not count, nor within half of the range's width.
    for value, cell in ((1e6, (0, 0)), (19.0, (1, 1))):
        given["pressure"] = np.zeros((T, *GRID))
        given["pressure"][0][cell] = value
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.predict(given, SCALARS)
    with pytest.warns(UserWarning, match="scalar 'Rayleigh' is 1e\\+08, far from the 1e\\+04"):
        model.predict(arrays(), {**SCALARS, "Rayleigh": 1e8})


def dataset(time=None, latitude_up=True):
    given = arrays()
    x, y = 0.5 * np.arange(8), 0.25 * np.arange(4)
    coords = {
        "x": ("x", x, {"units": "km"}),
        "y": ("y", y, {"units": "km"}),
        "time": ("time", 0.1 * np.arange(T) if time is None else time, {"units": "days"}),
        "place": ((), "here"),
    }
    if time is not None:
        coords["time"] = ("time", time)
    found = xr.Dataset(
        {
            "velocity": (("component", "time", "y", "x"), given["velocity"].transpose(3, 0, 2, 1),
                         {"units": "m s^-1"}),
            "pressure": (("y", "time", "x"), given["pressure"].transpose(2, 0, 1), {"units": "Pa"}),
            "depth": (("x", "y"), given["depth"]),
            "land": (("y", "x"), given["land"].T),
            "Rayleigh": 1e5,
        },
        coords,
        {"title": "toy"},
    )  # fmt: skip
    return found if latitude_up else found.isel(y=slice(None, None, -1))


@pytest.mark.parametrize("latitude_up", [True, False])
def test_xarray_comes_back_with_its_labels(latitude_up, model):
    due = model.predict(arrays(), SCALARS, 3)
    given = dataset(latitude_up=latitude_up)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = model.predict(given, {"Prandtl": 1.0}, 3)
    assert isinstance(found, xr.Dataset)
    assert found.attrs == {"title": "toy"}
    assert found.pressure.dims == ("y", "time", "x")
    assert found.pressure.attrs == {"units": "Pa"}
    assert found.time.attrs == {"units": "days"}
    assert found.place == "here"
    np.testing.assert_allclose(found.time, [0.2, 0.3, 0.4])
    assert np.array_equal(found.y, given.y)
    ordered = found.sortby("y")
    assert np.array_equal(ordered.pressure.transpose("time", "x", "y"), due["pressure"])
    assert np.array_equal(
        ordered.velocity.transpose("time", "x", "y", "component"), due["velocity"]
    )
    # DataArrays beside plain arrays give each what it came as.
    mixed = model.predict({**arrays(), "pressure": dataset().pressure}, SCALARS, 3)
    assert isinstance(mixed["pressure"], xr.DataArray)
    assert isinstance(mixed["velocity"], np.ndarray)


def test_plain_arrays_beside_a_decreasing_axis_are_refused(model):
    given = dataset(latitude_up=False)
    land = given.land == 1.0
    with pytest.raises(WavelitError, match=r"axis 'y' of the DataArrays decreases, mask without"):
        model.predict(given.drop_vars("land"), {"Prandtl": 1.0}, mask=land.T.values)
    found = model.predict(given.drop_vars("land"), {"Prandtl": 1.0}, 3, mask=land)
    due = model.predict(dataset(), {"Prandtl": 1.0}, 3)
    assert np.array_equal(found.sortby("y").pressure, due.pressure)
    mixed = {**dict(given), "depth": arrays()["depth"]}
    with pytest.raises(WavelitError, match="decreases, depth without"):
        model.predict(mixed, {"Prandtl": 1.0})


def test_dates_go_on(model):
    time = np.datetime64("2001-01-01", "ns") + np.arange(T) * np.timedelta64(144, "m")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = model.predict(dataset(time), {"Prandtl": 1.0}, 2)
    assert found.time.values[-1] == time[-1] + 2 * np.timedelta64(144, "m")


def test_another_unit_is_refused_another_step_told(model):
    given = dataset()
    given.pressure.attrs["units"] = "hPa"
    with pytest.raises(WavelitError, match=r"'pressure' is in hPa; .* trained on Pa: convert it"):
        model.predict(given, {"Prandtl": 1.0})
    with pytest.warns(UserWarning, match=r"spacing along 'x' is 0\.25; .* on 0\.5 km, which"):
        model.predict(dataset().assign_coords(x=("x", 0.25 * np.arange(8))), {"Prandtl": 1.0})
    days = np.datetime64("2001-01-01", "ns") + np.arange(T) * np.timedelta64(1, "D")
    with pytest.warns(UserWarning, match=r"time step is 1; .* on 0.1 days"):
        model.predict(dataset(days), {"Prandtl": 1.0})
    renamed = dataset().rename(x="lon")
    with pytest.raises(WavelitError, match=r"dimensions \(.*lon.*\), but due are \(time, x, y"):
        model.predict(renamed, {"Prandtl": 1.0})
    mixed = {**dict(dataset()), "depth": dataset().depth.assign_coords(x=np.arange(8.0))}
    with pytest.raises(WavelitError, match="differ in their coordinate 'x'"):
        model.predict(mixed, {"Prandtl": 1.0})


def test_the_call_reads_as_the_docs_say(tmp_path):
    u = np.random.default_rng(0).normal(size=(6, 12, 16, 16))
    folder = wavelit.write_dataset(
        tmp_path / "toy",
        {"height": u},
        splits={"train": 4, "valid": 1, "test": 1},
        name="toy",
        boundary_conditions=["periodic", "periodic"],
    )
    data = wavelit.WellDataModule(folder)
    model = wavelit.build_model(data, embed_dim=8, num_heads=2).eval()
    found = model.predict({"height": u[0]}, steps=20)["height"]
    assert found.shape == (20, 16, 16)
    batch = next(iter(data.trajectories("train")))
    history = torch.from_numpy(u[:1, -4:, None].astype("float32"))
    assert np.array_equal(found, wavelit.rollout(model, history, 20)[0, :, 0])
    assert batch.fields.shape[1] == 4
    model.signature = dataclasses.replace(model.signature, n_steps_input=3)
    with pytest.raises(WavelitError, match="T=4"):
        model.predict({"height": u[0]})


def test_forcings_go_on_over_the_steps(model):
    """By name they are those of a rollout by order; one that ends too early is named."""
    rng = np.random.default_rng(1)
    given = {k: v for k, v in arrays(frames=3).items() if k in ("pressure", "velocity")}
    sun, inlet = rng.normal(size=(7, *GRID)), rng.uniform(size=7)
    model = _with(model, FORCED)
    found = model.predict({**given, "sun": sun}, {"inlet": inlet}, 4)
    p, v = given["pressure"][-T:], given["velocity"][-T:]
    fields = np.stack([p, v[..., 0], v[..., 1]], 1)[None]
    due = rollout(model, fields, 4, None, None, None, sun[None, 2:, None], inlet[None, 2:, None])
    assert np.array_equal(found["pressure"], due[0, :, 0])
    with pytest.raises(WavelitError, match=r"forcing 'sun' has 6 frames; .* need 7: give more"):
        model.predict({**given, "sun": sun[:6]}, {"inlet": inlet}, 4)
    with pytest.raises(WavelitError, match="scalar 'inlet' has 3 frames"):
        model.predict({**given, "sun": sun}, {"inlet": inlet[:3]}, 4)
    with pytest.raises(WavelitError, match=r"scalar 'inlet' must be \(T,\) or \(1, T\)"):
        model.predict({**given, "sun": sun}, {"inlet": 1.0}, 4)


def test_forcings_go_by_their_times(model):
    """From the fields' first frame on, wherever they begin."""
    rng = np.random.default_rng(1)
    model = _with(model, FORCED)
    times = 0.1 * np.arange(9)
    given = dataset(times[3 : 3 + T])[["pressure", "velocity"]].drop_vars("place")
    sun = xr.DataArray(rng.normal(size=(9, *GRID)), {"time": times}, ["time", "x", "y"])
    inlet = xr.DataArray(rng.uniform(size=9), {"time": times}, ["time"])
    due = model.predict({**given, "sun": sun.values[3:]}, {"inlet": inlet.values[3:]}, 4)
    for start in (0, 3):
        own = sun.isel(time=slice(start, None)).transpose("x", "time", "y")
        found = model.predict({**given, "sun": own}, {"inlet": inlet[start:]}, 4)
        assert np.array_equal(found["pressure"], due["pressure"])
    # Without times, from the first frame on.
    found = model.predict({**given, "sun": sun[3:].drop_vars("time")}, {"inlet": inlet}, 4)
    assert np.array_equal(found["pressure"], due["pressure"])
    with pytest.raises(WavelitError, match=r"forcing 'sun' is given from 0\.4 to 0\.8, the fields"):
        model.predict({**given, "sun": sun[4:]}, {"inlet": inlet}, 4)
    with pytest.raises(WavelitError, match=r"scalar 'inlet' is given from 0\.0 to 0\.3"):
        model.predict({**given, "sun": sun}, {"inlet": inlet[:4]}, 4)
    with pytest.raises(WavelitError, match=r"coordinate 'time' is 0\.7.* after 0\.8"):
        model.predict({**given, "sun": sun[::-1]}, {"inlet": inlet}, 4)


def test_members_go_by_any_label(model):
    several = xr.concat([dataset(), dataset()], "member")
    due = model.predict(several, {"Prandtl": 1.0})
    for labels in (["a", "b"], [3, 1], [1, 1]):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = model.predict(several.assign_coords(member=labels), {"Prandtl": 1.0})
        assert np.array_equal(found.pressure, due.pressure)
        assert list(found.member.values) == labels


@pytest.mark.parametrize("labels", [list("abcdefgh"), [True, False] * 4])
def test_positions_are_numbers(model, labels):
    with pytest.raises(WavelitError, match="coordinate 'x' holds no numbers but dtype"):
        model.predict(dataset().assign_coords(x=labels), {"Prandtl": 1.0})


def test_indices_of_components_give_their_order():
    assert by_index(["component_j", "component_i"]) == ["component_i", "component_j"]
    assert by_index(["comp1", "comp0"]) == ["comp0", "comp1"]
    assert by_index(["b", "component"]) == ["b", "component"]


def _with(model, signature):
    """The same weights under another signature, the scalars as they are."""
    other = copy.deepcopy(model)
    other.normalizer.scalar_log.zero_()
    other.normalizer.scalar_mean.zero_()
    other.signature = signature
    return other


@pytest.mark.parametrize(
    ("hours", "message"),
    [
        ([0, 0, 12, 18], "is 2001-01-01T00.* after 2001-01-01T00.*: sort it"),
        ([18, 12, 6, 0], "coordinate 'time' is 2001-01-01T12.* after 2001-01-01T18"),
    ],
)
def test_times_that_repeat_or_run_backwards_are_refused(model, hours, message):
    time = np.datetime64("2001-01-01", "ns") + np.array(hours[:T]) * np.timedelta64(1, "h")
    with pytest.raises(WavelitError, match=message):
        model.predict(dataset(time), {"Prandtl": 1.0})


def test_uneven_times_are_told_and_places_out_of_order_refused(model):
    parts = [dataset(np.array(times)) for times in ([0.0, 0.1], [0.2, 0.5])]
    uneven = xr.concat(parts, "time", data_vars="minimal")
    with pytest.warns(UserWarning, match="coordinate 'time' is uneven, its steps differ by a fac"):
        found = model.predict(uneven, {"Prandtl": 1.0})
    assert found.time.values == pytest.approx([0.6])
    shuffled = dataset().isel(x=[1, 0, *range(2, 8)])
    with pytest.raises(WavelitError, match=r"coordinate 'x' is 0\.0 after 0\.5: sort it"):
        model.predict(shuffled, {"Prandtl": 1.0})


def test_scalars_are_those_of_the_same_samples(model):
    several = xr.concat([dataset(), dataset()], "trajectory").assign_coords(trajectory=[7, 8])
    prandtl = xr.DataArray([1.0, 2.0], {"trajectory": [7, 8]}, ["trajectory"])
    model.predict(several, {"Prandtl": prandtl})
    with pytest.raises(WavelitError, match="differ in their coordinate 'trajectory': align them"):
        model.predict(several, {"Prandtl": prandtl[::-1]})
