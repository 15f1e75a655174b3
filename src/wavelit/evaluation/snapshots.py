"""What single states tell of a dataset: the slope of their spectrum, and how few Haar coefficients
hold their energy.

    E(n) ~ n^slope,        share = (sum of the largest 5 % of c^2) / (sum of all c^2)

E is the energy per shell of wavenumber n, in cycles per domain, and c are the coefficients of a
Haar transform down to the coarsest level. Both are of u minus its mean over the cells that count;
excluded cells enter as zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wavelit.metrics import isotropic_spectrum
from wavelit.wavelets.transform import dwt

__all__ = ["anomaly", "haar_shares", "shell_energies", "spectral_slope"]

# The first shell that is fitted, the shortest wavelength in cells, the fewest shells.
FIRST_SHELL, SHORTEST_WAVE, FEWEST_SHELLS = 2, 4, 3
# Of a state's energy: less than this in a shell is rounding of float32, and counts as this much.
FLOOR = 1e-12
# Of a state's largest value: a spread below this is rounding, and the state is uniform.
UNIFORM = 1e-6


def anomaly(states: Tensor, valid: Tensor | None = None) -> Tensor:
    """States (C, *S) in float64 minus their means over the cells that count, zero on the others,
    and zero altogether where a state is uniform up to rounding.

    Args:
        states: Any channels, (C, *S).
        valid: Cells that count, bool (*S); None: all.
    """
    x = states.double().flatten(1)  # (C, N)
    counts = torch.ones_like(x[0]) if valid is None else valid.flatten().double()
    mean = (x * counts).sum(1, keepdim=True) / counts.sum()
    about = (x - mean) * counts
    spread = (about.square().sum(1) / counts.sum()).sqrt()
    uniform = spread <= UNIFORM * (x * counts).abs().amax(1)
    return about.masked_fill(uniform[:, None], 0.0).reshape(states.shape)


def shell_energies(about: Tensor, periodic: Sequence[bool]) -> Tensor:
    """Share of the energy in each shell of wavenumber, (C, K), of anomalies (C, *S); NaN for a
    uniform one.

    Along an axis that does not wrap the anomaly is multiplied by sin^2 (a Hann window): the jump
    between its ends would otherwise show as energy falling like 1 / n^2. Shells are those of
    `wavelit.metrics.isotropic_spectrum`, n = 0 to half the longest axis.
    """
    spatial = len(periodic)
    for axis, wraps in enumerate(periodic):
        n = about.shape[1 + axis]
        if not wraps:
            place = (torch.arange(n, dtype=torch.float64) + 0.5) / n
            window = (torch.pi * place).sin().square()
            about = about * window.reshape(-1, *(1,) * (spatial - 1 - axis))
    energy = isotropic_spectrum(about, spatial)[1]
    return energy / energy.sum(1, keepdim=True)


def spectral_slope(energies: Tensor, grid: Sequence[int]) -> float | None:
    """The slope of log E over log n, by least squares in which each shell counts once.

    Shells go from n = 2 to the wave of 4 cells on the shortest axis; None where these are fewer
    than three, on axes of fewer than 16 cells.

    Args:
        energies: Share of the energy in each shell, (K,).
        grid: Cells along every axis.
    """
    last = min(grid) // SHORTEST_WAVE
    if last + 1 - FIRST_SHELL < FEWEST_SHELLS:
        return None
    n = torch.arange(FIRST_SHELL, last + 1, dtype=torch.float64)
    x, y = n.log(), energies[FIRST_SHELL : last + 1].clamp_min(FLOOR).log()
    x = x - x.mean()
    return float((x * y).sum() / x.square().sum())


def haar_shares(about: Tensor, shares: Sequence[float] = (0.05,)) -> Tensor:
    """Share of the energy in the largest coefficients, (len(shares), C), of anomalies (C, *S); NaN
    for a uniform one.

    Args:
        about: As `anomaly` gives them.
        shares: Of the coefficients, as in 0.05; at least one is taken.
    """
    spatial = about.ndim - 1
    level = min(about.shape[1:]).bit_length() - 1
    bands = [about]
    if level:
        approximation, *details = dwt(about, "haar", level, (False,) * spatial)
        bands = [approximation, *(band for each in details for band in each.values())]
    energy = torch.cat([band.flatten(1) for band in bands], 1).square()
    counts = [max(1, round(share * energy.shape[1])) for share in shares]
    kept = [energy.topk(n, 1, sorted=False).values.sum(1) for n in counts]
    return torch.stack(kept) / energy.sum(1)
