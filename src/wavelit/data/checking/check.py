"""What is wrong with a dataset folder.

`check_dataset` goes through every file once and lists what would stop training (errors) or spoil
what is learned (warnings): layout, values, statistics, leaks between splits. A trajectory leaks if
its first and its last frame, all fields together, occur in another split: trajectories from one
initial state under different parameters share the first only. `wavelit.data.checking.laws` lists
what physics forbids, `wavelit.data.checking.conventions` what the format and the presets ask for.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wavelit.checks.arguments import require_whole
from wavelit.data.checking.conventions import check_customs, check_grid, check_times
from wavelit.data.checking.ends import Ends
from wavelit.data.checking.findings import Finding, error_of, merged
from wavelit.data.checking.frames import Frames
from wavelit.data.checking.values import Values
from wavelit.data.format.examine import layout_problems, read_layout
from wavelit.data.format.folder import SPLITS, address, find_files, open_file, split_folder
from wavelit.data.format.hdf5 import reading, unreadable
from wavelit.data.format.layout import (
    FileLayout,
    Mask,
    common_boundaries,
    mask_of,
    require_agreement,
    require_steps,
)
from wavelit.data.format.selection import select
from wavelit.data.pieces import pieces
from wavelit.data.sampling import spread
from wavelit.data.statistics import (
    compute_statistics,
    load_statistics,
    read_table,
    require_logarithms,
    statistics_over,
)
from wavelit.errors import WavelitError
from wavelit.metrics import EPS

__all__ = ["Finding", "check_dataset"]

STATISTICS_TOLERANCE = 1e-3
# Statistics over all cells serve a mask too, unless they widen a field's spread by more than this.
BLUR = 3.0
# Of a trajectory, whose variances over the grid are looked at.
SOME_FRAMES = 8
SPREAD_OF = {"mean": "std", "mean_delta": "std_delta"}


def check_dataset(
    path: str | os.PathLike[str],
    n_steps_input: int = 4,
    n_steps_output: int = 1,
    mask_field: str | None = None,
    mask_excludes: float = 1.0,
    storage_options: dict[str, Any] | None = None,
    sample: int | None = None,
) -> list[Finding]:
    """Go through a dataset folder and list all that is wrong with it, errors first; an empty list
    is a clean bill.

    Args:
        path: folder with data/train, data/valid, data/test and stats.yaml, local or any fsspec
            address.
        n_steps_input: history that training will ask for.
        n_steps_output: target that training will ask for.
        mask_field: constant scalar field that tells which cells count; the one that the files
            declare if absent.
        mask_excludes: its value on the cells that do not.
        storage_options: what fsspec needs to open the address.
        sample: how many trajectories of each file are read, evenly spread over it; all if absent.
            With a sample the statistics are not compared with the data, and a trajectory that
            occurs in two splits is found only if it is read in both.
    """
    path = address(path)
    if sample is not None:
        require_whole("sample", sample)
    findings: list[Finding] = []
    layouts: dict[str, list[FileLayout]] = {}
    # (first frame, last frame) of every trajectory -> where it was first met
    seen: dict[tuple[str, str], tuple[str, str, int]] = {}
    variances: dict[str, list[NDArray[np.float64]]] = {}
    for split in SPLITS:
        folder = split_folder(path, split)
        try:
            fs, files = find_files(folder, storage_options)
        except WavelitError as error:
            findings.append(error_of(folder, error))
            continue
        for name in files:
            try:
                with open_file(fs, name) as file:
                    problems = list(layout_problems(file))
                    if problems:
                        findings += [Finding("error", name, problem) for problem in problems]
                        continue
                    layout = read_layout(file, name)
                    layouts.setdefault(split, []).append(layout)
                    findings += check_customs(file, layout)
                    mask = mask_of(layout, mask_field, mask_excludes)
                    findings += _check_mask(file, layout, mask)
                    read = spread(layout.n_trajectories, sample or layout.n_trajectories)
                    more, keys, some = _check_values(file, layout, mask, read)
            except WavelitError as error:
                findings.append(error_of(name, error))
                continue
            except MemoryError as error:
                findings.append(error_of(name, unreadable(name, "a frame", error)))
                continue
            findings += more
            for field, values in some.items():
                variances.setdefault(field, []).extend(values)
            for trajectory, key in keys.items():
                other_split, other_file, other = seen.setdefault(key, (split, name, trajectory))
                if other_split != split:
                    message = (
                        f"trajectory {trajectory} is trajectory {other} of {other_file}, in split "
                        f"{other_split}; remove one"
                    )
                    findings.append(Finding("error", name, message))
        try:
            if split in layouts:
                require_steps(layouts[split], n_steps_input, n_steps_output)
        except WavelitError as error:
            findings.append(error_of(folder, error))
    findings += _check_variances(path, variances)
    every = [layout for split in layouts.values() for layout in split]
    try:
        if every:
            require_agreement(every)
            common_boundaries(every)
            require_logarithms(layouts.get("train", []), every)
            findings += check_times(layouts)
            findings += check_grid(path, every[0])
    except WavelitError as error:
        findings.append(error_of(path, error))
    if not any(finding.severity == "error" for finding in findings):
        findings += _check_statistics(
            path, layouts["train"], mask_field, mask_excludes, storage_options, sample is None
        )
    return sorted(merged(findings), key=lambda finding: finding.severity)


def _check_variances(path: str, variances: dict[str, list[NDArray[np.float64]]]) -> list[Finding]:
    """Fields whose score would be little more than the constant that keeps it finite."""
    findings = []
    for name, values in variances.items():
        frames = np.concatenate(values)
        typical = (
            np.nanmedian(frames, 0) if np.isfinite(frames).any(0).all() else np.array([np.inf])
        )
        component = int(typical.argmin())
        if typical[component] < 10 * EPS:
            of = (
                f"field '{name}'"
                if len(typical) == 1
                else f"component {component} of field '{name}'"
            )
            message = (
                f"the variance of {of} over the grid is {typical[component]:.2g} in its median "
                f"frame, and VRMSE adds {EPS:g} to it: scores say little; rescale the field, or "
                "leave it out if it is the same everywhere"
            )
            findings.append(Finding("warning", path, message))
    return findings


def _check_values(
    file: h5py.File, layout: FileLayout, mask: Mask | None, read: Sequence[int]
) -> tuple[list[Finding], dict[int, tuple[str, str]], dict[str, list[NDArray[np.float64]]]]:
    """Findings about the values of some trajectories of a file, a key (first frame, last frame) for
    each of them, and by field the variances over the grid of some frames, (frames, component).
    """
    findings = []
    variances: dict[str, list[NDArray[np.float64]]] = {}
    frames, ends = Frames(layout, read), Ends(layout)
    for field in layout.fields:
        values = Values(file, layout, field)
        for piece in pieces(file, layout, field, mask, read):
            values.look(piece)
            if field.time_varying:
                ends.look(field, piece)
                frames.look(field, piece)
                # What is given in advance is not scored.
                scored = field.name not in layout.forcings
                if scored and piece.start % (layout.n_steps // SOME_FRAMES + 1) == 0:
                    variances.setdefault(field.name, []).append(piece.variances(SOME_FRAMES))
        findings += values.findings()
    return findings + ends.findings() + frames.findings(), frames.keys(), variances


def _check_mask(file: h5py.File, layout: FileLayout, mask: Mask | None) -> list[Finding]:
    """A mask takes two values, excludes some cells and leaves some."""
    if mask is None:
        return []
    field = next(f for f in layout.fields if f.name == mask.field)
    with reading(layout.path, f"field '{field.name}'"):
        stored = file["t0_fields"][field.name][()]
    for trajectory, cells in enumerate(stored if field.sample_varying else ()):
        if (cells == mask.excludes).all():
            message = (
                f"mask_field '{field.name}' excludes all cells of trajectory {trajectory}; leave "
                "it out"
            )
            return [Finding("error", layout.path, message)]
    values = np.unique(stored)
    if mask.excludes in values and len(values) == 2:
        return []
    found = ", ".join(f"{value:.4g}" for value in values[:4])
    message = (
        f"mask_field '{field.name}' has {len(values)} values ({found}), but {mask.excludes:g} on "
        "excluded cells and one other are due; check mask_field and mask_excludes"
    )
    every = len(values) == 1 and values[0] == mask.excludes
    return [Finding("error" if every else "warning", layout.path, message)]


def _check_statistics(
    path: str,
    layouts: Sequence[FileLayout],
    mask_field: str | None,
    mask_excludes: float,
    storage_options: dict[str, Any] | None,
    compare: bool,
) -> list[Finding]:
    file = f"{path.rstrip('/')}/stats.yaml"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            chosen = [select(layout, None, None) for layout in layouts]
            forcings = [each.forcings for each in chosen if each.forcings is not None]
            load_statistics(path, [each.predicted for each in chosen], storage_options, forcings)
        except WavelitError as error:
            return [error_of(file, error)]
    findings = [Finding("warning", file, str(w.message).removeprefix(f"{file}: ")) for w in caught]
    if not compare:
        return findings
    table = read_table(path, storage_options)
    masks = [mask_of(layout, mask_field, mask_excludes) for layout in layouts]
    due = compute_statistics(path, mask_field, mask_excludes, storage_options)
    fix = f"write it by `wavelit data check {path} --write-statistics`"
    messages = _deviations(table, due)
    if messages and masks[0] is None:
        if (mask := _mask_of_table(path, layouts[0], table, storage_options)) is not None:
            message = (
                f"the statistics leave out the cells where '{mask.field}' is {mask.excludes:g}, "
                f"which no file declares: give --mask_field {mask.field} --mask_excludes "
                f"{mask.excludes:g} here, and the same in training"
            )
            return [*findings, Finding("error", file, message)]
    elif messages:
        # The Well's own statistics count all cells; that serves as well where the excluded ones are
        # finite.
        try:
            every = statistics_over(path, lambda layout: None, storage_options)
        except WavelitError:
            every = {}
        if every and not _deviations(table, every):
            messages = []
            # Constant fields are read as they are, excluded cells too.
            varying = {name: due["std"][name] for name in due["std_delta"]}
            findings += _blurred(file, every["std"], varying, fix)
    return findings + [Finding("error", file, f"{message}; {fix}") for message in messages]


def _mask_of_table(
    path: str, layout: FileLayout, table: Any, storage_options: dict[str, Any] | None
) -> Mask | None:
    """The undeclared mask under which a table of statistics is right, if there is one."""
    for field in layout.fields:
        if field.order or field.time_varying:
            continue
        for excludes in (1.0, 0.0):
            mask = Mask(field.name, excludes)
            try:
                due = statistics_over(path, lambda _, mask=mask: mask, storage_options)  # type: ignore[misc]
            except WavelitError:
                continue
            if not _deviations(table, due):
                return mask
    return None


def _blurred(file: str, every: dict[str, Any], counted: dict[str, Any], fix: str) -> list[Finding]:
    """Fields whose spread the excluded cells widen so much that what counts is hardly seen."""
    findings = []
    for name, std in counted.items():
        moving = np.asarray(std) > 0
        ratio = float((np.asarray(every[name])[moving] / np.asarray(std)[moving]).max(initial=0.0))
        if ratio > BLUR:
            message = (
                f"excluded cells make the spread of field '{name}' {ratio:.3g} times that of the "
                f"cells that count; {fix}"
            )
            findings.append(Finding("warning", file, message))
    return findings


def _deviations(table: Any, due: dict[str, dict[str, Any]]) -> list[str]:
    """What in a table of statistics is not what is due."""
    messages = []
    for key, fields in due.items():
        for name, values in fields.items():
            expected = np.asarray(values)
            # A mean may vanish: what counts is its error beside the spread.
            scale = np.maximum(np.abs(expected), np.asarray(due[SPREAD_OF.get(key, key)][name]))
            try:
                found = np.asarray(table[key][name], dtype=np.float64)
            except (KeyError, TypeError, ValueError):
                message = f"no number or list '{key}' of field '{name}'"
            else:
                if (
                    found.shape == expected.shape
                    and (np.abs(found - expected) <= STATISTICS_TOLERANCE * scale).all()
                ):
                    continue
                message = (
                    f"'{key}' of field '{name}' is {found.tolist()} but {expected.tolist()} in the "
                    "training files"
                )
            messages.append(message)
    return messages
