"""PocketWell: systems of The Well at about a quarter of its resolution, computed by classical
solvers.

`generate("acoustic_scattering_maze")` makes a folder in The Well's format, splits and statistics
included, in about a minute on two cores; the same seed gives the same bytes whatever the number of
processes.
"""

from wavelit.data.pocketwell.build import generate, generate_one
from wavelit.data.pocketwell.registry import SYSTEMS
from wavelit.data.pocketwell.system import SIZES, Size, System, Trajectories

__all__ = ["SIZES", "SYSTEMS", "Size", "System", "Trajectories", "generate", "generate_one"]
