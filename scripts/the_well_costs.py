"""The table of docs/the_well.md: what a sample of `1M` costs on The Well's grids.

    python -m validation.full_shapes --scratch FOLDER   # writes results/full_shapes
    .venv/bin/python scripts/the_well_costs.py

Hours an epoch are estimates: the largest of arithmetic, memory and launches for the recipe's batch
(`wavelit.cost`), times the steps of an epoch. They know nothing of reading, validation or caches.
"""

import json
import math
from pathlib import Path

import yaml
from tables import markdown, put

from wavelit.cost import DEVICES, Cost

RESULTS = Path("results/full_shapes")
RECIPES = Path("configs/the_well")
PAGE = Path("docs/the_well.md")
BEGIN, END = "<!-- table: scripts/the_well_costs.py -->", "<!-- end of table -->"
HISTORY = 4
# (trajectories, states) of all splits, of the READMEs of The Well's datasets
# (PolymathicAI/the_well, 215f55d); four fifths are for training.
RECORDS = {
    "acoustic_scattering_maze": [(2000, 201)],
    "active_matter": [(225, 81)],
    "gray_scott_reaction_diffusion": [(1200, 1001)],
    "helmholtz_staircase": [(512, 50)],
    "rayleigh_benard": [(1750, 200)],
    "shear_flow": [(1120, 200)],
    "turbulent_radiative_layer_2D": [(90, 101)],
    "viscoelastic_instability": [(73, 60), (187, 20)],
    "acoustic_scattering_discontinuous": [(2000, 101)],
    "acoustic_scattering_inclusions": [(4000, 101)],
    "euler_multi_quadrants_openBC": [(5000, 100)],
    "euler_multi_quadrants_periodicBC": [(5000, 100)],
    "MHD_64": [(100, 100)],
    "planetswe": [(40, 3024)],
    "rayleigh_benard_uniform": [(1750, 200)],
    "turbulence_gravity_cooling": [(2700, 50)],
}


def windows(system: str) -> float:
    """Training windows of a system."""
    return 0.8 * sum(n * (states - HISTORY) for n, states in RECORDS[system])


def hours(system: str, cost: Cost, device: str) -> float:
    """An epoch on a device, at least."""
    batch = yaml.safe_load((RECIPES / f"{system}.yaml").read_text())["data"]["batch_size"]
    bounds = cost.bounds(*DEVICES[device])
    step = max(bounds["launches"], batch * max(bounds["arithmetic"], bounds["memory"]))
    return math.ceil(windows(system) / batch) * step / 3600


def tables() -> list[str]:
    """What the page holds."""
    rows = []
    for path in sorted(RESULTS.glob("*.json")):
        found = json.loads(path.read_text())
        cost, system = Cost(**found["cost"]), found["system"]
        rows.append(
            [
                system,
                " x ".join(map(str, found["grid"])),
                f"{cost.activations / 1e9:.2g}",
                f"{cost.traffic / 1e9:.2g}",
                f"{cost.training_flops / 1e9:.0f}",
                f"{windows(system):,.0f}",
                *(f"{hours(system, cost, device):.2g}" for device in ("a100", "h100")),
            ]
        )
    head = ["system", "grid", "kept, GB", "traffic, GB", "GFLOP", "windows, about"]
    return [markdown([*head, "hours an epoch, A100", "H100"], rows)]


if __name__ == "__main__":
    put(PAGE, BEGIN, END, *tables())
