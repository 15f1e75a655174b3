"""One prediction of one sample: time, and the memory that a process needs for it beyond the model,
beside CNextU-Net.

Memory is the growth of the largest resident size over a prediction, measured in a fresh process per
model, so that nothing that came before counts.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch

from wavelit.allocator import keep_freed_memory
from wavelit.benchmarks.baselines import rival
from wavelit.benchmarks.timing import Row, medians, peak_memory, reset_peak_memory
from wavelit.benchmarks.training import CONSTANTS, FIELDS, HISTORY, wavelit_inputs, wavelit_model
from wavelit.checks.arguments import require_name, require_names, require_whole
from wavelit.errors import WavelitError
from wavelit.model.config import PRESETS

__all__ = ["fresh_memory", "measure", "prediction"]

RIVAL = "CNextU-Net"
# MB: below it a prediction finds room in what its process holds already.
RESOLVED = 8.0


def prediction(name: str, side: int) -> Callable[[], torch.Tensor]:
    """A call that predicts one sample on a side x side grid with that model: a rival's name or a
    preset.

    Raises:
        WavelitError: An unknown model, or no grid.
    """
    require_name("model", name, (*PRESETS, RIVAL))
    require_whole("side", side)
    if name == RIVAL:
        model = rival(name, HISTORY * FIELDS + CONSTANTS, FIELDS, (side, side)).eval()
        x = torch.randn(1, HISTORY * FIELDS + CONSTANTS, side, side)
        return torch.no_grad()(lambda: model(x))
    emulator = wavelit_model(name).eval()
    fields, constants = wavelit_inputs(1, side)
    return torch.no_grad()(lambda: emulator(fields, constants))


def measure(
    sides: tuple[int, ...] = (64, 256, 512),
    presets: tuple[str, ...] = ("nano", "nano-0.1", "1M", "3M"),
    rounds: int = 7,
    beside: bool = True,
) -> list[Row]:
    """Milliseconds and megabytes of a prediction, and their ratios to CNextU-Net's.

    Raises:
        WavelitError: An unknown preset, no grid, or no round.
    """
    for name in require_names("presets", presets):
        require_name("preset", name, PRESETS)
    for side in sides:
        require_whole("side", side)
    require_whole("rounds", rounds)
    names = [*presets, RIVAL] if beside else list(presets)
    return [row for side in sides for row in _rows(names, side, rounds, beside)]


def _rows(names: list[str], side: int, rounds: int, beside: bool) -> list[Row]:
    memory = {name: fresh_memory(name, side) for name in names}
    times = medians({name: prediction(name, side) for name in names}, rounds)
    rows: list[Row] = []
    for name in names:
        row: Row = {
            "model": name if name == RIVAL else f"WaveLiT {name}",
            "side": side,
            "ms": round(times[name] * 1e3, 1),
            "memory_mb": round(memory[name], 1),
            "rounds": rounds,
        }
        if beside:
            row["speed_over_CNextU-Net"] = round(times[RIVAL] / times[name], 2)
            known = min(memory[name], memory[RIVAL]) > RESOLVED
            row["memory_over_CNextU-Net"] = round(memory[name] / memory[RIVAL], 3) if known else ""
        rows.append(row)
    return rows


def fresh_memory(name: str, side: int) -> float:
    """Growth of the peak memory in MB over predictions in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_memory, args=(name, side, torch.get_num_threads(), sender))
    process.start()
    sender.close()
    try:
        grown: float = receiver.recv()
    except EOFError as error:
        raise WavelitError(
            f"{name}: the process that measures memory ended: call this under `if __name__ == "
            "'__main__':`, or free memory"
        ) from error
    process.join()
    return grown


def _memory(name: str, side: int, threads: int, sender: Connection) -> None:
    torch.set_num_threads(threads)
    keep_freed_memory()
    # A small prediction first loads kernels and tables that are no part of the cost.
    prediction(name, 64)()
    call = prediction(name, side)
    reset_peak_memory()
    before = peak_memory()
    for _ in range(2):
        call()
    sender.send(peak_memory() - before)
    sender.close()
