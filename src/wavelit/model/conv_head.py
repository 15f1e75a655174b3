"""A correction at full resolution: what differs between neighbouring cells, which tokens see only
by its place among them.

    d = write( s( mix( f(read(x)) ) ) )
    f = gelu, or, gated,   f(a, b) = a tanh(b)
    s = gelu, or, bounded,   s(z) = m / sqrt(1 + mean of m^2 over channels),   m = gelu(z) + 0.15 z

Tokens cover 2^J cells, and a pattern that moves by one cell is another token. Convolutions treat
every cell alike. The gate gives products of what neighbouring cells hold, of which the nonlinear
terms of PDEs are made, and bounds one factor of each. What is bounded as a whole corrects by a
limited amount, however large the state. The term 0.15 z leaves m a slope everywhere, since gelu's
is at least -0.13: with less all channels of shear flow fell silent in training (docs/log.md).
Borders are padded once, by as many cells as all three need: wrapped on periodic axes, else the edge
is repeated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavelit.ops.derivatives import are_plain
from wavelit.ops.pieces import may_divide

__all__ = ["ConvHead"]

KERNEL = 3
ALIVE = 0.15
# Numbers between two convolutions of a strip of rows, where a prediction is made strip by strip: so
# many stay in the processor's cache.
STRIP = 2**18


class ConvHead(nn.Module):
    """Three convolutions from (B, dim_in, *S) to (B, dim_out, *S).

    Args:
        dim_in: Channels read.
        hidden: Channels between.
        dim_out: Channels given.
        periodic: Whether each axis wraps; as many as there are axes, 1 to 3.
        gated: Whether half of what is read gates the other half.
        bounded: Whether the channels before `write` are bounded.
    """

    def __init__(
        self,
        dim_in: int,
        hidden: int,
        dim_out: int,
        periodic: Sequence[bool],
        gated: bool = False,
        bounded: bool = False,
    ) -> None:
        super().__init__()
        self.periodic = tuple(periodic)
        self.hidden, self.gated, self.bounded = hidden, gated, bounded
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(self.periodic) - 1]
        self.read = conv(dim_in, 2 * hidden if gated else hidden, KERNEL)
        self.mix = conv(hidden, hidden, KERNEL)
        self.write = conv(hidden, dim_out, KERNEL)

    def forward(self, x: Tensor) -> Tensor:
        """The correction (B, dim_out, *S) of what x (B, dim_in, *S) describes."""
        reach = 3 * (KERNEL // 2)
        for axis, wraps in enumerate(self.periodic):
            n = x.shape[2 + axis]
            cells = torch.arange(-reach, n + reach, device=x.device)
            x = x.index_select(2 + axis, cells % n if wraps else cells.clamp(0, n - 1))
        if len(self.periodic) == 2 and not are_plain():
            # With channels last a CPU need not reorder few channels before and after every
            # convolution.
            x = x.contiguous(memory_format=torch.channels_last)
        rows = x.shape[2] - 2 * reach
        # Each reads six rows more than it gives.
        strip = max(4 * reach, STRIP * rows // (self.hidden * math.prod(x.shape[2:])))
        if strip >= rows or not may_divide(x):
            return self._correct(x)
        strips = (x[:, :, i : min(i + strip, rows) + 2 * reach] for i in range(0, rows, strip))
        return torch.cat([self._correct(each) for each in strips], 2)

    def _correct(self, x: Tensor) -> Tensor:
        """Of x with its padding."""
        h = self.read(x)
        if self.gated:
            a, b = h.chunk(2, 1)
            h = a * torch.tanh(b)
        else:
            h = F.gelu(h)
        z = self.mix(h)
        m = F.gelu(z)
        if self.bounded:
            m = torch.add(m, z, alpha=ALIVE)
            m = m * (1 + m.square().mean(1, keepdim=True)).rsqrt()
        d: Tensor = self.write(m)
        return d
