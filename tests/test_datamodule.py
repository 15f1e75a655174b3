"""The data module: batches that resume, every window of a split, whole trajectories."""

from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch

from conftest import write_dataset
from wavelit.data.datamodule import WellDataModule
from wavelit.data.sampling import StepBatchSampler, spread
from wavelit.errors import WavelitError


def test_training_stream_resumes(shared_well_folder):
    def stream(first_step, n, **options):
        data = WellDataModule(
            str(shared_well_folder), n_steps_input=2, batch_size=3, seed=5, **options
        )
        data.train_sampler.first_step = first_step
        batches = iter(data.train_dataloader())
        return [next(batches) for _ in range(n)]

    whole = stream(0, 12)
    state = torch.random.get_rng_state()
    resumed = stream(7, 5, cache_bytes=0, n_workers=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    for a, b in zip(whole[7:], resumed, strict=True):
        assert torch.equal(a.indices, b.indices)
        assert torch.equal(a.fields, b.fields)
    assert all(batch.target.shape == (3, 1, 8, 8, 6) for batch in whole)


def test_validation_is_every_window_in_order_with_one_target(shared_well_folder):
    data = WellDataModule(str(shared_well_folder), n_steps_input=2, n_steps_output=3, batch_size=4)
    assert next(iter(data.train_dataloader())).target.shape[1] == 3
    batches = list(data.val_dataloader())
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(10))
    assert {batch.target.shape[1] for batch in batches} == {1}


def test_a_validation_can_take_a_few_windows_of_everywhere(shared_well_folder):
    data = WellDataModule(shared_well_folder, batch_size=2)
    everything = torch.cat([batch.indices for batch in data.val_dataloader()]).tolist()
    data.validation_batches = 3
    some = torch.cat([batch.indices for batch in data.val_dataloader()]).tolist()
    assert len(some) == 6
    assert (some[0], some[-1]) == (everything[0], everything[-1])
    gaps = np.diff(some)
    assert gaps.max() - gaps.min() <= 1
    # Two processes share them, whole or some.
    for most, due in ((3, some), (0, everything)):
        parts = []
        for rank in (0, 1):
            data.validation_batches = most
            data.trainer = SimpleNamespace(
                global_rank=rank, world_size=2, num_nodes=1, strategy=strategy_on("cpu")
            )
            parts += torch.cat([batch.indices for batch in data.val_dataloader()]).tolist()
        assert sorted(parts) == due


def strategy_on(device: str) -> SimpleNamespace:
    return SimpleNamespace(root_device=torch.device(device))


@pytest.mark.parametrize(
    ("device", "cache_bytes", "asked", "due"),
    [("cuda", 0, None, 4), ("cuda", 2**30, None, 0), ("cpu", 0, None, 0), ("cuda", 0, 1, 1)],
)
def test_a_gpu_has_processes_that_read(
    shared_well_folder, monkeypatch, device, cache_bytes, asked, due
):
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    data = WellDataModule(
        shared_well_folder, batch_size=1, cache_bytes=cache_bytes, n_workers=asked
    )
    data.trainer = SimpleNamespace(
        global_rank=0, world_size=8, num_nodes=2, strategy=strategy_on(device)
    )
    assert data.train_dataloader().num_workers == due
    assert WellDataModule(**data.arguments).n_workers == asked


@pytest.mark.parametrize(("n", "most", "due"), [(5, 9, 5), (10, 1, 1), (10, 2, 2), (7, 7, 7)])
def test_places_are_spread(n, most, due):
    places = spread(n, most)
    assert len(set(places)) == due
    assert places == sorted(places)
    assert most < 2 or (places[0], places[-1]) == (0, n - 1)


def test_trajectories_are_whole(tmp_path):
    folder = write_dataset(tmp_path, n_steps=120, resolution=(4, 4))
    data = WellDataModule(str(folder), n_steps_input=4)
    batches = list(data.trajectories("test"))
    with h5py.File(folder / "data" / "test" / "one.hdf5") as file:
        assert len(batches) == 2
        for batch, pressure in zip(batches, file["t0_fields/pressure"], strict=True):
            whole = torch.cat([batch.fields, batch.target], 1)
            assert whole.shape[:3] == (1, 120, 8)
            assert np.array_equal(whole[0, :, 1], pressure)


def test_what_the_module_tells(shared_well_folder):
    data = WellDataModule(str(shared_well_folder), n_steps_input=2)
    assert data.metadata.spatial_resolution == (8, 6)
    assert data.boundary_conditions == (("periodic", "periodic"), ("wall", "open"))
    assert len(data.field_names) == len(data.statistics.mean) == 8
    assert len(data.constant_field_names) == len(data.statistics.constant_std) == 4
    assert data.scalar_names == ["nu", "a", "b"]


def test_an_epoch_ends_and_is_that_of_the_stream(shared_well_folder):
    """`train_dataloader` never ends; an epoch is its part, in another order each."""
    data = WellDataModule(str(shared_well_folder), n_steps_input=2, batch_size=3, seed=5)
    assert isinstance(data.train_dataloader().batch_sampler, StepBatchSampler)
    with pytest.raises(TypeError, match="no length"):
        len(data.train_dataloader())
    stream = iter(data.train_dataloader())
    orders = []
    for number in range(2):
        loader = data.epoch(number=number)
        batches = [batch.indices for batch in loader]
        assert len(batches) == len(loader) == data.train_sampler.steps_per_epoch
        for indices in batches:
            assert torch.equal(indices, next(stream).indices)
        orders.append(torch.cat(batches))
    assert sorted(orders[0].tolist()) == sorted(set(orders[0].tolist()))
    assert not torch.equal(*orders)
    n = len(data.dataset("valid"))
    assert [i for batch in data.epoch("valid") for i in batch.indices.tolist()] == list(range(n))
    for arguments, message in ((("all",), "split 'all'"), (("train", -1), "number")):
        with pytest.raises(WavelitError, match=message):
            data.epoch(*arguments)
