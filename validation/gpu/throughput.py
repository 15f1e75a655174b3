"""Samples a second and peak memory, training and prediction, WaveLiT beside The Well's models."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from validation.gpu.models import Size, inputs, model, rival, seconds_of, training_step

__all__ = ["measure"]

PRESETS = ("nano", "1M", "3M", "10M")
RIVALS = ("CNextU-Net", "U-Net", "FNO", "TFNO")
SIDES = (256, 64, 512)
# Of the card's memory, by which the batch is chosen.
SHARE = 0.5
LARGEST_BATCH = 512


def measure(size: Size) -> dict[str, Any]:
    """One row for every network, grid, precision and way to run it, the most wanted first; those
    that did not fit in the time are named.
    """
    sides = (32,) if size.short else SIDES
    networks = (*PRESETS[:2], RIVALS[0]) if size.short else (*PRESETS[:3], *RIVALS, PRESETS[3])
    wanted = [
        (side, name, low, compiled)
        for side in sides
        for low in (True, False)
        for compiled in ((False,) if size.short else (False, True))
        for name in networks
    ]
    rows: list[dict[str, Any]] = []
    left_out, began = [], time.perf_counter()
    for side, name, low, compiled in wanted:
        precision = "bfloat16" if low else "float32"
        row = {"network": name, "side": side, "precision": precision, "compiled": compiled}
        if time.perf_counter() - began > size.seconds:
            left_out.append(row)
        else:
            rows.append(row | _row(name, side, low, compiled, size))
    return {"rows": rows, "left out for want of time": left_out}


def _row(name: str, side: int, low: bool, compiled: bool, size: Size) -> dict[str, Any]:
    network: nn.Module | None
    if name in PRESETS:
        network = own = model(name, size.device)
        predict, loss = own.increment, lambda y, t: own.loss(y, t, 1.0)
    else:
        network = rival(name, side, size.device)
        if network is None:
            return {"skipped": "the_well's models are not installed"}
        flat = network
        predict, loss = lambda x: flat(x.flatten(1, 2)), lambda y, t: (y - t).square().mean()
    try:
        batch = 2 if size.short else _batch(predict, network, loss, side, low, size)
        if compiled:
            # After the batch is known: of a second shape the compiler makes one code for all.
            torch._dynamo.reset()
            predict = torch.compile(predict)
        found: dict[str, Any] = {
            "batch": batch,
            "parameters": sum(p.numel() for p in network.parameters()),
        }
        x = inputs(batch, side, size.device)
        _reset_peak(size.device)
        step = training_step(predict, network, loss, x, low)
        seconds = seconds_of(step, size.device, 2 if size.short else 10)
        found |= {"train_samples_per_s": batch / seconds, "train_GB": _peak(size.device)}
        del step
        _reset_peak(size.device)

        def prediction() -> object:
            with torch.no_grad(), torch.autocast(x.device.type, torch.bfloat16, enabled=low):
                return predict(x)

        seconds = seconds_of(prediction, size.device, 2 if size.short else 10)
        return found | {"predict_samples_per_s": batch / seconds, "predict_GB": _peak(size.device)}
    except (RuntimeError, TypeError, ValueError) as error:
        # Out of memory, or what one network cannot do: the other rows are worth having.
        return {"failure": f"{type(error).__name__}: {error}".splitlines()[0]}
    finally:
        if size.device != "cpu":
            torch.cuda.empty_cache()


def _batch(
    predict: Callable[..., Any], network: nn.Module, loss: Any, side: int, low: bool, size: Size
) -> int:
    """The power of two that fills the share of the card's memory, by what one sample takes."""
    if size.device == "cpu":
        return 4
    taken = []
    for batch in (1, 2):
        _reset_peak(size.device)
        training_step(predict, network, loss, inputs(batch, side, size.device), low)()
        taken.append(torch.cuda.max_memory_allocated(size.device))
    each, room = max(taken[1] - taken[0], 1), torch.cuda.get_device_properties(size.device)
    fits = (SHARE * room.total_memory - taken[0]) / each
    return int(min(LARGEST_BATCH, 2 ** max(0, int(fits).bit_length() - 1)))


def _reset_peak(device: str) -> None:
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: str) -> float | None:
    return None if device == "cpu" else round(torch.cuda.max_memory_allocated(device) / 1e9, 3)
