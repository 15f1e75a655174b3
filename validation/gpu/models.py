"""Models and inputs of the stages, and how large they are."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from wavelit.errors import WavelitError
from wavelit.model.config import WaveLiTConfig
from wavelit.model.wavelit import WaveLiT

__all__ = [
    "FIELDS",
    "HISTORY",
    "Size",
    "inputs",
    "model",
    "rival",
    "seconds_of",
    "synchronise",
    "training_step",
]

# Channels of Rayleigh-Benard: buoyancy, pressure and a velocity of two.
FIELDS, HISTORY = 4, 4
# Histories that are drawn: hundreds would take the processor seconds.
DRAWN = 8
BOUNDARY = (("periodic", "periodic"), ("wall", "wall"))


@dataclass(frozen=True)
class Size:
    """What a stage may take.

    Args:
        device: cuda, cuda:1 or cpu.
        short: Small grids and few steps.
        seconds: Of a stage; what does not fit is left out and named.
        output: Folder of the results, for pictures.
    """

    device: str
    short: bool
    seconds: float
    output: Path


def model(preset: str, device: str, dtype: torch.dtype = torch.float32) -> WaveLiT:
    """A WaveLiT of a preset, whose head is not zero as at the start of training."""
    torch.manual_seed(0)
    config = WaveLiTConfig.preset(preset, n_fields=FIELDS, boundary_conditions=BOUNDARY)
    built = WaveLiT(config)
    nn.init.normal_(built.head.weight, std=0.02)
    return built.to(device, dtype)


def rival(name: str, side: int, device: str) -> nn.Module | None:
    """One of The Well's models as its benchmark has it; None where the package is missing."""
    try:
        from wavelit.benchmarks.baselines import rival as build
    except ImportError:
        return None
    try:
        return build(name, HISTORY * FIELDS, FIELDS, (side, side)).to(device)
    except WavelitError as error:
        if "baselines" in str(error):
            return None
        raise


def inputs(batch: int, side: int, device: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """Histories (B, T, C, side, side), the same on every device; the first few are repeated."""
    generator = torch.Generator().manual_seed(1)
    shape = (min(batch, DRAWN), HISTORY, FIELDS, side, side)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)
    return x.repeat(-(-batch // DRAWN), *(1,) * 4)[:batch] if batch > DRAWN else x


def training_step(
    predict: Callable[[Tensor], Tensor],
    network: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    low: bool,
) -> Callable[[], Tensor]:
    """A call that trains on one batch and returns the loss.

    Args:
        predict: The increment, compiled or not.
        network: Whose parameters are trained.
        loss: Of prediction and target.
        x: Histories.
        low: Under autocast to bfloat16.
    """
    # The fused kernel knows no complex numbers, which Fourier layers have.
    fused = x.device.type == "cuda" and not any(p.is_complex() for p in network.parameters())
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=fused)
    target = x[:, 0].roll(1, -1)

    def step() -> Tensor:
        optimiser.zero_grad()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=low):
            value = loss(predict(x), target)
        value.backward()
        optimiser.step()
        return value.detach()

    return step


def synchronise(device: str) -> None:
    """Wait for the device."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def seconds_of(call: Callable[[], object], device: str, rounds: int, warm_up: int = 3) -> float:
    """Seconds a call, mean over rounds between two waits."""
    for _ in range(warm_up):
        call()
    synchronise(device)
    began = time.perf_counter()
    for _ in range(rounds):
        call()
    synchronise(device)
    return (time.perf_counter() - began) / rounds
