"""Batches hold finite float32 values wherever a cell counts; what is not is named by file,
field, trajectory and step.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from wavelit.data.format.layout import ORDERS, FileLayout, Mask, beyond_float32
from wavelit.errors import WavelitError

__all__ = ["require_cells", "require_finite", "require_finite_scalars"]


class Located(Protocol):
    """What a dataset says of where its samples lie; `WellDataset` is one."""

    layouts: tuple[FileLayout, ...]
    files_paths: list[str]
    min_dt_stride: int
    metadata: Any
    size_tuple: tuple[int, ...]

    def locate(self, index: int) -> tuple[int, int, int]:
        """File, trajectory in it and first step of a sample."""
        ...

    def node(self, file_index: int) -> Any:
        """The open file."""
        ...


def require_finite(
    dataset: Located,
    x: Tensor,
    names: list[str],
    indices: Tensor,
    lag: int | None,
    valid: Tensor | None,
    n_filled: Tensor | None,
) -> None:
    """Refuse non-finite values on cells that count; set those on excluded cells to 0, in place, and
    count them.

    Args:
        dataset: that the batch is of.
        x: history or target (B, T, C, *S), or constants (B, K, *S).
        names: of its channels.
        indices: numbers of the samples in the dataset, (B,).
        lag: frames of the window before those of x; None: x are constants.
        valid: the cells that count, (B, 1, *S); None: all do.
        n_filled: counts of values set to 0, (B,), added to in place.

    Raises:
        WavelitError: a value that counts is not finite.
    """
    # A sum takes NaN and infinity along, and costs a thirtieth of testing every value; it may also
    # overflow.
    if torch.isfinite(x.sum()):
        return
    counted = bad = ~torch.isfinite(x)
    if valid is not None:
        counted = bad & (valid if lag is None else valid[:, None])
    if counted.any():
        first = torch.nonzero(counted)[0].tolist()
        file_index, trajectory, start = dataset.locate(int(indices[first[0]]))
        step = None if lag is None else start + dataset.min_dt_stride * (lag + first[1])
        channel, *cell = first[1 if lag is None else 2 :]
        where = f"{dataset.files_paths[file_index]}: field '{names[channel]}'"
        when = f"in trajectory {trajectory}{'' if step is None else f' at step {step}'}"
        stored = _stored(dataset, file_index, trajectory, step, channel, tuple(cell))
        if beyond_float32(np.array(stored)).any():
            raise WavelitError(
                f"{where} is {stored:g} {when}, beyond float32; choose units in which it is about "
                "one"
            )
        raise WavelitError(
            f"{where} is not finite {when}; write it again, or declare the excluded cells by "
            "mask_field"
        )
    if valid is None or n_filled is None:
        return
    n_filled += bad.flatten(1).sum(1)
    x[bad] = 0.0


def require_cells(dataset: Located, valid: Tensor, indices: Tensor, mask: Mask) -> None:
    """Refuse masks (B, 1, *S) that leave a sample no spread to be judged by.

    Raises:
        WavelitError: names the first.
    """
    few = torch.nonzero(valid.flatten(1).sum(1) < 2)
    if len(few):
        file_index, trajectory, _ = dataset.locate(int(indices[few[0, 0]]))
        raise WavelitError(
            f"{dataset.files_paths[file_index]}: mask_field '{mask.field}' leaves less than two "
            f"cells of trajectory {trajectory}, it is {mask.excludes:g} on all others; check "
            "mask_excludes, or leave the trajectory out"
        )


def require_finite_scalars(dataset: Located, scalars: Tensor, indices: Tensor) -> None:
    """Refuse scalars (B, P) that are not finite.

    Raises:
        WavelitError: names the first.
    """
    if torch.isfinite(scalars).all():
        return
    b, p = torch.nonzero(~torch.isfinite(scalars))[0].tolist()
    file_index, trajectory, _ = dataset.locate(int(indices[b]))
    name = dataset.metadata.constant_scalar_names[p]
    stored = dataset.layouts[file_index].scalars[name][trajectory]
    where = f"{dataset.files_paths[file_index]}: scalar '{name}' of trajectory {trajectory}"
    if beyond_float32(np.array(stored)).any():
        raise WavelitError(
            f"{where} is {stored:g}, beyond float32; choose units in which it is about one"
        )
    raise WavelitError(f"{where} is not finite; write it again")


def _stored(
    dataset: Located,
    file_index: int,
    trajectory: int,
    step: int | None,
    channel: int,
    cell: tuple[int, ...],
) -> float:
    """What the file has where a batch has a value."""
    for field in dataset.layouts[file_index].fields:
        if field.time_varying != (step is not None):
            continue
        if channel < field.n_components:
            break
        channel -= field.n_components
    index: tuple[int, ...] = (trajectory,) if field.sample_varying else ()
    if step is not None:
        index = (*index, step)
    values = np.asarray(dataset.node(file_index)[ORDERS[field.order]][field.name][index])
    grid = tuple(
        n if varies else 1 for n, varies in zip(dataset.size_tuple, field.dim_varying, strict=True)
    )
    place = tuple(i * varies for i, varies in zip(cell, field.dim_varying, strict=True))
    return float(values.reshape(*grid, field.n_components)[(*place, channel)])
