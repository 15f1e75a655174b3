"""The processes of one training on several devices: a rank that dies ends the job, with one line
that names it.

Lightning starts one process for each further device. If one dies, the others wait for it in their
next sum over all; Lightning then kills every process without a word. Here the first rank looks
after them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from wavelit.errors import WavelitError

__all__ = ["RankWatch"]

# Seconds between two looks, and how long the first rank may take to end by itself once another is
# dead.
EVERY, GRACE = 0.2, 3.0
# Name of the thread by which Lightning kills all, the first rank too.
OBSERVER = "child-process-observer"


class RankWatch(Callback):
    """Ends the job when one of the processes that the first rank started has died.

    `begun` tells whether the first step has begun; before it, a checkpoint is restored.
    """

    def __init__(self) -> None:
        self.begun = False
        self._processes: list[subprocess.Popen[bytes]] = []
        self._over = threading.Event()
        self._several = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._several = trainer.world_size > 1
        self._processes = list(getattr(trainer.strategy.launcher, "procs", ()))
        if self._processes:
            for thread in threading.enumerate():
                if thread.name == OBSERVER:
                    # With nothing to look after it ends.
                    thread._child_processes = []  # type: ignore[attr-defined]
            threading.Thread(target=self._watch, name="rank-watch", daemon=True).start()

    def on_train_batch_start(self, *_: Any) -> None:
        self.begun = True

    def end(self) -> None:
        """The training is over, well or not: nobody is waited for."""
        self._over.set()

    def explain(self, error: RuntimeError) -> WavelitError | None:
        """What a failed exchange between ranks comes from; None if it is not one, or of a single
        process.
        """
        if not self._several:
            return None
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            if (line := self._dead()) is not None:
                return WavelitError(line)
            time.sleep(EVERY)
        text = str(error).lower()
        if any(
            word in text
            for word in ("gloo", "nccl", "connection closed", "connection reset", "socket")
        ):
            return WavelitError(
                "another process of this training has ended: see its own message; go on with "
                "--resume"
            )
        return None

    def _dead(self) -> str | None:
        for rank, process in enumerate(self._processes, 1):
            code = process.poll()
            if code:
                how = (
                    f"was ended by {signal.Signals(-code).name}"
                    if code < 0
                    else f"ended with exit status {code}"
                )
                return f"the process of rank {rank} {how}: the training stops; go on with --resume"
        return None

    def _watch(self) -> None:
        while not self._over.wait(EVERY):
            line = self._dead()
            if line is None:
                continue
            # It may stop by itself: interrupted like the others, or failing in its next exchange
            # with the dead one.
            if self._over.wait(GRACE):
                return
            print(f"wavelit: error: {line}", file=sys.stderr, flush=True)
            for process in self._processes:
                if process.poll() is None:
                    process.kill()
            # The main thread waits in an exchange that never ends.
            os._exit(2)
