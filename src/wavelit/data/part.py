"""Which part of a split is read: some of its trajectories, and of their time a first or a last
share.

Files follow parameters, so that N of M trajectories are spread over them: of all, listed file by
file, those at places floor((i + 1/2) M / N) say how many each file gives, from its first on.

Whoever has few trajectories has none to spare for validation. The last share of the time of those
that there are is then kept from training, and validated on. No window crosses the cut.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from wavelit.data.format.layout import FileLayout
from wavelit.errors import WavelitError

__all__ = ["Part"]


@dataclass(frozen=True)
class Part:
    """A part of a split.

    Args:
        trajectories: How many, spread over the files; None: all.
        holdout: Share of their time that is kept from training, at its end; None: nothing is.
        last: Whether the part is that share, or what stands before it.
    """

    trajectories: int | None = None
    holdout: float | None = None
    last: bool = False

    def counts(self, layouts: Sequence[FileLayout], where: str) -> list[int]:
        """How many trajectories each file gives, from its first on.

        Args:
            layouts: Of the split's files.
            where: The split, for errors.

        Raises:
            WavelitError: There are fewer trajectories.
        """
        there = [layout.n_trajectories for layout in layouts]
        if self.trajectories is None:
            return there
        n, n_all = self.trajectories, sum(there)
        if n > n_all:
            raise WavelitError(
                f"{where}: trajectories={n} are asked for, of {n_all}: ask for as many at most, or "
                "leave it out"
            )
        ends = list(itertools.accumulate(there))
        found = [0] * len(there)
        for i in range(n):
            found[bisect_right(ends, (2 * i + 1) * n_all // (2 * n))] += 1
        return found

    def cut(
        self, layouts: Sequence[FileLayout], counts: Sequence[int], needed: int
    ) -> tuple[tuple[FileLayout, ...], tuple[int, ...]]:
        """What the files hold of the part, and the step at which it begins in each.

        Args:
            layouts: Of files that give some.
            counts: How many each gives.
            needed: Steps of a window.

        Raises:
            WavelitError: A share of the time is shorter than a window.
        """
        parts, starts = [], []
        for layout, n in zip(layouts, counts, strict=True):
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
