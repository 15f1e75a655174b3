"""The data of a report's player: rollouts as text that a page holds and its script reads.

A field of a trajectory is two blocks, each compressed by zlib and written in base64:

    images  codes of eight bits (see `wavelit.evaluation.ranges`), (1 + 2 runs, steps, H, W): truth,
            then prediction and error of each run; every code as its difference to the one before
    curves  float32: spectra of the truth (steps, K); for each run VRMSE (steps,), bands (bands,
            steps) and spectra (steps, K); for each emulator beside them its mean VRMSE (steps,)

What they are, and what was left out, stands in a table of contents in JSON.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from wavelit.checks.arguments import require_instance
from wavelit.errors import WavelitError, printable
from wavelit.evaluation.curves import band_errors, band_labels, shells, spectra, vrmse_over_time
from wavelit.evaluation.orientation import View
from wavelit.evaluation.pictures import (
    ABOVE_RANGE,
    BELOW_RANGE,
    FROM_THE_FILE,
    NO_VALUE,
    arrays,
    finite_plane,
)
from wavelit.evaluation.ranges import LEVELS, Range, error_range, quantised, value_range
from wavelit.evaluation.reduction import Extent, Kept, keep
from wavelit.evaluation.scores import Evaluation

__all__ = ["MAX_RUNS", "Player", "Rollout", "player", "script_json"]

Array = NDArray[Any]

# Bytes of base64 that the blocks of a page take at most, and runs that can be told apart.
MAX_BYTES, MAX_RUNS = 8_000_000, 6
# Bytes before compression that are tried first.
FIRST_TRY = 32_000_000
ORDINALS = ("first", "second", "third")


@dataclass(frozen=True)
class Rollout:
    """One trajectory and its predictions.

    Args:
        name: what the page calls it.
        truth: from the first predicted step on, (steps, C, *S).
        predictions: by run, each of the truth's shape.
        valid: cells inside the domain, bool (*S).
    """

    name: str
    truth: Any
    predictions: Mapping[str, Any]
    valid: Any = None


@dataclass(frozen=True)
class Player:
    """What a page embeds: the table of contents as JSON, blocks of base64 by id, sentences that
    say what was reduced.
    """

    contents: Markup
    blocks: dict[str, Markup]
    notes: list[str]

    @property
    def size(self) -> int:
        """Bytes of all blocks."""
        return sum(map(len, self.blocks.values()))


@dataclass(frozen=True)
class _Given:
    """A rollout as arrays that fit one another."""

    name: str
    truth: Array
    predictions: list[Array]
    valid: Array | None


def player(
    rollouts: Sequence[Rollout],
    field_names: Sequence[str],
    evaluation: Evaluation,
    max_bytes: int = MAX_BYTES,
    view: View = FROM_THE_FILE,
    units: Mapping[str, str] | None = None,
) -> Player:
    """The data of a page that shows these rollouts in at most so many bytes.

    Args:
        rollouts: of one shape and with the same runs.
        field_names: the C fields.
        evaluation: gives the mean VRMSE of the emulators that are no runs.
        max_bytes: bytes that the blocks may take.
        view: see `rollout_figure`.
        units: units of the fields that have one, by name.

    Raises:
        WavelitError: rollouts and names do not fit one another, or are too large for the page even
            at their least.
    """
    given, runs = _given(rollouts, field_names)
    extent = _extent(given, len(field_names), len(runs), view)
    budget = FIRST_TRY
    while True:
        kept = keep(extent, budget)
        blocks, ranges = _blocks(given, runs, kept, extent, evaluation, view)
        excess = sum(map(len, blocks.values())) / max_bytes
        if excess <= 1:
            break
        if keep(extent, 0) == kept:
            raise WavelitError(
                f"expected rollouts of which one step fits into {max_bytes} bytes, got "
                f"{given[0].truth.shape}: give fewer runs or a coarser grid"
            )
        budget = int(0.9 * min(budget, kept.size(extent)) / excess)
    contents = {
        "runs": [printable(run, 80) for run in runs],
        "beside": [printable(name, 80) for name in _beside(evaluation, runs)],
        "trajectories": [printable(each.name, 80) for each in given[: kept.trajectories]],
        "fields": [_with_unit(name, units) for name in field_names[: kept.fields]],
        "steps": [step + 1 for step in kept.steps(extent)],
        "time": _time(evaluation),
        "spatial": given[0].truth.ndim - 2,
        "cell": kept.cell,
        "height": len(range(0, extent.height, kept.cell)),
        "width": len(range(0, extent.width, kept.cell)),
        "wavenumbers": shells(given[0].truth.shape[2:]),
        "bands": band_labels(given[0].truth.shape[2:]),
        "ranges": ranges,
        "maps": {name: _map(name) for name in ("RdBu_r", "viridis", "PuOr_r")},
        "marks": {"empty": NO_VALUE, "below": BELOW_RANGE, "above": ABOVE_RANGE},
    }
    return Player(script_json(contents), blocks, _notes(given, kept, extent, view))


def _time(evaluation: Evaluation) -> dict[str, Any] | None:
    """How long a step is, and its unit; None where that is not one length, or says nothing."""
    sizes, unit = evaluation.step_sizes, printable(evaluation.time_unit, 20)
    return {"step": sizes[0], "unit": unit} if len(sizes) == 1 else None


def _with_unit(name: str, units: Mapping[str, str] | None) -> str:
    unit = (units or {}).get(name, "")
    return f"{printable(name, 80)} ({printable(unit, 20)})" if unit else printable(name, 80)


def script_json(value: Any) -> Markup:
    """JSON that may stand in a script element: no character of it ends the element or a line.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    # Whatever is not ASCII is escaped already, the line separators U+2028 and U+2029 among it.
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _given(
    rollouts: Sequence[Rollout], field_names: Sequence[str]
) -> tuple[list[_Given], list[str]]:
    found: list[_Given] = []
    runs = list(rollouts[0].predictions) if rollouts else []
    if not 1 <= len(runs) <= MAX_RUNS:
        raise WavelitError(
            f"expected rollouts of 1 to {MAX_RUNS} runs, got {len(runs)}: leave some out"
        )
    for rollout in rollouts:
        require_instance("rollouts", rollout, Rollout, "give truth and predictions")
        if list(rollout.predictions) != runs:
            raise WavelitError("expected the same runs in every rollout: predict all with each")
        each = [
            arrays(rollout.truth, prediction, field_names, rollout.valid)
            for prediction in rollout.predictions.values()
        ]
        found.append(_Given(rollout.name, each[0][1], [u for u, _, _ in each], each[0][2]))
        if found[-1].truth.shape != found[0].truth.shape:
            raise WavelitError(
                f"expected rollouts of one shape, got {found[0].truth.shape} and "
                f"{found[-1].truth.shape}: show them in reports of their own"
            )
    return found, runs


def _extent(given: list[_Given], n_fields: int, n_runs: int, view: View) -> Extent:
    truth = given[0].truth
    grid = truth.shape[2:]
    height, width = view.plane(truth[:1, 0]).shape[1:]
    curves = len(shells(grid)) * (1 + n_runs) + n_runs * (1 + len(band_labels(grid)))
    return Extent(len(given), n_fields, len(truth), height, width, n_runs, curves)


def _blocks(
    given: list[_Given],
    runs: list[str],
    kept: Kept,
    extent: Extent,
    evaluation: Evaluation,
    view: View,
) -> tuple[dict[str, Markup], list[list[dict[str, Any]]]]:
    """Blocks by id, and the ranges of every trajectory's fields."""
    blocks: dict[str, Markup] = {}
    ranges: list[list[dict[str, Any]]] = []
    steps = kept.steps(extent)
    for number, rollout in enumerate(given[: kept.trajectories]):
        ranges.append([])
        for channel in range(kept.fields):
            images, of_values, of_errors = _images(rollout, channel, steps, kept.cell, view)
            blocks[f"images-{number}-{channel}"] = _embedded(
                np.diff(images, prepend=images[:1] * 0)
            )
            beside = _means(evaluation, runs, channel, steps, extent.steps)
            numbers = np.concatenate([*_curves(rollout, channel, steps), *beside])
            with np.errstate(over="ignore"):
                blocks[f"curves-{number}-{channel}"] = _embedded(numbers.astype("<f4"))
            ranges[-1].append({"value": _plain(of_values), "error": _plain(of_errors)})
    return blocks, ranges


def _images(
    rollout: _Given, channel: int, steps: list[int], cell: int, view: View
) -> tuple[NDArray[np.uint8], Range, Range]:
    """Codes of truth, predictions and errors one after the other, and both ranges, which are those
    of all steps and cells.
    """
    truth = finite_plane(rollout.truth[:, channel], rollout.valid, view)
    values, errors = value_range(truth), []
    predictions = []
    for prediction in rollout.predictions:
        predictions.append(finite_plane(prediction[:, channel], rollout.valid, view))
        with np.errstate(over="ignore", invalid="ignore"):
            errors.append(predictions[-1] - truth)
    of_errors = error_range(errors, values)
    parts = [(truth, values)]
    for prediction, error in zip(predictions, errors, strict=True):
        parts += [(prediction, values), (error, of_errors)]
    codes = [quantised(part[steps][:, ::cell, ::cell], within).ravel() for part, within in parts]
    return np.concatenate(codes), values, of_errors


def _curves(rollout: _Given, channel: int, steps: list[int]) -> list[NDArray[np.float64]]:
    truth, valid = rollout.truth[steps, channel], rollout.valid
    parts = [spectra(truth, valid).ravel()]
    for each in rollout.predictions:
        prediction = each[steps, channel]
        score = vrmse_over_time(prediction, truth, valid)
        bands = band_errors(prediction, truth, valid, score)
        parts += [score, bands.ravel(), spectra(prediction, valid).ravel()]
    return parts


def _beside(evaluation: Evaluation, runs: list[str]) -> list[str]:
    return [name for name in evaluation.scores if name not in (*runs, evaluation.model)]


def _means(
    evaluation: Evaluation, runs: list[str], channel: int, steps: list[int], n_steps: int
) -> list[NDArray[np.float64]]:
    """Mean VRMSE over trajectories of the emulators that are no runs; NaN where the evaluation is
    of other steps.
    """
    if evaluation.n_steps != n_steps:
        return [np.full(len(steps), np.nan) for _ in _beside(evaluation, runs)]
    return [
        evaluation.scores[name].rollout[:, steps, channel].mean(0)
        for name in _beside(evaluation, runs)
    ]


def _embedded(numbers: NDArray[Any]) -> Markup:
    return Markup(base64.b64encode(zlib.compress(numbers.tobytes(), 9)).decode("ascii"))


def _plain(within: Range) -> dict[str, Any]:
    return {"low": within.low, "high": within.high, "map": within.colours}


def _map(name: str) -> str:
    """The colours of a map's levels as base64 of RGB bytes."""
    rgba = matplotlib.colormaps[name].resampled(LEVELS)(np.arange(LEVELS), bytes=True)
    return base64.b64encode(rgba[:, :3].tobytes()).decode("ascii")


def _notes(given: list[_Given], kept: Kept, extent: Extent, view: View) -> list[str]:
    rounding = (
        f"Values and errors are quantised to eight bits: {LEVELS} levels from one end of their "
        f"range to the other, so that a value is off by at most {50 / (LEVELS - 1):.2g} % of the "
        "range. Scores, bands and spectra are computed before that, from all cells."
    )
    notes = [rounding, *kept.notes(extent)]
    grid = given[0].truth.shape[2:]
    if len(grid) == 3:
        notes.append(
            f"Of the volume the middle slice of the {ORDINALS[view.cut]} axis is drawn, cell "
            f"{grid[view.cut] // 2} of 0 to {grid[view.cut] - 1}; scores, bands and spectra are "
            "those of the whole volume."
        )
    if len(shells(grid)) < max(grid) // 2:
        notes.append(
            f"Spectra show {len(shells(grid))} of {max(grid) // 2} wavenumbers, in about equal "
            "ratios."
        )
    return notes
