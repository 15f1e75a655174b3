"""A summary says what is in a dataset."""

import shutil

import pytest
import torch

from wavelit.data.checking.describe import describe_dataset
from wavelit.data.well import WellDataset
from wavelit.errors import WavelitError


def test_summary(shared_well_folder):
    summary = describe_dataset(str(shared_well_folder))
    assert summary.name == "synthetic"
    assert summary.resolution == (8, 6)
    assert summary.boundary_conditions == (("periodic", "periodic"), ("wall", "open"))
    assert len(summary.fields) == 8
    assert summary.trajectories == {"train": 4, "valid": 2, "test": 2}
    assert summary.steps["train"] == (7, 7)
    assert summary.dt == pytest.approx(1 / 6)
    assert summary.scalars["nu"] == pytest.approx((1e-3, 1e-1))
    files = (shared_well_folder / "data").rglob("*.hdf5")
    assert summary.nbytes == sum(file.stat().st_size for file in files)


def test_persistence_by_hand(shared_well_folder):
    summary = describe_dataset(str(shared_well_folder))
    dataset = WellDataset(str(shared_well_folder), well_split_name="valid")
    scores = []
    for sample in (dataset[i] for i in range(len(dataset))):
        now, then = (
            sample["input_fields"][0, ..., 1].double(),
            sample["output_fields"][0, ..., 1].double(),
        )
        scores.append(torch.sqrt((now - then).square().mean() / (then.var() + 1e-7)))
    assert summary.persistence["pressure"] == pytest.approx(
        float(torch.stack(scores).mean()), rel=1e-6
    )


def test_summary_without_a_training_split(well_folder):
    shutil.rmtree(well_folder / "data" / "test")
    assert set(describe_dataset(str(well_folder)).trajectories) == {"train", "valid"}
    shutil.rmtree(well_folder / "data" / "train")
    with pytest.raises(WavelitError, match="no such folder"):
        describe_dataset(str(well_folder))
