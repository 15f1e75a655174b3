"""Cells outside the domain: a constant field marks them, and no value there counts.

Land in a record of the ocean is NaN, hidden by a mask or a fill value. Where the mask says so, any
of these is accepted and 0 is stored.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wavelit.data.writing.sources import Index, Source
from wavelit.errors import WavelitError, printable

__all__ = ["Mask", "check_mask", "find_mask"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Mask:
    """The constant field `name` is `excludes` on the cells that do not count: `cells`, (N, *S), or
    (*S) where all trajectories share them.
    """

    name: str
    excludes: float
    cells: npt.NDArray[np.bool_]
    shared: bool

    def excluded(self, field: str, index: Index, lead: int, order: int) -> Array | None:
        """Where a piece of a field lies outside the domain, to be broadcast over it; None for the
        mask itself.

        Args:
            field: its name.
            index: slices of trajectories and steps.
            lead: how many axes of trajectory and time the field has.
            order: its tensor order.
        """
        if field == self.name:
            return None
        if self.shared:
            cells = self.cells
        elif lead == 0:
            # Stored once: what lies outside in all trajectories alone.
            cells = np.asarray(self.cells.all(0))
        else:
            cells = self.cells[index[0]]
            cells = cells[:, None] if lead == 2 else cells
        return cells[(..., *(None,) * order)]


def check_mask(mask_field: Any, mask_excludes: Any, constants: Mapping[str, Any]) -> None:
    """A mask is one of the constant fields, and a finite number.

    Raises:
        WavelitError: it is not.
    """
    if mask_field is not None and (not isinstance(mask_field, str) or mask_field not in constants):
        raise WavelitError(
            "mask_field, whose cells are left out of the statistics: "
            f"'{printable(mask_field, 60)}' is not a constant scalar field: name one of "
            f"{', '.join(constants) or 'constant_fields, which are none'}"
        )
    real = isinstance(mask_excludes, int | float | np.number) and not isinstance(
        mask_excludes, bool
    )
    if not real or not math.isfinite(mask_excludes):
        raise WavelitError(
            "mask_excludes: expected the number of excluded cells, got "
            f"{printable(mask_excludes, 60)}"
        )
    if mask_field is None and mask_excludes != 1:
        raise WavelitError("mask_excludes is a value of mask_field: name that, or leave it out")


def find_mask(
    mask_field: str | None,
    mask_excludes: float,
    constants: Mapping[str, Source],
    shape: tuple[int, ...],
) -> Mask | None:
    """The mask of a file, read from its constant fields.

    Args:
        mask_field: its name.
        mask_excludes: its value on the cells outside.
        constants: the constant fields, (N, *S, ...) or (*S, ...).
        shape: of the grid, S.

    Raises:
        WavelitError: it is none of them, no scalar field, not finite, or leaves no cell.
    """
    check_mask(mask_field, mask_excludes, constants)
    if mask_field is None:
        return None
    found = constants[mask_field]
    if found.shape[-len(shape) :] != shape or found.ndim > 1 + len(shape):
        raise WavelitError(
            f"mask_field '{mask_field}': expected one number a cell, of shape {shape} or one such "
            f"array a trajectory, got {found.shape}: give a scalar field"
        )
    values = found.read()
    if not np.isfinite(values).all():
        raise WavelitError(
            f"mask_field '{mask_field}' is not finite everywhere: give one number a cell, "
            f"{mask_excludes:g} where it does not count"
        )
    cells = values.astype(np.float32) == np.float32(mask_excludes)
    if not cells.any():
        warnings.warn(
            f"mask_field '{mask_field}' is {mask_excludes:g} in no cell, so none is left out: give "
            "the value of excluded cells as mask_excludes",
            stacklevel=2,
        )
    shared = cells.ndim == len(shape)
    for i, outside in enumerate(cells[None] if shared else cells):
        if outside.all():
            where = "" if shared else f" of trajectory {i}"
            raise WavelitError(
                f"mask_field '{mask_field}'{where} is {mask_excludes:g} in every cell, so that "
                "none is left: mend it, or give the value of excluded cells as mask_excludes"
            )
    return Mask(mask_field, float(mask_excludes), cells, shared)
