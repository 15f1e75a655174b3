"""Frames of a file that repeat the one before, and its trajectories told by their first and last
frames.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from wavelit.data.checking.findings import Finding
from wavelit.data.format.layout import FieldLayout, FileLayout
from wavelit.data.pieces import Piece

__all__ = ["Frames"]


class Frames:
    """All fields of a file together, looked at piece by piece.

    Args:
        layout: Of the file.
        read: The trajectories that are looked at.
    """

    def __init__(self, layout: FileLayout, read: Sequence[int]) -> None:
        self._layout, self._read = layout, read
        # (trajectory, step): nothing that was met differs from the step before.
        self._still = np.zeros((layout.n_trajectories, layout.n_steps), dtype=bool)
        self._still[read] = True
        # A single frame repeats nothing.
        self._still[:, 0] = False
        self._first = [hashlib.blake2b() for _ in range(layout.n_trajectories)]
        self._last = [hashlib.blake2b() for _ in range(layout.n_trajectories)]

    def look(self, field: FieldLayout, piece: Piece) -> None:
        """Take in a piece of a field that varies in time."""
        one = slice(piece.trajectory, piece.trajectory + 1)
        rows = one if field.sample_varying else slice(None)
        stop = piece.start + len(piece.frames)
        joined = (
            piece.frames if piece.before is None else np.concatenate([piece.before, piece.frames])
        )
        same = (joined[1:] == joined[:-1]).all(axis=tuple(range(1, joined.ndim)))
        self._still[rows, stop - len(same) : stop] &= same
        for digest in self._first[rows] if piece.start == 0 else ():
            digest.update(np.ascontiguousarray(piece.frames[0]).tobytes())
        for digest in self._last[rows] if stop == self._layout.n_steps else ():
            digest.update(np.ascontiguousarray(piece.frames[-1]).tobytes())

    def keys(self) -> dict[int, tuple[str, str]]:
        """What a trajectory is known by in other files, of each that was read."""
        return {n: (self._first[n].hexdigest(), self._last[n].hexdigest()) for n in self._read}

    def findings(self) -> list[Finding]:
        """A warning if frames repeat the one before."""
        if not self._still.any():
            return []
        trajectory, step = (int(i) for i in np.argwhere(self._still)[0])
        message = (
            f"{int(self._still.sum())} frames repeat the one before, the first at step {step} of "
            f"trajectory {trajectory}; leave repeated frames out"
        )
        return [Finding("warning", self._layout.path, message)]
