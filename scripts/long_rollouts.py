"""2,000 steps from validation starts, of the runs that `wavelit benchmark accuracy2` left.

    .venv/bin/python scripts/long_rollouts.py measure [--weights runs/accuracy2/5min]
    .venv/bin/python scripts/long_rollouts.py          # the table of docs/results.md

Of every run, from the start of every validation trajectory, with nothing clamped:

    largest    max |u| of all steps over max |u| of the data, of the field in which it is largest
    inside     steps until that exceeds 1.5, of the first trajectory that does
    useful     steps until the mean VRMSE of the fields exceeds 0.25, mean over trajectories; at
               most as many as there is truth for
    bands      energy over steps 21:56 over that of the truth, in thirds of the wavenumbers (equal
               ratios from the longest wave to the shortest), geometric mean over fields
    settled    variance in space of every field, and those bands, from step 1,000 on over the data's
    halves     largest ratio of a field's variances in the two halves of the data's trajectories
"""

import argparse
import itertools
import json
import math
from functools import cache
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import torch
from second_scores import compared, ratios
from tables import markdown, paragraph, put
from torch import Tensor

import wavelit
from wavelit.benchmarks.accuracy import open_data, set_up
from wavelit.benchmarks.protocol import THE_EIGHT
from wavelit.metrics import isotropic_spectrum, vrmse
from wavelit.model.rollout import step_by_step

RESULTS = Path("results/accuracy2/long")
PAGE = Path("docs/results.md")
MARKS = {
    name: (f"<!-- {name}: scripts/long_rollouts.py -->", f"<!-- end of {name} -->")
    for name in ("far", "far noise", "settled", "far table")
}
STEPS, BOUND, USEFUL = 2000, 1.5, 0.25
LATE = slice(20, 56)
SETTLED = range(1000, STEPS, 10)
# Halves of a system that is statistically steady are alike within this.
STEADY = 1.5
OLD, NEW = "WaveLiT 0.1", "WaveLiT 0.2"
FAR = "WaveLiT 0.2 with far noise"
MODELS = (OLD, "convolution twin", NEW, "WaveLiT 0.2 without bound", FAR)
FLOWS = ("shear_flow", "active_matter", "turbulent_radiative_layer_2D", "rayleigh_benard")
# Of the energy in a band over the truth's, and far beyond it.
LOW, HIGH = 0.7, 1.4
HALF, TWICE = 0.5, 2.0


def measure(weights: Path, root: Path, models: list[str], seeds: list[int]) -> None:
    set_up()
    for run in sorted(weights.glob("*/*/weights")):
        model, (system, seed) = run.parts[-3], run.parts[-2].rsplit("-", 1)
        if model.replace("_", " ") not in models or int(seed) not in seeds:
            continue
        path = RESULTS / f"{model}-{system}-{seed}.json"
        if not path.exists():
            found = {"model": model.replace("_", " "), "system": system, "seed": int(seed)}
            found |= far(run.parent, system, root)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found, indent=1) + "\n")
            print(found, flush=True)


@torch.no_grad()
def far(run: Path, system: str, root: Path) -> dict[str, Any]:
    """What the head of this file says, of one run."""
    emulator = wavelit.load(run)
    data = open_data(system, root, 0)
    batch = next(iter(data.trajectories("valid", batch_size=8)))
    truth = batch.target
    axes = tuple(range(2, truth.ndim - 1))
    size = torch.cat([batch.fields, truth], 1).abs().amax((0, 1, *(a + 1 for a in axes)))
    ratios, errors, late, settled = [], [], [], []

    def visit(step: int, state: Tensor) -> None:
        ratios.append((state.abs().amax(axes) / size).amax(1).nan_to_num(math.inf, math.inf))
        if step < truth.shape[1]:
            score = vrmse(state, truth[:, step], emulator.spatial, valid=batch.valid).mean(1)
            errors.append(score.nan_to_num(math.inf, math.inf))
            if LATE.start <= step < LATE.stop:
                late.append(state)
        if step in SETTLED:
            settled.append(state)

    step_by_step(emulator, batch.fields, STEPS, batch.beside, batch.valid, visit)
    ratio, error = torch.stack(ratios), torch.stack(errors)
    beyond = (ratio > BOUND).any(1)
    useless = error > USEFUL
    until = torch.where(useless.any(0), useless.int().argmax(0), len(error))
    end = torch.stack(settled, 1)
    variances = [spread(x) for x in (end, truth)]
    return {
        "steps": STEPS,
        "largest": _finite(float(ratio.max())),
        "inside": int(beyond.int().argmax()) if beyond.any() else STEPS,
        "useful": round(float(until.double().mean()), 2),
        "truth": len(error),
        "bands": over(torch.stack(late, 1), truth[:, LATE]),
        "settled": {
            "variance": [_finite(float(x)) for x in variances[0] / variances[1]],
            "bands": over(end, truth),
        },
        "halves": halves(torch.cat([batch.fields, truth], 1)),
    }


def over(predicted: Tensor, true: Tensor) -> list[float | None]:
    """Energy in the three bands of states (B, T, C, *S) over that of others."""
    energy, truth = band_energies(predicted), band_energies(true)
    # A field that is zero in a band has no ratio there.
    kept = truth > 0
    logs = torch.where(kept, (energy / truth).log(), 0.0)
    return [_finite(float(x)) for x in (logs.sum(0) / kept.sum(0)).exp()]


def halves(states: Tensor) -> float:
    """Largest ratio of a field's variances in the two halves of trajectories (B, T, C, *S)."""
    first, second = (spread(half) for half in states.tensor_split(2, 1))
    return float((second / first).log().abs().max().exp())


def spread(states: Tensor) -> Tensor:
    """(C,) of states (B, T, C, *S): variance in space, mean over samples and steps."""
    return states.flatten(3).var(-1, correction=0).mean((0, 1))


def band_energies(states: Tensor) -> Tensor:
    """(C, 3) of states (B, T, C, *S): energy in three bands, mean over samples and steps."""
    shells, energy = isotropic_spectrum(states, states.ndim - 3)
    edges = [len(shells) ** (i / 3) for i in range(4)]
    bands = [
        energy[..., (shells >= low) & (shells < high)].sum(-1)
        for low, high in itertools.pairwise(edges)
    ]
    return torch.stack(bands, -1).mean((0, 1))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@cache
def runs() -> dict[tuple[str, str, int], dict[str, Any]]:
    """By system, model and seed."""
    found = {}
    for path in sorted(RESULTS.glob("*.json")):
        run = json.loads(path.read_text())
        found[run["system"], run["model"], run["seed"]] = run
    return found


def finding() -> str:
    """How far 0.2 sees beside 0.1, where both were rolled out, in a few sentences."""
    old, new = (
        {(system, seed): run for (system, name, seed), run in runs().items() if name == model}
        for model in (OLD, NEW)
    )
    both = sorted(old.keys() & new.keys())
    flows = [key for key in both if key[0] in FLOWS]
    if not flows:
        return "Rollouts of WaveLiT 0.2 far beyond the data have not been measured yet."
    ratio = geometric_mean(new[key]["useful"] / old[key]["useful"] for key in flows)
    kept = sum(all(x and LOW <= x <= HIGH for x in new[key]["bands"]) for key in flows)
    stay = [sum(run[key]["inside"] == STEPS for key in both) for run in (old, new)]
    line = (
        f"On {len(flows)} flows 0.2 is useful for {ratio:.2f} times as many steps as 0.1, the "
        f"geometric mean. On {kept} of them its energy in every band is within {LOW:g} to {HIGH:g} "
        f"of the truth's. Over {STEPS:,} steps 0.1 stays within {BOUND:g} times the data's largest "
        f"value on {stay[0]} of {len(both)} systems, 0.2 on {stay[1]}."
    )
    return paragraph(line)


def far_noise() -> str:
    """What noise far off the data is worth beyond the data's end, and what it costs before."""
    kept = {(s, seed): run for (s, name, seed), run in runs().items() if name == FAR}
    both = sorted(key for key in kept if (key[0], NEW, key[1]) in runs())
    if not both:
        return "Far noise has not been measured yet."
    old = {key: runs()[key[0], NEW, key[1]] for key in both}
    stay = [sum(run[key]["inside"] == STEPS for key in both) for run in (old, kept)]
    steps = geometric_mean(kept[key]["inside"] / old[key]["inside"] for key in both)
    pairs = [pair for pair in compared(5, NEW, FAR) if (pair[0], pair[1]) in both]
    leaves = ", ".join(
        f"{system} at step {kept[system, seed]['inside']:,}"
        for system, seed in both
        if kept[system, seed]["inside"] < STEPS
    )
    costs = " / ".join(f"{ratio:.2f}" for ratio in ratios(pairs))
    line = (
        f"With far noise 0.2 stays within {BOUND:g} times the data's largest value on {stay[1]} of "
        f"{len(both)} systems for {STEPS:,} steps, without it on {stay[0]}. "
        + (f"It leaves on {leaves}. " if leaves else "")
        + f"It stays there {steps:.1f} times as long, the geometric mean. On validation its error "
        f"is {costs} of 0.2's (one step / 1:20 / 13:30 / 21:56), one seed."
    )
    return paragraph(line)


def settled() -> str:
    """Whether what steady systems settle at is what the data settle at."""
    kept = []
    for model in (NEW, FAR):
        mine = {
            (system, seed): run["settled"]
            for (system, name, seed), run in runs().items()
            if name == model and is_steady(run)
        }
        if not mine:
            return "What the rollouts settle at has not been measured yet."
        within = [
            key
            for key, run in mine.items()
            if all(x is not None and HALF <= x <= TWICE for x in run["variance"] + run["bands"])
        ]
        kept.append(f"{len(within)} of {len(mine)}")
    steady = [name for name in THE_EIGHT if any(key[0] == name for key in mine)]
    line = (
        f"Statistically steady are {', '.join(steady)}: variances of the data's two halves differ "
        f"by a factor of at most {STEADY:g}. From step {SETTLED.start:,} on 0.2 keeps the variance "
        "of every field and the energy of every band within half to twice the data's on "
        f"{kept[0]}, with far noise on {kept[1]}."
    )
    return paragraph(line)


def table() -> str:
    found = runs()
    rows = []
    for system, model, seed in sorted(
        found, key=lambda key: (THE_EIGHT.index(key[0]), MODELS.index(key[1]), key[2])
    ):
        run = found[system, model, seed]
        bands = _three(run["bands"])
        largest = "∞" if run["largest"] is None else f"{run['largest']:.3g}"
        useful = f"{run['useful']:.1f} of {run['truth']}"
        end = _settled(run["settled"]) if is_steady(run) else ""
        rows.append([system, model, str(seed), useful, bands, largest, f"{run['inside']:,}", end])
    head = ["system", "model", "seed", "useful steps", "energy", "largest", "steps inside"]
    head += ["settled"]
    return markdown(head, rows)


def is_steady(run: dict[str, Any]) -> bool:
    """Whether the run was scored after it settled, and its system is statistically steady."""
    return "settled" in run and run["halves"] <= STEADY


def _settled(run: dict[str, Any]) -> str:
    """Variances, least and most of the fields, and bands."""
    variances = run["variance"]
    ends = "∞" if None in variances else " to ".join(f"{f(variances):.2g}" for f in (min, max))
    return f"{ends}; " + _three(run["bands"])


def _three(bands: list[float | None]) -> str:
    return " / ".join("∞" if x is None else f"{x:.2g}" for x in bands)


def tables() -> list[str]:
    """What the page holds."""
    return [finding(), far_noise(), settled(), table()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("action", nargs="?", choices=["measure", "render"], default="render")
    parser.add_argument("--weights", type=Path, default=Path("runs/accuracy2/5min"))
    parser.add_argument("--root", type=Path, default=Path("datasets/pocketwell/small"))
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    given = parser.parse_args()
    if given.action == "measure":
        measure(given.weights, given.root, given.models, given.seeds)
    else:
        for (begin, end), text in zip(MARKS.values(), tables(), strict=True):
            put(PAGE, begin, end, text)
