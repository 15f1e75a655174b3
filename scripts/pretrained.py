"""The models that come with the package, from the runs of `wavelit benchmark accuracy2`: weights,
configuration and card.

.venv/bin/python scripts/pretrained.py          # needs runs/accuracy2, with those runs' weights,
                                                # and their data, as --sign does
.venv/bin/python scripts/pretrained.py --sign   # signatures alone, into what the package has
.venv/bin/python scripts/pretrained.py --joint runs/transfer/40min/joint-0  # JOINT_RESULT's run
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from tables import markdown

import wavelit
from wavelit.data.datamodule import WellDataModule
from wavelit.data.pocketwell import SYSTEMS, generate_one
from wavelit.data.signature import signature_of
from wavelit.model.pretrained import FOLDER, PREFIX
from wavelit.model.signature import Signature
from wavelit.training.joint_folder import load_joint

RESULTS = Path("results/accuracy2/5min/WaveLiT_0.2")
WEIGHTS = Path("runs/accuracy2/5min/WaveLiT_0.2")
DATA = Path("datasets/pocketwell/small")
JOINT, JOINT_RESULT = "joint-1M", Path("results/transfer/40min/joint-0.json")
# Core-minutes of WaveLiT 0.2, by the clock of its protocol, that are an eighth of forty of a joint
# run (docs/transfer.md); and its results.
ALONE_MINUTES = 3.5
ALONE = Path("results/accuracy2/3.5min/WaveLiT_0.2")


def card(result: dict) -> str:
    """Model card: what the model is, what it was trained on, how well it does, where it should
    not be used.
    """
    system, test = result["system"], result["test"]
    persistence = test["persistence"]
    scores = {
        "one step": (test["one_step"], persistence["one_step"]),
        "rollout, steps 1:20": (test["rollout"]["1:20"], persistence["rollout"]["1:20"]),
    }
    rows = [[label, f"{model:.3g}", f"{held:.3g}"] for label, (model, held) in scores.items()]
    grid = " x ".join(str(n) for n in SYSTEMS[system].shapes["small"])
    table = markdown(["VRMSE, test split", "model", "persistence"], rows)
    return f"""---
library_name: wavelit
license: mit
tags: [PDE, emulator, wavelets]
---
# {PREFIX}{system}

WaveLiT `nano`, {result["parameters"] / 1e6:.2f}M parameters, trained on {system} of PocketWell
(size small, seed 0; 24 trajectories of 60 steps on {grid} points, simulated by the package):
{result["samples"]:,} windows, {result["minutes"]:g} core-minutes of the benchmark's clock, batch
{result["batch_size"]}, learning rate {result["lr"]:g}, seed {result["seed"]}. The rest of its
recipe is configs/pocketwell/{system}.yaml of the repository.

{table}

Mean over trajectories, steps and fields; by step and field in results/accuracy2 of the repository.
A rollout is trustworthy for about as long as its error is well below that of persistence. The model
knows the grid, step and parameters of this system alone, and stands for PocketWell's data, not for
The Well's at full size.

```python
from wavelit import WaveLiT
model = WaveLiT.from_pretrained("{PREFIX}{system}")
# fields (B, 4, C, *grid) in physical units -> (B, C, *grid)
```

`wavelit rollout --pretrained {system}` simulates one trajectory and rolls the model out beside it.
"""


def signature(system: str, root: Path | None = None) -> Signature:
    """What a shipped model takes: names and axes as a simulated trajectory has them; spacing, time
    step and parameters of size small; what values the fields had, from its training data, if there
    is a folder of them.
    """
    spec = SYSTEMS[system]
    shape = spec.shapes["small"]
    with tempfile.TemporaryDirectory() as folder:
        path = generate_one(system, Path(folder) / system, "tiny")
        found = signature_of(WellDataModule(str(path), mask_field=spec.mask_field))
    ranges = {}
    if root is not None:
        seen = signature_of(WellDataModule(str(root / system), mask_field=spec.mask_field))
        ranges = {each.name: each.ranges for each in (*seen.fields, *seen.constants)}
    times = spec.times(shape, spec.size("small").n_snapshots)
    step = round(float(np.median(np.diff(times))), 12)
    places = spec.coordinates(shape)
    trained = spec.parameters[: spec.size("small").trajectories["train"]]
    return replace(
        found,
        fields=tuple(replace(each, ranges=ranges.get(each.name)) for each in found.fields),
        constants=tuple(replace(each, ranges=ranges.get(each.name)) for each in found.constants),
        scalars=tuple(
            replace(
                each,
                ranges=(
                    (
                        min(values[each.name] for values in trained),
                        max(values[each.name] for values in trained),
                    ),
                ),
            )
            for each in found.scalars
        ),
        spacing=tuple(
            float(places[axis][-1] - places[axis][0]) / (len(places[axis]) - 1)
            for axis in found.axes
        ),
        time_step=(step, step),
    )


def sign() -> None:
    for path in sorted((FOLDER / PREFIX).glob("*/config.json")):
        if path.parent.name == JOINT:
            continue
        entries = json.loads(path.read_text())
        entries["signature"] = signature(path.parent.name, DATA).to_dict()
        path.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n")


def joint_card(result: dict) -> str:
    """Model card of the joint model: what it is for, and how well it does beside a model of each
    system.
    """
    rows, lower = [], 0
    for system, found in result["valid"].items():
        alone = json.loads((ALONE / f"{system}-0.json").read_text())["valid"]
        pairs = [(each["one_step"], each["rollout"]["1:20"]) for each in (found, alone)]
        rows.append([system, *(f"{one:.3g} / {far:.3g}" for one, far in pairs)])
        lower += all(own < other for own, other in zip(*pairs, strict=True))
    table = markdown(["VRMSE, one step / steps 1:20", "joint-1M", "one model for each"], rows)
    windows, least = max(result["windows"].values()), min(result["windows"].values())
    eighth = ALONE_MINUTES * result["minutes"] / 40
    return f"""---
library_name: wavelit
license: mit
tags: [PDE, emulator, wavelets]
---
# {PREFIX}{JOINT}

One WaveLiT for PocketWell's eight systems, to start from. It has {result["parameters"] / 1e6:.2f}M
parameters, of which all systems share {result["shared"] / 1e6:.2f}M. Trained for
{result["minutes"]:g} core-minutes of the benchmark's clock, {windows:,} windows of a system (size
small; {least:,} of helmholtz_staircase), learning rate {result["train"]["lr"]:g}, seed
{result["seed"]}.

{table}

Validation split. By one clock the joint model had {eighth:g} core-minutes for each system, and a
model for itself {ALONE_MINUTES:g}. The joint one is lower in both on {lower} of {len(rows)}. More
in docs/transfer.md of the repository.

```bash
wavelit train --from {JOINT} datasets/mine
```

```python
import wavelit
model = wavelit.load("{JOINT}")["shear_flow"]
# fields (B, 4, C, *grid) in physical units -> (B, C, *grid)
```
"""


def ship_joint(run: Path) -> None:
    folder = FOLDER / PREFIX / JOINT
    load_joint(run).save_pretrained(folder)
    (folder / "README.md").write_text(joint_card(json.loads(JOINT_RESULT.read_text())))


def main() -> None:
    for path in sorted(RESULTS.glob("*-0.json")):
        result = json.loads(path.read_text())
        system = result["system"]
        model = wavelit.load(WEIGHTS / f"{system}-{result['seed']}")
        model.signature = signature(system, DATA)
        folder = FOLDER / PREFIX / system
        model.save_pretrained(folder)
        (folder / "README.md").write_text(card(result))


if __name__ == "__main__":
    if "--joint" in sys.argv:
        ship_joint(Path(sys.argv[-1]))
    else:
        sign() if "--sign" in sys.argv else main()
