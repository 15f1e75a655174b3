"""The joint model: what systems share and what is their own, by name, bit for bit; its weights
folder; what it refuses.
"""

import dataclasses
import json

import numpy as np
import pytest
import torch

from systems import SMALL
from wavelit.errors import WavelitError
from wavelit.model.config import WaveLiTConfig
from wavelit.model.foundation import JointWaveLiT
from wavelit.model.joint_config import JointConfig, SystemConfig, scalars_of
from wavelit.model.signature import Quantity, Signature
from wavelit.model.vocabulary import Vocabulary, key_of
from wavelit.model.wavelit import WaveLiT

PERIODIC, WALLS, OUTLET = ("periodic", "periodic"), ("wall", "wall"), ("wall", "open")
COMPONENTS = {0: [""], 1: ["_x", "_y"], 2: ["_xx", "_xy", "_yx", "_yy"]}


def quantity(name: str, order: int = 0, **facts) -> Quantity:
    return Quantity(name, tuple(name + end for end in COMPONENTS[order]), order, **facts)


def system(fields: dict[str, int], sides, constants=(), scalars=(), history=3, **changes):
    signature = Signature(
        dataset="any",
        n_steps_input=history,
        fields=tuple(quantity(name, order) for name, order in fields.items()),
        constants=tuple(quantity(name) for name in constants),
        scalars=tuple(quantity(name, ranges=((1.0, 100.0),)) for name in scalars),
        axes=("x", "y"),
        boundary_conditions=sides,
        spacing=(0.1, 0.2),
        time_step=(0.5, 0.5),
    )
    config = WaveLiTConfig(
        n_fields=len(signature.field_names),
        n_constant_fields=len(constants),
        n_scalars=len(scalars),
        n_steps_input=history,
        boundary_conditions=sides,
        **{**SMALL, "num_scales": 1, **changes},
    )
    return SystemConfig(config, signature)


SYSTEMS = {
    "waves": system({"pressure": 0}, (PERIODIC, PERIODIC)),
    "flow": system({"pressure": 0, "velocity": 1}, (PERIODIC, WALLS), scalars=["Re"]),
    "polymer": system(
        {"pressure": 0, "velocity": 1, "stress": 2},
        (OUTLET, WALLS),
        constants=["depth"],
        scalars=["Re", "Wi"],
        history=4,
        levels=2,
    ),
}


def joint(systems=None, **options) -> JointWaveLiT:
    return JointWaveLiT(JointConfig(SYSTEMS if systems is None else systems, **options))


def inputs(model, seed: int = 0, side: int = 16):
    config, draw = model.config, torch.Generator().manual_seed(seed)
    fields = torch.randn(2, config.n_steps_input, config.n_fields, side, side, generator=draw)
    constants = torch.randn(2, config.n_constant_fields, side, side, generator=draw)
    scalars = torch.rand(2, config.n_scalars, generator=draw) + 1
    return (
        fields,
        constants if config.n_constant_fields else None,
        scalars if config.n_scalars else None,
    )


def stirred(model):
    """All parameters drawn anew: at the start what writes is zero."""
    draw = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=draw)
    return model


@pytest.mark.parametrize("adapters", ["field", "system"])
@pytest.mark.parametrize("trunk", ["shared", "private"])
def test_every_system_is_an_emulator_with_a_gradient_on_all_it_has(adapters, trunk):
    model = stirred(joint(adapters=adapters, trunk=trunk))
    for name, emulator in model.items():
        assert isinstance(emulator, WaveLiT)
        arguments = inputs(emulator)
        following = emulator(*arguments)
        assert following.shape == arguments[0][:, -1].shape
        model.zero_grad()
        emulator.increment(*arguments).square().mean().backward()
        for key, parameter in emulator.named_parameters():
            assert parameter.grad is not None, (name, key)
            assert torch.isfinite(parameter.grad).all(), (name, key)
    everything = {id(p) for p in model.parameters()}
    assert everything == {id(p) for emulator in model.values() for p in emulator.parameters()}


def test_the_trunk_is_one_and_stands_in_the_weights_once():
    model = joint()
    assert len({id(emulator.pyramid) for emulator in model.values()}) == 1
    state = model.state_dict()
    assert len({value.data_ptr() for value in state.values() if value.numel()}) == sum(
        value.numel() > 0 for value in state.values()
    )
    assert not any("pyramid" in key for key in state if key.startswith("systems."))
    # A step on one system moves what all run through.
    before = {name: emulator(*inputs(emulator)) for name, emulator in stirred(model).items()}
    with torch.no_grad():
        model["waves"].pyramid.towers[0][0].mlp.contract.weight.add_(1.0)
    for name, emulator in model.items():
        assert not torch.equal(before[name], emulator(*inputs(emulator))), name
    own = joint(trunk="private")
    assert len({id(emulator.pyramid) for emulator in own.values()}) == 3


def test_fields_of_one_name_share_what_reads_and_writes_them():
    model = joint(adapters="field")
    waves, flow = model["waves"], model["flow"]
    q = waves.tokenizer.n_coefficients
    # waves: 3 frames of pressure; flow: 3 frames of pressure, velocity_x and velocity_y.
    torch.testing.assert_close(waves.embed.weight[:, :q], flow.embed.weight[:, :q])
    torch.testing.assert_close(
        waves.embed.weight[:, q : 2 * q], flow.embed.weight[:, 3 * q : 4 * q]
    )
    with torch.no_grad():
        waves.head.blocks[0].add_(1.0)
        waves.detail.read.blocks[0].add_(1.0)
    assert (flow.head.weight[:q] == 1).all()
    assert (flow.head.weight[q:] == 0).all()
    torch.testing.assert_close(flow.detail.read.weight[:, :1], waves.detail.read.weight[:, :1])
    assert flow.skip.weight.shape != waves.skip.weight.shape
    private = joint(adapters="system")
    assert not torch.equal(
        private["waves"].embed.weight[:, :q], private["flow"].embed.weight[:, :q]
    )


def test_a_vocabulary_puts_together_what_a_plain_matrix_has():
    """A system in a joint model computes what a WaveLiT with the assembled matrices does."""
    emulator = stirred(joint())["waves"].double()
    for block in emulator.pyramid.towers[0]:
        torch.nn.init.zeros_(block.modulation.weight)
        torch.nn.init.zeros_(block.modulation.bias)
    plain = WaveLiT(dataclasses.replace(emulator.config)).double()
    state = emulator.state_dict()
    own = {key: value for key, value in state.items() if key in plain.state_dict()}
    assembled = {
        f"{name}.{what}": getattr(emulator.get_submodule(name), what)
        for name in ("embed", "head", "detail.read", "detail.mix", "detail.write")
        for what in ("weight", "bias")
    }
    plain.load_state_dict({**own, **assembled})
    fields = inputs(emulator)[0].double()
    torch.testing.assert_close(plain(fields), emulator(fields))


@pytest.mark.parametrize("adapters", ["field", "system"])
@pytest.mark.parametrize("trunk", ["shared", "private"])
def test_order_names_and_company_change_nothing(adapters, trunk):
    options = {"adapters": adapters, "trunk": trunk, "seed": 3}
    model = joint(**options).state_dict()
    turned = joint(dict(reversed(SYSTEMS.items())), **options).state_dict()
    assert list(model) == list(turned)
    assert all(torch.equal(model[key], turned[key]) for key in model)
    renamed = {("a first one" if name == "flow" else name): s for name, s in SYSTEMS.items()}
    for others in (renamed, {name: SYSTEMS[name] for name in ("waves", "polymer")}):
        state = joint(others, **options).state_dict()
        shared = [key for key in state if key in model]
        assert all(torch.equal(model[key], state[key]) for key in shared)
        assert {key for key in state if "systems.polymer" in key} <= set(shared)
        assert any(key.startswith("trunk.") for key in shared) == (trunk == "shared")


def test_building_draws_nothing_from_the_global_stream():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    joint()
    assert torch.equal(torch.rand(3), expected)


def test_systems_come_go_and_are_renamed_with_what_they_learnt():
    model = stirred(joint({name: SYSTEMS[name] for name in ("flow", "waves")}))
    more = model.with_systems(SYSTEMS)
    for name, emulator in model.items():
        assert torch.equal(emulator(*inputs(emulator)), more[name](*inputs(emulator)))
    other = model.with_systems(
        {"sound": SYSTEMS["waves"], "flow": SYSTEMS["flow"]}, renamed={"waves": "sound"}
    )
    arguments = inputs(model["waves"])
    assert torch.equal(model["waves"](*arguments), other["sound"](*arguments))
    # Names may change places.
    alike = stirred(joint({"a": SYSTEMS["waves"], "b": SYSTEMS["waves"]}))
    turned = alike.with_systems(alike.config.systems, renamed={"a": "b", "b": "a"})
    for name, before in (("a", "b"), ("b", "a")):
        assert torch.equal(turned[name](*arguments), alike[before](*arguments))
    assert not torch.equal(alike["a"](*arguments), alike["b"](*arguments))
    with pytest.raises(WavelitError, match="give the system another name"):
        joint(adapters="system").with_systems({"waves": SYSTEMS["flow"]})


def test_a_system_predicts_from_arrays_by_name():
    emulator = stirred(joint())["flow"]
    (history, _, scalars), fields = inputs(emulator), SYSTEMS["flow"].signature.fields
    arrays = {
        fields[0].name: history[0, :, 0].numpy(),
        fields[1].name: history[0, :, 1:].movedim(1, -1).numpy(),
    }
    found = emulator.predict(arrays, {"Re": float(scalars[0, 0])})
    following = emulator(history[:1], None, scalars[:1])
    np.testing.assert_allclose(found["pressure"][0], following[0, 0].detach(), rtol=1e-5, atol=1e-5)
    assert found["velocity"].shape == (1, 16, 16, 2)


def test_a_field_that_a_system_lacks_is_not_read():
    model = stirred(joint())
    expected = model["waves"](*inputs(model["waves"]))
    with torch.no_grad():
        for key, block in model.vocabulary.blocks.items():
            if "velocity" in key or "stress" in key or "depth" in key:
                block.fill_(float("nan"))
    assert torch.equal(model["waves"](*inputs(model["waves"])), expected)


def test_the_blocks_are_told_scalars_sides_and_the_name():
    model = stirred(joint())
    fields, constants, scalars = inputs(model["polymer"])
    base = model["polymer"](fields, constants, scalars)
    assert not torch.allclose(base, model["polymer"](fields, constants, scalars + 0.5))
    for changed in (
        dataclasses.replace(SYSTEMS["polymer"].signature, time_step=(5.0, 5.0)),
        dataclasses.replace(SYSTEMS["polymer"].signature, spacing=(0.1, 0.1)),
    ):
        other = {**SYSTEMS, "polymer": SystemConfig(SYSTEMS["polymer"].model, changed)}
        assert not torch.allclose(
            model.with_systems(other)["polymer"](fields, constants, scalars), base
        )
    with torch.no_grad():
        model["polymer"].embedding.add_(1.0)
    assert not torch.allclose(model["polymer"](fields, constants, scalars), base)
    nameless = joint(system_embedding=False)
    assert nameless["polymer"].embedding is None
    assert not any(key.endswith(".embedding") for key in nameless.state_dict())


def test_a_scalar_seen_as_logarithm_is_another():
    low = dataclasses.replace(
        SYSTEMS["flow"].signature, scalars=(quantity("Re", ranges=((1, 2),)),)
    )
    assert scalars_of(SYSTEMS["flow"].signature) == ("log Re",)
    assert scalars_of(low) == ("Re",)


@pytest.mark.parametrize("adapters", ["field", "system"])
@pytest.mark.parametrize("trunk", ["shared", "private"])
def test_weights_return_as_they_were(adapters, trunk, tmp_path):
    model = stirred(joint(adapters=adapters, trunk=trunk, seed=5)).eval()
    model["flow"].normalizer.delta_std.fill_(2.0)
    model.save_pretrained(tmp_path / "all")
    again = JointWaveLiT.from_pretrained(tmp_path / "all")
    assert again.config == model.config
    assert list(again) == ["flow", "polymer", "waves"]
    state = again.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    # One system by itself is a joint model of one.
    again["flow"].save_pretrained(tmp_path / "one")
    alone = JointWaveLiT.from_pretrained(tmp_path / "one")
    assert list(alone) == ["flow"]
    arguments = inputs(model["flow"])
    assert torch.equal(alone["flow"](*arguments), model["flow"](*arguments))
    assert alone["flow"].signature == SYSTEMS["flow"].signature


def test_one_kind_of_weights_is_not_taken_for_the_other(tmp_path):
    joint().save_pretrained(tmp_path / "joint")
    WaveLiT(SYSTEMS["waves"].model).save_pretrained(tmp_path / "bespoke")
    with pytest.raises(
        WavelitError, match=r"joint model of flow, polymer, waves: load it by Joint"
    ):
        WaveLiT.from_pretrained(tmp_path / "joint")
    with pytest.raises(WavelitError, match=r"of a model of one system: load it by WaveLiT"):
        JointWaveLiT.from_pretrained(tmp_path / "bespoke")


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("joint", {"adapters": "none"}, r"unknown adapters 'none'"),
        ("joint", {"depth": 3}, r"joint: unknown entry 'depth'"),
        ("systems", {}, "needs a system"),
        ("systems", {"waves": {"model": {}}}, "n_fields"),
        ("more", 1, "unknown entry 'more'"),
    ],
)
def test_a_damaged_configuration_is_refused_in_one_line(entry, value, message, tmp_path):
    joint().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {entry: value}))
    with pytest.raises(WavelitError, match=message) as refused:
        JointWaveLiT.from_pretrained(tmp_path)
    assert "config.json" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_system_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(WavelitError, match=r"no system 'smoke': it has flow, polymer, waves"):
        joint()["smoke"]
    assert "smoke" not in joint()
    assert len(joint()) == 3


def flat() -> SystemConfig:
    signature = Signature("rod", 3, (quantity("pressure"),), (), (), ("x",), (PERIODIC,))
    config = WaveLiTConfig(
        1, n_steps_input=3, spatial=1, **{**SMALL, "num_scales": 1}, boundary_conditions=(PERIODIC,)
    )
    return SystemConfig(config, signature)


def with_unit(unit: str) -> SystemConfig:
    scalars = (quantity("Re", unit=unit, ranges=((1.0, 100.0),)),)
    flow = SYSTEMS["flow"]
    return SystemConfig(flow.model, dataclasses.replace(flow.signature, scalars=scalars))


@pytest.mark.parametrize(
    ("systems", "message"),
    [
        ({}, "needs a system: name one dataset"),
        ({"": SYSTEMS["waves"]}, "a system's name must be text"),
        ({"a": flat(), "b": SYSTEMS["waves"]}, r"'a' has 1 axes, 'b' has 2: .* train them apart"),
        (
            {"a": SYSTEMS["waves"], "b": system({"u": 0}, (PERIODIC, PERIODIC), depth=4)},
            r"'a' has depth 2, 'b' 4",
        ),
        (
            {"a": SYSTEMS["flow"], "b": system({"velocity": 0}, (PERIODIC, PERIODIC))},
            r"field 'velocity' is a vector in system 'a' and a scalar in 'b': rename it",
        ),
        (
            {"a": with_unit("m"), "b": with_unit("km")},
            r"scalar 'Re' is in m in system 'a' and in km in 'b': write it in one unit",
        ),
    ],
)
def test_systems_that_contradict_each_other_are_refused(systems, message):
    with pytest.raises(WavelitError, match=message):
        JointConfig(systems)


def test_names_are_whatever_they_like():
    names = ["a.b", "items", "type", "ünï", "x/y", "%", "blocks", " "]
    keys = [key_of(name) for name in names]
    assert len(set(keys)) == len(keys)
    model = joint(dict.fromkeys(names, SYSTEMS["waves"]))
    model.load_state_dict(model.state_dict())
    assert sorted(model) == sorted(names)
    vocabulary = Vocabulary(0)
    blocks = [vocabulary.block("read", name, shape=(2,), bound=1.0) for name in names]
    assert len({tuple(block.tolist()) for block in blocks}) == len(names)
    assert vocabulary.block("read", "a.b", shape=(2,)) is blocks[0]


def test_what_is_shared_is_said():
    model = joint(adapters="field")
    shared = sum(p.numel() for p in model.trunk.parameters()) - sum(
        p.numel() for p in model.trunk.scalars.parameters()
    )
    # All have a pressure; tokens of polymer are larger.
    common = ["read/bias", "see/bias/4", "mix/4", "mix/bias/4", "correct/pressure/0/4/bias"]
    common += [f"{what}/pressure/0/4" for what in ("see/state", "see/prediction", "correct")]
    shared += sum(model.vocabulary.blocks[key].numel() for key in common)
    assert model.n_shared == shared
    assert f"{model.n_parameters:,} parameters stored" in model.describe()
    assert f"{shared:,} are shared by all" in model.describe()
    assert joint(trunk="private").n_shared < model.n_shared / 4


@pytest.mark.parametrize(
    "options",
    [
        {"rank": 2},
        {"own": ["stencils", "gains"]},
        {"own": ["outputs"]},
        {"rank": 3, "own": ["gains"]},
    ],
)
def test_a_system_has_parts_of_the_blocks_for_itself(options, tmp_path):
    plain, model = joint(), joint(**options)
    for name, emulator in model.items():
        # At the start the terms are zero and the copies equal.
        assert torch.equal(emulator(*inputs(emulator)), plain[name](*inputs(emulator)))
    stirred(model)
    before = {name: emulator(*inputs(emulator)) for name, emulator in model.items()}
    mine = dict(model["waves"].pyramid.named_parameters())
    others = {id(p) for name in ("flow", "polymer") for p in model[name].parameters()}
    own = {name: p for name, p in mine.items() if id(p) not in others}
    kinds = {name.rsplit(".", 2)[-2] + "." + name.rsplit(".", 1)[-1] for name in own}
    assert ("expand.up" in kinds) == ("rank" in options)
    assert ("local.weight" in kinds) == ("stencils" in options.get("own", ()))
    assert ("contract.weight" in kinds) == ("outputs" in options.get("own", ()))
    assert ("attention_norm.gain" in kinds) == ("gains" in options.get("own", ()))
    with torch.no_grad():
        for parameter in own.values():
            parameter.add_(0.5)
    after = {name: emulator(*inputs(emulator)) for name, emulator in model.items()}
    assert [name for name in model if not torch.equal(before[name], after[name])] == ["waves"]
    with torch.no_grad():
        model.trunk.pyramid.towers[0][0].mlp.expand.weight.add_(0.5)
    assert not torch.equal(after["flow"], model["flow"](*inputs(model["flow"])))
    model.save_pretrained(tmp_path)
    again = JointWaveLiT.from_pretrained(tmp_path)
    assert again.config == model.config
    assert torch.equal(again["flow"](*inputs(again["flow"])), model["flow"](*inputs(model["flow"])))


def test_low_rank_terms_are_added_to_the_shared_map():
    emulator = stirred(joint(rank=2))["waves"]
    linear = emulator.pyramid.towers[0][0].mlp.contract
    x = torch.randn(3, linear.shared.in_features)
    due = linear.shared(x) + x @ linear.down.T @ linear.up.T
    torch.testing.assert_close(linear(x), due)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": -1}, "rank"),
        ({"own": ["kernels"]}, "stencils"),
        ({"rank": 1, "trunk": "private"}, "shared trunk"),
    ],
)
def test_parts_of_blocks_are_checked(options, message):
    with pytest.raises(WavelitError, match=message):
        joint(**options)
