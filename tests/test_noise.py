"""Noise far off the data: its sizes, its blocks, what its error counts by, and that it is asked
for.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch

from systems import SMALL, write_system
from wavelit.data.datamodule import WellDataModule
from wavelit.errors import WavelitError
from wavelit.training.config import TrainConfig
from wavelit.training.module import Inputs, judged_by, window_loss
from wavelit.training.noise import MOST, draw_noise
from wavelit.training.run import build_model

SPREAD = torch.tensor([2.0, 0.5])


def drawn(share, shape=(400, 3, 2, 16, 8), seed=0, **recipe):
    config = TrainConfig(steps=1, noise=0.1, far_noise=share, **recipe)
    return draw_noise(torch.zeros(shape), SPREAD, config, np.random.default_rng(seed), 1.0)


def test_without_it_all_errors_count_alike():
    near = drawn(0.0)
    assert near.weight is None
    # The stream of near noise is the same with it.
    some = drawn(0.3)
    unmoved = some.weight == 1
    torch.testing.assert_close(some.values[unmoved], near.values[unmoved], rtol=0, atol=0)
    assert unmoved.double().mean() == pytest.approx(0.7, abs=0.06)


def test_far_noise_is_log_uniform_and_its_error_counts_by_its_size():
    values, weight = drawn(1.0)
    # As many decades as octaves: the mean of the logarithm is half of the largest.
    logs = -weight.log()
    assert float(logs.max()) <= math.log(MOST)
    assert float(logs.mean()) == pytest.approx(math.log(MOST) / 2, abs=0.15)
    # On average over blocks, 0.1 b in units of the spread.
    scaled = values / SPREAD.view(2, 1, 1) * weight.view(-1, 1, 1, 1, 1)
    assert float(scaled.std()) == pytest.approx(0.1, rel=0.1)
    # It does not fall late.
    assert torch.equal(values, drawn(1.0, noise_end=1.0).values)


def test_blocks_have_all_sizes_and_half_of_the_samples_one_pattern():
    values, _ = drawn(1.0)
    frames_alike = (values == values[:, :1]).flatten(1).all(1)
    assert frames_alike.double().mean() == pytest.approx(0.5, abs=0.08)
    rows, columns = torch.arange(16), torch.arange(8)

    def block(sample):
        """Side of the largest blocks on which it is constant."""
        sides = (8, 4, 2, 1)
        return next(
            k for k in sides if torch.equal(sample, sample[rows // k * k][:, columns // k * k])
        )

    sizes = [block(sample) for sample in values[:, 0, 0]]
    counts = [sizes.count(k) / len(sizes) for k in (1, 2, 4, 8)]
    assert counts == pytest.approx([0.25] * 4, abs=0.08)


@pytest.mark.parametrize("shape", [(5, 2, 2, 9), (5, 2, 2, 6, 5, 7), (5, 2, 2, 1, 4)])
def test_any_number_of_axes_and_points(shape):
    values, weight = drawn(1.0, shape)
    assert values.shape == shape
    assert values.isfinite().all()
    assert weight.shape == (5,)


@pytest.mark.parametrize("kind", ["rmse", "mse"])
def test_the_loss_weighs_the_errors(tmp_path, kind):
    folder = write_system(tmp_path / "data", "waves", (4, 2, 2), n_steps=20)
    data = WellDataModule(str(folder), batch_size=3)
    model = build_model(data, **SMALL)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    batch = next(iter(data.train_dataloader()))
    config = TrainConfig(steps=1, field_loss=kind)
    weight = torch.tensor([1.0, 0.5, 0.1])
    found = window_loss(model, judged_by(model, config), Inputs(batch, batch.fields, 0, 1, weight))
    target = model.normalizer.increment(batch.target[:, 0] - batch.fields[:, -1])
    error = weight.view(-1, 1, 1, 1) * (model.increment(batch.fields, *batch.beside()) - target)
    due = model.loss(error, torch.zeros_like(error), 1.0, kind=kind)
    torch.testing.assert_close(found, due)


def test_it_is_measured_in_noise():
    with pytest.raises(WavelitError, match="far_noise is measured in noise, which is 0"):
        TrainConfig(steps=1, noise=0.0, far_noise=0.1)
    with pytest.raises(WavelitError, match="far_noise must be at least 0 and at most 1"):
        TrainConfig(steps=1, far_noise=1.5)
    assert dataclasses.asdict(TrainConfig(steps=1))["far_noise"] == 0
