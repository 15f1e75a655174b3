"""One field of a rollout over time: VRMSE, the error by wavelet band, and spatial spectra.

The error e = u - v is split by a Haar transform of J levels, at most three. A band's curve is

    VRMSE sqrt( sum of squared coefficients in the band / sum over all bands ),

so that the squares of the bands add up to the square of the VRMSE. Excluded cells enter transforms
and spectra as zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavelit.metrics import isotropic_spectrum, vrmse
from wavelit.wavelets.transform import dwt

__all__ = ["band_errors", "band_labels", "shells", "spectra", "vrmse_over_time"]

Array = NDArray[Any]

MAX_LEVELS, MAX_SHELLS = 3, 64
# Cells that are transformed together.
CHUNK = 2_000_000


def band_labels(grid: tuple[int, ...]) -> list[str]:
    """The bands of a grid, coarsest first."""
    level = _level(grid)
    details = [f"details of {2**j} cells" for j in range(level, 0, -1)]
    return [f"coarser than {2**level} cells", *details] if level else ["all"]


def vrmse_over_time(prediction: Array, truth: Array, valid: Array | None) -> NDArray[np.float64]:
    """VRMSE of every step, (steps,).

    Args:
        prediction: u, (steps, *S).
        truth: v, of the same shape.
        valid: cells that count, bool (*S).

    Returns:
        Infinite where the prediction is not finite, NaN where fewer than two cells count or the
        truth is not finite.
    """
    grid = truth.shape[1:]
    counted = np.ones(grid, bool) if valid is None else valid
    if counted.sum() < 2:
        return np.full(len(truth), np.nan)
    mask = torch.from_numpy(counted)[None, None]
    parts = []
    for some in _chunks(truth):
        u, v = (torch.from_numpy(states[some].astype(np.float64))[None] for states in
                (prediction, truth))  # fmt: skip
        parts.append(vrmse(u, v, len(grid), valid=mask)[0].numpy())
    values = np.concatenate(parts)
    known = np.isfinite(truth[:, counted]).all(1)
    return np.where(np.isfinite(values), values, np.where(known, np.inf, np.nan))


def band_errors(
    prediction: Array, truth: Array, valid: Array | None, score: Array
) -> NDArray[np.float64]:
    """The error by wavelet band, (bands, steps), NaN where the error is not finite.

    Args:
        prediction: u, (steps, *S).
        truth: v, of the same shape.
        valid: cells that count, bool (*S).
        score: VRMSE of every step.
    """
    grid = truth.shape[1:]
    parts = []
    for some in _chunks(truth):
        with np.errstate(all="ignore"):
            error = prediction[some].astype(np.float64) - truth[some].astype(np.float64)
        error = error if valid is None else np.where(valid, error, 0.0)
        parts.append(_band_energies(torch.from_numpy(error), _level(grid)).numpy())
    energy = np.concatenate(parts, axis=1)
    total = energy.sum(0)
    with np.errstate(all="ignore"):
        share = np.where(total == 0, 0.0, energy / total)
        return np.where(np.isfinite(score), score * np.sqrt(share), np.nan)


def _band_energies(error: Tensor, level: int) -> Tensor:
    """Sums of squares (bands, steps) of the Haar coefficients of errors (steps, *S)."""
    if not level:
        return error.square().flatten(1).sum(1)[None]
    spatial = error.ndim - 1
    approximation, *details = dwt(error, "haar", level, (False,) * spatial)
    bands = [[approximation], *(list(each.values()) for each in details)]
    return torch.stack([sum(_squares(part) for part in band) for band in bands])  # type: ignore[misc]


def _squares(part: Tensor) -> Tensor:
    return part.square().flatten(1).sum(1)


def _level(grid: tuple[int, ...]) -> int:
    """Levels that halve every axis and leave it at least one cell."""
    return min(MAX_LEVELS, min(grid).bit_length() - 1)


def shells(grid: tuple[int, ...]) -> list[int]:
    """Wavenumbers of the spectra in cycles per domain: all, or 64 in about equal ratios."""
    last = max(grid) // 2
    if last <= MAX_SHELLS:
        return list(range(1, last + 1))
    return sorted({round(k) for k in np.geomspace(1, last, MAX_SHELLS)})


def spectra(states: Array, valid: Array | None) -> NDArray[np.float64]:
    """Energy at each of the `shells` for states (steps, *S), (steps, K); NaN where a state is not
    finite.
    """
    grid = states.shape[1:]
    chosen = shells(grid)
    parts = [np.empty((0, len(chosen)))]
    for some in _chunks(states):
        state = states[some].astype(np.float64)
        state = state if valid is None else np.where(valid, state, 0.0)
        energy = isotropic_spectrum(torch.from_numpy(state), len(grid))[1].numpy()[:, chosen]
        finite = np.all(np.isfinite(state).reshape(len(state), -1), axis=1)
        parts.append(np.where(finite[:, None], energy, np.nan))
    return np.concatenate(parts)


def _chunks(states: Array) -> list[slice]:
    size = max(1, CHUNK // max(1, states[0].size))
    return [slice(first, first + size) for first in range(0, len(states), size)]
