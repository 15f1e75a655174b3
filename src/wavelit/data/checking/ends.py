"""The ends of periodic axes: the last point stands before the first, and does not repeat it."""

from __future__ import annotations

import numpy as np

from wavelit.data.checking.findings import Finding
from wavelit.data.format.layout import FieldLayout, FileLayout
from wavelit.data.pieces import Piece

__all__ = ["Ends"]


class Ends:
    """Which periodic axes of a file have the values of their first point once more at their end.

    Args:
        layout: The file.
    """

    def __init__(self, layout: FileLayout) -> None:
        self.layout = layout
        ends = enumerate(layout.boundary_conditions)
        self._closed = {axis for axis, kinds in ends if "periodic" in kinds}
        self._varying: set[int] = set()

    def look(self, field: FieldLayout, piece: Piece) -> None:
        """Take frames (T, *S, ..) of a field into account, where cells at both ends count."""
        for axis, varies in enumerate(field.dim_varying):
            if not varies or axis not in self._closed:
                continue
            points = np.moveaxis(piece.frames, 1 + axis, 0)
            if piece.keep is not None:
                cells = np.moveaxis(piece.keep, axis, 0)
                points = points[:, :, cells[0] & cells[-1]]
            if not points.size or not np.array_equal(points[0], points[-1]):
                self._closed.discard(axis)
            elif not np.array_equal(points[0], points[len(points) // 2]):
                self._varying.add(axis)

    def findings(self) -> list[Finding]:
        """A warning for each axis whose end repeats its beginning in all that was looked at."""
        return [
            Finding(
                "warning",
                self.layout.path,
                f"axis '{self.layout.axes[axis]}' is periodic, and its last points repeat its "
                "first: leave the last ones out",
            )
            for axis in sorted(self._closed & self._varying)
        ]
