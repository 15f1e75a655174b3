"""Batches are a function of seed and step, and an epoch visits nothing twice."""

import itertools

import pytest

from wavelit.data.sampling import StepBatchSampler
from wavelit.errors import WavelitError


def test_batch_is_a_function_of_seed_and_step():
    forward = StepBatchSampler(23, 4, seed=3)
    backward = StepBatchSampler(23, 4, seed=3)
    there = [forward.indices(step) for step in range(17)]
    back = [backward.indices(step) for step in reversed(range(17))][::-1]
    assert there == back
    assert there != [StepBatchSampler(23, 4, seed=4).indices(step) for step in range(17)]


def test_first_step_continues_the_stream():
    whole = list(StepBatchSampler(10, 3, seed=0, n_steps=12))
    resumed = StepBatchSampler(10, 3, seed=0, n_steps=12)
    resumed.first_step = 5
    assert list(resumed) == whole[5:]
    assert len(resumed) == 12


def test_endless_stream_has_no_length():
    sampler = StepBatchSampler(10, 3, seed=0, first_step=7)
    assert list(itertools.islice(sampler, 2)) == [sampler.indices(7), sampler.indices(8)]
    with pytest.raises(TypeError, match="endless"):
        len(sampler)


@pytest.mark.parametrize(("n_samples", "batch_size"), [(12, 4), (23, 4), (5, 5)])
def test_epoch_visits_every_sample_at_most_once(n_samples, batch_size):
    sampler = StepBatchSampler(n_samples, batch_size, seed=1)
    dropped = set()
    for epoch in range(6):
        steps = range(epoch * sampler.steps_per_epoch, (epoch + 1) * sampler.steps_per_epoch)
        visited = [i for step in steps for i in sampler.indices(step)]
        assert len(visited) == len(set(visited)) == n_samples - n_samples % batch_size
        assert set(visited) <= set(range(n_samples))
        dropped |= set(range(n_samples)) - set(visited)
    # Epochs drop different samples: none is lost for good.
    assert len(dropped) > n_samples % batch_size or n_samples % batch_size == 0


def test_epochs_differ():
    sampler = StepBatchSampler(12, 4, seed=0)
    epochs = [[i for k in range(3) for i in sampler.indices(3 * e + k)] for e in range(2)]
    assert epochs[0] != epochs[1]


def test_ranks_share_a_step():
    whole = StepBatchSampler(23, 6, seed=2)
    ranks = [StepBatchSampler(23, 3, seed=2, rank=rank, n_ranks=2) for rank in range(2)]
    for step in range(9):
        assert ranks[0].indices(step) + ranks[1].indices(step) == whole.indices(step)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"n_samples": 3, "batch_size": 4, "seed": 0},
            "3 training windows cannot fill one step of batch_size=4",
        ),
        ({"n_samples": 7, "batch_size": 4, "seed": 0, "n_ranks": 2}, "on 2 process"),
        ({"n_samples": 3, "batch_size": 0, "seed": 0}, "batch_size=0"),
        ({"n_samples": 3, "batch_size": 1, "seed": -1}, "seed=-1"),
        ({"n_samples": 3, "batch_size": 1, "seed": 0, "rank": 1}, "rank=1 of 1"),
    ],
)
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(WavelitError, match=message):
        StepBatchSampler(**options)
