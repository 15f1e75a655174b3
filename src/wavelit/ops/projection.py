"""The part of a vector field that is free of divergence, on a periodic grid.

    P v = v - grad lap^-1 div v,   in Fourier space   v_k - k (k . v_k) / |k|^2

The mean (k = 0) is left as it is. So is the Nyquist mode of an axis of even length, as far as that
axis goes: its derivative is not known from the grid, and counts as zero.

References: Leray, Sur le mouvement d'un liquide visqueux emplissant l'espace, 1934; Canuto,
Hussaini, Quarteroni, Zang, Spectral Methods in Fluid Dynamics, 1988, chapter 7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from wavelit.ops.kept import kept

__all__ = ["divergence_free"]


def divergence_free(v: Tensor, cell: Sequence[float] | Tensor) -> Tensor:
    """The divergence-free part of v (B, d, *S) with d grid axes, all periodic.

    Args:
        v: Vectors, their components in the order of the axes, in one unit.
        cell: Distance between points along each axis, (d,); their ratios count alone.

    Returns:
        (B, d, *S), of v's type, but at least float32.
    """
    wide = v.to(torch.promote_types(v.dtype, torch.float32))
    spatial = wide.ndim - 2
    axes = tuple(range(-spatial, 0))
    # Real and imaginary parts: waves are real, and ONNX knows few complex operators.
    spectrum = torch.view_as_real(torch.fft.rfftn(wide, dim=axes))
    waves = [k.unsqueeze(-1) for k in _wavenumbers(wide.shape[2:], cell, wide)]
    squared = sum((k.square() for k in waves), torch.zeros((), device=v.device))
    along: Tensor = sum(
        (k * spectrum[:, axis] for axis, k in enumerate(waves)), torch.zeros_like(spectrum[:, 0])
    )
    potential = along / torch.where(squared > 0, squared, torch.ones_like(squared))
    gradient = torch.stack([k * potential for k in waves], 1)
    solenoidal = torch.view_as_complex(spectrum - gradient)
    projected: Tensor = torch.fft.irfftn(solenoidal, s=wide.shape[2:], dim=axes)
    return projected


def _wavenumbers(
    shape: Sequence[int], cell: Sequence[float] | Tensor, like: Tensor
) -> list[Tensor]:
    """Of every axis, shaped to meet the spectrum (..., *S of `rfftn`); zero at Nyquist."""
    found = []
    for axis, n in enumerate(shape):
        k = _angles(n, axis == len(shape) - 1, like.dtype, like.device) / cell[axis]
        found.append(k.view(-1, *(1,) * (len(shape) - 1 - axis)))
    return found


# An exporter has no operator for it.
@kept(maxsize=64)
def _angles(n: int, real: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Radians a cell of the frequencies of n points; zero at Nyquist."""
    frequencies = torch.fft.rfftfreq if real else torch.fft.fftfreq
    k: Tensor = 2 * math.pi * frequencies(n, dtype=dtype, device=device)
    return k if n % 2 else torch.where(torch.arange(len(k), device=device) == n // 2, 0.0, k)
