"""Haar and CDF 5/3 by lifting: even and odd samples part, then each is corrected by the other, in
place.

    d[k] = x[2k + 1] - predict (x[2k] + x[2k + 2]),   a[k] = x[2k] + update (d[k - 1] + d[k])

up to the scale of each pass; Haar takes one neighbour instead of two. The inverse undoes the steps
from the last to the first, and the adjoint W^T is made of the same steps transposed. Signals are
treated in blocks that stay in the cache from the first step to the last, which on a CPU is several
times faster than passes over everything. `wavelit.wavelets.transform` defines the transform, and
its matrices serve wherever lifting does not.

References:
    Daubechies, Sweldens, "Factoring wavelet transforms into lifting steps", 1998.
"""

from __future__ import annotations

__all__ = ["lifted_analysis", "lifted_synthesis", "lifts"]

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import TypeAlias

import torch
from torch import Tensor

from wavelit.ops.derivatives import are_plain

# Numbers in a block of signals that lifting treats at once: with their source, half an L2 cache of
# 2 MB.
_BLOCK = 2**17

# What a lifting step takes of its source: (predict, update, whether from two neighbours).
_LIFTING = {"haar": (1.0, 0.5, False), "bior2.2": (0.5, 0.25, True)}

# A lifting step: whether the high pass is changed by the low pass or the reverse, and the factor.
_Step: TypeAlias = tuple[bool, float]
_Move: TypeAlias = tuple[Tensor, Tensor, float]
# Which signals; room (2, count, n, ..., m) for them; its view (count, n / 2, ..., m) per sub-band;
# the steps on it.
_Block: TypeAlias = tuple[slice, Tensor, list[Tensor], list[_Move]]


def lifts(wavelet: str, x: Tensor, lengths: Sequence[int]) -> bool:
    """Whether lifting serves: a short filter, even axes, and a CPU, whose caches reward work in
    small blocks.
    """
    if torch.compiler.is_compiling() or are_plain() or x.device.type != "cpu" or not x.numel():
        return False
    return wavelet in _LIFTING and not any(n % 2 for n in lengths)


def lifted_analysis(
    x: Tensor, wavelet: str, periodic: tuple[bool, ...], dual: bool
) -> tuple[Tensor, ...]:
    """W, or V^T when `dual`, of even axes: even and odd samples part, then each is corrected by the
    other.

    Some signals at a time, which stay in the cache from the first step to the last.
    """
    spatial = len(periodic)
    lead, lengths = x.shape[: x.ndim - spatial], x.shape[x.ndim - spatial :]
    halves = [n // 2 for n in lengths]
    pairs = x.reshape(-1, *lengths[:-1], halves[-1], 2)
    bands = [x.new_empty(len(pairs), *halves) for _ in range(2**spatial)]
    scales = x.new_tensor(_band_factors(dual, spatial)).unbind()
    for block, room, parts, moves in _blocks(pairs, _steps(wavelet, dual), wavelet, periodic, dual):
        room.copy_(pairs[block].movedim(-1, 0))
        for target, source, factor in moves:
            target.add_(source, alpha=factor)
        for band, part, scale in zip(bands, parts, scales, strict=True):
            torch.mul(part, scale, out=band[block])
    return tuple(band.view(*lead, *halves) for band in bands)


def lifted_synthesis(
    bands: Sequence[Tensor], wavelet: str, periodic: tuple[bool, ...], dual: bool
) -> Tensor:
    """V, or W^T when `dual`: the steps of the inverse analysis, undone from the last to the
    first.
    """
    spatial = len(periodic)
    lead, halves = (
        bands[0].shape[: bands[0].ndim - spatial],
        bands[0].shape[bands[0].ndim - spatial :],
    )
    lengths = [2 * n for n in halves]
    bands = [band.reshape(-1, *halves) for band in bands]
    pairs = bands[0].new_empty(len(bands[0]), *lengths[:-1], halves[-1], 2)
    # Complex numbers are stored as pairs: this copy is several times faster than one with a stride.
    numbers = torch.view_as_complex(pairs)
    scales = pairs.new_tensor([1 / scale for scale in _band_factors(dual, spatial)]).unbind()
    steps = [(high, -factor) for high, factor in reversed(_steps(wavelet, dual))]
    for block, room, parts, moves in _blocks(pairs, steps, wavelet, periodic, dual):
        for band, part, scale in zip(bands, parts, scales, strict=True):
            torch.mul(band[block], scale, out=part)
        for target, source, factor in moves:
            target.add_(source, alpha=factor)
        torch.complex(room[0], room[1], out=numbers[block])
    return pairs.view(*lead, *lengths)


def _blocks(
    pairs: Tensor, steps: Sequence[_Step], wavelet: str, periodic: tuple[bool, ...], dual: bool
) -> Iterator[_Block]:
    """Cut signals (N, n, ..., m, 2) into blocks that fit the cache; all use the same room."""
    spatial = len(periodic)
    count = min(len(pairs), max(1, _BLOCK // pairs[0].numel()))
    room = pairs.new_empty(2, count, *pairs.shape[1:-1])
    for start in range(0, len(pairs), count):
        if start == 0 or start + count > len(pairs):
            room = room[:, : len(pairs) - start]
            cells = _parities(room, spatial)
            moves = _moves(cells, steps, wavelet, periodic, dual)
            parts = [cells[parity] for parity in product((0, 1), repeat=spatial)]
        yield slice(start, start + count), room, parts, moves


def _parities(room: Tensor, spatial: int) -> Tensor:
    """View (2, N, n, ..., m), even and odd along the last axis, as (2, ..., 2, N, n / 2, ...,
    m): along every axis.
    """
    split = room.view(
        *room.shape[:2], *(size for n in room.shape[2:-1] for size in (n // 2, 2)), room.shape[-1]
    )
    return split.permute(*range(3, 2 * spatial, 2), 0, 1, *range(2, 2 * spatial, 2), 2 * spatial)


def _moves(
    cells: Tensor, steps: Sequence[_Step], wavelet: str, periodic: tuple[bool, ...], dual: bool
) -> list[_Move]:
    """The steps along every axis of cells (2, ..., N, n, ...) as additions in place: target +=
    factor * source.

    A step adds to target[k] the source's value at k and, for CDF 5/3, at its neighbour: k + 1 for
    the high pass, k - 1 for the low pass. Where that is missing, the source wraps or is mirrored;
    `dual` is the transpose of mirroring.
    """
    moves: list[_Move] = []
    for axis, wraps in enumerate(periodic):
        dim = axis - len(periodic)
        passes = cells.unbind(axis)
        for high, factor in steps:
            target, source = passes[high], passes[not high]
            moves.append((target, source, factor))
            if not _LIFTING[wavelet][2]:
                continue
            n = target.shape[dim]
            inner = target.narrow(dim, int(not high), n - 1), source.narrow(dim, int(high), n - 1)
            end = n - 1 if high != (dual and not wraps) else 0
            other = n - 1 - end if wraps else end
            edge = target.narrow(dim, end, 1), source.narrow(dim, other, 1)
            moves += [(*inner, factor), (*edge, factor)]
    return moves


def _band_factors(dual: bool, spatial: int) -> list[float]:
    """Factor of each sub-band after the steps of an analysis: low and high passes need sqrt(2)
    and -1 / sqrt(2).
    """
    low, high = (0.5**0.5, -2 * 0.5**0.5) if dual else (2 * 0.5**0.5, -(0.5**0.5))
    return [
        prod(high if letter == "d" else low for letter in key)
        for key in product("ad", repeat=spatial)
    ]


def _steps(wavelet: str, dual: bool) -> list[_Step]:
    predict, update, _ = _LIFTING[wavelet]
    return [(False, predict), (True, -update)] if dual else [(True, -predict), (False, update)]
