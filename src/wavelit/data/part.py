"""Which part of a split is read: its first trajectories, and of their time a first or a last share.

Whoever has few trajectories has none to spare for validation. The last share of the time of those
that there are is then kept from training, and validated on. No window crosses the cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from wavelit.data.format.layout import FileLayout
from wavelit.errors import WavelitError

__all__ = ["Part"]


@dataclass(frozen=True)
class Part:
    """A part of a split.

    Args:
        trajectories: How many, from the first on, file by file; None: all.
        holdout: Share of their time that is kept from training, at its end; None: nothing is.
        last: Whether the part is that share, or what stands before it.
    """

    trajectories: int | None = None
    holdout: float | None = None
    last: bool = False

    def is_full(self, layouts: Sequence[FileLayout]) -> bool:
        """Whether these files, the first of the split, hold all its trajectories."""
        return self.trajectories is not None and _count(layouts) >= self.trajectories

    def cut(
        self, layouts: Sequence[FileLayout], where: str, needed: int
    ) -> tuple[tuple[FileLayout, ...], tuple[int, ...]]:
        """What the files hold of the part, and the step at which it begins in each.

        Args:
            layouts: Of the split's files, from the first on until they are enough.
            where: The split, for errors.
            needed: Steps of a window.

        Raises:
            WavelitError: There are fewer trajectories, or a share of the time is shorter than a
                window.
        """
        left = _count(layouts) if self.trajectories is None else self.trajectories
        if left > _count(layouts):
            raise WavelitError(
                f"{where}: trajectories={left} are asked for, of {_count(layouts)}: ask for as "
                "many at most, or leave it out"
            )
        parts, starts = [], []
        for layout in layouts:
            n = min(left, layout.n_trajectories)
            start, stop = self._steps(layout, needed)
            parts.append(
                replace(
                    layout,
                    n_trajectories=n,
                    n_steps=stop - start,
                    scalars={name: values[:n] for name, values in layout.scalars.items()},
                    split_in_time=layout.split_in_time or self.holdout is not None,
                )
            )
            starts.append(start)
            left -= n
        return tuple(parts), tuple(starts)

    def _steps(self, layout: FileLayout, needed: int) -> tuple[int, int]:
        if self.holdout is None:
            return 0, layout.n_steps
        cut = round((1 - self.holdout) * layout.n_steps)
        start, stop = (cut, layout.n_steps) if self.last else (0, cut)
        if stop - start < needed:
            raise WavelitError(
                f"{layout.path}: holdout={self.holdout:g} leaves {stop - start} of "
                f"{layout.n_steps} steps for {'validation' if self.last else 'training'}, but a "
                f"window needs {needed}: choose another share, or lower n_steps_input"
            )
        return start, stop


def _count(layouts: Sequence[FileLayout]) -> int:
    return sum(layout.n_trajectories for layout in layouts)
