"""RMS normalisation against PyTorch's, in value and in derivatives."""

import pytest
import torch
import torch.nn.functional as F

from wavelit.ops.norm import EPS, gated, rms_norm, scaled_rms_norm


@pytest.mark.parametrize("shape", [(5,), (2, 7, 24), (3, 1)])
def test_equals_torch_in_value_and_gradient(shape):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    g = torch.randn(shape, dtype=torch.float64)
    ours, theirs = rms_norm(x), F.rms_norm(x, shape[-1:], eps=EPS)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, x, g)[0], torch.autograd.grad(theirs, x, g)[0]
    )


def test_derivatives():
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rms_norm, (x,))
    gain = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    batch = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(scaled_rms_norm, (batch, gain))
    assert torch.autograd.gradcheck(gated, (batch, torch.randn_like(batch).requires_grad_()))


def test_gate_is_silu():
    u, w = torch.randn(2, 3, 7, dtype=torch.float64)
    torch.testing.assert_close(gated(u, w), u * F.silu(w))


def test_zero_stays_zero():
    x = torch.zeros(2, 4, requires_grad=True)
    y = rms_norm(x)
    y.sum().backward()
    assert torch.all(y == 0)
    assert torch.isfinite(x.grad).all()
