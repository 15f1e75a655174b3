"""A training step: forward, loss, backward, AdamW. WaveLiT with its wavelet loss beside The Well's
models with a squared one.

Channels are those of acoustic_scattering_maze: history 4 of 3 fields and 2 constant fields. The
share of matrix products is the profiler's time in mm, addmm, bmm and baddbmm over all its time; the
bound is the time which the step's linear maps alone take at the rate that a matrix product of the
largest of their shapes reaches here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from wavelit.benchmarks.baselines import RIVALS, SETTINGS, rival
from wavelit.benchmarks.timing import Row, medians
from wavelit.checks.arguments import require_name, require_whole, shown
from wavelit.errors import WavelitError
from wavelit.model.config import PRESETS as ALL_PRESETS
from wavelit.model.config import WaveLiTConfig
from wavelit.model.wavelit import WaveLiT

__all__ = [
    "CONSTANTS",
    "FIELDS",
    "HISTORY",
    "measure",
    "wavelit_inputs",
    "wavelit_model",
    "wavelit_step",
]

FIELDS, CONSTANTS, HISTORY = 3, 2, 4
BOUNDARY = (("wall", "wall"), ("open", "open"))
# Side of the grid: samples of a step.
BATCH = {64: 8, 128: 4, 256: 2}
PRESETS = ("nano", "nano-0.1", "1M")
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")


def wavelit_model(preset: str) -> WaveLiT:
    """A WaveLiT for those channels.

    Raises:
        WavelitError: An unknown preset.
    """
    require_name("preset", preset, ALL_PRESETS)
    torch.manual_seed(0)
    config = WaveLiTConfig.preset(
        preset, n_fields=FIELDS, n_constant_fields=CONSTANTS, boundary_conditions=BOUNDARY
    )
    model = WaveLiT(config)
    # An untrained head is zero, and so would be the gradients behind it.
    nn.init.normal_(model.head.weight, std=0.02)
    return model


def wavelit_inputs(batch: int, side: int) -> tuple[Tensor, Tensor]:
    """History (B, T, C, side, side) and constant fields (B, K, side, side)."""
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(batch, HISTORY, FIELDS, side, side, generator=generator),
        torch.randn(batch, CONSTANTS, side, side, generator=generator),
    )


def wavelit_step(
    model: WaveLiT, side: int, batch: int, compiled: bool = False
) -> Callable[[], None]:
    """A call that trains on one batch."""
    fields, constants = wavelit_inputs(batch, side)
    target = torch.randn(batch, FIELDS, side, side)
    increment = torch.compile(model.increment) if compiled else model.increment
    return _step(model, lambda: model.loss(increment(fields, constants), target, 0.3))


def _rival_step(model: nn.Module, side: int, batch: int) -> Callable[[], None]:
    x = torch.randn(batch, HISTORY * FIELDS + CONSTANTS, side, side)
    target = torch.randn(batch, FIELDS, side, side)
    return _step(model, lambda: (model(x) - target).square().mean())


def _step(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()

    return step


def measure(
    batches: dict[int, int] = BATCH, rivals: tuple[str, ...] = RIVALS, rounds: int = 7
) -> list[Row]:
    """Milliseconds a sample of every model on every grid, and the ratios to each rival's.

    Raises:
        WavelitError: No grid, an unknown rival, or no round.
    """
    if not isinstance(batches, dict) or not batches:
        raise WavelitError(f"batches must be samples by side of the grid, not {shown(batches)}")
    for side, batch in batches.items():
        require_whole("side", side)
        require_whole("batch", batch)
    for name in rivals:
        require_name("rival", name, SETTINGS)
    require_whole("rounds", rounds)
    rows: list[Row] = []
    for side, batch in batches.items():
        models: dict[str, nn.Module] = {
            f"WaveLiT {preset}": wavelit_model(preset) for preset in PRESETS
        }
        steps = {
            name: wavelit_step(model, side, batch)
            for name, model in models.items()
            if isinstance(model, WaveLiT)
        }
        for name in rivals:
            models[name] = rival(name, HISTORY * FIELDS + CONSTANTS, FIELDS, (side, side))
            steps[name] = _rival_step(models[name], side, batch)
        times = medians(steps, rounds)
        for name, step in steps.items():
            share, bound = _products(step)
            rows.append(
                {
                    "model": name,
                    "parameters": sum(p.numel() for p in models[name].parameters()),
                    "side": side,
                    "batch": batch,
                    "ms_per_sample": round(times[name] / batch * 1e3, 2),
                    **{
                        f"speed_over_{other}": round(times[other] / times[name], 2)
                        for other in rivals
                    },
                    "share_of_products": round(share, 3),
                    "products_bound_ms_per_sample": round(bound / batch * 1e3, 2),
                    "rounds": rounds,
                }
            )
    return rows


def _products(step: Callable[[], None]) -> tuple[float, float]:
    """Share of the time in matrix products, and the seconds they would take at the rate of a
    large one.
    """
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        step()
    totals = {event.key: event.self_cpu_time_total for event in trace.key_averages()}
    share = sum(totals.get(name, 0.0) for name in PRODUCTS) / sum(totals.values())
    with FlopCounterMode(display=False) as counter:
        step()
    counts = counter.get_flop_counts()["Global"]
    flops = sum(
        n for op, n in counts.items() if str(op).split(".")[1] in ("mm", "addmm", "bmm", "baddbmm")
    )
    a, b = torch.randn(4096, 96), torch.randn(96, 384)
    rate = 2 * 4096 * 96 * 384 / medians({"product": lambda: a @ b}, rounds=100)["product"]
    return share, flops / rate
