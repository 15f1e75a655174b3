"""Sides of the domain: their kinds, and what a model is told of walls and open sides.

A periodic axis needs no word: transform, convolutions and phases wrap round. For every other side a
token knows its distance.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["BOUNDARY_TYPES", "BoundaryConditions", "boundary_features"]

BoundaryConditions = tuple[tuple[str, str], ...]
"""Per axis the (low, high) sides, each "periodic", "wall" or "open"."""

BOUNDARY_TYPES = ("periodic", "wall", "open")


def boundary_features(
    grid: Sequence[int],
    cells: Sequence[float],
    boundary: BoundaryConditions,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Two channels for every wall or open side: the distance from it over the domain's width, and
    exp(-distance / 2 tokens).

    Args:
        grid: Tokens along each axis, padding included.
        cells: Tokens that the domain itself covers along each axis.
        boundary: Per axis the (low, high) types.
        device: Where the result lives.
        dtype: Of the result.

    Returns:
        (L, 2 x sides), tokens in row-major order.
    """
    channels = []
    for axis, (n, width, sides) in enumerate(zip(grid, cells, boundary, strict=True)):
        centre = torch.arange(n, dtype=dtype, device=device) + 0.5
        for side, kind in enumerate(sides):
            if kind == "periodic":
                continue
            distance = (centre if side == 0 else width - centre).clamp(min=0)
            view = [1] * len(grid)
            view[axis] = n
            channels += [
                f.view(view).expand(*grid) for f in (distance / width, torch.exp(-distance / 2))
            ]
    return torch.stack(channels, -1).flatten(0, -2)
