"""The linear part of a model, as scripts/linear_part.py has it."""

import pytest
import torch

from wavelit import WaveLiT, WaveLiTConfig


@pytest.mark.parametrize("history", ["increments", "states"])
def test_it_is_a_step_without_blocks_and_correction(history, load_script):
    script = load_script("linear_part")
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
    assert script.growth(model) == pytest.approx(1)
    with torch.no_grad():
        model.skip.weight.normal_(std=0.3)
        model.input_scale.uniform_(0.5, 2)
        model.output_scale.uniform_(0.5, 2)
        model.normalizer.std.uniform_(0.5, 2)
        model.normalizer.delta_std.uniform_(0.1, 0.5)
    fields = torch.randn(1, 3, 2, 32, 32, dtype=torch.float64)

    def tokens(states: torch.Tensor) -> torch.Tensor:
        seen = states / model.normalizer.std.view(2, 1, 1)
        return model.tokenizer.encode_tokens(seen.flatten(1, 2))[0, 3, 5].flatten()

    following = model(fields)
    after = torch.cat([fields[:, 1:], following[:, None]], 1)
    torch.testing.assert_close(script.linear_map(model) @ tokens(fields), tokens(after))
    assert script.growth(model) > 1
