"""Separable discrete wavelet transforms in one to three dimensions, with exact inverse and exact
adjoint.

One level along an axis is a banded matrix: a = L x, d = H x, where the rows of L and H are the
analysis filters shifted by two samples. W = [L; H] is square in every mode here, so that n samples
give ceil(n / 2) approximations and floor(n / 2) details, nothing is added at the edges, and V =
W^-1 is banded as well. A periodic axis wraps the filters (PyWavelets' `periodization`; W W^T = I
for an orthogonal family). Any other axis mirrors the signal about its first and last samples
(whole-sample symmetry), which the symmetric filters of CDF 5/3 and 9/7 turn into mirrored
coefficients and asymmetric ones do not. In d dimensions the matrices act axis by axis; level j + 1
splits the approximation of level j (Mallat). Gradients apply W^T and V^T, themselves banded. On a
CPU `wavelit.wavelets.lifting` applies the matrices of Haar and CDF 5/3 on even axes.

References:
    Mallat, "A theory for multiresolution signal decomposition: the wavelet representation", 1989.
    Cohen, Daubechies, Feauveau, "Biorthogonal bases of compactly supported wavelets", 1992.
    Brislawn, "Classification of nonexpansive symmetric extension transforms for multirate filter
        banks", 1996.
    Lee et al., "PyWavelets: a Python package for wavelet analysis", JOSS 4(36), 2019.
"""

from __future__ import annotations

__all__ = ["WAVELETS", "band_names", "dwt", "idwt"]

from collections.abc import Sequence
from itertools import product
from typing import Any, TypeAlias

import torch
from torch import Tensor

from wavelit.checks.arguments import require_dense
from wavelit.errors import WavelitError
from wavelit.ops.derivatives import are_plain
from wavelit.wavelets.lifting import lifted_analysis, lifted_synthesis, lifts
from wavelit.wavelets.matrices import multiply

WAVELETS: tuple[str, ...] = ("haar", "db2", "db3", "db4", "sym4", "bior2.2", "bior4.4")
_WALL_WAVELETS = ("haar", "bior2.2", "bior4.4")

Coefficients: TypeAlias = list[Any]


def dwt(x: Tensor, wavelet: str, level: int, periodic: Sequence[bool]) -> Coefficients:
    """Decompose the last `len(periodic)` axes of a tensor, as `pywt.wavedecn` does.

    Args:
        x: signal (..., *S), any leading dimensions; half precision is computed and returned in
            float32.
        wavelet: one of `WAVELETS`.
        level: number of levels J, at least 1.
        periodic: per axis, whether it wraps. A periodic axis must be a multiple of 2**level long.

    Returns:
        `[approximation, details of level J, ..., details of level 1]`, coarsest first. Details are
        a dict keyed by one letter an axis, "a" for the low-pass and "d" for the high-pass filter:
        "ad", "da", "dd" in two dimensions.

    Raises:
        WavelitError: unknown wavelet, level below 1, an axis the wavelet cannot treat, or a tensor
            that is not real.
    """
    spatial = check_setting(wavelet, periodic)
    if level < 1:
        raise WavelitError(f"level must be at least 1, got {level}; choose 1, 2 or 3")
    if x.ndim < spatial:
        raise WavelitError(
            f"expected at least {spatial} dimensions for periodic={tuple(periodic)}, got {x.ndim}"
        )
    for axis, wraps in enumerate(periodic):
        length = x.shape[x.ndim - spatial + axis]
        if wraps and length % 2**level:
            raise WavelitError(
                f"periodic axis {axis} has {length} points, not a multiple of 2**level = "
                f"{2**level}; lower the level, resample, or declare the axis not periodic"
            )
    approximation = _real(x)
    details = []
    for _ in range(level):
        approximation, *rest = _analyse(approximation, wavelet, tuple(periodic), False)
        details.append(dict(zip(_keys(spatial)[1:], rest, strict=True)))
    return [approximation, *reversed(details)]


def idwt(coefficients: Coefficients, wavelet: str, periodic: Sequence[bool]) -> Tensor:
    """Rebuild the signal from `dwt`'s coefficients, exactly up to rounding.

    Args:
        coefficients: list in `dwt`'s order and shapes; half precision is computed and returned in
            float32.
        wavelet: the wavelet of the decomposition.
        periodic: the boundaries of the decomposition.

    Returns:
        The signal (..., *S).

    Raises:
        WavelitError: unknown wavelet, missing or surplus sub-bands, or shapes that do not belong
            together.
    """
    spatial = check_setting(wavelet, periodic)
    keys = _keys(spatial)[1:]
    approximation = _real(coefficients[0])
    for details in coefficients[1:]:
        if tuple(sorted(details)) != keys:
            raise WavelitError(
                f"expected the details {', '.join(keys)}, got {', '.join(sorted(details))}"
            )
        bands = [approximation, *(_real(details[key]) for key in keys)]
        _check_shapes(bands, periodic)
        approximation = _synthesise(bands, wavelet, tuple(periodic), False)
    return approximation


def band_names(level: int, spatial: int) -> tuple[str, ...]:
    """Name the sub-bands in `dwt`'s order: ("aa2", "ad2", "da2", "dd2", "ad1", ...) for level 2
    in 2-D.
    """
    approximation, *details = _keys(spatial)
    return (
        f"{approximation}{level}",
        *(f"{key}{j}" for j in range(level, 0, -1) for key in details),
    )


def _analyse(x: Tensor, wavelet: str, periodic: tuple[bool, ...], dual: bool) -> tuple[Tensor, ...]:
    if are_plain():
        return _analysed(x, wavelet, periodic, dual)
    bands: tuple[Tensor, ...] = _Analysis.apply(x, wavelet, periodic, dual)  # type: ignore[no-untyped-call]
    return bands


def _synthesise(
    bands: Sequence[Tensor], wavelet: str, periodic: tuple[bool, ...], dual: bool
) -> Tensor:
    if are_plain():
        return _synthesised(bands, wavelet, periodic, dual)
    x: Tensor = _Synthesis.apply(wavelet, periodic, dual, *bands)  # type: ignore[no-untyped-call]
    return x


class _Analysis(torch.autograd.Function):
    """Grid to sub-bands: W along every axis, or V^T when `dual`. The adjoint is `_Synthesis` of
    the other.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, wavelet: str, periodic: tuple[bool, ...], dual: bool
    ) -> tuple[Tensor, ...]:
        ctx.setting = wavelet, periodic, dual
        return _analysed(x, wavelet, periodic, dual)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        wavelet, periodic, dual = ctx.setting
        return _synthesise(grads, wavelet, periodic, not dual), None, None, None


class _Synthesis(torch.autograd.Function):
    """Sub-bands to grid: V along every axis, or W^T when `dual`. The adjoint is `_Analysis` of
    the other.
    """

    @staticmethod
    def forward(
        ctx: Any, wavelet: str, periodic: tuple[bool, ...], dual: bool, *bands: Tensor
    ) -> Tensor:
        ctx.setting = wavelet, periodic, dual
        return _synthesised(bands, wavelet, periodic, dual)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        wavelet, periodic, dual = ctx.setting
        return None, None, None, *_analyse(grad, wavelet, periodic, not dual)


def _analysed(
    x: Tensor, wavelet: str, periodic: tuple[bool, ...], dual: bool
) -> tuple[Tensor, ...]:
    """What `_Analysis` computes."""
    spatial = len(periodic)
    lengths = x.shape[x.ndim - spatial :]
    if lifts(wavelet, x, lengths):
        return lifted_analysis(x, wavelet, periodic, dual)
    if wavelet == "haar" and not any(n % 2 for n in lengths):
        return tuple(_haar_split(x, spatial))
    for axis, wraps in enumerate(periodic):
        x = multiply(x, x.ndim - spatial + axis, wavelet, wraps, "VT" if dual else "W")
    bands = [x]
    for dim, n in enumerate(lengths, x.ndim - spatial):
        low, high = (n + 1) // 2, n // 2
        bands = [
            part
            for band in bands
            for part in (band.narrow(dim, 0, low), band.narrow(dim, low, high))
        ]
    return tuple(bands)


def _synthesised(
    bands: Sequence[Tensor], wavelet: str, periodic: tuple[bool, ...], dual: bool
) -> Tensor:
    """What `_Synthesis` computes."""
    spatial, ndim = len(periodic), bands[0].ndim
    even = all(band.shape == bands[0].shape for band in bands)
    if even and lifts(wavelet, bands[0], ()):
        return lifted_synthesis(bands, wavelet, periodic, dual)
    if wavelet == "haar" and even:
        return _haar_merge(list(bands), spatial)
    parts = list(bands)
    for dim in range(ndim - 1, ndim - spatial - 1, -1):
        parts = [torch.cat(pair, dim) for pair in zip(parts[::2], parts[1::2], strict=True)]
    x = parts[0]
    for axis, wraps in enumerate(periodic):
        x = multiply(x, ndim - spatial + axis, wavelet, wraps, "WT" if dual else "V")
    return x


def _haar_split(x: Tensor, spatial: int) -> list[Tensor]:
    # Sums and differences only: no product that reduced-precision matrix modes (TF32) could round.
    bands = [x]
    for dim in range(x.ndim - spatial, x.ndim):
        pairs = [(_every_second(b, dim, 0), _every_second(b, dim, 1)) for b in bands]
        bands = [half for even, odd in pairs for half in (even + odd, even - odd)]
    return [band.mul_(0.5 ** (spatial / 2)) for band in bands]


def _haar_merge(bands: list[Tensor], spatial: int) -> Tensor:
    ndim = bands[0].ndim
    for dim in range(ndim - 1, ndim - spatial - 1, -1):
        pairs = zip(bands[::2], bands[1::2], strict=True)
        bands = [_interleave(low + high, low - high, dim) for low, high in pairs]
    return bands[0].mul_(0.5 ** (spatial / 2))


def _every_second(x: Tensor, dim: int, first: int) -> Tensor:
    return x.reshape(*x.shape[:dim], -1, 2, *x.shape[dim + 1 :]).select(dim + 1, first)


def _interleave(even: Tensor, odd: Tensor, dim: int) -> Tensor:
    if dim == even.ndim - 1 and not torch.compiler.is_compiling():
        # Complex numbers are stored as (real, imaginary) pairs; this copy is six times faster than
        # `stack`.
        return torch.view_as_real(torch.complex(even, odd)).flatten(dim)
    return torch.stack((even, odd), dim + 1).flatten(dim, dim + 1)


def _keys(spatial: int) -> tuple[str, ...]:
    return tuple("".join(letters) for letters in product("ad", repeat=spatial))


def _real(x: Tensor) -> Tensor:
    if not x.is_floating_point():
        raise WavelitError(
            f"expected a real floating-point tensor, got {x.dtype}; convert it with .float()"
        )
    require_dense("x", x)
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def check_setting(wavelet: str, periodic: Sequence[bool]) -> int:
    """Return the number of axes, or raise a `WavelitError` if the wavelet cannot serve these
    boundaries.
    """
    if wavelet not in WAVELETS:
        raise WavelitError(f"unknown wavelet {wavelet!r}; choose one of {', '.join(WAVELETS)}")
    if not 1 <= len(periodic) <= 3:
        raise WavelitError(
            f"expected `periodic` for 1, 2 or 3 axes, got {len(periodic)}; give one flag an axis"
        )
    if wavelet not in _WALL_WAVELETS and not all(periodic):
        raise WavelitError(
            f"{wavelet} is not symmetric and needs every axis periodic, got "
            f"periodic={tuple(periodic)}; use {', '.join(_WALL_WAVELETS)} with walls or open sides"
        )
    return len(periodic)


def _check_shapes(bands: Sequence[Tensor], periodic: Sequence[bool]) -> None:
    spatial, approximation = len(periodic), bands[0].shape
    for key, band in zip(_keys(spatial), bands, strict=True):
        good = (
            len(band.shape) == len(approximation)
            and band.shape[:-spatial] == approximation[:-spatial]
        )
        for letter, wraps, n, low, high in zip(
            key,
            periodic,
            band.shape[-spatial:],
            approximation[-spatial:],
            bands[-1].shape[-spatial:],
            strict=True,
        ):
            good &= n == (low if letter == "a" else high) and 0 <= low - high <= (0 if wraps else 1)
        if not good:
            raise WavelitError(
                f"sub-band {key} of shape {tuple(band.shape)} does not belong to an approximation "
                f"of shape {tuple(approximation)} and details of shape {tuple(bands[-1].shape)}; "
                "pass the coefficients as `dwt` returned them"
            )
