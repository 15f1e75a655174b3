"""Diagnosis of a dataset: its descriptors, the system of PocketWell that is nearest, the shipped
model to start from, and what was measured of such starts.

    distance(a, b) = sqrt( mean over descriptors of ((a_i - b_i) / s_i)^2 )

over the descriptors that both have, at least three. s_i is the spread of descriptor i over the ten
systems of PocketWell, N - 1. Persistence and the time of correlation enter as their logarithms. Ten
systems span this space thinly: the nearest may be far, which `Diagnosis` says.

The systems' own descriptors stand in descriptors.json beside this module, with the settings that
made them; scripts/descriptors.py writes it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from wavelit.checks.arguments import listed, require_path, require_whole
from wavelit.checks.settings import require_mapping
from wavelit.data.datamodule import boundary_conditions
from wavelit.data.format.folder import address
from wavelit.data.well import WellDataset
from wavelit.errors import WavelitError, printable
from wavelit.evaluation.descriptors import DESCRIPTORS, Descriptors, descriptors_of
from wavelit.evaluation.sampled import SampledWindows
from wavelit.evaluation.transfer import read_pairs, settings_of, transfer_map, with_setting
from wavelit.files.atomic import atomic_path
from wavelit.files.plain import read_json
from wavelit.model.config import padded_shape
from wavelit.model.foundation import JointWaveLiT
from wavelit.model.pretrained import PREFIX, pretrained
from wavelit.model.wavelit import WaveLiT

__all__ = [
    "Diagnosis",
    "diagnose",
    "distances",
    "expectation",
    "known_systems",
    "write_descriptors",
]

TABLE = Path(__file__).with_name("descriptors.json")
# What PocketWell writes beside a dataset, and the size that the table was measured on.
RECORD, SIZE = "pocketwell.json", "small"
# The shipped model of several systems.
JOINT = "joint-1M"
LOGARITHMIC = ("persistence", "correlation_steps")
LEAST_SHARED = 3
# A descriptor's title, its unit, what it means, and why there may be none.
WORDS = {
    "spectral_slope": (
        "slope of the spectrum",
        "",
        "energy per shell ~ wavenumber^slope, from half the domain to 4 cells",
        "an axis has fewer than 16 cells, or no field varies in space",
    ),
    "haar_share": (
        "Haar compressibility",
        "%",
        "of the energy is in the largest 5 % of Haar coefficients",
        "no field varies in space",
    ),
    "persistence": (
        "persistence",
        "",
        "VRMSE of predicting no change over {step}",
        "no field varies",
    ),
    "predictability": (
        "local predictability",
        "",
        "R^2 of a linear stencil of {cells} cells on increments it was not fitted to",
        "too few windows, or too many channels",
    ),
    "advection": (
        "share of advection",
        "",
        "R^2 of increments of scalar fields on velocity . gradient",
        "no scalar field, or no vector field that is called velocity or stands alone",
    ),
    "correlation_steps": (
        "correlation time",
        "steps",
        "until the autocorrelation in time is 1/2",
        "above 1/2 up to {lag} steps, or no field varies in space",
    ),
    "growth": (
        "growth of twin runs",
        "",
        "of a small difference, per step: it grows by exp(growth)",
        "known for PocketWell's systems of size small alone, where it was measured",
    ),
}


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` finds.

    Args:
        descriptors: Of the dataset.
        distances: To the systems of PocketWell, nearest first; empty where fewer than three
            descriptors are known.
        typical: The largest distance from a system of PocketWell to its nearest other one.
        model: The shipped model to start from, pocketwell/<system>, or the joint one where none of
            a single system has a field of the same name; None: there is none.
        expected: What was measured of starts from it, in sentences.
        refused: Why there is no model to start from.
    """

    descriptors: Descriptors
    distances: dict[str, float]
    typical: float
    model: str | None
    expected: tuple[str, ...]
    refused: str = ""

    def __str__(self) -> str:
        return "\n".join([*_table(self.descriptors), "", *self._advice()])

    def _advice(self) -> list[str]:
        if not self.distances:
            return [
                f"nearest system  none: fewer than {LEAST_SHARED} descriptors are known",
                *self.expected,
            ]
        lines = []
        for n, (name, distance) in enumerate(list(self.distances.items())[:3]):
            title = "nearest system" if n == 0 else ""
            lines.append(f"{title:<16s}{name}, distance {distance:.2f}")
        lines.append(
            f"{'':<16s}in spreads of a descriptor over PocketWell's systems, root mean square"
        )
        if next(iter(self.distances.values())) > self.typical:
            lines.append(
                f"{'':<16s}far: no system of PocketWell is more than {self.typical:.2f} from its "
                "nearest"
            )
        lines.append(f"{'start from':<16s}{self.model or f'nothing: {self.refused}'}")
        if self.model == PREFIX + JOINT:
            lines.append(f"{'':<16s}no shipped model of one system has a field of these names")
        if self.model is not None:
            lines.append(f"{'':<16s}wavelit train DATASET --from {self.model}")
        return [*lines, *(f"{'expect':<16s}{line}" for line in self.expected)]


def diagnose(
    path: str | os.PathLike[str],
    *,
    results: str | os.PathLike[str] = "results/transfer",
    seed: int = 0,
    mask_field: str | None = None,
    mask_excludes: float = 1.0,
    storage_options: dict[str, Any] | None = None,
) -> Diagnosis:
    """Measure a dataset's descriptors and say which system of PocketWell they are nearest to.

    Args:
        path: Dataset folder, local or any fsspec address. It needs no stats.yaml.
        results: Folder of measured transfers, which need not be there.
        seed: Of the choice of windows.
        mask_field: Constant field that tells which cells count; the one declared if absent.
        mask_excludes: Its value on the cells that do not.
        storage_options: What fsspec needs to open the address.

    Raises:
        WavelitError: As `measure_descriptors`, or a cell of a transfer is damaged.
    """
    records = read_pairs(results)
    rows = known_systems()
    require_whole("seed", seed, 0)
    sample = SampledWindows(address(path), seed, (mask_field, mask_excludes), storage_options)
    found = descriptors_of(sample, seed)
    found = replace(found, growth=_known_growth(address(path), rows))
    away = distances(found, rows)
    shipped = {name.removeprefix(PREFIX) for name in pretrained()}
    starts = [name for name in away if name in shipped and len(rows[name].grid) == len(found.grid)]
    # A model of one system is taken over by the names of its fields, a joint one without.
    known = [name for name in starts if set(rows[name].fields) & set(found.fields)]
    start = next(iter(known), JOINT if starts else None)
    refused = "no model has as many axes"
    if start is not None:
        refused = _refused(start, sample.dataset)
        start = None if refused else start
    return Diagnosis(
        found,
        away,
        _typical(rows),
        None if start is None else PREFIX + start,
        tuple(expectation(start, records)),
        refused,
    )


def _refused(start: str, dataset: WellDataset) -> str:
    """Why a shipped model cannot start on a dataset's grid; "" if it can."""
    if start == JOINT:
        config = JointWaveLiT.from_pretrained(PREFIX + start).config.architecture
    else:
        config = WaveLiT.from_pretrained(PREFIX + start).config
    # A kernel that is too wide is cut when it is taken over, a projection left out.
    config = replace(
        config,
        boundary_conditions=boundary_conditions(dataset),
        mixers="attention",
        divergence_free=False,
    )
    try:
        padded_shape(dataset.metadata.spatial_resolution, config)
    except WavelitError as error:
        return str(error)
    return ""


@cache
def known_systems() -> Mapping[str, Descriptors]:
    """The descriptors of PocketWell's systems, by name."""
    content = read_json(TABLE)
    require_mapping(str(TABLE), content.get("systems"))
    return {
        name: Descriptors.from_dict(row, f"{TABLE}, {name}")
        for name, row in content["systems"].items()
    }


def _known_growth(path: str, rows: Mapping[str, Descriptors]) -> float | None:
    """The growth of twin runs, where the dataset is a simulated one whose growth was measured."""
    file = Path(path) / RECORD
    if not file.is_file():
        return None
    record = read_json(file)
    row = rows.get(str(record.get("system")))
    return row.growth if row is not None and record.get("size") == SIZE else None


def distances(found: Descriptors, rows: Mapping[str, Descriptors]) -> dict[str, float]:
    """Distances to systems, nearest first; see the top of this module.

    Args:
        found: Descriptors of a dataset.
        rows: Those of the systems, which also give the spreads.

    Returns:
        By system, without those that share fewer than three descriptors.
    """
    spreads = _spreads(rows)
    mine = _coordinates(found)
    away = {}
    for name, row in rows.items():
        theirs = _coordinates(row)
        shared = [key for key in spreads if key in mine and key in theirs]
        if len(shared) >= LEAST_SHARED:
            squares = [((mine[key] - theirs[key]) / spreads[key]) ** 2 for key in shared]
            away[name] = math.sqrt(sum(squares) / len(squares))
    return dict(sorted(away.items(), key=lambda item: item[1]))


def _coordinates(row: Descriptors) -> dict[str, float]:
    known = {
        name: value for name, value in row.values.items() if name not in LOGARITHMIC or value > 0
    }
    return {
        name: math.log(value) if name in LOGARITHMIC else value for name, value in known.items()
    }


def _spreads(rows: Mapping[str, Descriptors]) -> dict[str, float]:
    """The spread of every descriptor that varies over systems."""
    known = [_coordinates(row) for row in rows.values()]
    spreads = {}
    for name in DESCRIPTORS:
        values = [each[name] for each in known if name in each]
        if len(values) > 1 and (spread := float(np.std(values, ddof=1))) > 0:
            spreads[name] = spread
    return spreads


def _typical(rows: Mapping[str, Descriptors]) -> float:
    """The largest distance from a system to the nearest other one."""
    nearest = []
    for name, row in rows.items():
        others = [away for other, away in distances(row, rows).items() if other != name]
        nearest += others[:1]
    return max(nearest, default=math.inf)


def write_descriptors(found: Descriptors, path: str | os.PathLike[str]) -> Path:
    """Write descriptors as JSON, whole or not at all.

    Raises:
        WavelitError: The path names no file.
    """
    path = require_path("path", path, is_file=True)
    with atomic_path(path) as scratch:
        scratch.write_text(json.dumps(found.to_dict(), indent=2) + "\n", encoding="utf8")
    return path


def expectation(system: str | None, records: list[dict[str, Any]]) -> list[str]:
    """What was measured of starts from a system's model, a sentence for each setting: of the best
    start, also where training from scratch was better.

    Args:
        system: Where the start is from; None: nowhere.
        records: Cells of pairs, as `wavelit.evaluation.transfer.read_pairs` gives them.
    """
    if not records:
        return ["nothing was measured yet of such starts"]
    said = []
    for setting in settings_of(records):
        found = transfer_map(with_setting(records, setting), arm="started")
        systems = {*found.sources, *found.targets}
        budget = f"{setting[0]} trajectories, {setting[1]:g} core-minutes"
        row = found.elsewhere[found.sources.index(system)] if system in found.sources else None
        known = [] if row is None else sorted(float(value) for value in row if not np.isnan(value))
        if known:
            mean = found.by_source()[str(system)]
            said.append(
                f"{budget}: one-step error {mean:.2f} times that of training from scratch, "
                f"{known[0]:.2f} to {known[-1]:.2f} on {len(known)} other systems"
            )
        elif not math.isnan(found.mean()):
            said.append(
                f"{budget}: starts from {system or 'nothing'} were not measured; from others the "
                f"one-step error is {found.mean():.2f} times that of training from scratch"
            )
        else:
            said.append(f"{budget}: no pair of two systems was measured")
        said[-1] += (
            f". This rests on {len(systems)} simulated systems: a hint, which a run of your own "
            "decides"
        )
    return said


def _table(row: Descriptors) -> list[str]:
    """The descriptors with their units, a line each."""
    step = "a step" if row.time_step is None else f"a step of {row.time_step:g}"
    facts = {
        "step": f"{step} {printable(row.time_unit, 40)}".rstrip(),
        "cells": "x".join(["3"] * len(row.grid)),
        "lag": row.longest_lag,
    }
    grid = "x".join(str(n) for n in row.grid)
    head = f"{printable(row.dataset)}: {grid} cells, {len(row.fields)} channel(s) that change"
    said = [f"{head}, {row.windows} windows of the training split, seed {row.seed}", ""]
    if row.unchanging:
        said.insert(1, f"left out, as they do not change there: {listed(row.unchanging)}")
    for name, (title, unit, meaning, absent) in WORDS.items():
        value = getattr(row, name)
        if value is None:
            said.append(f"{title:<24s}{'n/a':>8s} {'':<6s} {absent.format(**facts)}")
            continue
        number = f"{100 * value:.1f}" if unit == "%" else f"{value:.3g}"
        said.append(f"{title:<24s}{number:>8s} {unit:<6s} {meaning.format(**facts)}")
    return said
