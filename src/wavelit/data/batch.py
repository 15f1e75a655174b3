"""What a reader hands over: samples as The Well names them, and batches, channels first.

Samples may be views of the arrays of a batch: then making the batch copies nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from wavelit.errors import WavelitError
from wavelit.model.rollout import with_forcings

__all__ = [
    "Arrays",
    "Batch",
    "Samples",
    "arrays_of",
    "empty_batch",
    "inside",
    "names_with_forcings",
    "with_forcings",
]

Arrays = tuple[Tensor, Tensor, Tensor | None]
"""History (B, T, C, *S), target (B, To, C, *S) and constants (B, K, *S) of a batch."""


class Batch(NamedTuple):
    """Samples, channels first, in physical units.

    `fields` (B, T, C, *S) is the history, oldest first; `target` (B, To, C, *S) the frames after
    it; `constants` (B, K, *S) the fields without time; `scalars` (B, P) the PDE's parameters;
    `valid` (B, 1, *S) is False on cells that the declared mask excludes; `indices` (B,) number the
    samples in their dataset; `n_filled` (B,) counts the non-finite values on excluded cells that
    were set to 0; `forcings` (B, T + To, F, *S) and `scalar_forcings` (B, T + To, G) are what is
    given at all frames. What a dataset does not have is None.
    """

    fields: Tensor
    target: Tensor
    constants: Tensor | None
    scalars: Tensor | None
    valid: Tensor | None
    indices: Tensor
    n_filled: Tensor | None = None
    forcings: Tensor | None = None
    scalar_forcings: Tensor | None = None

    def beside(self, step: int = 0) -> tuple[Tensor | None, Tensor | None]:
        """What an emulator is told beside the history to predict the frame `step` of the target.

        Returns:
            Constants (B, K + 2 F, *S) and scalars (B, P + 2 G), as `with_forcings` has them.
        """
        last = self.fields.shape[1] - 1 + step
        return (
            with_forcings(self.constants, self.forcings, last),
            with_forcings(self.scalars, self.scalar_forcings, last),
        )

    def first(self, n: int) -> Batch:
        """The first n samples."""
        return Batch(*(None if x is None else x[:n] for x in self))  # type: ignore[arg-type]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        moved: list[Any] = [
            None if x is None else x.to(device, non_blocking=non_blocking) for x in self
        ]
        return Batch(*moved)

    def moved(self, device: torch.device) -> Batch:
        """On a device, without waiting for it; but for the numbers of samples, with which nothing
        computes.
        """
        return self.to(device, non_blocking=device.type == "cuda")._replace(indices=self.indices)


def names_with_forcings(constants: Sequence[str], forcings: Sequence[str]) -> list[str]:
    """Names of the channels of `with_forcings`."""
    return [
        *constants,
        *(f"{name} (now)" for name in forcings),
        *(f"{name} (next)" for name in forcings),
    ]


class Samples(list[dict[str, Any]]):
    """Samples whose fields are views of the arrays of a batch."""

    def __init__(self, arrays: Arrays) -> None:
        super().__init__()
        self.arrays = arrays


def inside(states: Tensor, valid: Tensor | None) -> Tensor:
    """States (B, T, C, *S) with zeros on the cells that do not count, as the data and a rollout
    have them.
    """
    return states if valid is None else states.where(valid[:, None], 0.0)


def empty_batch(shape: tuple[int, ...]) -> Tensor:
    """An array of float32 to fill; in a DataLoader's worker it lies in the shared memory by which
    batches leave.

    Raises:
        WavelitError: there is not that much memory.
    """
    try:
        if get_worker_info() is None:
            return torch.empty(shape, dtype=torch.float32, device="cpu")
        storage: torch.UntypedStorage = torch.UntypedStorage._new_shared(4 * math.prod(shape))
        return torch.empty(0, dtype=torch.float32, device="cpu").set_(storage, 0, shape)  # type: ignore[call-overload,no-any-return]
    except (RuntimeError, OverflowError) as error:
        raise WavelitError(
            f"a batch of shape {shape} takes {4 * math.prod(shape)} bytes, more memory than there "
            "is; lower batch_size, or write the data with fewer points"
        ) from error


def arrays_of(samples: Sequence[dict[str, Any]]) -> Arrays:
    """The arrays that samples are views of, as long as they still are, or a copy of what the
    samples hold.
    """
    if isinstance(samples, Samples) and _are_rows(samples):
        return samples.arrays
    fields, target = (
        _channels_first([sample[key] for sample in samples], axis=1)
        for key in ("input_fields", "output_fields")
    )
    if "constant_fields" not in samples[0]:
        return fields, target, None
    return (
        fields,
        target,
        _channels_first([sample["constant_fields"] for sample in samples], axis=0),
    )


def _are_rows(samples: Samples) -> bool:
    """Whether sample b still shows row b of the arrays: nothing replaced, moved, added or taken
    out.
    """
    keys = ("input_fields", "output_fields", "constant_fields")
    if len(samples) != len(samples.arrays[0]):
        return False
    return all(
        (key in sample) == (array is not None)
        and (array is None or sample[key].data_ptr() == array[b].data_ptr())
        and (array is None or sample[key].numel() == array[b].numel())
        for b, sample in enumerate(samples)
        for key, array in zip(keys, samples.arrays, strict=True)
    )


def _channels_first(tensors: list[Tensor], axis: int) -> Tensor:
    """Stack samples (..., *S, C) with C moved to `axis` of the sample, in one copy, as float32."""
    views = [x.movedim(-1, axis) for x in tensors]
    out = torch.empty((len(views), *views[0].shape), dtype=torch.float32)
    for row, view in zip(out, views, strict=True):
        row.copy_(view)
    return out
