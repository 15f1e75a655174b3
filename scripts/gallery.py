"""The moving pictures of docs/systems.md: a rollout of every model that comes with the package,
beside the truth. Writes docs/images/systems/<system>.gif, and all else to runs/pretrained.

.venv/bin/python scripts/gallery.py [FOLDER]
"""

import sys
from pathlib import Path

import h5py
import numpy as np

from wavelit.evaluation import films
from wavelit.evaluation.evaluate_run import record_pretrained_rollout
from wavelit.model.pretrained import PREFIX, pretrained

PICTURES = Path("docs/images/systems")
# Eight of them load with one page.
LARGEST = 700_000


def main(folder: Path) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    films.MAX_GIF_BYTES = LARGEST
    for system in (name.removeprefix(PREFIX) for name in pretrained()):
        file = folder / system / "rollout-valid-0.hdf5"
        if not file.exists():
            record_pretrained_rollout(system, folder)
        with h5py.File(file) as rollout:
            fields = rollout["t0_fields"]
            name = next(str(n) for n in fields.attrs["field_names"] if not n.startswith("truth_"))
            # One channel: (1, steps, *S) to (steps, 1, *S).
            prediction, truth = (
                np.moveaxis(fields[key][:], 0, 1) for key in (name, f"truth_{name}")
            )
        films.animation(PICTURES / f"{system}.gif", truth, prediction, [name])
        print(PICTURES / f"{system}.gif")


if __name__ == "__main__":
    main(Path(*sys.argv[1:2]) if sys.argv[1:] else Path("runs/pretrained"))
