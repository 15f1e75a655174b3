"""The systems of PocketWell: one line each."""

from __future__ import annotations

from wavelit.data.pocketwell import acoustic_scattering_maze, shear_flow
from wavelit.data.pocketwell.system import System

__all__ = ["SYSTEMS"]

SYSTEMS: dict[str, System] = {
    "acoustic_scattering_maze": acoustic_scattering_maze.SYSTEM,
    "shear_flow": shear_flow.SYSTEM,
}
