"""Errors between a predicted and a true field, one number per field.

Every function takes channels-first tensors (..., C, *S) and returns (..., C): the mean over the
grid stands for the integral over the domain, so that sqrt(mean |u - v|^2) approximates the L2 norm
of the error divided by the square root of the domain's volume. Squares, means and variances are
summed in float64 whatever the fields come in. The score of this package is the variance-scaled root
mean square error,

    VRMSE = sqrt( mean |u - v|^2 / (var(v) + eps) ),    eps = 1e-7, var with N - 1,

taken per sample, time and field first; averages come after. 1 is what the true spatial mean would
score.

References: Ohana et al., The Well: a Large-Scale Collection of Diverse Physics Simulations for
Machine Learning (2024), arXiv 2412.00568, appendix E.3, and the code of its
`the_well.benchmark.metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wavelit.checks.arguments import (
    require_dense,
    require_names,
    require_real,
    require_whole,
    shown,
)
from wavelit.errors import WavelitError, printable

__all__ = [
    "EPS",
    "binned_spectral_mse",
    "isotropic_spectrum",
    "linf",
    "nrmse",
    "pearson",
    "require_field",
    "require_names_apart",
    "vrmse",
]

EPS = 1e-7


def vrmse(
    prediction: Tensor, target: Tensor, spatial: int, eps: float = EPS, valid: Tensor | None = None
) -> Tensor:
    """Variance-scaled root mean square error, sqrt(mean |u - v|^2 / (var(v) + eps)).

    The mean divides by the N cells, the variance of the target v by N - 1, both over space alone:
    nothing is averaged over samples, times or fields. It approximates |u - v| / |v - <v>| in L2 of
    the domain. A constant target leaves sqrt(mean |u - v|^2 / eps): an error of 1 then reads 3162.

    Args:
        prediction: u, (..., C, *S).
        target: v, (..., C, *S).
        spatial: number of grid axes, 1 to 3.
        eps: added to the variance, in the field's units squared.
        valid: cells that count, (B, 1, *S), true where they do; any axes between B and C are
            inserted.

    Returns:
        (..., C), float64.

    Raises:
        WavelitError: the shapes disagree, or the mask leaves fewer than two cells.
    """
    u, v, mask, count = _fields(prediction, target, spatial, valid)
    require_real("eps", eps)
    error = (u - v).square().sum(-1) / count
    return (error / (_variance(v, mask, count) + eps)).sqrt()


def nrmse(
    prediction: Tensor, target: Tensor, spatial: int, eps: float = EPS, valid: Tensor | None = None
) -> Tensor:
    """Root mean square error over the target's root mean square, sqrt(mean |u - v|^2 / (mean |v|^2
    + eps)).

    Both means divide by N. It approximates |u - v| / |v| in L2 of the domain: 1 is what zero would
    score.

    Args:
        prediction: u, (..., C, *S).
        target: v, (..., C, *S).
        spatial: number of grid axes, 1 to 3.
        eps: added to the mean square, in the field's units squared.
        valid: cells that count, (B, 1, *S).

    Returns:
        (..., C), float64.

    Raises:
        WavelitError: the shapes disagree, or the mask leaves fewer than two cells.
    """
    u, v, _, count = _fields(prediction, target, spatial, valid)
    require_real("eps", eps)
    return ((u - v).square().sum(-1) / count / (v.square().sum(-1) / count + eps)).sqrt()


def pearson(
    prediction: Tensor, target: Tensor, spatial: int, eps: float = EPS, valid: Tensor | None = None
) -> Tensor:
    """Pearson's correlation over space, cov(u, v) / (std(u) std(v) + eps).

    As in The Well's code the covariance divides by N and the deviations by N - 1, so that a field's
    correlation with itself is (N - 1) / N and not 1.

    Args:
        prediction: u, (..., C, *S).
        target: v, (..., C, *S).
        spatial: number of grid axes, 1 to 3.
        eps: added to the product of the deviations, in the field's units squared.
        valid: cells that count, (B, 1, *S).

    Returns:
        (..., C), float64, between -1 and 1.

    Raises:
        WavelitError: the shapes disagree, or the mask leaves fewer than two cells.
    """
    u, v, mask, count = _fields(prediction, target, spatial, valid)
    require_real("eps", eps)
    du, dv = _centred(u, mask, count), _centred(v, mask, count)
    covariance = (du * dv).sum(-1) / count
    return covariance / ((_variance(u, mask, count) * _variance(v, mask, count)).sqrt() + eps)


def linf(prediction: Tensor, target: Tensor, spatial: int, valid: Tensor | None = None) -> Tensor:
    """Largest error over the grid, max |u - v|, in the field's units: the L-infinity norm seen at
    the cells.

    Args:
        prediction: u, (..., C, *S).
        target: v, (..., C, *S).
        spatial: number of grid axes, 1 to 3.
        valid: cells that count, (B, 1, *S).

    Returns:
        (..., C), float64.

    Raises:
        WavelitError: the shapes disagree, or the mask leaves fewer than two cells.
    """
    u, v, _, _ = _fields(prediction, target, spatial, valid)
    return (u - v).abs().amax(-1)


def binned_spectral_mse(
    prediction: Tensor,
    target: Tensor,
    spatial: int,
    bins: Tensor | None = None,
    valid: Tensor | None = None,
    normalized: bool = False,
    eps: float = EPS,
) -> Tensor:
    """Mean square error carried by bands of isotropic wavenumber |k|; over all bands it sums to
    mean |u - v|^2.

    By Plancherel, with F the unnormalised transform of the N cells, a band holds sum |F(u - v)|^2 /
    N^2. The default edges are The Well's: 0, then two between 2 pi / max(S) and pi sqrt(spatial) in
    equal ratios, three bands in all.

    Excluded cells enter the transform as zero error (and, when normalised, as zero field), and N^2
    becomes N times the cells that count: the bands still sum to the mean over these cells. The edge
    of a mask is a jump, which spreads into the high bands; masked and unmasked figures are not to
    be compared.

    Args:
        prediction: u, (..., C, *S).
        target: v, (..., C, *S).
        spatial: number of grid axes, 1 to 3.
        bins: (n_bins + 1,) rising edges in radians per cell; wavenumbers outside are left out.
        valid: cells that count, (B, 1, *S).
        normalized: divide each band by the target's energy in it plus `eps`.
        eps: see `normalized`; in the field's units squared.

    Returns:
        (..., n_bins, C), float64.

    Raises:
        WavelitError: the shapes disagree, or the mask leaves fewer than two cells.
    """
    u, v, _, count = _fields(prediction, target, spatial, valid)
    require_real("eps", eps)
    grid = target.shape[-spatial:]
    if bins is not None and not (
        isinstance(bins, Tensor)
        and bins.ndim == 1
        and len(bins) > 1
        and bool((bins.diff() > 0).all())
    ):
        raise WavelitError(f"bins must be a tensor of at least two rising edges, not {shown(bins)}")
    if bins is None:
        low, high = (
            math.log10(2 * math.pi / max(grid)),
            math.log10(math.pi * math.sqrt(spatial) + 1e-6),
        )
        bins = torch.logspace(low, high, 4)
        bins[0] = 0.0
    # float32 on purpose: an edge may fall on a wavenumber to the last digit, and The Well rounds it
    # so.
    squares = torch.zeros(grid, dtype=torch.float32)
    for axis, n in enumerate(grid):
        k = 2 * math.pi * torch.fft.fftfreq(n, dtype=torch.float32)
        squares += k.reshape(-1, *(1,) * (spatial - 1 - axis)) ** 2
    band = torch.bucketize(squares.sqrt().flatten(), bins.to("cpu", torch.float32), right=True) - 1
    n_bins = len(bins) - 1

    scale = u.shape[-1] * count.unsqueeze(-1)
    error = _energy(u - v, grid, band, n_bins) / scale  # (..., C, n_bins)
    if normalized:
        error = error / (_energy(v, grid, band, n_bins) / scale + eps)
    return error.movedim(-1, -2)


def isotropic_spectrum(field: Tensor, spatial: int) -> tuple[Tensor, Tensor]:
    """Energy per shell of wavenumber, sum over round(|k|) = n of |F|^2 / N^2, n in cycles per
    domain.

    |k| counts cycles along each axis of the array, whatever the axes' lengths. The shells, n = 0 to
    half the longest axis, hold the mean square of the field except for the corners beyond. Every
    axis is taken as periodic: a jump between opposite sides shows as energy falling like 1/n^2.

    Args:
        field: (..., C, *S).
        spatial: number of grid axes, 1 to 3.

    Returns:
        n, (K,), and the energy, (..., C, K), both float64.

    Raises:
        WavelitError: no field of that many axes.
    """
    require_whole("spatial", spatial, 1, 3)
    require_field("field", field, spatial)
    grid = field.shape[-spatial:]
    squares = torch.zeros(grid, dtype=torch.float64)
    for axis, n in enumerate(grid):
        k = n * torch.fft.fftfreq(n, dtype=torch.float64)
        squares += k.reshape(-1, *(1,) * (spatial - 1 - axis)) ** 2
    shell = squares.sqrt().round().long().flatten()
    n_shells = max(grid) // 2 + 1
    cells = field.double().flatten(-spatial)
    energy = _energy(cells, grid, shell, n_shells) / shell.numel() ** 2
    return torch.arange(n_shells, dtype=torch.float64), energy


def _energy(cells: Tensor, grid: Sequence[int], band: Tensor, n_bands: int) -> Tensor:
    """Sum |F|^2 of the cells (..., N) into the bands that `band`, (N,), names; an index outside
    is left out.
    """
    axes = tuple(range(-len(grid), 0))
    power = (
        torch.fft.fftn(cells.reshape(*cells.shape[:-1], *grid), dim=axes)
        .abs()
        .square()
        .flatten(-len(grid))
    )
    inside = (band >= 0) & (band < n_bands)
    where = band[inside].to(cells.device)
    energy: Tensor = power.new_zeros(*power.shape[:-1], n_bands)
    energy.index_add_(-1, where, power[..., inside.to(cells.device)])
    return energy


def _fields(
    prediction: Tensor, target: Tensor, spatial: int, valid: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Both fields in float64 with the grid flattened and excluded cells at zero, the mask, and
    the cells that count.
    """
    require_whole("spatial", spatial, 1, 3)
    for name, value in (("prediction", prediction), ("target", target)):
        require_field(name, value, spatial)
    if prediction.device != target.device:
        raise WavelitError(
            f"prediction is on {prediction.device}, target on {target.device}: move one to the "
            "other"
        )
    if prediction.shape != target.shape:
        raise WavelitError(
            f"expected prediction and target of one shape (..., C, *S) with {spatial} grid axes, "
            f"got {tuple(prediction.shape)} and {tuple(target.shape)}: compare the same fields and "
            "times"
        )
    u, v = prediction.double().flatten(-spatial), target.double().flatten(-spatial)  # (..., C, N)
    if valid is None:
        return u, v, None, u.new_full((1,) * (u.ndim - 1), u.shape[-1])
    if not isinstance(valid, Tensor) or valid.is_complex():
        raise WavelitError(f"valid must be a tensor, a mask (B, 1, *S), not {shown(valid)}")
    require_dense("valid", valid)
    if (
        valid.ndim != spatial + 2
        or valid.shape[1] != 1
        or valid.shape[0] not in (1, target.shape[0])
        or valid.shape[-spatial:] != target.shape[-spatial:]
        or target.ndim < spatial + 2
    ):
        raise WavelitError(
            f"expected a mask (B, 1, *S) for fields {tuple(target.shape)}, got "
            f"{tuple(valid.shape)}: give one mask per sample on the fields' grid"
        )
    if valid.device != target.device:
        raise WavelitError(f"valid is on {valid.device}, target on {target.device}: move it there")
    flat = valid.bool().flatten(-spatial)  # (B, 1, N)
    mask = flat.reshape(flat.shape[0], *(1,) * (u.ndim - 2), flat.shape[-1])
    count = mask.sum(-1).double()
    if bool((count < 2).any()):
        raise WavelitError(
            "expected at least two cells that count in every sample, got a mask that excludes all "
            "others"
        )
    # where() and not a product: an excluded cell may hold NaN.
    return u.where(mask, 0.0), v.where(mask, 0.0), mask, count


def require_field(name: str, value: Any, spatial: int) -> None:
    """A dense tensor of real numbers (..., C, *S) that is not empty.

    Raises:
        WavelitError: It is none.
    """
    if not isinstance(value, Tensor) or value.is_complex():
        raise WavelitError(f"{name} must be a torch.Tensor of real numbers, not {shown(value)}")
    require_dense(name, value)
    if value.ndim < spatial + 1 or not value.numel():
        raise WavelitError(
            f"{name} must be (..., C, *S) with {spatial} grid axes, none of them empty, not "
            f"{tuple(value.shape)}"
        )


def require_names_apart(field_names: Sequence[str]) -> None:
    """Field names that scores can stand under.

    Raises:
        WavelitError: none, two of one name, or one that is called "all", as the mean over fields is
            in tables.
    """
    names = require_names("field_names", field_names)
    for name in names:
        if names.count(name) > 1 or name == "all":
            raise WavelitError(
                f"a score of field '{printable(name, 60)}' would replace another: rename the field"
            )


def _centred(x: Tensor, mask: Tensor | None, count: Tensor) -> Tensor:
    centred = x - (x.sum(-1) / count).unsqueeze(-1)
    return centred if mask is None else centred.where(mask, 0.0)


def _variance(x: Tensor, mask: Tensor | None, count: Tensor) -> Tensor:
    return _centred(x, mask, count).square().sum(-1) / (count - 1)
