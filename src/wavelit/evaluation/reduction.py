"""What of a set of rollouts a page of bounded size shows, and how it says what it leaves out.

Where all of them would take too many bytes, the most generous of cells, steps, trajectories and
fields is reduced, again and again, until they fit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

__all__ = ["Extent", "Kept", "keep"]

# Steps and cells along a side that a page shows at most; a line in 1-D may have more.
MAX_STEPS, MAX_SIDE, MAX_POINTS = 240, 256, 2048


@dataclass(frozen=True)
class Extent:
    """How much there is: trajectories, fields, steps, images of height x width, runs, and numbers
    of four bytes that each step's curves take.
    """

    trajectories: int
    fields: int
    steps: int
    height: int
    width: int
    runs: int
    curves: int


@dataclass(frozen=True)
class Kept:
    """How much is shown: the first trajectories and fields, every so many-th step and cell."""

    trajectories: int
    fields: int
    step: int
    cell: int

    def steps(self, extent: Extent) -> list[int]:
        """The steps shown, counted from 0, the last among them."""
        return sorted({*range(0, extent.steps, self.step), extent.steps - 1})

    def size(self, extent: Extent) -> int:
        """Bytes of images and curves before they are compressed."""
        height, width = (ceil(n / self.cell) for n in (extent.height, extent.width))
        each = height * width * (1 + 2 * extent.runs) + 4 * extent.curves
        return self.trajectories * self.fields * len(self.steps(extent)) * each

    def notes(self, extent: Extent) -> list[str]:
        """A sentence for each thing that is left out."""
        found = []
        if self.trajectories < extent.trajectories:
            found.append(f"Shown are the first {self.trajectories} of {extent.trajectories} "
                         "trajectories that were given.")  # fmt: skip
        if self.fields < extent.fields:
            found.append(f"Shown are the first {self.fields} of {extent.fields} fields.")
        if self.step > 1:
            found.append(
                f"Of {extent.steps} steps every {_nth(self.step)} is shown, and the last: "
                f"{len(self.steps(extent))} in all."
            )
        if self.cell > 1:
            full = " x ".join(str(n) for n in (extent.width, extent.height) if n > 1)
            found.append(f"Of {full} cells every {_nth(self.cell)} along each axis is drawn.")
        return found


def keep(extent: Extent, budget: int) -> Kept:
    """What fits into so many bytes, or the least that can be shown."""
    side = max(extent.height, extent.width)
    kept = Kept(
        extent.trajectories,
        extent.fields,
        ceil(extent.steps / MAX_STEPS),
        ceil(side / (MAX_SIDE if extent.height > 1 else MAX_POINTS)),
    )
    while kept.size(extent) > budget:
        less = _less(kept, extent)
        if less is None:
            break
        kept = less
    return kept


def _less(kept: Kept, extent: Extent) -> Kept | None:
    """One reduction: of what exceeds its modest amount the most."""
    side = ceil(max(extent.height, extent.width) / kept.cell)
    # The last step, which is always shown, apart.
    steps = ceil(extent.steps / kept.step)
    fewer_fields = max(1, kept.fields - ceil(kept.fields / 8))
    choices = [
        (side / (64 if extent.height > 1 else 512), side, replace(kept, cell=_next(kept.cell))),
        (steps / 40, steps, replace(kept, step=_next(kept.step))),
        (
            kept.trajectories / 2,
            kept.trajectories,
            replace(kept, trajectories=kept.trajectories - 1),
        ),
        (kept.fields / 4, kept.fields, replace(kept, fields=fewer_fields)),
    ]
    left = [(excess, less) for excess, amount, less in choices if amount > 1]
    return max(left, key=lambda choice: choice[0])[1] if left else None


def _next(stride: int) -> int:
    return max(stride + 1, stride * 9 // 8)


def _nth(n: int) -> str:
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"
