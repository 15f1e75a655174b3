"""The signature of a model: made of a dataset, kept in weights and runs, checked as it is read."""

import dataclasses
import json
import shutil

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import wavelit
from runs import ONE_THREAD, RECIPE, SMALL, wave_dataset, whole_run  # noqa: F401, as fixtures
from wavelit.data.datamodule import WellDataModule
from wavelit.data.signature import signature_of
from wavelit.errors import WavelitError
from wavelit.model.signature import Quantity, Signature
from wavelit.training.run import build_model
from wavelit.training.run_folder import load_model

pytestmark = pytest.mark.usefixtures("undrawn")

SIGNATURE = Signature(
    dataset="toy",
    n_steps_input=2,
    fields=(Quantity("p", ("p",), unit="Pa", ranges=((-1.5, 2.0),)),),
    constants=(),
    scalars=(Quantity("nu", ("nu",), ranges=((1e-3, 0.1),)),),
    axes=("x",),
    boundary_conditions=(("wall", "open"),),
    spacing=(0.1,),
    time_step=(0.1, 0.2),
    time_unit="s",
)


def of_files(folder, group, name, component=slice(None)):
    """All training values of a field, as the files hold them."""
    found = []
    for path in sorted((folder / "data" / "train").glob("*.hdf5")):
        with h5py.File(path, "r") as file:
            found.append(np.asarray(file[group][name][()]).ravel()[component])
    return np.concatenate(found)


@pytest.mark.parametrize("cached", [True, False])
def test_a_datasets_signature_is_what_its_files_hold(cached, shared_well_folder):
    data = WellDataModule(
        str(shared_well_folder), mask_field="mask", cache_bytes=2**30 if cached else 0
    )
    before = torch.random.get_rng_state()
    signature = signature_of(data)
    assert torch.equal(before, torch.random.get_rng_state())
    assert signature.dataset == "synthetic"
    assert [(q.name, q.order, len(q.channels)) for q in signature.fields] == [
        ("density", 0, 1),
        ("pressure", 0, 1),
        ("velocity", 1, 2),
        ("stress", 2, 4),
    ]
    assert list(signature.field_names) == data.field_names
    assert list(signature.constant_names) == data.constant_field_names
    assert list(signature.scalar_names) == data.scalar_names
    assert signature.axes == ("x", "y")
    assert signature.spacing == pytest.approx((1 / 7, 1 / 5))
    assert signature.time_step == pytest.approx((1 / 6, 1 / 6))
    assert signature.boundary_conditions == (("periodic", "periodic"), ("wall", "open"))
    assert (signature.mask, signature.mask_excludes) == ("mask", 1.0)
    # The mask excludes the first row of cells.
    files = sorted((shared_well_folder / "data" / "train").glob("*.hdf5"))
    inside = np.concatenate(
        [h5py.File(p)["t0_fields"]["pressure"][:, :, 1:].ravel() for p in files]
    )
    (pressure,) = [q for q in signature.fields if q.name == "pressure"]
    assert pressure.ranges == ((inside.min(), inside.max()),)
    nu = of_files(shared_well_folder, "scalars", "nu")
    (own,) = [q for q in signature.scalars if q.name == "nu"]
    assert own.ranges == ((nu.min(), nu.max()),)


def test_ranges_are_those_of_all_cells_without_a_mask(shared_well_folder):
    signature = signature_of(WellDataModule(str(shared_well_folder)))
    (velocity,) = [q for q in signature.fields if q.name == "velocity"]
    for component, pair in enumerate(velocity.ranges):
        values = of_files(shared_well_folder, "t1_fields", "velocity", slice(component, None, 2))
        assert pair == (values.min(), values.max())
    assert signature.mask == ""


def test_json_gives_the_same_back():
    for signature in (SIGNATURE, dataclasses.replace(SIGNATURE, spacing=None, time_step=None)):
        assert Signature.from_dict(json.loads(json.dumps(signature.to_dict()))) == signature


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"fields": []}, "fields must be a list of 1"),
        ({"fields": "p"}, "fields must be a list"),
        ({"fields": [{"name": "p"}]}, "fields: .*channels"),
        ({"fields": [{"name": "p", "channels": ["p"], "ranges": [[2, 1]]}]}, "smallest, largest"),
        ({"fields": [{"name": "p", "channels": ["p"], "ranges": [[0, "x"]]}]}, "ranges"),
        ({"fields": [{"name": 3, "channels": ["p"]}]}, "name must be text"),
        ({"fields": [{"name": "p", "channels": ["p"], "order": 3}]}, "order"),
        ({"fields": [3]}, "mapping"),
        ({"axes": ["x", "y"]}, "axis_units|boundary_conditions"),
        ({"spacing": [0.0]}, "spacing"),
        ({"spacing": [float("nan")]}, "spacing"),
        ({"time_step": [1]}, "time_step"),
        ({"mask_excludes": float("nan")}, "mask_excludes"),
        ({"n_steps_input": 0}, "n_steps_input"),
        ({"boundary_conditions": [["wall"]]}, "boundary_conditions"),
        ({"novel": 1}, "unknown entry 'novel'.*newer version"),
    ],
)
def test_what_is_none_is_named_in_one_line(changes, named):
    content = json.loads(json.dumps(SIGNATURE.to_dict() | changes))
    with pytest.raises(WavelitError, match=rf"the file.*({named})") as caught:
        Signature.from_dict(content, "the file")
    assert len(str(caught.value).splitlines()) == 1


def test_runs_weights_and_copies_keep_it(run, dataset, tmp_path):
    data = WellDataModule(str(dataset), n_steps_output=3, batch_size=4)
    due = signature_of(data)
    assert build_model(data, **SMALL).signature == due
    for weights in ("final", "best"):
        model = load_model(run, weights)
        assert model.signature == due
    model.save_pretrained(tmp_path / "copy")
    assert wavelit.load(tmp_path / "copy").signature == due


def test_older_weights_and_runs_load_as_before(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "signature.json").unlink()
    config = json.loads((folder / "weights" / "config.json").read_text())
    del config["signature"]
    (folder / "weights" / "config.json").write_text(json.dumps(config))
    for weights in ("final", "best"):
        assert load_model(folder, weights).signature is None
    before = load_file(run / "weights" / "model.safetensors")
    for name, value in load_model(folder).state_dict().items():
        assert torch.equal(value, before[name])


def test_a_resumed_run_keeps_it(run, tmp_path):
    from wavelit.training.run import resume

    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "weights")
    assert resume(folder).signature == load_model(run).signature


@pytest.mark.parametrize("damaged", ["of another model", "no mapping"])
def test_damaged_ones_are_refused(damaged, run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    path = folder / "weights" / "config.json"
    config = json.loads(path.read_text())
    two = [*config["signature"]["fields"] * 2]
    config["signature"] = 3 if damaged == "no mapping" else {**config["signature"], "fields": two}
    path.write_text(json.dumps(config))
    with pytest.raises(WavelitError, match=r"config\.json.*signature.*(mapping|another model)"):
        wavelit.load(folder / "weights")


def test_training_on_other_data_takes_their_signature(run, dataset, tmp_path):
    other = wavelit.write_dataset(
        tmp_path / "other",
        {"level": np.random.default_rng(0).normal(size=(6, 12, 16, 16))},
        splits={"train": 4, "valid": 1, "test": 1},
        name="other",
        boundary_conditions=["periodic", "periodic"],
    )
    data = WellDataModule(str(other), n_steps_output=3, batch_size=4)
    with pytest.warns(UserWarning, match="statistics of other data"):
        model = wavelit.fit(
            tmp_path / "again",
            data,
            load_model(run),
            dataclasses.replace(RECIPE, steps=1),
            ONE_THREAD,
        )
    assert model.signature == signature_of(data)


def test_forcings_are_named_apart(tmp_path):
    from conftest import write_dataset

    folder = write_dataset(tmp_path / "forced", vary_scalar_in_time=True)
    data = WellDataModule(str(folder), fields=["velocity_y", "density"], forcings=["stress", "b"])
    signature = signature_of(data)
    assert signature.field_names == ("density", "velocity_y")
    (stress,) = signature.forcing_fields
    assert (stress.name, stress.order, len(stress.channels)) == ("stress", 2, 4)
    for number, pair in enumerate(stress.ranges):
        values = of_files(folder, "t2_fields", "stress", slice(number, None, 4))
        assert pair == (values.min(), values.max())
    (b,) = signature.forcing_scalars
    assert b.ranges == ((0.0, 1.0),)
    assert "b" not in signature.scalar_names
    signature.require_counts(2, len(data.constant_field_names), len(data.scalar_names))
