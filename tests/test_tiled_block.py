"""Predictions in strips are those of the whole block, and are made where they should be."""

import pytest
import torch

from wavelit.model import tiled_block as strips
from wavelit.model.config import WaveLiTConfig
from wavelit.model.pyramid import ALL, Block
from wavelit.model.tiled_block import block_in_strips, pays
from wavelit.model.wavelit import WaveLiT
from wavelit.ops.token_layout import token_grids


@pytest.mark.parametrize(
    ("dim", "heads", "shapes", "periodic", "condition"),
    [
        (24, 2, ((16,),), (True,), 0),
        (24, 2, ((9,), (4,)), (False,), 3),
        (24, 2, ((8, 12), (4, 6)), (True, False), 3),
        (24, 3, ((7, 5),), (False, True), 0),
        # Heads of eight channels and three axes: two of each do not turn.
        (16, 2, ((4, 6, 8), (2, 3, 4)), (True, False, True), 3),
    ],
)
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_strips_give_what_the_whole_block_gives(dim, heads, shapes, periodic, condition, rows):
    torch.manual_seed(0)
    block = Block(dim, heads, 2.0, len(periodic), len(shapes), condition).double()
    for p in block.parameters():
        torch.nn.init.normal_(p, std=0.3)
    # Values far from zero: what is summed up must not lose them.
    block.attention.project.bias.data[2 * dim : 3 * dim] += 3.0
    grids = token_grids(shapes, periodic, (heads, dim // heads), dtype=torch.float64)
    x = torch.randn(2, sum(grids.sizes), dim, dtype=torch.float64)
    c = torch.randn(2, condition, dtype=torch.float64) if condition else None
    strip = rows * dim * max(1, len(grids.fill) // (shapes[0][0] + 2))
    with torch.no_grad():
        before = x.clone()
        torch.testing.assert_close(block_in_strips(block, x, grids, ALL, c, strip), block(x, grids, ALL, c))
        assert torch.equal(x, before)
        # A tower of its own has one scale of several.
        own = token_grids(shapes[-1:], periodic, (heads, dim // heads), dtype=torch.float64)
        x, scales = x[:, -own.sizes[0] :], slice(len(shapes) - 1, len(shapes))
        torch.testing.assert_close(block_in_strips(block, x, own, scales, c, strip), block(x, own, scales, c))


def model(**changes) -> WaveLiT:
    torch.manual_seed(0)
    config = WaveLiTConfig.preset("nano", n_fields=2, embed_dim=24, num_heads=2, depth=2, **changes)
    made = WaveLiT(config).eval()
    torch.nn.init.normal_(made.head.weight, std=0.3)
    return made


def calls(monkeypatch, **options) -> list[tuple[int, ...]]:
    """Shapes of what goes through strips from now on."""
    found = []

    def watched(block, x, *rest):
        found.append(tuple(x.shape))
        return block_in_strips(block, x, *rest, **options)

    monkeypatch.setattr("wavelit.model.pyramid.block_in_strips", watched)
    return found


@pytest.mark.parametrize("changes", [{}, {"num_scales": 3}, {"num_scales": 2, "shared": False}])
def test_a_large_grid_is_predicted_in_strips(monkeypatch, changes):
    wave, x = model(**changes), torch.randn(2, 4, 2, 64, 48)
    with torch.no_grad():
        whole = wave(x)
    seen = calls(monkeypatch, strip=24 * 12 * 2)
    monkeypatch.setattr(strips, "LARGE", 1)
    with torch.no_grad():
        torch.testing.assert_close(wave(x), whole, rtol=1e-4, atol=1e-5)
    assert seen


@pytest.mark.parametrize(
    "changes", [{"gate": False}, {"centre": False}, {"local": False}, {"feature_map": "relu"}]
)
def test_a_block_that_lacks_something_is_predicted_whole(monkeypatch, changes):
    seen = calls(monkeypatch)
    monkeypatch.setattr(strips, "LARGE", 1)
    with torch.no_grad():
        model(**changes)(torch.randn(1, 4, 2, 16, 16))
    assert not seen


def test_gradients_small_grids_and_half_precision_take_the_whole_block(monkeypatch):
    x = torch.zeros(1, strips.LARGE // 8, 8)
    assert not pays(x)
    with torch.no_grad():
        assert pays(x)
        assert not pays(x[:, 1:])
        assert not pays(x.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            assert not pays(x)
    with torch.inference_mode():
        assert pays(x)
