"""Statistics against plain numpy, their file's errors, and the layer that carries them."""

import h5py
import numpy as np
import pytest
import torch
import yaml

from conftest import numpy_statistics
from wavelit.api import build_model
from wavelit.data import pieces
from wavelit.data.datamodule import WellDataModule
from wavelit.data.statistics import (
    UNSEEN,
    compute_statistics,
    load_statistics,
    write_statistics,
)
from wavelit.data.well import WellDataset
from wavelit.data.writing.write import write_dataset
from wavelit.errors import WavelitError
from wavelit.model.normalizer import Normalizer, Statistics


def layouts(folder):
    return WellDataset(str(folder), well_split_name="train").layouts


def edit(folder, change):
    file = folder / "stats.yaml"
    table = yaml.safe_load(file.read_text())
    change(table)
    file.write_text(yaml.safe_dump(table))


def assert_same_tables(found, expected):
    assert found.keys() == expected.keys()
    for key in expected:
        assert found[key].keys() == expected[key].keys()
        for name in expected[key]:
            np.testing.assert_allclose(
                found[key][name], expected[key][name], rtol=1e-10, atol=1e-12
            )


# --- computing


@pytest.mark.parametrize("chunk_bytes", [1, 2000, 64 * 1024**2])
def test_one_pass_equals_numpy_on_whole_arrays(shared_well_folder, monkeypatch, chunk_bytes):
    monkeypatch.setattr(pieces, "CHUNK_BYTES", chunk_bytes)
    assert_same_tables(
        compute_statistics(str(shared_well_folder)), numpy_statistics(shared_well_folder)
    )


def test_a_large_offset_keeps_its_digits(well_folder):
    for path in (well_folder / "data" / "train").glob("*.hdf5"):
        with h5py.File(path, "r+") as file:
            file["t0_fields/pressure"][...] += 1e5
    assert_same_tables(compute_statistics(str(well_folder)), numpy_statistics(well_folder))


def test_excluded_cells_are_left_out(well_folder):
    expected = []
    for path in sorted((well_folder / "data" / "train").glob("*.hdf5")):
        with h5py.File(path, "r+") as file:
            expected.append(file["t1_fields/velocity"][:, :, 1:].astype(np.float64))
            file["t1_fields/velocity"][:, :, 0] = np.inf
            file["t1_fields/forcing"][:, 0] = np.nan
    with pytest.raises(WavelitError, match="field 'velocity' is not finite"):
        compute_statistics(str(well_folder))
    table = compute_statistics(str(well_folder), mask_field="mask")
    data = np.concatenate(expected)
    np.testing.assert_allclose(table["std"]["velocity"], data.std((0, 1, 2, 3)), rtol=1e-12)
    steps = np.concatenate([np.diff(x, axis=1) for x in expected])
    np.testing.assert_allclose(table["std_delta"]["velocity"], steps.std((0, 1, 2, 3)), rtol=1e-12)
    # The mask tells where others count and is itself counted everywhere.
    assert table["mean"]["mask"] == pytest.approx(1 / 8)


def test_written_file_serves_the_wells_normalisation(well_folder):
    from the_well.data import WellDataset as TheWells
    from the_well.data.normalization import ZScoreNormalization

    (well_folder / "stats.yaml").unlink()
    assert write_statistics(str(well_folder)) == well_folder / "stats.yaml"
    assert [path.name for path in well_folder.iterdir() if path.name.startswith(".")] == []
    dataset = TheWells(
        path=str(well_folder),
        well_split_name="train",
        use_normalization=True,
        normalization_type=ZScoreNormalization,
    )
    fields = torch.cat([dataset[i]["input_fields"] for i in range(len(dataset))])
    assert fields.mean().abs() < 0.1
    assert (fields.std() - 1).abs() < 0.1


# --- loading


def test_flat_order_is_that_of_the_samples(shared_well_folder):
    statistics = load_statistics(str(shared_well_folder), layouts(shared_well_folder))
    dataset = WellDataset(
        str(shared_well_folder), well_split_name="train", full_trajectory_mode=True
    )
    trajectories = [dataset[i] for i in range(len(dataset))]
    frames = torch.stack(
        [torch.cat([s["input_fields"], s["output_fields"]]) for s in trajectories]
    ).double()
    axes = tuple(range(frames.ndim - 1))
    torch.testing.assert_close(
        torch.tensor(statistics.mean).double(), frames.mean(axes), rtol=1e-6, atol=1e-7
    )
    std, delta_std = (x.std(axes, correction=0) for x in (frames, frames.diff(dim=1)))
    torch.testing.assert_close(torch.tensor(statistics.std).double(), std, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        torch.tensor(statistics.delta_std).double(), delta_std, rtol=1e-6, atol=0
    )
    constants = torch.stack([s["constant_fields"] for s in trajectories]).double()
    axes = tuple(range(constants.ndim - 1))
    torch.testing.assert_close(
        torch.tensor(statistics.constant_std).double(),
        constants.std(axes, correction=0),
        rtol=1e-6,
        atol=0,
    )


def test_scalars_by_value_or_logarithm(shared_well_folder):
    statistics = load_statistics(str(shared_well_folder), layouts(shared_well_folder))
    # nu is 1e-3 in one file and 1e-1 in the other, a varies by less than a factor of 2, b not at
    # all.
    assert statistics.scalar_log == (True, False, False)
    assert statistics.scalar_mean[0] == pytest.approx(np.log(1e-2), rel=1e-6)
    assert statistics.scalar_std[0] == pytest.approx(np.log(10.0), rel=1e-6)
    assert statistics.scalar_mean[2] == 2.5
    assert statistics.scalar_std[2] == UNSEEN


def test_a_scalar_that_never_varied_is_not_seen(tmp_path):
    """Its weights were never trained: another value must not reach them."""
    rng = np.random.default_rng(0)
    folder = write_dataset(
        tmp_path / "one",
        {"u": rng.normal(size=(4, 8, 16, 16))},
        splits={"train": 2, "valid": 1, "test": 1},
        name="one",
        boundary_conditions=["periodic", "periodic"],
        scalars={"Reynolds": np.full(4, 1000.0), "Prandtl": np.array([1.0, 2.0, 1.0, 2.0])},
    )
    data = WellDataModule(folder, n_steps_input=2)
    model = build_model(data, "nano", embed_dim=16, num_heads=2)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    batch = next(iter(data.trajectories("valid")))
    seen = model(batch.fields, None, batch.scalars)
    place = data.scalar_names.index("Reynolds")
    for value in (2000.0, -1e9):
        changed = batch.scalars.clone()
        changed[:, place] = value
        assert torch.equal(model(batch.fields, None, changed), seen)
    changed = batch.scalars.clone()
    changed[:, 1 - place] += 1
    assert not torch.equal(model(batch.fields, None, changed), seen)


def drop(key, name):
    return lambda table: table[key].pop(name)


def put(key, name, value):
    return lambda table: table[key].__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.pop("std_delta"), "no number or list 'std_delta' of field 'density'"),
        (drop("mean", "velocity"), "no number or list 'mean' of field 'velocity'"),
        (drop("std", "forcing"), "no number or list 'std' of field 'forcing'"),
        (put("std", "stress", [1.0, 2.0]), "'std' of field 'stress' has 2 entries but 4 are due"),
        (put("std", "velocity", [1.0, float("nan")]), "'std' of field 'velocity' is not finite"),
        (put("std", "velocity", [1.0, 0.0]), "'std' of field 'velocity' is 0, so it never varies"),
        (put("std_delta", "pressure", 0.0), "'std_delta' of field 'pressure' is 0"),
        (put("mean", "pressure", "high"), "no number or list 'mean' of field 'pressure'"),
    ],
)
def test_bad_entry_is_named(well_folder, change, message):
    edit(well_folder, change)
    with pytest.raises(WavelitError, match=message):
        load_statistics(str(well_folder), layouts(well_folder))


def test_missing_file_names_the_command(well_folder):
    (well_folder / "stats.yaml").unlink()
    with pytest.raises(
        WavelitError, match=r"stats.yaml: no such file; .*wavelit data check .* --write-statistics"
    ):
        load_statistics(str(well_folder), layouts(well_folder))


def test_flat_constant_field_gets_scale_one_and_a_warning(well_folder):
    edit(well_folder, put("std", "mask", 0.0))
    with pytest.warns(UserWarning, match="constant field 'mask' is the same everywhere"):
        statistics = load_statistics(str(well_folder), layouts(well_folder))
    assert statistics.constant_std[0] == 1.0


# --- the layer

STATISTICS = Statistics(
    mean=(1.0, -2.0),
    std=(2.0, 0.5),
    delta_std=(0.1, 4.0),
    constant_mean=(3.0,),
    constant_std=(5.0,),
    scalar_mean=(0.0, 1.0),
    scalar_std=(2.0, 2.0),
    scalar_log=(True, False),
)


@pytest.fixture
def normalizer():
    layer = Normalizer(2, n_constant_fields=1, n_scalars=2)
    layer.set_statistics(STATISTICS)
    return layer


@pytest.mark.parametrize("resolution", [(4,), (4, 3), (4, 3, 2)])
def test_values_by_hand(normalizer, resolution):
    x = torch.full((2, 3, 2, *resolution), 3.0)
    assert torch.equal(normalizer.fields(x)[:, :, 0], torch.full((2, 3, *resolution), 1.0))
    assert torch.equal(normalizer.fields(x)[:, :, 1], torch.full((2, 3, *resolution), 10.0))
    assert torch.equal(normalizer.constants(x[:, 0, :1]), torch.zeros(2, 1, *resolution))
    u = x[:, 0]
    torch.testing.assert_close(normalizer.increment(u)[:, 0], torch.full((2, *resolution), 30.0))
    torch.testing.assert_close(
        normalizer.add_increment(u, u)[:, 1], torch.full((2, *resolution), 15.0)
    )
    torch.testing.assert_close(
        normalizer.add_increment(u, normalizer.increment(x[:, 1] * 2 - u)), x[:, 1] * 2
    )


def test_scalars_by_hand(normalizer):
    seen = normalizer.scalars(torch.tensor([[float(np.e**3), -4.0]]))
    torch.testing.assert_close(seen, torch.tensor([[1.5, -2.5]]))


def test_scalar_gradients_are_finite(normalizer):
    scalars = torch.tensor([[2.0, -4.0]], requires_grad=True)
    normalizer.scalars(scalars).sum().backward()
    torch.testing.assert_close(scalars.grad, torch.tensor([[0.25, 0.5]]))


def test_identity_until_told_otherwise():
    x = torch.randn(2, 3, 4, 5)
    layer = Normalizer(3)
    assert torch.equal(layer.increment(x), x)
    assert torch.equal(layer.fields(x[:, None])[:, 0], x)


def test_statistics_travel_in_the_state(normalizer):
    other = Normalizer(2, n_constant_fields=1, n_scalars=2)
    other.load_state_dict(normalizer.state_dict())
    scalars = torch.tensor([[2.0, 3.0]])
    assert torch.equal(other.scalars(scalars), normalizer.scalars(scalars))
    assert torch.equal(other.delta_std, normalizer.delta_std)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_types_keep_float32_inside(dtype):
    layer = Normalizer(1)
    layer.set_statistics(Statistics(mean=(1000.25,), std=(0.125,), delta_std=(1.0,)))
    layer = layer.to(dtype)
    assert layer.mean.dtype == torch.float32
    assert layer.mean.item() == 1000.25
    assert layer.fields(torch.zeros(1, 1, 1, 2, dtype=dtype)).dtype == torch.float32
    assert layer.double().mean.dtype == torch.float64


def test_channels_must_match(normalizer):
    with pytest.raises(WavelitError, match="expected 2 channels along dimension 2"):
        normalizer.fields(torch.zeros(1, 4, 3, 8))
    with pytest.raises(WavelitError, match="statistics 'mean' have 2 entries but the model has 3"):
        Normalizer(3, 1, 2).set_statistics(STATISTICS)


def test_a_scalar_that_is_not_finite_is_named(well_folder):
    spoilt = well_folder / "data" / "train" / "two.hdf5"
    with h5py.File(spoilt, "r+") as file:
        file["scalars/a"][1] = np.nan
    with pytest.raises(WavelitError, match=r"two\.hdf5: scalar 'a' of trajectory 1 is not finite"):
        load_statistics(str(well_folder), layouts(well_folder))
