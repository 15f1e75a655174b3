"""What a system of PocketWell is: a solver with its grids, times, parameters and boundary
conditions.

A module of this package holds one system and its one instance `SYSTEM`. Random draws come from one
generator per trajectory, so a trajectory depends on the seed, the system, the split and its own
number alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SIZES", "Size", "SolverDivergedError", "System", "Trajectories"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Size:
    """How much of a system is computed: trajectories per split and snapshots per trajectory."""

    trajectories: Mapping[str, int]
    n_snapshots: int


SIZES: Mapping[str, Size] = {
    "tiny": Size({"train": 4, "valid": 2, "test": 2}, 16),
    "small": Size({"train": 24, "valid": 4, "test": 8}, 60),
    "large": Size({"train": 96, "valid": 12, "test": 24}, 60),
    # Twice the points of small along each axis, where the solver has been tried on them.
    "double": Size({"train": 24, "valid": 4, "test": 8}, 60),
    # On The Well's own grids, of the systems whose solver is cheap.
    "full": Size({"train": 24, "valid": 4, "test": 8}, 60),
}


@dataclass(frozen=True)
class Trajectories:
    """The record of N simulations, components last: fields (N, T, *S, ...), constant fields (N,
    *S, ...).
    """

    fields: Mapping[str, Array]
    constant_fields: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class System:
    """A physical system and its solver.

    Args:
        name: as in The Well.
        version: raised whenever the numbers that it gives change; part of the identity of a
            dataset.
        shapes: size -> grid; a size that is not there is not computed.
        boundary_conditions: per axis (low, high).
        parameters: one mapping of names to values per file; trajectory i of a split takes the set i
            modulo their number.
        batch: most trajectories solved together.
        coordinates: grid -> axis name -> positions.
        times: (grid, number of snapshots) -> times of the snapshots.
        simulate: (grid, times, parameters, one random generator a trajectory) -> trajectories.
        trajectories: size -> trajectories per split, for the sizes that differ from `SIZES`.
        unseen: kept out of joint training, to measure transfer to another family.
        mask_field: constant field that is 1 on cells outside the domain, if there are any.
    """

    name: str
    version: int
    shapes: Mapping[str, tuple[int, ...]]
    boundary_conditions: tuple[tuple[str, str], ...]
    parameters: tuple[Mapping[str, float], ...]
    batch: int
    coordinates: Callable[[tuple[int, ...]], Mapping[str, Array]]
    times: Callable[[tuple[int, ...], int], Array]
    simulate: Callable[
        [tuple[int, ...], Array, Mapping[str, float], Sequence[np.random.Generator]], Trajectories
    ]
    trajectories: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    unseen: bool = False
    mask_field: str | None = None

    def size(self, name: str) -> Size:
        """The size of that name, with this system's own numbers of trajectories if it has any."""
        size = SIZES[name]
        return replace(size, trajectories=self.trajectories.get(name, size.trajectories))


class SolverDivergedError(Exception):
    """A solver's state is no longer finite.

    Args:
        step: number of steps done when it was noticed.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"no longer finite at step {step}")
        self.step = step
