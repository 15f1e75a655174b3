"""The learning rate over a run: warm-up, then a cosine, or constant and a square-root decay at the
end.

References:
    Hu et al., MiniCPM, 2024, arXiv 2404.06395 (warm-up, stable, decay).
"""

from __future__ import annotations

import math

from wavelit.training.config import TrainConfig

__all__ = ["learning_rate_factor"]


def learning_rate_factor(
    progress: float, config: TrainConfig, total_steps: int | None = None
) -> float:
    """Learning rate over its peak at progress p in [0, 1] of so many steps, None where they are
    not known; either part of an extended run has a schedule of its own.
    """
    if config.restart_at:
        begin, end = (
            (0.0, config.restart_at) if progress < config.restart_at else (config.restart_at, 1.0)
        )
        progress = (progress - begin) / (end - begin)
        total_steps = None if total_steps is None else round(total_steps * (end - begin))
    # Its first step has rate zero: a warm-up of less than two steps would leave a short run as it
    # began.
    short = total_steps is not None and config.warmup * total_steps < 2
    warmup = 0.0 if short else config.warmup
    if progress < warmup:
        return progress / warmup
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
    return 1.0 if progress < 0.8 else 1 - math.sqrt((progress - 0.8) / 0.2)
