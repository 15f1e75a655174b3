"""The correction at full resolution: convolutions of the padded grid, alike in every cell,
silent at the start.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import correlate

from wavelit.errors import WavelitError
from wavelit.model import conv_head
from wavelit.model.config import WaveLiTConfig
from wavelit.model.conv_head import ConvHead
from wavelit.model.wavelit import WaveLiT


@pytest.mark.parametrize(("gated", "bounded"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize(("periodic", "mode", "edge"), [(True, "wrap", 0), (False, "nearest", 2)])
def test_convolutions_of_the_padded_grid(periodic, mode, edge, gated, bounded):
    """Against scipy's, which pads layer by layer: the same where axes wrap, and two cells inside
    the walls.
    """
    torch.manual_seed(0)
    head = ConvHead(2, 3, 1, (periodic, periodic), gated, bounded).double()
    x = torch.randn(1, 2, 8, 12, dtype=torch.float64)
    y = x[0].numpy()
    for i, conv in enumerate((head.read, head.mix, head.write)):
        if i == 1 and gated:
            y = y[:3] * np.tanh(y[3:])
        elif i:
            linear = 0.15 * y if i == 2 and bounded else 0.0
            y = F.gelu(torch.from_numpy(y)).numpy() + linear
        if i == 2 and bounded:
            y = y / np.sqrt(1 + (y**2).mean(0))
        weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
        y = np.stack(
            [
                sum(correlate(c, k, mode=mode) for c, k in zip(y, kernels, strict=True)) + b
                for kernels, b in zip(weight, bias, strict=True)
            ]
        )
    found = head(x)[0].detach().numpy()
    inside = (slice(None), slice(edge, 8 - edge), slice(edge, 12 - edge))
    assert found.shape == y.shape
    np.testing.assert_allclose(found[inside], y[inside], atol=1e-12)


@pytest.mark.parametrize("shape", [(16,), (16, 12), (8, 6, 4)])
def test_every_cell_is_treated_alike(shape):
    head = ConvHead(2, 4, 2, (True,) * len(shape))
    x = torch.randn(2, 2, *shape)
    moved = head(x.roll(1, -1))
    torch.testing.assert_close(moved, head(x).roll(1, -1), atol=1e-5, rtol=1e-4)


def test_a_bounded_correction_does_not_grow_with_the_state():
    torch.manual_seed(0)
    head = ConvHead(2, 4, 1, (True, True), gated=True, bounded=True)
    x = torch.randn(1, 2, 16, 16)
    large, larger = (head(size * x).abs().max() for size in (1e6, 1e9))
    torch.testing.assert_close(large, larger, rtol=1e-3, atol=0)
    assert head(1e-3 * x).isfinite().all()


def test_a_bounded_correction_cannot_fall_silent():
    """Before the bound there is a slope everywhere, where gelu alone has none far below zero and
    falls between.
    """
    z = torch.linspace(-30, 30, 60001, dtype=torch.float64, requires_grad=True)
    (F.gelu(z) + conv_head.ALIVE * z).sum().backward()
    assert z.grad.min() > 0.02
    head = ConvHead(1, 4, 1, (True, True), gated=True, bounded=True)
    torch.nn.init.constant_(head.mix.bias, -20.0)
    head(torch.randn(1, 1, 8, 8)).sum().backward()
    assert (head.mix.weight.grad.abs().amax((1, 2, 3)) > 0).all()


def test_a_gate_needs_convolutions():
    with pytest.raises(WavelitError, match="detail_bound needs convolutions at full resolution"):
        WaveLiTConfig(n_fields=1, detail_bound=True)
    with pytest.raises(WavelitError, match="detail_gate needs convolutions at full resolution"):
        WaveLiTConfig(n_fields=1, detail_gate=True)


@pytest.mark.parametrize("shape", [(64,), (50, 20), (50, 9, 7)])
def test_strips_give_what_the_whole_grid_gives(shape, monkeypatch):
    torch.manual_seed(0)
    head = ConvHead(2, 4, 2, (True, *(False,) * (len(shape) - 1)), gated=True, bounded=True)
    x = torch.randn(2, 2, *shape)
    whole = head(x).detach()
    monkeypatch.setattr(conv_head, "STRIP", 4 * 5 * math.prod(n + 6 for n in shape[1:]))
    parts, correct = [], head._correct
    monkeypatch.setattr(head, "_correct", lambda part: parts.append(part) or correct(part))
    assert torch.equal(head(x), whole), "gradients need the whole"
    assert len(parts) == 1
    with torch.no_grad():
        torch.testing.assert_close(head(x), whole)
    assert len(parts) > 3


def test_walls_repeat_the_edge():
    """A field that is constant near a wall is as if there were none."""
    head = ConvHead(1, 4, 1, (False, False))
    x = torch.ones(1, 1, 9, 9)
    torch.testing.assert_close(head(x), head(x)[..., 4:5, 4:5].expand(1, 1, 9, 9))


def test_it_is_silent_at_first_and_reads_the_present():
    config = WaveLiTConfig.preset("nano", n_fields=2, n_constant_fields=1, detail_dim=4)
    torch.manual_seed(0)
    model = WaveLiT(config)
    x, c = torch.randn(1, 4, 2, 16, 16), torch.randn(1, 1, 16, 16)
    read = []
    model.detail.register_forward_hook(lambda module, args, out: read.append((args[0], out)))
    y = model.increment(x, c)
    ((seen, correction),) = read
    assert torch.equal(correction, torch.zeros_like(y))
    torch.testing.assert_close(seen, torch.cat([x[:, -1], c, y], 1))
    torch.nn.init.ones_(model.detail.write.weight)
    assert not torch.allclose(model.increment(x, c), y)
