"""The device beside the processor: outputs and gradients against float64, and 50 training steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from validation.gpu.models import Size, inputs, model, training_step

__all__ = ["measure"]

PRESETS = ("nano", "1M")
STEPS = 50


def measure(size: Size) -> dict[str, Any]:
    """Relative errors (L2) of outputs and gradients against float64 on the processor, and the
    largest relative difference of a loss over the steps against float32 on the processor.
    """
    # Convolutions in float32 are meant, not in TF32.
    torch.backends.cudnn.allow_tf32 = False
    side, steps = (32, 5) if size.short else (64, STEPS)
    rows = []
    for preset in PRESETS:
        exact = _pass(preset, side, "cpu", torch.float64, low=False)
        curve = _curve(preset, side, steps, "cpu", low=False)
        for device, low in (("cpu", False), (size.device, False), (size.device, True)):
            output, gradient = _pass(preset, side, device, torch.float32, low)
            losses = _curve(preset, side, steps, device, low)
            rows.append(
                {
                    "preset": preset,
                    "device": device,
                    "precision": "bfloat16" if low else "float32",
                    "output": _error(output, exact[0]),
                    "gradient": _error(gradient, exact[1]),
                    "curve": max(
                        abs(own - due) / due for own, due in zip(losses, curve, strict=True)
                    ),
                    "losses": [round(value, 6) for value in losses],
                }
            )
    return {"side": side, "steps": steps, "rows": rows}


def _pass(
    preset: str, side: int, device: str, dtype: torch.dtype, low: bool
) -> tuple[Tensor, Tensor]:
    """Output and gradients of one pass, on the processor in float64."""
    network, x = model(preset, device, dtype), inputs(2, side, device, dtype)
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=low):
        y = network.increment(x)
    y.square().mean().backward()
    found = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
    return y.detach().cpu().double(), torch.cat(found).cpu().double()


def _error(value: Tensor, due: Tensor) -> float:
    return float((value - due).norm() / due.norm())


def _curve(preset: str, side: int, steps: int, device: str, low: bool) -> list[float]:
    network, x = model(preset, device), inputs(4, side, device)
    step = training_step(network.increment, network, lambda y, t: network.loss(y, t, 1.0), x, low)
    return [float(step()) for _ in range(steps)]
