"""What is wrong with the values of a field: what is not finite, what float32 cannot hold, what
physics forbids.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wavelit.data.checking.findings import Finding
from wavelit.data.checking.laws import laws_of
from wavelit.data.format.hdf5 import reading
from wavelit.data.format.layout import FieldLayout, FileLayout, beyond_float32
from wavelit.data.pieces import Piece

__all__ = ["Values"]


class Values:
    """Values of a field, looked at piece by piece.

    Args:
        file: The open file.
        layout: Of the file.
        field: The field.
    """

    def __init__(self, file: h5py.File, layout: FileLayout, field: FieldLayout) -> None:
        self._file, self._layout, self._field = file, layout, field
        self._bad = ""
        self._inexact = ""
        self._low: dict[str, Finding] = {}
        self._filled = 0

    def look(self, piece: Piece) -> None:
        """Take in a piece of the field."""
        counted = piece.counted
        where = f"field '{self._field.name}' of trajectory {piece.trajectory}"
        finite = np.isfinite(counted)
        self._filled += int((~np.isfinite(piece.frames)).sum() - (~finite).sum())
        self._bad = (
            self._bad or _not_finite(where, piece, finite) or self._too_large(where, counted)
        )
        self._inexact = self._inexact or self._rounded(where, counted)
        self._look_for_laws(piece, counted)

    def _too_large(self, where: str, counted: NDArray[np.float64]) -> str:
        if not self._field.dtype.endswith("f8") or not (beyond := beyond_float32(counted)).any():
            return ""
        return (
            f"{where} reaches {counted[beyond][0]:.4g}, beyond float32; choose units in which it "
            "is about one"
        )

    def _rounded(self, where: str, counted: NDArray[np.float64]) -> str:
        if self._field.dtype[1:] not in ("i4", "i8", "u4", "u8"):
            return ""
        lost = counted[counted != counted.astype(np.float32)]
        if not lost.size:
            return ""
        return f"{where} has whole numbers, such as {lost[0]:.0f}, that float32 rounds"

    def _look_for_laws(self, piece: Piece, counted: NDArray[np.float64]) -> None:
        """What physics forbids."""
        layout = self._layout
        for bound in laws_of(layout, self._field):
            beside = [_beside(self._file, layout, name, piece) for name in bound.beside]
            margin = bound.margin(counted, *beside)
            if bound.quantity in self._low or not (margin <= 0).any():
                continue
            message = (
                f"{bound.quantity} of trajectory {piece.trajectory} falls to "
                f"{np.nanmin(margin):.4g}, but {bound.law}; mend the data"
            )
            severity = bound.severity(layout.dataset_name)
            self._low[bound.quantity] = Finding(severity, layout.path, message)

    def findings(self) -> list[Finding]:
        """Of each kind the first that was met."""
        path = self._layout.path
        found = [Finding("error", path, self._bad)] if self._bad else []
        found += [Finding("warning", path, self._inexact)] if self._inexact else []
        found += self._low.values()
        if self._filled:
            message = (
                f"field '{self._field.name}' has {self._filled} non-finite values on excluded "
                "cells, which are read as 0"
            )
            found.append(Finding("warning", path, message))
        return found


def _not_finite(where: str, piece: Piece, finite: NDArray[np.bool_]) -> str:
    if finite.all():
        return ""
    frame = int(np.argmin(finite.all(1))) // (len(finite) // len(piece.frames))
    return (
        f"{where} is not finite from step {piece.start + frame} on; write it again or declare "
        "a mask_field"
    )


def _beside(file: h5py.File, layout: FileLayout, name: str, piece: Piece) -> NDArray[np.float64]:
    """Values (cells and frames) of a scalar field at the frames and counted cells of a piece of
    another.
    """
    field = next(field for field in layout.fields if field.name == name)
    index: tuple[Any, ...] = (piece.trajectory,) if field.sample_varying else ()
    if field.time_varying:
        index += (slice(piece.start, piece.start + len(piece.frames)),)
    with reading(layout.path, f"field '{name}'"):
        values = np.asarray(file["t0_fields"][name][index], dtype=np.float64)
    grid = tuple(
        n if varies else 1 for n, varies in zip(layout.resolution, field.dim_varying, strict=True)
    )
    values = np.broadcast_to(values.reshape(-1, *grid), piece.frames.shape[: 1 + len(grid)])
    kept: NDArray[np.float64] = (values if piece.keep is None else values[:, piece.keep]).reshape(
        -1
    )
    return kept
