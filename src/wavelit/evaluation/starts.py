"""Where the rollouts of a record start: one of the whole record, or several, evenly spaced.

A split of many trajectories is scored by one rollout of each. A split that is cut in time from one
long record has a single trajectory: one rollout would be one sample, so it is scored from several
starts. With A states after the first history, a rollout then has min(60, A / 2) steps, so that even
a short record has room for several, which overlap.
"""

from __future__ import annotations

from typing import NamedTuple

from wavelit.checks.arguments import require_whole
from wavelit.data.datamodule import WellDataModule
from wavelit.errors import WavelitError

__all__ = ["Starts", "starts_of"]

# Steps of a rollout, the last of the tables' windows, and starts of a record unless told otherwise.
LONGEST, MOST = 60, 16


class Starts(NamedTuple):
    """The frames that rollouts start from, counted from 0, and the steps of each rollout."""

    frames: tuple[int, ...]
    n_steps: int


def starts_of(
    data: WellDataModule, split: str, start: int | None = None, starts: int | None = None
) -> Starts | None:
    """Several starts for every record of a split; None for one rollout of the whole record.

    Args:
        data: The dataset.
        split: Its split.
        start: The first frame to start from; the history's length if absent.
        starts: How many; if absent one, or up to 16 where the split is cut in time.

    Raises:
        WavelitError: The records are too short for so many.
    """
    dataset = data.dataset(split)
    if starts is None and not dataset.layouts[0].split_in_time:
        return None
    first = data.n_steps_input if start is None else start
    available = min(layout.n_steps for layout in dataset.layouts) - first
    if starts is not None and require_whole("starts", starts) == 1:
        return None
    n_steps = max(1, min(LONGEST, available // 2))
    room = available - n_steps + 1
    if starts is not None and starts > room:
        raise WavelitError(
            f"starts={starts}: {data.path}, {split}, has room for {max(room, 1)} starts of "
            f"rollouts over {n_steps} steps in a record: give at most so many"
        )
    n_starts = min(MOST if starts is None else starts, room)
    if n_starts < 2:
        return None
    last = room - 1
    frames = tuple(first + round(n * last / (n_starts - 1)) for n in range(n_starts))
    return Starts(frames, n_steps)
