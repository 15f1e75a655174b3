"""The fast attention against its definition, and its symmetries."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from wavelit.model.attention import (
    FEATURE_MAPS,
    NORMALISER_EPS,
    AugmentedLinearAttention,
    linear_attention,
    naive_linear_attention,
    softmax_attention,
)
from wavelit.ops.rotary import rotary_angles, rotate
from wavelit.ops.token_layout import token_grids


def relative(x: torch.Tensor, y: torch.Tensor) -> float:
    return float(((x - y).square().mean().sqrt() / y.square().mean().sqrt()).detach())


@pytest.mark.parametrize("feature_map", [name for name in FEATURE_MAPS if name != "softmax"])
@pytest.mark.parametrize("shape", [(63,), (20, 25), (4, 5, 3)])
@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("rotary", [True, False])
def test_fast_equals_naive_in_value_and_gradient(feature_map, shape, centre, rotary):
    torch.manual_seed(0)
    n = math.prod(shape)
    angles = rotary_angles(shape, (True,) * len(shape), 24).double() if rotary else None
    inputs = [torch.randn(2, 3, n, 24, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    weight = torch.randn(2, 3, n, 24, dtype=torch.float64)
    results = []
    for attention in (linear_attention, naive_linear_attention):
        q, k, v = inputs
        feature = FEATURE_MAPS[feature_map]
        out = attention(feature(q), feature(k), v, angles, centre)
        results.append((out, *torch.autograd.grad((out * weight).sum(), inputs)))
    for fast, naive in zip(*results, strict=True):
        assert relative(fast, naive) < 1e-10


def test_softmax_attention_is_softmax_and_turns_with_the_grid():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 30, 8, dtype=torch.float64)
    angles = rotary_angles((5, 6), (True, True), 8).double()
    weights = (rotate(q, angles) @ rotate(k, angles).mT / 8**0.5).softmax(-1)
    assert (
        relative(softmax_attention(q, k, v, angles), weights @ (v - v.mean(-2, keepdim=True)))
        < 1e-10
    )
    block = AugmentedLinearAttention(24, 3, 2, "softmax")
    grids = token_grids(((5, 6),), (True, True), (3, 8), torch.device("cpu"), torch.float32)
    for gain in (block.query_gain, block.key_gain, block.head_gain):
        torch.nn.init.ones_(gain)
    torch.nn.init.zeros_(block.mean_gain)
    for parameter in block.local.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 30, 24)
    turned = x.view(2, 5, 6, 24).roll((2, 1), (1, 2)).view(2, 30, 24)
    expected = block(x, grids).view(2, 5, 6, 24).roll((2, 1), (1, 2)).view(2, 30, 24)
    assert relative(block(turned, grids), expected) < 1e-5


def test_uncentred_attention_without_phases_is_a_weighted_mean():
    q, k = (torch.rand(1, 1, 50, 8, dtype=torch.float64) for _ in range(2))
    ones = torch.ones(1, 1, 50, 8, dtype=torch.float64)
    out = linear_attention(q, k, ones, centre=False)
    normaliser = q @ k.mean(-2)[..., None]
    torch.testing.assert_close(out, (normaliser / (normaliser + NORMALISER_EPS)).expand_as(out))


def test_centring_removes_the_mean_exactly_without_phases():
    torch.manual_seed(0)
    q, k = (F.elu(torch.randn(1, 2, 40, 8, dtype=torch.float64)) + 1 for _ in range(2))
    v = torch.randn(1, 2, 40, 8, dtype=torch.float64) + 3
    centred = linear_attention(q, k, v)
    plain = linear_attention(q, k, v, centre=False) - v.mean(-2, keepdim=True)
    # Equal up to the epsilon of the normaliser, which acts on the mean 3 in one of the two.
    torch.testing.assert_close(centred, plain, rtol=0, atol=3e-4)


def test_permuting_tokens_permutes_the_output():
    torch.manual_seed(0)
    q, k, v = (torch.rand(1, 2, 33, 8, dtype=torch.float64) for _ in range(3))
    order = torch.randperm(33)
    out = linear_attention(q[:, :, order], k[:, :, order], v[:, :, order])
    torch.testing.assert_close(out, linear_attention(q, k, v)[:, :, order])


def test_phases_wrap_on_a_periodic_axis_and_tell_walls_apart():
    n = 16
    periodic = rotary_angles((n,), (True,), 8)
    wrapped = periodic[0] + (periodic[1] - periodic[0]) * n - periodic[0]
    turns = wrapped / (2 * math.pi)
    torch.testing.assert_close(turns, turns.round(), atol=1e-5, rtol=0)
    torch.testing.assert_close(turns, torch.tensor([1.0, 2.0, 3.0, 4.0]), atol=1e-5, rtol=0)
    walls = rotary_angles((n,), (False,), 8)
    assert float(walls[-1, 0] - walls[0, 0]) == pytest.approx(math.pi * (n - 1) / n)


def test_attention_with_phases_is_equivariant_to_shifts_along_a_periodic_axis():
    torch.manual_seed(0)
    angles = rotary_angles((12, 5), (True, False), 24).double()
    q, k, v = (torch.rand(1, 1, 60, 24, dtype=torch.float64) for _ in range(3))

    def shift(x):
        return x.view(1, 1, 12, 5, 24).roll(3, 2).view(1, 1, 60, 24)

    out = linear_attention(shift(q), shift(k), shift(v), angles)
    torch.testing.assert_close(out, shift(linear_attention(q, k, v, angles)), atol=1e-6, rtol=1e-5)


def test_harmonics_above_the_grid_are_left_out_and_spare_channels_stay():
    angles = rotary_angles((4, 4), (True, True), 30)
    assert angles.shape == (16, 14)
    assert torch.all(angles[:, 2:7] == 0), "harmonics 3, 4, 6, 8, 12 do not fit 4 tokens"
    x = torch.randn(1, 1, 16, 30)
    torch.testing.assert_close(rotate(x, angles)[..., 28:], x[..., 28:])
    torch.testing.assert_close(rotate(x, angles).norm(dim=-1), x.norm(dim=-1))


def test_cost_is_linear_in_the_number_of_tokens():
    def flops(attention, n):
        with FlopCounterMode(display=False) as counter:
            attention(*torch.rand(3, 1, 4, n, 24))
        return counter.get_total_flops()

    assert flops(linear_attention, 4096) == 8 * flops(linear_attention, 512)
    assert flops(naive_linear_attention, 4096) > 60 * flops(naive_linear_attention, 512)


@pytest.mark.parametrize("shapes", [[(63,)], [(20, 25)], [(8, 6), (4, 3)], [(4, 6, 2), (2, 3, 1)]])
@pytest.mark.parametrize("dim", [24, 28])
def test_written_out_gradient_equals_the_definition(shapes, dim):
    torch.manual_seed(0)
    block = AugmentedLinearAttention(dim, 2, len(shapes[0])).double()
    for p in block.parameters():
        torch.nn.init.normal_(p)
    periodic = (True, False, True)[: len(shapes[0])]
    grids = token_grids(tuple(shapes), periodic, (2, dim // 2), dtype=torch.float64)
    n = sum(grids.layout.sizes)
    inputs = [
        torch.randn(3, n, width, dtype=torch.float64, requires_grad=True)
        for width in (2 * dim, dim)
    ]
    weight = torch.randn(3, n, dim, dtype=torch.float64)
    gains = [block.query_gain, block.key_gain, block.head_gain, block.mean_gain]
    results = []
    qk, v = inputs
    for attend, channels in (
        (block._fused_forward, qk[..., grids.heads.order]),
        (block._reference_forward, qk),
    ):
        out = attend(channels, v, grids)
        results.append((out, *torch.autograd.grad((out * weight).sum(), [*inputs, *gains])))
    for fast, definition in zip(*results, strict=True):
        assert relative(fast, definition) < 1e-10


@pytest.mark.parametrize("head_dim", [6, 7, 12])
def test_weights_stand_in_the_order_of_the_definition(head_dim):
    """Whatever order the fast path has them in; an odd head has no fast path."""
    torch.manual_seed(0)
    dim = 2 * head_dim
    block = AugmentedLinearAttention(dim, 2, 2).double()
    for p in block.parameters():
        torch.nn.init.normal_(p)
    grids = token_grids(((8, 6), (4, 3)), (True, False), (2, head_dim), dtype=torch.float64)
    x = torch.randn(3, sum(grids.layout.sizes), dim, dtype=torch.float64)
    qk, v, gate = block.project(x).split([2 * dim, dim, dim], -1)
    expected = block.out(
        (block._reference_forward(qk, v, grids) + block.local(v, grids.canvas))
        * torch.nn.functional.silu(gate)
    )
    assert relative(block(x, grids), expected) < 1e-12


def test_grids_in_one_sequence_do_not_see_one_another():
    torch.manual_seed(0)
    block = AugmentedLinearAttention(16, 2, 2)
    for p in block.parameters():
        torch.nn.init.normal_(p, std=0.3)
    fine, coarse = (6, 4), (3, 2)
    x = torch.randn(2, 30, 16)
    together = block(x, token_grids((fine, coarse), (True, False), (2, 8)))
    apart = [
        block(part, token_grids((shape,), (True, False), (2, 8)))
        for part, shape in ((x[:, :24], fine), (x[:, 24:], coarse))
    ]
    torch.testing.assert_close(together, torch.cat(apart, 1))


def test_bfloat16_autocast_keeps_the_sums_in_float32():
    torch.manual_seed(0)
    block = AugmentedLinearAttention(32, 2, 2, gate=False, local=False)
    for p in block.parameters():
        torch.nn.init.normal_(p, std=0.2)
    grids = token_grids(((32, 32),), (True, True), (2, 16))
    x = torch.randn(1, 1024, 32)
    # Exact in bfloat16, so that only what happens inside differs.
    x = x.bfloat16().float()
    with torch.no_grad():
        exact = block(x, grids)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = block(x, grids)
    assert relative(rounded.float(), exact) < 0.02
