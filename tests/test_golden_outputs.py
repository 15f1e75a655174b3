"""Golden outputs and gradients of the presets, of today and of WaveLiT 0.1."""

import pytest
import torch

from golden_answers import compare, made_in_float64
from test_model import WALLS
from wavelit.model.config import PRESETS, WaveLiTConfig
from wavelit.model.wavelit import WaveLiT

# The larger presets as they were with WaveLiT 0.1: files of that time hold them.
WITH_ATTENTION = {
    "1M of 0.1": {"embed_dim": 128},
    "3M of 0.1": {"embed_dim": 192, "num_heads": 6, "depth": 6},
    "10M of 0.1": {"embed_dim": 256, "num_heads": 8, "depth": 12, "num_exchanges": 3},
}


def test_outputs_and_gradients_are_the_golden_ones(record_property):
    """Guards every optimisation: the increment at a few points and the norm of each gradient;
    float32 gives the same.
    """
    found, narrow = {}, {}
    for preset in (*PRESETS, *WITH_ATTENTION):
        torch.manual_seed(0)
        entries = WITH_ATTENTION.get(preset) or PRESETS[preset]
        config = WaveLiTConfig(
            **{
                **entries,
                "n_fields": 2,
                "n_constant_fields": 1,
                "n_scalars": 1,
                "boundary_conditions": WALLS,
                "history": "states",
                # Kernels of seven tokens need as many.
                **({"levels": 1} if "mixers" in entries else {"num_scales": 2}),
            }
        )
        with made_in_float64():
            model = WaveLiT(config)
            for p in model.parameters():
                torch.nn.init.normal_(p, std=0.1)
            inputs = torch.randn(2, 4, 2, 16, 20), torch.randn(2, 1, 16, 20), torch.rand(2, 1)
        for answers, dtype in ((found, torch.float64), (narrow, torch.float32)):
            model.to(dtype).zero_grad()
            out = model.increment(*(value.to(dtype) for value in inputs))
            (out * torch.linspace(-1, 1, out.numel(), dtype=dtype).view_as(out)).sum().backward()
            answers[preset] = out[:, :, ::7, ::9].flatten().tolist()
            for name, p in sorted(model.named_parameters()):
                answers[f"{preset} {name}"] = [float(p.grad.norm())]
    compare("outputs", found, record_property)
    for key, expected in found.items():
        assert narrow[key] == pytest.approx(expected, rel=1e-3, abs=1e-4), key
