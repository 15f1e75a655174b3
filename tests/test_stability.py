"""The linear part of a model: its map, its growth, and the term of the loss that keeps it from
growing.
"""

import math

import pytest
import torch
from torch import nn

from systems import SMALL, write_system
from wavelit import WaveLiT, WaveLiTConfig
from wavelit.data.datamodule import WellDataModule
from wavelit.errors import WavelitError
from wavelit.model.growth import growth, growth_facts, linear_map
from wavelit.model.pretrained import pretrained
from wavelit.training.config import TrainConfig
from wavelit.training.module import EmulatorModule
from wavelit.training.networks import channels_of, emulator_of
from wavelit.training.run import build_model
from wavelit.training.stability import StabilityTerm


def emulator(history="increments"):
    """In float64, with a skip and scales of no special values."""
    torch.manual_seed(0)
    config = WaveLiTConfig.preset(
        "nano",
        n_fields=2,
        spatial=2,
        n_steps_input=3,
        boundary_conditions=(("periodic", "periodic"),) * 2,
        embed_dim=16,
        history=history,
        conserve=False,
    )
    # Head and correction write nothing in a new model.
    model = WaveLiT(config).double()
    assert growth(model) == pytest.approx(1)
    with torch.no_grad():
        model.skip.weight.normal_(std=0.3)
        model.input_scale.uniform_(0.5, 2)
        model.output_scale.uniform_(0.5, 2)
        model.normalizer.std.uniform_(0.5, 2)
        model.normalizer.delta_std.uniform_(0.1, 0.5)
    return model


@pytest.mark.parametrize("history", ["increments", "states"])
def test_it_is_a_step_without_blocks_and_correction(history):
    model = emulator(history)
    fields = torch.randn(1, 3, 2, 32, 32, dtype=torch.float64)

    def tokens(states: torch.Tensor) -> torch.Tensor:
        seen = states / model.normalizer.std.view(2, 1, 1)
        return model.tokenizer.encode_tokens(seen.flatten(1, 2))[0, 3, 5].flatten()

    after = torch.cat([fields[:, 1:], model(fields)[:, None]], 1)
    torch.testing.assert_close(linear_map(model) @ tokens(fields), tokens(after))
    assert growth(model) > 1


def test_which_shipped_models_stay_bounded():
    bounded = [name for name in pretrained() if growth(WaveLiT.from_pretrained(name)) < 1]
    assert bounded == [
        f"pocketwell/{name}"
        for name in (
            "active_matter",
            "gray_scott_reaction_diffusion",
            "turbulent_radiative_layer_2D",
        )
    ]


def with_moduli(*moduli):
    """A model whose linear part has these eigenvalues, and 0.5."""
    model = emulator("states")
    n = model.config.n_fields * model.tokenizer.n_coefficients
    wanted = torch.full((n,), 0.5, dtype=torch.float64)
    wanted[: len(moduli)] = torch.tensor(moduli)
    spread = model.normalizer.std / model.normalizer.delta_std
    each = spread.repeat_interleave(model.tokenizer.n_coefficients)
    scales = model.input_scale.flatten()[2 * n :] / model.output_scale.flatten()
    with torch.no_grad():
        # Of the last state alone.
        model.skip.weight.zero_()
        model.skip.weight[:, 2 * n :] = torch.diag((wanted - 1) * each * scales)
    assert growth(model) == pytest.approx(max(0.5, *moduli))
    return model


def test_what_a_report_says_of_it():
    ((name, said),) = growth_facts(with_moduli(0.9)).items()
    assert name == "growth of the linear part"
    assert said == "0.900 a step: rollouts of any length stay bounded"
    (said,) = growth_facts(with_moduli(1.25)).values()
    assert said == "1.250 a step: far from the data a rollout can grow by this factor"
    unbounded = WaveLiT(WaveLiTConfig.preset("nano-0.1", n_fields=1, spatial=1))
    assert growth_facts(unbounded) == {}


def test_the_term_is_the_logarithms_of_moduli_above_one():
    model, term = with_moduli(1.6, 1.3, -1.1, 0.9), StabilityTerm()
    for _ in range(60):
        found = term(model).item()
    assert found == pytest.approx(math.log(1.6 * 1.3 * 1.1), rel=1e-9)


def test_its_gradient_takes_growth_away():
    model, term = emulator(), StabilityTerm()
    optimiser = torch.optim.Adam([model.skip.weight], lr=3e-3)
    for _ in range(300):
        optimiser.zero_grad()
        term(model).backward()
        optimiser.step()
    assert growth(model) < 1.01
    others = [name for name, each in model.named_parameters() if each.grad is not None]
    assert set(others) <= {"skip.weight", "input_scale", "output_scale"}


def test_nothing_is_asked_of_a_model_that_stays_bounded():
    model = with_moduli(0.9, 0.8)
    loss = StabilityTerm()(model)
    loss.backward()
    assert loss.item() == 0
    assert not model.skip.weight.grad.any()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return WellDataModule(write_system(tmp_path_factory.mktemp("data") / "flow", "flow", (2, 1, 1)))


def test_the_loss_is_raised_by_its_weight(data):
    model = build_model(data, "nano", 0, **SMALL)
    with torch.no_grad():
        model.skip.weight.normal_(std=0.3)
    recipe = TrainConfig(steps=1, stability=0.25)
    module = EmulatorModule(model, recipe, 0, 4, data.field_names)
    assert module.stability_term("", model) == 0.25 * StabilityTerm()(model)
    without = EmulatorModule(model, TrainConfig(steps=1), 0, 4, data.field_names)
    assert without.stability_term("", model) == 0


def test_a_network_of_ones_own_has_no_linear_part(data):
    own = emulator_of(nn.Conv2d(13, 3, 1), channels_of(data))
    with pytest.raises(WavelitError, match="stability is of the linear part of a WaveLiT, which"):
        EmulatorModule(own, TrainConfig(steps=1, stability=0.1, wavelet_weight=0), 0, 4, [])
