"""What stands in attention's place, beside its definition."""

import itertools
import math
import warnings
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from wavelit.errors import WavelitError
from wavelit.model.config import WaveLiTConfig, padded_shape
from wavelit.model.mixers import GatedConv, GatedLongConv, MixerKind, naive_long_conv, read_mixers
from wavelit.model.wavelit import WaveLiT, configuration_of
from wavelit.ops.depthwise import DepthwiseConv
from wavelit.ops.token_layout import canvas_for, split_grids, token_grids

E = 8
WALLS = (("wall", "wall"), ("open", "wall"))
GRIDS = [
    (((9,),), (True,), (3,)),
    (((9,), (4,)), (False,), (7,)),
    (((6, 8),), (True, False), (7, 7)),
    (((6, 8), (3, 4)), (False, True), (5, 3)),
    (((6, 8),), (False, False), (3, 1)),
    (((3, 4, 3),), (True, False, True), (5, 3, 3)),
]


def grids_of(shapes, periodic, dtype=torch.float64, edge=True):
    return token_grids(shapes, periodic, (2, E // 2), dtype=dtype, edge=edge)


def tokens_of(shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    n = sum(math.prod(shape) for shape in shapes)
    return torch.randn(2, n, E, generator=generator, dtype=dtype).requires_grad_()


def naive_depthwise(x, weight, bias, shape, periodic, edge):
    """sum over the kernel's offsets, place by place; x: (B, L, E) of one grid."""
    grid = x.unflatten(1, shape)
    kernel = weight.shape[2:]
    out = torch.zeros_like(grid) + bias
    for place in itertools.product(*(range(n) for n in shape)):
        for tap in itertools.product(*(range(n) for n in kernel)):
            at = [p + t - k // 2 for p, t, k in zip(place, tap, kernel, strict=True)]
            inside = all(w or 0 <= a < n for a, n, w in zip(at, shape, periodic, strict=True))
            if not (inside or edge):
                continue
            at = [
                a % n if w else min(max(a, 0), n - 1)
                for a, n, w in zip(at, shape, periodic, strict=True)
            ]
            term = weight[(slice(None), 0, *tap)] * grid[(slice(None), *at)]
            out = out.index_put(
                (torch.arange(len(x))[:, None], *(torch.tensor([[p]]) for p in place)),
                term[:, None],
                accumulate=True,
            )
    return out.flatten(1, -2)


@pytest.mark.parametrize("edge", [True, False])
@pytest.mark.parametrize(("shapes", "periodic", "kernel"), GRIDS)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_wide_convolutions_are_their_sum(shapes, periodic, kernel, edge, dtype, close):
    torch.manual_seed(0)
    conv = DepthwiseConv(E, len(kernel), kernel=kernel).to(dtype)
    torch.nn.init.normal_(conv.weight)
    torch.nn.init.normal_(conv.bias)
    x, grids = tokens_of(shapes, dtype), grids_of(shapes, periodic, dtype, edge)
    y = conv(x, canvas_for(kernel, grids))
    parts = split_grids(x, grids.layout)
    due = torch.cat(
        [
            naive_depthwise(part, conv.weight, conv.bias, shape, periodic, edge)
            for part, shape in zip(parts, shapes, strict=True)
        ],
        1,
    )
    torch.testing.assert_close(y, due, rtol=close, atol=close)
    weights = torch.randn(y.shape, dtype=dtype)
    given = (x, conv.weight, conv.bias)
    for found, wanted in zip(
        torch.autograd.grad((y * weights).sum(), given),
        torch.autograd.grad((due * weights).sum(), given),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=close, atol=10 * close)


@pytest.mark.parametrize(("shapes", "periodic", "kernel"), GRIDS)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_long_convolutions_are_their_sum(shapes, periodic, kernel, dtype, close):
    torch.manual_seed(0)
    module = GatedLongConv(E, len(periodic), local=False).to(dtype)
    v, grids = tokens_of(shapes, dtype), grids_of(shapes, periodic, dtype)
    y = module.mix(v, grids)
    parts = zip(split_grids(v, grids.layout), shapes, strict=True)
    due = torch.cat([naive_long_conv(part, module, shape, periodic) for part, shape in parts], 1)
    torch.testing.assert_close(y, due, rtol=close, atol=close)
    weights = torch.randn(y.shape, dtype=dtype)
    given = (v, module.gain, *module.kernel.parameters())
    for found, wanted in zip(
        torch.autograd.grad((y * weights).sum(), given),
        torch.autograd.grad((due * weights).sum(), given),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=100 * close, atol=100 * close)


def test_a_long_kernel_is_that_of_another_resolution():
    torch.manual_seed(0)
    module = GatedLongConv(E, 2).double()
    for periodic, extent in (((True, False), (1, 2)), ((False, False), (2, 2))):
        coarse = module.kernel_of((16, 16), periodic)
        fine = module.kernel_of((32, 32), periodic)
        assert coarse.shape == (E, 16 * extent[0], 16 * extent[1])
        # A quarter of the cells: each counts four times.
        torch.testing.assert_close(4 * fine[:, ::2, ::2], coarse, rtol=0.02, atol=1e-6)


def test_a_long_convolution_moves_with_a_periodic_grid():
    torch.manual_seed(0)
    module, grids = GatedLongConv(E, 2).double(), grids_of(((6, 8),), (True, True))
    for parameter in module.local.parameters():
        torch.nn.init.normal_(parameter)
    v = tokens_of(((6, 8),)).detach()
    turned = v.unflatten(1, (6, 8)).roll((2, 3), (1, 2)).flatten(1, 2)
    due = module(v, grids).unflatten(1, (6, 8)).roll((2, 3), (1, 2)).flatten(1, 2)
    torch.testing.assert_close(module(turned, grids), due, rtol=1e-12, atol=1e-12)


def test_a_gated_convolution_is_its_formula():
    torch.manual_seed(0)
    module, grids = GatedConv(E, (5, 5)).double(), grids_of(((6, 8),), (True, False))
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    x = tokens_of(((6, 8),))
    v, g = module.project(x).chunk(2, -1)
    mixed = naive_depthwise(v, module.local.weight, module.local.bias, (6, 8), (True, False), True)
    torch.testing.assert_close(
        module(x, grids), module.out(mixed * F.silu(g)), rtol=1e-12, atol=1e-12
    )


MIXERS = ["attention:7", "conv:7", "conv:7x3", "long_conv", "attention,conv:5", "long_conv,conv:3"]


def small(**changes):
    entries = {
        "n_fields": 2,
        "embed_dim": 16,
        "num_heads": 2,
        "depth": 2,
        "num_scales": 1,
        "num_exchanges": 1,
        "boundary_conditions": (("periodic",) * 2, ("wall",) * 2),
    }
    return WaveLiTConfig(**{**entries, **changes})


@pytest.mark.parametrize("mixers", MIXERS)
@pytest.mark.parametrize("wall_padding", ["edge", "zero"])
def test_models_train_and_are_loaded_as_they_were(mixers, wall_padding, tmp_path):
    torch.manual_seed(0)
    model = WaveLiT(small(mixers=mixers, wall_padding=wall_padding))
    torch.nn.init.normal_(model.head.weight)
    x = torch.randn(2, 4, 2, 32, 32)
    y = model(x)
    y.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.pyramid.parameters())
    model.save_pretrained(tmp_path)
    loaded = WaveLiT.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert torch.equal(loaded(x), y)


def test_padding_at_walls_matters_there_alone():
    torch.manual_seed(0)
    x = torch.randn(1, 4, 2, 32, 64)
    models = []
    for wall_padding in ("edge", "zero"):
        torch.manual_seed(1)
        model = WaveLiT(small(mixers="conv:3", depth=1, wall_padding=wall_padding))
        torch.nn.init.normal_(model.head.weight)
        models.append(model(x))
    apart = (models[0] - models[1]).abs().amax((0, 1, 2))
    # Three convolutions of 3 tokens of 4 cells.
    assert apart[12:-12].max() < 1e-5 < apart[:4].min()


def test_absent_means_attention():
    assert read_mixers("attention", 3, 2) == (MixerKind("attention", (3, 3)),) * 3
    assert read_mixers("conv:7x3, long_conv", 2, 2) == (
        MixerKind("conv", (7, 3)),
        MixerKind("long_conv", (3, 3)),
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixers": "mamba"}, "unknown mixer 'mamba'.*conv:7"),
        ({"mixers": "conv"}, "unknown mixer 'conv'"),
        ({"mixers": "long_conv:7"}, "unknown mixer 'long_conv:7'"),
        ({"mixers": ""}, "unknown mixer ''"),
        ({"mixers": "conv:4"}, "mixer 'conv:4'.*odd"),
        ({"mixers": "conv:0"}, "mixer 'conv:0'.*odd"),
        ({"mixers": "conv:65"}, "mixer 'conv:65'.*up to 63"),
        ({"mixers": "conv:7x7x7"}, "mixer 'conv:7x7x7'.*each of 2 axes, as in conv:7x7"),
        ({"mixers": "conv:7,conv:7,conv:7"}, "are 3, but depth is 2"),
        ({"mixers": "conv:7", "local": False}, "mixers with conv need"),
        ({"wall_padding": "mirror"}, "unknown wall_padding 'mirror': expected one of edge, zero"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(WavelitError, match=message):
        small(**changes)


def test_a_kernel_wider_than_a_walled_grid_is_named():
    config = small(mixers="conv:9")
    # Along the periodic axis it wraps.
    assert padded_shape((16, 36), config) == (16, 36)
    with pytest.raises(WavelitError, match="a kernel of 9 is wider than the 8 tokens along axis 1"):
        padded_shape((64, 32), config)
    with pytest.raises(WavelitError, match="wider"):
        WaveLiT(config)(torch.randn(1, 4, 2, 64, 32))


@pytest.mark.parametrize(
    ("sides", "shape", "mixers"),
    [
        (WALLS, (28, 25), "conv:7"),
        (WALLS, (32, 24), "conv:7x5"),
        (WALLS, (4, 17), "conv:3x5"),
        ((("wall", "open"), ("periodic", "periodic")), (16, 16), "conv:3x7"),
    ],
)
def test_a_preset_takes_kernels_that_fit(sides, shape, mixers):
    facts = SimpleNamespace(
        dataset_name="d", n_fields=2, n_constant_fields=0, n_constant_scalars=0, n_spatial_dims=2,
        spatial_resolution=shape,
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = configuration_of(facts, sides, preset="nano")
    assert config.mixers == mixers
    assert WaveLiT(config)(torch.randn(1, 4, 2, *shape)).shape == (1, 2, *shape)
    told = [str(each.message) for each in caught]
    if mixers == "conv:7":
        assert not told
    else:
        assert [f"mixers={mixers} is taken instead" in line for line in told] == [True]
        with pytest.raises(WavelitError, match="a kernel of 7 is wider"):
            configuration_of(facts, sides, preset="nano", mixers="conv:7")


def test_mixers_are_written_as_they_are_read():
    for text in ("attention", "attention:7x7", "conv:7x3", "long_conv"):
        assert str(read_mixers(text, 1, 2)[0]) == text


def test_weights_of_another_mixer_are_refused(tmp_path):
    WaveLiT(small(mixers="conv:7")).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace("conv:7", "attention"))
    with pytest.raises(WavelitError, match=str(tmp_path)):
        WaveLiT.from_pretrained(tmp_path)
