"""The loss against Parseval, hand sums and numerical gradients."""

import math

import pytest
import torch

from wavelit.model.config import WaveLiTConfig
from wavelit.model.losses import field_loss
from wavelit.model.wavelit import WaveLiT


def model_for(**changes) -> WaveLiT:
    return WaveLiT(
        WaveLiTConfig(**{"n_fields": 2, "embed_dim": 16, "num_heads": 2, "depth": 2, **changes})
    ).double()


@pytest.mark.parametrize("wavelet", ["haar", "db2", "sym4", None])
def test_orthonormal_coefficients_carry_the_field_loss(wavelet):
    """Parseval: the squared loss is the same in the field and in an orthonormal basis."""
    model = model_for(wavelet=wavelet)
    error = torch.randn(2, 2, 32, 32, dtype=torch.float64)
    coefficients = model.tokenizer.encode(error)
    tolerance = 1e-9 if wavelet == "sym4" else 1e-12
    assert float(coefficients.square().mean()) == pytest.approx(
        float(field_loss(error)), rel=tolerance
    )


def test_wavelet_loss_is_the_mean_over_sub_bands():
    torch.manual_seed(0)
    model = model_for()
    model.output_scale.uniform_(0.5, 2)
    bands = torch.tensor(model.tokenizer.bands)
    # One value for each sub-band, as calibration gives.
    for band in range(model.tokenizer.n_bands):
        model.output_scale[:, bands == band] = model.output_scale[:, bands == band][:, :1]
    error = torch.randn(3, 2, 16, 16, dtype=torch.float64)
    coefficients = model.tokenizer.encode(error)
    by_hand = [
        (coefficients[:, c, bands == b].abs().mean() / model.output_scale[c, bands == b][0])
        for c in range(2)
        for b in range(model.tokenizer.n_bands)
    ]
    torch.testing.assert_close(model.wavelet_loss(error), torch.stack(by_hand).mean())


def test_excluded_cells_do_not_count():
    torch.manual_seed(0)
    model = model_for()
    error = torch.randn(2, 2, 16, 16, dtype=torch.float64)
    valid = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    valid[..., :4] = False
    other = error.clone()
    other[..., :4] = 1e6
    assert float(field_loss(error, valid)) == pytest.approx(float(error[..., 4:].square().mean()))
    whole = [model.loss(e, torch.zeros_like(e), 0.3, valid) for e in (error, other)]
    assert float(whole[1]) < 10
    torch.testing.assert_close(*whole)


def test_root_mean_square_of_every_sample_and_channel():
    torch.manual_seed(0)
    error = (
        torch.randn(3, 2, 8, 8, dtype=torch.float64)
        * torch.tensor([1.0, 10, 100])[:, None, None, None]
    )
    by_hand = [math.sqrt((e**2).mean()) for sample in error.numpy() for e in sample]
    assert float(field_loss(error, kind="rmse")) == pytest.approx(sum(by_hand) / 6, rel=1e-9)
    valid = torch.ones(3, 1, 8, 8, dtype=torch.bool)
    valid[0, ..., :3] = False
    valid[1, ..., 5:] = False
    kept = [error[0, :, :, 3:], error[1, :, :, :5], error[2]]
    by_hand = [math.sqrt((e**2).mean()) for sample in kept for e in sample.numpy()]
    assert float(field_loss(error, valid, "rmse")) == pytest.approx(sum(by_hand) / 6, rel=1e-9)


def test_root_of_nothing_has_a_gradient():
    error = torch.zeros(1, 1, 4, 4, requires_grad=True)
    field_loss(error, torch.zeros(1, 1, 4, 4, dtype=torch.bool), "rmse").backward()
    assert float(error.grad.abs().max()) == 0


def test_a_hard_sample_does_not_take_the_others_place():
    """The gradient of a sample under mse grows with its error, under rmse it does not."""
    error = torch.ones(2, 1, 4, 4, dtype=torch.float64)
    error[1] = 100
    for kind, ratio in (("mse", 100), ("rmse", 1)):
        leaf = error.clone().requires_grad_()
        field_loss(leaf, kind=kind).backward()
        assert float(leaf.grad[1].norm() / leaf.grad[0].norm()) == pytest.approx(ratio, rel=1e-6)


@pytest.mark.parametrize("kind", ["mse", "rmse"])
@pytest.mark.parametrize("boundary", [(), (("wall", "wall"), ("open", "open"))])
def test_gradient(boundary, kind):
    torch.manual_seed(0)
    model = model_for(boundary_conditions=boundary, num_scales=1, levels=1)
    shape = (1, 2, 4, 4) if not boundary else (1, 2, 3, 5)
    predicted = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    target = torch.randn(shape, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: model.loss(p, target, 0.3, kind=kind), (predicted,))


def test_weight_zero_is_the_field_loss():
    model = model_for()
    a, b = torch.randn(2, 1, 2, 16, 16, dtype=torch.float64)
    assert float(model.loss(a, b, 0.0)) == float((a - b).square().mean())
