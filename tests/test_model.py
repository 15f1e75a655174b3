"""Every preset keeps one contract; padding, boundaries, conditioning and persistence of the
model.
"""

import dataclasses
import warnings
from types import SimpleNamespace

import pytest
import torch
from the_well.data.datasets import WellMetadata

from wavelit.data.batch import Batch
from wavelit.errors import WavelitError
from wavelit.model.attention import AugmentedLinearAttention
from wavelit.model.boundaries import boundary_features
from wavelit.model.config import PRESETS, WaveLiTConfig, pad_grid
from wavelit.model.normalizer import Statistics
from wavelit.model.wavelit import WaveLiT, configuration_of
from wavelit.training.data_scales import measure_scales

PARAMETERS = {
    "nano": (0.22e6, 0.3e6),
    "nano-0.1": (0.24e6, 0.32e6),
    "paper": (0.85e6, 1.15e6),
    "1M": (0.85e6, 1.15e6),
    "3M": (2.7e6, 3.2e6),
    "10M": (9e6, 10.5e6),
}
WALLS = (("wall", "wall"), ("open", "wall"))


def small(**changes) -> WaveLiTConfig:
    return WaveLiTConfig(**{"n_fields": 2, "embed_dim": 16, "num_heads": 2, "depth": 2, **changes})


def randomised(config: WaveLiTConfig) -> WaveLiT:
    """A model whose head is not zero."""
    torch.manual_seed(0)
    model = WaveLiT(config)
    last = [model.head.weight, model.skip.weight]
    for p in last if model.detail is None else [*last, model.detail.write.weight]:
        torch.nn.init.normal_(p, std=0.1)
    return model.eval()


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_keeps_the_contract(preset, tmp_path):
    torch.manual_seed(0)
    model = WaveLiT(WaveLiTConfig.preset(preset, n_fields=4))
    low, high = PARAMETERS[preset]
    assert low <= model.n_parameters <= high
    x = torch.randn(1, 4, 4, 32, 32)
    out = model(x)
    assert out.shape == (1, 4, 32, 32)
    torch.testing.assert_close(out, x[:, -1], msg="the untrained model predicts no change")
    torch.nn.init.normal_(model.head.weight, std=0.1)
    if model.detail is not None:
        torch.nn.init.normal_(model.detail.write.weight, std=0.1)
    if isinstance(mixer := model.pyramid.towers[0][0].attention, AugmentedLinearAttention):
        torch.nn.init.normal_(mixer.mean_gain)
    model(x).square().mean().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert torch.isfinite(p.grad).all(), name
        assert p.grad.abs().sum() > 0, name
    model.save_pretrained(tmp_path)
    loaded = WaveLiT.from_pretrained(tmp_path)
    assert loaded.config == model.config
    torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)


ABLATIONS = [
    {"wavelet": None},
    {"wavelet": "bior2.2"},
    {"wavelet": "db2"},
    {"feature_map": "relu"},
    {"feature_map": "focused"},
    {"centre": False},
    {"gate": False},
    {"local": False},
    {"num_scales": 1},
    {"shared": False},
    {"levels": 1},
    {"levels": 3, "num_scales": 2},
    {"detail_dim": 8},
    {"detail_dim": 8, "detail_gate": True},
    {"detail_dim": 8, "detail_gate": True, "detail_bound": True},
]


@pytest.mark.parametrize("change", ABLATIONS, ids=str)
def test_every_component_can_be_switched(change):
    model = randomised(small(**change))
    x = torch.randn(2, 4, 2, 32, 48)
    out = model(x)
    assert out.shape == (2, 2, 32, 48)
    assert torch.isfinite(out).all()
    assert not torch.allclose(out, randomised(small())(x)), "the switch changes something"


@pytest.mark.parametrize(
    ("spatial", "shape", "boundary"),
    [
        (1, (48,), ()),
        (1, (37,), (("wall", "open"),)),
        (2, (32, 24), WALLS),
        (2, (32, 21), (("periodic", "periodic"), ("wall", "wall"))),
        (3, (16, 16, 16), ()),
        (3, (9, 16, 7), (("wall", "wall"), ("periodic", "periodic"), ("open", "open"))),
    ],
)
@pytest.mark.parametrize("n_steps", [1, 3])
def test_any_dimension_grid_history_and_boundary(spatial, shape, boundary, n_steps):
    config = small(
        spatial=spatial,
        boundary_conditions=boundary,
        n_steps_input=n_steps,
        n_constant_fields=1,
        n_scalars=2,
        levels=1 if spatial == 3 else 2,
        detail_dim=4,
    )
    model = randomised(config)
    x, c, s = torch.randn(2, n_steps, 2, *shape), torch.randn(2, 1, *shape), torch.rand(2, 2)
    assert model(x, c, s).shape == (2, 2, *shape)
    assert model.n_parameters == WaveLiT(config).n_parameters


def test_shift_equivariance_on_periodic_axes():
    model = randomised(small(detail_dim=4)).double()
    x = torch.randn(1, 4, 2, 32, 32, dtype=torch.float64)
    shift = model.config.grid_multiple
    moved = x.roll((shift, 2 * shift), (-2, -1))
    torch.testing.assert_close(
        model(moved), model(x).roll((shift, 2 * shift), (-2, -1)), atol=1e-6, rtol=1e-6
    )


def test_a_periodic_axis_that_does_not_divide_is_named():
    with pytest.raises(WavelitError, match=r"axis 1 is periodic with 36 points.*multiple of 16"):
        WaveLiT(small())(torch.randn(1, 4, 2, 32, 36))


@pytest.mark.parametrize(
    ("preset", "side", "scales"),
    [
        ("nano", 66, (1, 1)),
        ("nano", 36, None),
        ("paper", 36, (2, 1)),
        ("paper", 40, (2, 2)),
        ("paper", 66, (1, 1)),
        ("paper", 64, None),
    ],
)
def test_awkward_periods_get_fewer_scales(preset, side, scales):
    facts = SimpleNamespace(
        dataset_name="d", n_fields=2, n_constant_fields=0, n_constant_scalars=0, n_spatial_dims=2,
        spatial_resolution=(32, side), boundary_condition_types=["PERIODIC"],
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = configuration_of(facts, preset=preset)
    own = WaveLiTConfig.preset(preset, n_fields=2)
    assert (config.levels, config.num_scales) == (scales or (own.levels, own.num_scales))
    assert len(caught) == (scales is not None)
    if scales is not None:
        assert f"levels={scales[0]} and num_scales={scales[1]} are taken" in str(caught[0].message)
    assert WaveLiT(config).increment(torch.randn(1, 4, 2, 32, side)).shape == (1, 2, 32, side)
    # What was asked for is not changed.
    with pytest.raises(WavelitError, match="axis 1 is periodic with 66 points"):
        configuration_of(
            SimpleNamespace(**{**vars(facts), "spatial_resolution": (32, 66)}),
            preset=preset,
            levels=2,
        )


def test_padding_repeats_the_high_edge():
    config = small(boundary_conditions=WALLS)
    x = torch.arange(20.0).view(1, 1, 1, 20).expand(1, 1, 16, 20)
    padded = pad_grid(x, config)
    assert padded.shape == (1, 1, 16, 32)
    assert torch.all(padded[..., 20:] == 19)


def test_boundary_features_measure_the_distance_from_each_side():
    features = boundary_features(
        (4, 2), (4.0, 2.0), (("wall", "open"), ("periodic", "periodic")), torch.device("cpu")
    )
    assert features.shape == (8, 4)
    low, high = features.view(4, 2, 4)[:, 0, 0], features.view(4, 2, 4)[:, 0, 2]
    torch.testing.assert_close(low, torch.tensor([0.125, 0.375, 0.625, 0.875]))
    torch.testing.assert_close(high, low.flip(0))


def test_scalars_change_the_prediction_only_once_trained():
    model = randomised(small(n_scalars=1))
    x = torch.randn(1, 4, 2, 16, 16)
    one, two = torch.tensor([[0.1]]), torch.tensor([[2.0]])
    torch.testing.assert_close(model(x, None, one), model(x, None, two))
    for block in model.pyramid.towers[0]:
        torch.nn.init.normal_(block.modulation.weight)
    assert not torch.allclose(model(x, None, one), model(x, None, two))


def test_without_conditioning_scalars_need_not_be_given():
    model = randomised(small(n_scalars=1, condition=False))
    x = torch.randn(1, 4, 2, 16, 16)
    torch.testing.assert_close(model(x), model(x, None, torch.ones(1, 1)))
    with pytest.raises(WavelitError, match="scalars must have 1 channels, came 0"):
        randomised(small(n_scalars=1))(x)


def test_bfloat16_autocast_is_close_to_float32():
    model = randomised(small(embed_dim=32))
    x = torch.randn(2, 4, 2, 32, 32)
    with torch.no_grad():
        exact = model.increment(x)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model.increment(x)
    assert rounded.dtype == torch.float32
    error = (rounded - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert float(error) < 0.03


def test_bfloat16_autocast_reads_a_slow_history():
    """States that hardly differ: what is read is their increments, which the bfloat16 of a state
    does not resolve.
    """
    torch.manual_seed(0)
    model = WaveLiT(small())
    start, change = torch.randn(2, 2, 2, 16, 16)
    history = torch.stack([start + 0.01 * n * change for n in range(5)], 1)
    batch = Batch(history[:, :4], history[:, 4:], None, None, None, torch.arange(2))
    measure_scales(model, [batch])
    torch.nn.init.normal_(model.skip.weight)
    exact = model.increment(batch.fields)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.increment(batch.fields)
    assert float(((rounded - exact).norm() / exact.norm()).detach()) < 5e-3


def test_bfloat16_autocast_keeps_the_residual_stream_in_float32():
    model = randomised(small())
    seen = []
    model.norm.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model.increment(torch.randn(1, 4, 2, 32, 32)).square().mean().backward()
    assert seen == [torch.float32]
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_units_cancel():
    """Rescaled and shifted fields with the statistics to match give the rescaled and shifted
    prediction.
    """
    model = randomised(small(detail_dim=4))
    x = torch.randn(1, 4, 2, 16, 16)
    plain = model(x)
    factor, shift = torch.tensor([1e3, 1e-2]), torch.tensor([5.0, -1.0])
    model.normalizer.set_statistics(
        Statistics(
            mean=tuple(shift.tolist()),
            std=tuple(factor.tolist()),
            delta_std=tuple(factor.tolist()),
            constant_mean=(),
            constant_std=(),
            scalar_mean=(),
            scalar_std=(),
            scalar_log=(),
        )
    )
    factor, shift = factor.view(2, 1, 1), shift.view(2, 1, 1)
    again = (model(x * factor + shift) - shift) / factor
    torch.testing.assert_close(again, plain, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("history", ["increments", "states"])
def test_tokens_are_read_as_scaled_frames(history):
    torch.manual_seed(0)
    model = WaveLiT(small(history=history, n_constant_fields=1))
    model.input_scale.uniform_(0.1, 2.0)
    fields, constants = torch.randn(3, 4, 2, 16, 16), torch.randn(3, 1, 16, 16)
    frames = fields
    if history == "increments":
        frames = torch.cat([fields[:, 1:] - fields[:, :-1], fields[:, -1:]], 1)

    def tokens(x):
        return model.tokenizer.encode_tokens(torch.cat([x.flatten(1, 2), constants], 1))

    weight = torch.randn(5, model.input_scale.numel())
    read = tokens(frames) / model.input_scale.flatten() @ weight.T
    torch.testing.assert_close(
        tokens(fields) @ model._fold_scales_into_weight(weight).T, read, rtol=1e-4, atol=1e-4
    )


def metadata(**changes) -> WellMetadata:
    facts = {
        "dataset_name": "toy",
        "n_spatial_dims": 2,
        "spatial_resolution": (32, 48),
        "scalar_names": [],
        "constant_scalar_names": ["Re"],
        "field_names": {0: ["p"], 1: ["v_x", "v_y"], 2: []},
        "constant_field_names": {0: ["mask"], 1: [], 2: []},
        "boundary_condition_types": ["PERIODIC"],
        "n_files": 1,
        "n_trajectories_per_file": [1],
        "n_steps_per_trajectory": [10],
    }
    return WellMetadata(**{**facts, **changes})


def test_from_metadata_reads_the_layout():
    config = WaveLiT.from_metadata(metadata(), preset="nano", n_steps_input=2).config
    assert (config.n_fields, config.n_constant_fields, config.n_scalars, config.n_steps_input) == (
        3,
        1,
        1,
        2,
    )
    assert config.periodic == (True, True)


def test_from_metadata_asks_for_boundaries_that_the_metadata_leave_open():
    mixed = metadata(boundary_condition_types=["WALL", "PERIODIC"])
    with pytest.raises(WavelitError, match="say which axis has which"):
        WaveLiT.from_metadata(mixed)
    config = WaveLiT.from_metadata(mixed, (("periodic", "periodic"), ("wall", "wall"))).config
    assert config.periodic == (True, False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wavelet": "db9"}, "unknown wavelet"),
        ({"feature_map": "tanh"}, "unknown feature_map"),
        ({"spatial": 4}, "spatial must be"),
        ({"boundary_conditions": (("periodic", "wall"), ("wall", "wall"))}, "one side only"),
        ({"boundary_conditions": (("wall", "wall"),)}, "must name 2 axes"),
        ({"boundary_conditions": (("lid", "wall"), ("wall", "wall"))}, "unknown boundary 'lid'"),
        ({"num_heads": 5}, "multiple of num_heads"),
        ({"depth": 3}, "multiple of num_exchanges"),
        ({"n_fields": 0}, "n_fields must be at least 1"),
        ({"detail_dim": -1}, "detail_dim must be at least 0"),
        ({"n_scalars": -1}, "n_scalars must be at least 0"),
        ({"mlp_ratio": 0.001}, "mlp_ratio 0.001 leaves no hidden channels"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(WavelitError, match=message):
        small(**changes)


def test_unknown_presets_and_entries_list_the_known_ones():
    with pytest.raises(
        WavelitError, match=r"unknown preset '2M'; known: nano, nano-0\.1, paper, 1M"
    ):
        WaveLiTConfig.preset("2M", n_fields=1)
    with pytest.raises(WavelitError, match="unknown model entry 'width'; known: n_fields"):
        WaveLiTConfig.preset("nano", n_fields=1, width=3)


def test_wrong_shapes_are_named():
    model = WaveLiT(small(n_constant_fields=1))
    with pytest.raises(WavelitError, match=r"fields must be \(B, T=4, C=2, 2 axes\)"):
        model(torch.randn(1, 3, 2, 16, 16))
    with pytest.raises(WavelitError, match="constants must have 1 channels, came 0"):
        model(torch.randn(1, 4, 2, 16, 16))
    with pytest.raises(WavelitError, match=r"scalars must have 1 channels, came shape \(1,\)"):
        WaveLiT(small(n_scalars=1))(torch.randn(1, 4, 2, 16, 16), None, torch.ones(1))
    for constants in (torch.ones(1, 1, 16, 16), torch.ones(2, 1, 16, 8), torch.ones(2, 1)):
        with pytest.raises(
            WavelitError, match=r"constants must be \(2, 1, 16, 16\), as fields are"
        ):
            model(torch.randn(2, 4, 2, 16, 16), constants)
    with pytest.raises(WavelitError, match=r"scalars must be \(2, 1\), as fields are"):
        WaveLiT(small(n_scalars=1))(torch.randn(2, 4, 2, 16, 16), None, torch.ones(1, 1))


@pytest.mark.parametrize("name", ["fields", "constants", "scalars"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (torch.Tensor.to_sparse, "must be a dense tensor, not torch.sparse_coo"),
        (lambda x: x.to("meta"), "are on meta, the model on cpu"),
    ],
)
def test_sparse_tensors_and_those_elsewhere_are_named(change, message, name):
    model = WaveLiT(small(n_constant_fields=1, n_scalars=1))
    given = {
        "fields": torch.randn(1, 4, 2, 16, 16),
        "constants": torch.ones(1, 1, 16, 16),
        "scalars": torch.ones(1, 1),
    }
    with pytest.raises(WavelitError, match=f"{name} {message}"):
        model(**{**given, name: change(given[name])})


def test_wrong_precisions_are_named():
    x = torch.randn(1, 4, 2, 16, 16)
    with pytest.raises(
        WavelitError, match=r"fields are torch\.float64, the weights torch\.float32: convert"
    ):
        WaveLiT(small())(x.double())
    with pytest.raises(WavelitError, match=r"scalars are torch\.float64"):
        WaveLiT(small(n_scalars=1))(x, None, torch.ones(1, 1).double())
    with pytest.raises(WavelitError, match=r"weights are torch\.bfloat16: keep them in float32"):
        WaveLiT(small()).bfloat16()(x.bfloat16())


def test_config_is_frozen_and_hashable():
    config = small(boundary_conditions=[["wall", "wall"], ["open", "open"]])
    assert hash(config) == hash(dataclasses.replace(config))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.depth = 4


@pytest.mark.long
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"boundary_conditions": WALLS, "detail_dim": 4},
        {"wavelet": "bior4.4", "depth": 1, "num_exchanges": 1},
    ],
    ids=str,
)
@pytest.mark.slow
def test_compiles_without_graph_breaks(change):
    model = randomised(small(**change))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 4, 2, 32, 32)
    torch.testing.assert_close(compiled(x), model(x), atol=1e-5, rtol=1e-4)


@pytest.mark.long
@pytest.mark.slow
def test_compiled_steps_take_any_batch():
    """One graph for batches of any size, forward and backward."""
    model = randomised(small(n_scalars=1, depth=1, num_exchanges=1))
    compiled = torch.compile(model.increment, fullgraph=True, backend="aot_eager")
    for batch in (2, 3, 5):
        x, s = torch.randn(batch, 4, 2, 32, 32), torch.rand(batch, 1)
        gradients = []
        for increment in (model.increment, compiled):
            model.zero_grad()
            increment(x, None, s).square().mean().backward()
            gradients.append([p.grad.clone() for p in model.parameters()])
        for plain, other in zip(*gradients, strict=True):
            torch.testing.assert_close(other, plain, atol=1e-5, rtol=1e-3)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model = randomised(small(boundary_conditions=WALLS))
    x = torch.randn(2, 4, 2, 32, 32)
    expected = model(x)
    torch.testing.assert_close(model.cuda()(x.cuda()).cpu(), expected, atol=1e-4, rtol=1e-4)
