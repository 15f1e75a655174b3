"""What the format asks for and reading does without: coordinates, time steps, parameters, grids
that the presets divide.
"""

from __future__ import annotations

from collections.abc import Iterator

import h5py
import numpy as np
from numpy.typing import NDArray

from wavelit.data.checking.findings import Finding
from wavelit.data.format.hdf5 import reading
from wavelit.data.format.layout import (
    ORDERS,
    FileLayout,
    disorder,
    scalar_problems,
    uneven_lengths,
    unlike_cartesian,
)
from wavelit.errors import printable
from wavelit.model.config import PRESETS, WaveLiTConfig

__all__ = ["check_customs", "check_grid", "check_times"]

# Trajectories whose constant fields are looked at, and the span of those that are wide.
FEW, DECADES = 8, 100


def check_customs(file: h5py.File, layout: FileLayout) -> list[Finding]:
    """What the format asks for and reading does without."""
    findings = []
    with reading(layout.path, "root attribute 'simulation_parameters'"):
        told = "simulation_parameters" in file.attrs
    if not told:
        message = (
            "root attribute 'simulation_parameters' is missing; list the scalars that are the same "
            "in the whole file"
        )
        findings.append(Finding("warning", layout.path, message))
    for name in ("time", *layout.axes):
        with reading(layout.path, f"'/dimensions/{name}'"):
            line = np.asarray(file["dimensions"][name][()], np.float64)
        if message := disorder(name, line):
            findings.append(Finding("error", layout.path, message))
            continue
        steps = np.diff(line, axis=-1)
        if steps.size and not np.allclose(steps, np.median(steps), rtol=1e-2, atol=0.0):
            message = (
                f"'{name}' is not evenly spaced: steps from {steps.min():.4g} to "
                f"{steps.max():.4g}; models assume it is"
            )
            findings.append(Finding("warning", layout.path, message))
    if unknown := [name for name in layout.time_varying_scalars if name not in layout.forcings]:
        message = (
            f"scalar '{unknown[0]}' varies in time: if it is known in advance, train with "
            f"forcings=['{unknown[0]}'] or declare it so in the files; forcings=[] leaves it out"
        )
        findings.append(Finding("error", layout.path, message))
    findings += [
        Finding("warning", layout.path, message)
        for message in (*_unlisted(file, layout), *_wide_constants(file, layout))
    ]
    return findings + [
        Finding("error", layout.path, message) for message in scalar_problems(layout)
    ]


def _unlisted(file: h5py.File, layout: FileLayout) -> Iterator[str]:
    """Datasets beside the fields that the file lists."""
    known = {(field.group, field.source) for field in layout.fields}
    for group in ORDERS.values():
        for name in file.get(group, ()):
            if (group, name) not in known:
                yield (
                    f"'{group}/{printable(name, 60)}' is not in the 'field_names' of its group, so "
                    "it is not read: name it there, or take it out"
                )


def _wide_constants(file: h5py.File, layout: FileLayout) -> Iterator[str]:
    """Constant scalar fields that are positive and span decades in the first trajectories. Of two
    values the logarithm tells no more than they do.
    """
    masked = None if layout.mask is None else layout.mask.field
    for field in layout.fields:
        if field.time_varying or field.order or field.name == masked:
            continue
        with reading(layout.path, f"field '{field.name}'"):
            stored = file[field.group][field.name]
            values = np.asarray(stored[:FEW] if field.sample_varying else stored[()])
        if not (values.size and np.isfinite(values).all() and values.min() > 0):
            continue
        if values.max() > DECADES * values.min() and len(np.unique(values)) > 2:
            yield (
                f"constant field '{field.name}' spans more than a factor of {DECADES}: with "
                f"log_constants=['{field.name}'] models see its logarithm"
            )


def check_grid(path: str, layout: FileLayout) -> list[Finding]:
    """Periodic axes that presets do not divide, which cannot be padded; grids that are read as
    Cartesian and are not.
    """
    findings = []
    if message := unlike_cartesian(layout):
        findings.append(Finding("warning", path, message))
    due: dict[int, list[str]] = {}
    for preset in PRESETS:
        due.setdefault(WaveLiTConfig.preset(preset, n_fields=1).grid_multiple, []).append(preset)
    least, most = min(due), max(due)
    for axis, n, ends in zip(
        layout.axes, layout.resolution, layout.boundary_conditions, strict=True
    ):
        # Less than two tokens are a toy.
        if "periodic" not in ends or n % least == 0 or n < 2 * least:
            continue
        multiple = most if n >= 2 * most else least
        near = multiple * max(1, round(n / multiple))
        needs = ", ".join(
            f"{', '.join(presets)} a multiple of {m}" for m, presets in sorted(due.items())
        )
        other = (
            "no model halves it"
            if n % 2
            else f"models are built with levels=1, {2 ** len(layout.axes)} times the tokens"
        )
        message = (
            f"axis '{axis}' is periodic with {n} points, which no preset divides (due for "
            f"{needs}): {other}; resample it, say to {near}"
        )
        findings.append(Finding("warning", path, message))
    return findings


def check_times(layouts: dict[str, list[FileLayout]]) -> list[Finding]:
    """What time does otherwise in one file than in another."""
    findings = []
    for split, files in layouts.items():
        if split != "train" and (message := uneven_lengths(files)):
            findings.append(Finding("warning", files[0].path, message))
    every = [layout for files in layouts.values() for layout in files if layout.dt > 0]
    dt = np.array([layout.dt for layout in every])
    # A model can tell the step where a scalar is its multiple or inverse (a share of a period), or
    # where files that have the same scalars have the same step.
    alike: dict[tuple[float, ...], list[float]] = {}
    for layout in every:
        alike.setdefault(tuple(float(x.mean()) for x in layout.scalars.values()), []).append(
            layout.dt
        )
    shared = len(alike) > 1 and max(map(len, alike.values())) > 1
    if shared and all(_is_even(np.array(steps)) for steps in alike.values()):
        return findings
    told = [
        dt * np.array([layout.scalars[name].mean() for layout in every]) ** power
        for name in (every[0].scalars if every else ())
        for power in (1, -1)
        if all(name in layout.scalars and layout.scalars[name].mean() > 0 for layout in every)
    ]
    if not any(_is_even(values) for values in (dt, *told)):
        message = (
            f"the time between frames is {dt.min():.4g} in {every[int(dt.argmin())].path} and "
            f"{dt.max():.4g} here, which no model sees; keep one time step in a dataset"
        )
        findings.append(Finding("warning", every[int(dt.argmax())].path, message))
    return findings


def _is_even(values: NDArray[np.float64]) -> bool:
    return len(values) == 0 or bool(np.ptp(values) <= 1e-2 * values.max())
