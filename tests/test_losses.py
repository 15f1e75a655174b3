"""The loss against Parseval, hand sums and numerical gradients."""

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


@pytest.mark.parametrize("boundary", [(), (("wall", "wall"), ("open", "open"))])
def test_gradient(boundary):
    torch.manual_seed(0)
    model = model_for(boundary_conditions=boundary, num_scales=1, levels=1)
    shape = (1, 2, 4, 4) if not boundary else (1, 2, 3, 5)
    predicted = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    target = torch.randn(shape, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: model.loss(p, target, 0.3), (predicted,))


def test_weight_zero_is_the_field_loss():
    model = model_for()
    a, b = torch.randn(2, 1, 2, 16, 16, dtype=torch.float64)
    assert float(model.loss(a, b, 0.0)) == float((a - b).square().mean())
