"""The systems of PocketWell: one line each."""

from __future__ import annotations

from wavelit.data.pocketwell import (
    acoustic_scattering_inclusions,
    acoustic_scattering_maze,
    active_matter,
    euler_multi_quadrants_periodicBC,
    gray_scott_reaction_diffusion,
    helmholtz_staircase,
    rayleigh_benard,
    shear_flow,
    turbulent_radiative_layer_2D,
    viscoelastic_instability,
)
from wavelit.data.pocketwell.system import System

__all__ = ["SYSTEMS"]

SYSTEMS: dict[str, System] = {
    "acoustic_scattering_inclusions": acoustic_scattering_inclusions.SYSTEM,
    "acoustic_scattering_maze": acoustic_scattering_maze.SYSTEM,
    "active_matter": active_matter.SYSTEM,
    "euler_multi_quadrants_periodicBC": euler_multi_quadrants_periodicBC.SYSTEM,
    "gray_scott_reaction_diffusion": gray_scott_reaction_diffusion.SYSTEM,
    "helmholtz_staircase": helmholtz_staircase.SYSTEM,
    "rayleigh_benard": rayleigh_benard.SYSTEM,
    "shear_flow": shear_flow.SYSTEM,
    "turbulent_radiative_layer_2D": turbulent_radiative_layer_2D.SYSTEM,
    "viscoelastic_instability": viscoelastic_instability.SYSTEM,
}
