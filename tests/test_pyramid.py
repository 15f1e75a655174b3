"""Averages and copies between scales, private gains, and one sequence for all scales."""

import pytest
import torch
from einops import rearrange, reduce, repeat

from wavelit.model.block import ScaledRMSNorm
from wavelit.model.config import WaveLiTConfig
from wavelit.model.pyramid import Pyramid
from wavelit.model.wavelit import WaveLiT
from wavelit.ops.resample import coarsen, refine
from wavelit.ops.token_layout import token_grids


def small_pyramid(**changes) -> Pyramid:
    return Pyramid(WaveLiTConfig(n_fields=1, embed_dim=16, num_heads=2, depth=2, **changes))


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return module.double()


@pytest.mark.parametrize("shape", [(8,), (4, 6), (2, 4, 6)])
def test_coarsen_averages_cubes_and_refine_copies_cells(shape):
    names = ["h", "w", "d"][: len(shape)]
    x = torch.randn(2, *shape, 3, dtype=torch.float64)
    mean = reduce(
        x,
        f"b {' '.join(f'({n} {n}2)' for n in names)} e -> b ({' '.join(names)}) e",
        "mean",
        **{f"{n}2": 2 for n in names},
    )
    torch.testing.assert_close(coarsen(x.flatten(1, -2), shape), mean)
    copies = repeat(x, f"b {' '.join(names)} e -> b ({' '.join(f'{n} {n}2' for n in names)}) e",
                    **{f"{n}2": 2 for n in names})  # fmt: skip
    torch.testing.assert_close(refine(x.flatten(1, -2), shape), copies)


def test_refine_is_the_right_inverse_of_coarsen():
    x = torch.randn(1, 12, 5)
    torch.testing.assert_close(coarsen(refine(x, (3, 4)), (6, 8)), x)


def test_norm_has_its_own_gain_for_each_scale():
    norm = ScaledRMSNorm(4, 2)
    torch.nn.init.ones_(norm.gain)
    norm.gain.data[1] = 3.0
    x = torch.randn(1, 2, 4)
    x[:, 1] = x[:, 0]
    out = norm(x, token_grids(((1,), (1,)), (True,), (1, 4)).layout)
    torch.testing.assert_close(out[:, 1], 3 * out[:, 0])
    assert float(out[:, 0].detach().square().mean()) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("shared", [True, False])
def test_shape_and_equivariance_to_shifts_by_one_coarsest_token(shared):
    pyramid = randomised(small_pyramid(num_scales=3, num_exchanges=2, shared=shared))
    x = torch.randn(1, 8 * 12, 16, dtype=torch.float64)
    out = pyramid(x, (8, 12), (True, True))
    assert out.shape == x.shape

    def shift(t):
        return rearrange(
            rearrange(t, "b (h w) e -> b h w e", h=8).roll((4, 8), (1, 2)), "b h w e -> b (h w) e"
        )

    torch.testing.assert_close(
        pyramid(shift(x), (8, 12), (True, True)), shift(out), atol=1e-5, rtol=1e-5
    )


def test_private_towers_with_equal_weights_equal_the_shared_one():
    shared = randomised(small_pyramid(num_scales=2, num_exchanges=1))
    private = small_pyramid(num_scales=2, num_exchanges=1, shared=False).double()
    state = shared.state_dict()
    for name, value in private.state_dict().items():
        parts = name.split(".")
        source = ".".join(["towers", "0", *parts[2:]]) if parts[0] == "towers" else name
        value.copy_(state[source])
    x = torch.randn(1, 24, 16, dtype=torch.float64)
    torch.testing.assert_close(private(x, (4, 6), (True, False)), shared(x, (4, 6), (True, False)))


def test_coarse_scales_reach_across_the_domain():
    """One block without attention reaches one cell; through two coarser scales it reaches
    further.
    """
    reach = []
    for num_scales in (1, 3):
        model = WaveLiT(WaveLiTConfig(n_fields=1, num_scales=num_scales, depth=1, num_exchanges=1))
        pyramid = randomised(model.pyramid)
        for block in pyramid.towers[0]:
            block.attention_scale.data.zero_()
        x = torch.zeros(1, 256, 96, dtype=torch.float64)
        base = pyramid(x, (16, 16), (True, True))
        x[0, 0] = 1
        changed = (pyramid(x, (16, 16), (True, True)) - base).abs().sum(-1).view(16, 16) > 1e-12
        reach.append(int(changed.sum()))
    assert reach[0] <= 25
    assert reach[1] > 2 * reach[0]


@pytest.mark.parametrize("shared", [True, False])
def test_recomputing_gives_the_same_gradients_and_keeps_less(shared):
    pyramid = randomised(small_pyramid(num_scales=2, num_exchanges=2, shared=shared))
    x = torch.randn(2, 64, 16, dtype=torch.float64)
    kept, gradients = [], []
    for pyramid.activation_checkpointing in (False, True):
        sizes = {}

        def keep(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = pyramid(x, (8, 8), (True, False)).square().mean()
        kept.append(sum(sizes.values()))
        gradients.append(torch.autograd.grad(loss, list(pyramid.parameters())))
    assert kept[1] < 0.5 * kept[0]
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


@pytest.mark.parametrize("shape", [(16,), (16, 16), (16, 16, 16)])
def test_a_single_coarsest_token_has_a_gradient(shape):
    model = WaveLiT(
        WaveLiTConfig.preset("paper", n_fields=1, spatial=len(shape), depth=2, embed_dim=32)
    )
    model(torch.randn(2, 4, 1, *shape)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
