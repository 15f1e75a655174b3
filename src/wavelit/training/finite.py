"""What must stay finite in a training, looked at without waiting for the device at every step."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from wavelit.errors import WavelitError

__all__ = ["DivergedError", "FiniteValues"]

# Values that are read at once from a device: reading waits for all that was asked of it.
EVERY = 100


class DivergedError(WavelitError):
    """The loss or a gradient of a training is no longer finite."""


class Noted(NamedTuple):
    """A value, what it is, and where it was seen."""

    value: Tensor
    what: str
    step: int
    samples: Tensor | str


class FiniteValues:
    """Values that must be finite: read at once on the processor, together on a device.

    Whoever writes a checkpoint asks `require` first: none holds what came of a value that is not
    finite.

    Args:
        every: How many values are read together; 1 on the processor and `EVERY` elsewhere if
            absent.
    """

    def __init__(self, every: int | None = None) -> None:
        self._every = every
        self._noted: list[Noted] = []

    def note(self, value: Tensor, what: str, step: int, samples: Tensor | str) -> None:
        """Remember a value of one number.

        Args:
            value: A scalar, as the device has it.
            what: Its name in an error.
            step: Of the training.
            samples: Their numbers in the training split, or words for them.

        Raises:
            DivergedError: This value, or one before it, is not finite.
        """
        self._noted.append(Noted(value.detach(), what, step, samples))
        if len(self._noted) >= (self._every or (1 if value.device.type == "cpu" else EVERY)):
            self.require()

    def require(self) -> None:
        """Read what was noted.

        Raises:
            DivergedError: Names the first value that is not finite, its step and samples.
        """
        noted, self._noted = self._noted, []
        if not noted:
            return
        values = torch.stack([each.value.float() for each in noted]).tolist()
        for value, (_, what, step, samples) in zip(values, noted, strict=True):
            if not math.isfinite(value):
                words = samples if isinstance(samples, str) else f"{samples.tolist()}"
                raise DivergedError(
                    f"the {what} became {value} at step {step} on samples {words} of the training "
                    "split; a checkpoint written before is kept: ask `wavelit data check`, or "
                    "train anew with a lower lr"
                )
