"""The matrices W of analysis and V = W^-1 of synthesis along one axis, and products with them, tile
by tile.

Filters reach a few samples: both are banded, and a dense product would multiply zeros for the most
part. A tile is a block of some rows and the columns that they touch. `wavelit.wavelets.transform`
says what the modes at the edges are.
"""

from __future__ import annotations

from operator import index
from typing import TypeAlias

import numpy as np
import pywt
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavelit.ops.kept import kept

__all__ = ["analysis_matrix", "multiply", "synthesis_matrix"]

# Outputs of one matrix product. Larger tiles multiply more zeros, smaller ones starve the BLAS.
_TILE = 32

_Run: TypeAlias = tuple[int, int]
_Tile: TypeAlias = tuple[tuple[_Run, ...], tuple[_Run, ...], Tensor]


def multiply(x: Tensor, dim: int, wavelet: str, periodic: bool, matrix: str) -> Tensor:
    """Multiply one dimension of a tensor by the banded matrix "W", "V" or a transpose, tile by
    tile.
    """
    # `index` fixes a length that a compiler holds as symbolic: the matrix depends on it.
    shape, n, last = x.shape, index(x.shape[dim]), dim == x.ndim - 1
    # (rows, n) when the dimension is the last, (batch, n, columns) otherwise: neither needs a copy.
    x = x.reshape(-1, n) if last else x.reshape(shape[:dim].numel(), n, -1)
    pieces: dict[int, Tensor] = {}
    # A caller's autocast would turn these products into bfloat16.
    with torch.autocast(x.device.type, enabled=False):
        for rows, columns, block in _tiles(wavelet, n, periodic, matrix, x.dtype, x.device):
            runs = [x.narrow(1, start, stop - start) for start, stop in columns]
            window = torch.cat(runs, 1) if len(runs) > 1 else runs[0]
            y = window @ block.T if last else block @ window
            sizes = [stop - start for start, stop in rows]
            pieces.update(zip((start for start, _ in rows), y.split(sizes, 1), strict=True))
    ordered = [pieces[start] for start in sorted(pieces)]
    return (torch.cat(ordered, 1) if len(ordered) > 1 else ordered[0]).reshape(shape)


@kept(1024)
def _tiles(
    wavelet: str, length: int, periodic: bool, matrix: str, dtype: torch.dtype, device: torch.device
) -> list[_Tile]:
    """Cut a matrix into dense blocks: (runs of output rows, runs of the input columns they
    touch, block).
    """
    full = (
        analysis_matrix(wavelet, length, periodic)
        if "W" in matrix
        else synthesis_matrix(wavelet, length, periodic)
    )
    full = full.T if "T" in matrix else full
    low, half = (length + 1) // 2, _TILE // 2
    if length <= 2 * _TILE:
        row_runs: list[tuple[_Run, ...]] = [((0, length),)]
    elif matrix in ("W", "VT"):  # a tile holds the approximations and the details of the same place
        row_runs = [
            ((i, min(i + half, low)), (low + i, min(low + i + half, length)))
            for i in range(0, length // 2, half)
        ]
        if low > row_runs[-1][0][1]:
            row_runs.append(((row_runs[-1][0][1], low),))
    else:
        row_runs = [((i, min(i + _TILE, length)),) for i in range(0, length, _TILE)]
    tiles = []
    for runs in row_runs:
        rows = np.concatenate([full[start:stop] for start, stop in runs])
        touched = np.flatnonzero(np.abs(rows).max(0)) if len(row_runs) > 1 else np.arange(length)
        edges = np.flatnonzero(np.diff(touched) > 1) + 1
        columns = tuple((int(part[0]), int(part[-1]) + 1) for part in np.split(touched, edges))
        block = torch.from_numpy(np.ascontiguousarray(rows[:, touched])).to(device, dtype)
        tiles.append((runs, columns, block))
    return tiles


def analysis_matrix(wavelet: str, n: int, periodic: bool) -> NDArray[np.float64]:
    """W (n, n): approximations above details."""
    if periodic or (wavelet == "haar" and n % 2 == 0):
        return np.concatenate(pywt.dwt(np.eye(n), wavelet, "periodization", axis=0))
    if wavelet == "haar":
        return _haar_odd(n)
    bank = pywt.Wavelet(wavelet)
    matrix, low = np.zeros((n, n)), (n + 1) // 2
    for offset, count, taps in ((0, low, bank.dec_lo), (low, n // 2, bank.dec_hi)):
        k, m = np.meshgrid(np.arange(count), np.arange(bank.dec_len), indexing="ij")
        # x[2k + F/2 - m] is where periodization puts the filter; beyond the ends the signal is
        # mirrored.
        np.add.at(
            matrix, (offset + k, _mirror(2 * k + bank.dec_len // 2 - m, n)), np.asarray(taps)[m]
        )
    return matrix


def synthesis_matrix(wavelet: str, n: int, periodic: bool) -> NDArray[np.float64]:
    """V (n, n), the inverse of W."""
    low = (n + 1) // 2
    if periodic or (wavelet == "haar" and n % 2 == 0):
        approximation, detail = np.eye(n)[:low], np.eye(n)[low:]
        return np.asarray(pywt.idwt(approximation, detail, wavelet, "periodization", axis=0))
    if wavelet == "haar":
        return _haar_odd(n).T
    bank = pywt.Wavelet(wavelet)
    matrix, reach = np.zeros((n, n)), bank.rec_len
    for is_detail, taps in ((0, bank.rec_lo), (1, bank.rec_hi))[
        : min(n, 2)
    ]:  # one sample has no detail
        i, k = np.meshgrid(np.arange(n), np.arange(-reach, n // 2 + reach), indexing="ij")
        m = i - 2 * k + reach // 2 - 1
        i, k, m = (entry[(m >= 0) & (m < reach)] for entry in (i, k, m))
        # Coefficients interleaved on the grid, approximations at 2k, details at 2k + 1, mirror as
        # the signal does: a reflection about sample 0 or n - 1 shifts by an even number and keeps
        # the two apart.
        place = _mirror(2 * k + is_detail, n)
        column = place // 2 + (place % 2) * low
        np.add.at(matrix, (i, column), np.asarray(taps)[m])
    return matrix


def _haar_odd(n: int) -> NDArray[np.float64]:
    # The last sample has no partner and becomes the last approximation as it is: W stays
    # orthogonal.
    low, matrix = (n + 1) // 2, np.zeros((n, n))
    matrix[low - 1, n - 1] = 1.0
    if n > 1:
        pairs = analysis_matrix("haar", n - 1, True)
        matrix[: low - 1, : n - 1], matrix[low:, : n - 1] = pairs[: low - 1], pairs[low - 1 :]
    return matrix


def _mirror(place: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Fold any integer index into 0..n-1 by reflections about the first and the last sample."""
    if n == 1:
        return np.zeros_like(place)
    return n - 1 - np.abs(place % (2 * n - 2) - (n - 1))
