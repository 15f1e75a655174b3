"""Trainings that take turns, a step each: a moment in which the machine is slow hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

__all__ = ["in_turns"]

# Turns of one that has ended, which nobody waits for.
_ALL = 10**6


def in_turns(
    trainings: Sequence[Callable[[Callback], object]], set_up: Callable[[], object]
) -> list[list[float]]:
    """Train side by side, one at a time, and return the seconds of every step of each.

    The time of a step holds all from the last one's end to its own, reading of the batch included.

    Args:
        trainings: Called in threads of their own, each with a callback for its Trainer.
        set_up: Called first in every such thread.
    """
    gates = [Semaphore(int(index == 0)) for index in range(len(trainings))]
    turns = [_Turns(own, next_) for own, next_ in zip(gates, [*gates[1:], gates[0]], strict=True)]

    def run(training: Callable[[Callback], object], turn: _Turns) -> None:
        set_up()
        try:
            training(turn)
        finally:
            # Also where it failed: nobody shall wait for it.
            turn.following.release(_ALL)

    with ThreadPoolExecutor(len(trainings)) as pool:
        ends = [pool.submit(run, *each) for each in zip(trainings, turns, strict=True)]
    for end in ends:
        end.result()
    return [turn.seconds for turn in turns]


class _Turns(Callback):
    """Waits for its turn before every step, and times the step."""

    def __init__(self, own: Semaphore, following: Semaphore) -> None:
        self.own, self.following = own, following
        self.seconds: list[float] = []
        self._start = 0.0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._wait()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        self.seconds.append(time.perf_counter() - self._start)
        self.following.release()
        self._wait()

    def _wait(self) -> None:
        self.own.acquire()
        self._start = time.perf_counter()
