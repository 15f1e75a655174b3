"""Convolutions over several grids on one canvas, and the way from tokens to grids and back."""

import pytest
import torch
import torch.nn.functional as F

from wavelit.ops.depthwise import DepthwiseConv, depthwise
from wavelit.ops.kept import kept
from wavelit.ops.token_layout import split_grids, spread, to_tokens, token_grids


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("periodic", [True, False])
def test_depthwise_convolution_pads_as_torch_does(spatial, periodic):
    torch.manual_seed(0)
    shape = (6, 5, 4)[:spatial]
    conv = DepthwiseConv(7, spatial).double()
    torch.nn.init.normal_(conv.weight)
    torch.nn.init.normal_(conv.bias)
    grids = token_grids((shape,), (periodic,) * spatial, (1, 8))
    x = torch.randn(2, 7, *shape, dtype=torch.float64)
    padded = F.pad(x, (1, 1) * spatial, mode="circular" if periodic else "replicate")
    expected = (F.conv1d, F.conv2d, F.conv3d)[spatial - 1](padded, conv.weight, conv.bias, groups=7)
    out = conv(x.flatten(2).mT, grids.canvas)
    torch.testing.assert_close(out.mT.view_as(expected), expected)


def test_residual_convolution_adds_its_input():
    torch.manual_seed(0)
    plain, residual = DepthwiseConv(3, 2), DepthwiseConv(3, 2, residual=True)
    for conv in (plain, residual):
        torch.nn.init.constant_(conv.weight, 0.1)
        torch.nn.init.zeros_(conv.bias)
    x, grids = torch.randn(1, 20, 3), token_grids(((4, 5),), (True, False), (1, 8))
    torch.testing.assert_close(residual(x, grids.canvas), x + plain(x, grids.canvas))


@pytest.mark.parametrize(
    "shapes",
    [((8,), (4,), (2,)), ((6, 4), (3, 2)), ((4, 4), (2, 2), (1, 1)), ((2, 4, 6), (1, 2, 3))],
)
def test_grids_on_one_canvas_do_not_touch(shapes):
    """Values and all gradients of several grids at once are those of each one alone."""
    torch.manual_seed(0)
    spatial = len(shapes[0])
    periodic = (True, False, True)[:spatial]
    conv = DepthwiseConv(5, spatial).double()
    torch.nn.init.normal_(conv.weight)
    torch.nn.init.normal_(conv.bias)
    every = token_grids(shapes, periodic, (1, 8))
    x = torch.randn(2, sum(every.layout.sizes), 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn_like(x)
    together = conv(x, every.canvas)
    apart = torch.cat(
        [
            conv(part, token_grids((shape,), periodic, (1, 8)).canvas)
            for shape, part in zip(shapes, split_grids(x, every.layout), strict=True)
        ],
        1,
    )
    torch.testing.assert_close(together, apart)
    inputs = [x, conv.weight, conv.bias]
    for one, other in zip(
        torch.autograd.grad((together * weight).sum(), inputs),
        torch.autograd.grad((apart * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_a_shift_is_added_before_the_convolution():
    torch.manual_seed(0)
    conv = DepthwiseConv(3, 2, residual=True).double()
    torch.nn.init.normal_(conv.weight)
    torch.nn.init.normal_(conv.bias)
    grids = token_grids(((4, 6), (2, 3)), (True, False), (1, 8))
    x, shift = torch.randn(2, 30, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    torch.testing.assert_close(
        depthwise(x, *conv.split(1)[0], grids.canvas, shift), conv(x + shift, grids.canvas)
    )


@pytest.mark.parametrize("periodic", [(True, True), (True, False), (False, False)])
def test_gradient_of_the_padding(periodic):
    torch.manual_seed(0)
    conv = DepthwiseConv(2, 2).double()
    torch.nn.init.normal_(conv.weight)
    torch.nn.init.normal_(conv.bias)
    grids = token_grids(((4, 3), (2, 1)), periodic, (1, 8))
    x = torch.randn(2, 14, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: conv(t, grids.canvas), (x,))


def test_tables_agree_with_loops():
    grids = token_grids(((4, 2), (2, 1)), (True, False), (2, 8), dtype=torch.float64)
    layout = grids.layout
    assert layout.member.tolist() == [0] * 8 + [1] * 2
    x = torch.randn(3, 10, 4, dtype=torch.float64)
    means = torch.stack([part.mean(1) for part in split_grids(x, layout)], 1)
    torch.testing.assert_close(layout.mean @ x, means)
    torch.testing.assert_close(to_tokens(means, layout)[:, 7], means[:, 0])
    gain = torch.randn(2, 4, dtype=torch.float64)
    torch.testing.assert_close(spread(gain, layout), gain[layout.member])


def test_tables_made_under_autocast_keep_their_type():
    with torch.autocast("cpu", torch.bfloat16):
        grids = token_grids(((6, 12), (3, 6)), (True, False), (3, 8))
    tables = [
        table
        for part in grids
        for table in part
        if isinstance(table, torch.Tensor) and table.is_floating_point()
    ]
    assert {table.dtype for table in tables} == {torch.float32}
    torch.testing.assert_close(grids.heads.same_head, grids.heads.head @ grids.heads.head.T)


def test_tables_made_in_inference_mode_serve_training():
    with torch.inference_mode():
        grids = token_grids(((6, 10),), (True, False), (1, 8))
    x = torch.randn(1, 60, 3, requires_grad=True)
    conv = DepthwiseConv(3, 2)
    torch.nn.init.ones_(conv.weight)
    torch.nn.init.zeros_(conv.bias)
    (conv(x, grids.canvas) * to_tokens(torch.ones(1, 1, 3), grids.layout)).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_a_kept_table_has_torchs_mark_of_a_constant():
    marked = torch.compiler.assume_constant_result(lambda: 0)
    assert vars(marked)
    assert vars(marked).items() <= vars(kept(1)(lambda: 0)).items()
