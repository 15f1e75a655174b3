"""Predictions in tiles are those of the whole block, and are made where they should be."""

import pytest
import torch

from wavelit.model import tiled_block
from wavelit.model.block import ALL, Block
from wavelit.model.config import WaveLiTConfig
from wavelit.model.mixers import read_mixers
from wavelit.model.tiled_block import should_tile, tiled_forward
from wavelit.model.wavelit import WaveLiT
from wavelit.ops.token_layout import token_grids


@pytest.mark.parametrize(
    ("dim", "heads", "shapes", "periodic", "condition"),
    [
        (24, 2, ((16,),), (True,), False),
        (24, 2, ((9,), (4,)), (False,), True),
        (24, 2, ((8, 12), (4, 6)), (True, False), True),
        (24, 3, ((7, 5),), (False, True), False),
        # Heads of eight channels and three axes: two of each do not turn.
        (16, 2, ((4, 6, 8), (2, 3, 4)), (True, False, True), True),
    ],
)
@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("mixer", ["attention", "conv:3", "conv:7"])
def test_tiles_give_what_the_whole_block_gives(
    dim, heads, shapes, periodic, condition, rows, mixer
):
    torch.manual_seed(0)
    config = WaveLiTConfig(
        n_fields=1,
        n_scalars=int(condition),
        spatial=len(periodic),
        embed_dim=dim,
        num_heads=heads,
        num_scales=len(shapes),
    )
    block = Block(config, *read_mixers(mixer, 1, len(periodic))).double()
    for p in block.parameters():
        torch.nn.init.normal_(p, std=0.3)
    if mixer == "attention":
        # Values far from zero: what is summed up must not lose them.
        block.attention.project.bias.data[2 * dim : 3 * dim] += 3.0
    grids = token_grids(shapes, periodic, (heads, dim // heads), dtype=torch.float64)
    x = torch.randn(2, sum(grids.layout.sizes), dim, dtype=torch.float64)
    c = torch.randn(2, config.condition_dim, dtype=torch.float64) if condition else None
    tile = rows * dim * max(1, len(grids.canvas.fill) // (shapes[0][0] + 2))
    with torch.no_grad():
        before = x.clone()
        torch.testing.assert_close(
            tiled_forward(block, x, grids, ALL, c, tile), block(x, grids, ALL, c)
        )
        assert torch.equal(x, before)
        # A tower of its own has one scale of several.
        own = token_grids(shapes[-1:], periodic, (heads, dim // heads), dtype=torch.float64)
        x, scales = x[:, -own.layout.sizes[0] :], slice(len(shapes) - 1, len(shapes))
        torch.testing.assert_close(
            tiled_forward(block, x, own, scales, c, tile), block(x, own, scales, c)
        )


def model(**changes) -> WaveLiT:
    torch.manual_seed(0)
    small = {"n_fields": 2, "embed_dim": 24, "num_heads": 2, "depth": 2}
    config = WaveLiTConfig.preset("nano-0.1", **{**small, **changes})
    made = WaveLiT(config).eval()
    torch.nn.init.normal_(made.head.weight, std=0.3)
    return made


def calls(monkeypatch, **options) -> list[tuple[int, ...]]:
    """Shapes of what goes through tiles from now on."""
    found = []

    def watched(block, x, *rest):
        found.append(tuple(x.shape))
        return tiled_forward(block, x, *rest, **options)

    monkeypatch.setattr("wavelit.model.pyramid.tiled_forward", watched)
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mixers": "conv:7"},
        # Heads of an odd width, of which nothing turns.
        {"mixers": "conv:7", "num_heads": 8},
        {"mixers": "attention,conv:5", "num_scales": 2},
        {"num_scales": 3},
        {"num_scales": 2, "shared": False},
    ],
)
def test_a_large_grid_is_predicted_in_tiles(monkeypatch, changes):
    wave, x = model(**changes), torch.randn(2, 4, 2, 64, 48)
    with torch.no_grad():
        whole = wave(x)
    seen = calls(monkeypatch, tile=24 * 12 * 2)
    monkeypatch.setattr(tiled_block, "LARGE", 1)
    with torch.no_grad():
        torch.testing.assert_close(wave(x), whole, rtol=1e-4, atol=1e-5)
    assert seen


@pytest.mark.parametrize(
    "changes",
    [
        {"gate": False},
        {"centre": False},
        {"local": False},
        {"feature_map": "relu"},
        {"mixers": "long_conv"},
        {"mixers": "conv:7", "gate": False},
    ],
)
def test_a_block_that_lacks_something_is_predicted_whole(monkeypatch, changes):
    seen = calls(monkeypatch)
    monkeypatch.setattr(tiled_block, "LARGE", 1)
    with torch.no_grad():
        model(**changes)(torch.randn(1, 4, 2, 16, 16))
    assert not seen


def test_gradients_small_grids_and_half_precision_take_the_whole_block(monkeypatch):
    x = torch.zeros(1, tiled_block.LARGE // 8, 8)
    assert not should_tile(x)
    with torch.no_grad():
        assert should_tile(x)
        assert not should_tile(x[:, 1:])
        assert not should_tile(x.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            assert not should_tile(x)
    with torch.inference_mode():
        assert should_tile(x)
