"""Which grid axis a picture shows to the right and which upwards.

Names decide: longitude and x run to the right, latitude and y upwards, z, height and altitude
upwards beside any of these. Of three axes with such names z is cut in the middle. Axes without such
names stand in the order of the file: the first to the right, the second up, the third cut. Row 0 is
at the bottom, so that whatever increases along an axis increases upwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavelit.checks.arguments import listed, require_names, shown
from wavelit.errors import WavelitError

__all__ = ["View", "view_of"]

Array = NDArray[Any]

# Of two axes the one of the lower rank runs to the right.
RANKS = {
    **dict.fromkeys(("longitude", "lon", "x"), 0),
    **dict.fromkeys(("latitude", "lat", "y"), 1),
    **dict.fromkeys(("z", "height", "altitude"), 2),
}
# These run upwards also beside an axis whose name says nothing.
UPRIGHT = ("latitude", "lat", "z", "height", "altitude")


@dataclass(frozen=True)
class View:
    """The number of the axis that runs to the right, and of the one that runs upwards."""

    right: int = 0
    up: int = 1

    def plane(self, states: Array) -> Array:
        """(steps, *S) to images (steps, H, W), row 0 at the bottom: the middle slice in 3-D, one
        row in 1-D.
        """
        if states.ndim == 2:
            return states[:, None, :]
        images = np.moveaxis(states, (1 + self.up, 1 + self.right), (-2, -1))
        return images[:, images.shape[1] // 2] if images.ndim == 4 else images

    @property
    def cut(self) -> int:
        """The axis of three that is cut."""
        return 3 - self.right - self.up


def view_of(axes: Sequence[str], orientation: str | Sequence[str] | None = None) -> View:
    """The view of a grid.

    Args:
        axes: Names of the grid axes, as the file orders them.
        orientation: Names of the axes that run to the right and upwards, as two names or as
            "longitude,latitude"; if absent the names decide.

    Raises:
        WavelitError: It does not name two of the axes.
    """
    names = require_names("axes", axes)
    if orientation is not None:
        return _chosen(names, orientation)
    if len(names) < 2:
        return View()
    ranks = [RANKS.get(name.lower()) for name in names]
    first, second = _shown(ranks)
    of_first, of_second = ranks[first], ranks[second]
    if of_first is not None and of_second is not None:
        turned = of_first > of_second
    else:
        turned = names[first].lower() in UPRIGHT or of_second == 0
    return View(second, first) if turned else View(first, second)


def _shown(ranks: Sequence[int | None]) -> tuple[int, int]:
    """The two axes that are shown, in the order of the file."""
    if len(ranks) == 2:
        return 0, 1
    flat = [axis for axis, rank in enumerate(ranks) if rank in (0, 1)]
    if len(flat) == 2 and {ranks[axis] for axis in flat} == {0, 1}:
        return flat[0], flat[1]
    return 0, 1


def _chosen(names: Sequence[str], orientation: str | Sequence[str]) -> View:
    words = orientation.split(",") if isinstance(orientation, str) else orientation
    pair = [word.strip() for word in require_names("orientation", words)]
    if len(pair) != 2 or pair[0] == pair[1] or not set(pair) <= set(names):
        raise WavelitError(
            f"orientation must name the axes to the right and upwards, two of {listed(names)}, not "
            f"{shown(orientation)}"
        )
    return View(names.index(pair[0]), names.index(pair[1]))
