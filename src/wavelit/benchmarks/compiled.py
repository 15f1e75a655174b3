"""`torch.compile` beside eager execution: the time of the first step, which compiles, and of the
steps after it.

Compiled code is written to a fresh folder, so that nothing of an earlier run is taken up.
"""

from __future__ import annotations

import os
import tempfile
import time

import torch

from wavelit.benchmarks.timing import Row, medians
from wavelit.benchmarks.training import wavelit_model, wavelit_step
from wavelit.checks.arguments import require_name, require_whole
from wavelit.model.config import PRESETS

__all__ = ["measure"]


def measure(side: int = 64, batch: int = 8, preset: str = "nano", rounds: int = 7) -> list[Row]:
    """Milliseconds a sample of a training step, compiled and eager, and the seconds of compiling.

    Raises:
        WavelitError: An unknown preset, no grid, no sample, or no round.
    """
    require_name("preset", preset, PRESETS)
    for name, value in (("side", side), ("batch", batch), ("rounds", rounds)):
        require_whole(name, value)
    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        try:
            steps = {
                name: wavelit_step(wavelit_model(preset), side, batch, compiled=name == "compiled")
                for name in ("eager", "compiled")
            }
            start = time.perf_counter()
            steps["compiled"]()
            seconds = time.perf_counter() - start
            times = medians(steps, rounds)
        finally:
            if before is None:
                del os.environ["TORCHINDUCTOR_CACHE_DIR"]
            else:
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = before
            torch.compiler.reset()
    return [
        {
            "model": f"WaveLiT {preset}",
            "side": side,
            "batch": batch,
            "eager_ms_per_sample": round(times["eager"] / batch * 1e3, 2),
            "compiled_ms_per_sample": round(times["compiled"] / batch * 1e3, 2),
            "compile_seconds": round(seconds, 1),
            "rounds": rounds,
        }
    ]
