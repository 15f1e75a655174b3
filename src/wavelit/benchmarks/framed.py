"""A model of The Well in WaveLiT's frame: it stands where tokens and blocks stand, all else of a
WaveLiT is there.

    y = IDWT( skip( DWT(x) ) ) + head( network(x, scalars, sides) )
    u(t+1) = u(t) + sigma_D . (y + detail(y, u(t)))

with x the history as increments, the last state and the constants, each in units of its spread,
that of increments at least a tenth of their state's. `head` and `skip` are zero at the start. The
sides' near channel falls over two cells, a WaveLiT's over two tokens: each over two of its own
points. What else differs from a WaveLiT of the same recipe is the network alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wavelit.benchmarks.baselines import rival
from wavelit.model.boundaries import boundary_features
from wavelit.model.config import pad_grid
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.normalizer import Normalizer
from wavelit.model.wavelit import WaveLiT

__all__ = ["FramedRival"]

# Parts of a WaveLiT that the network stands in for.
TRUNK = ("embed", "boundary", "condition", "pyramid", "norm", "head")


class FramedRival(IncrementEmulator):
    """A model of The Well between WaveLiT's linear skip and its convolutions at full resolution.

    Args:
        name: A key of `baselines.SETTINGS` or `baselines.FRAMED_ALONE`.
        frame: Of the dataset, calibrated and without band scales; its tokens and blocks are
            removed.
        shape: The grid.
    """

    def __init__(self, name: str, frame: WaveLiT, shape: Sequence[int]) -> None:
        super().__init__()
        for part in TRUNK:
            delattr(frame, part)
        config = self.config = frame.config
        self.frame = frame
        self.spatial, self.n_steps_input = config.spatial, config.n_steps_input
        kinds = config.boundary_conditions
        if any(kind != "periodic" for pair in kinds for kind in pair):
            sides = boundary_features(shape, shape, kinds, torch.device("cpu")).T
        else:
            sides = torch.zeros(0, math.prod(shape))
        # (2 x sides, *S).
        self.register_buffer("sides", sides.unflatten(1, tuple(shape)), persistent=False)
        self.sides: Tensor
        n_in = len(frame.input_scale) + config.n_scalars + len(self.sides)
        c = config.n_fields
        self.network = rival(name, n_in, c, shape)
        self.head = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[self.spatial - 1](c, c, 1)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    @property
    def normalizer(self) -> Normalizer:  # type: ignore[override]
        """That of the frame."""
        return self.frame.normalizer

    @property
    def kept(self) -> Tensor:
        """Which fields' means over the grid are kept, (C,)."""
        return self.frame.kept

    def advance(self, state: Tensor, increment: Tensor) -> Tensor:
        """The next state, as WaveLiT keeps its means and its divergence."""
        return self.frame.advance(state, increment)

    def wavelet_loss(self, error: Tensor) -> Tensor:
        """WaveLiT's."""
        return self.frame.wavelet_loss(error)

    def increment(
        self, fields: Tensor, constants: Tensor | None = None, scalars: Tensor | None = None
    ) -> Tensor:
        """The predicted increment over its standard deviation, (B, C, *S)."""
        states = self.normalizer.fields(fields)
        present = [states[:, -1]]
        if constants is not None:
            present.append(self.normalizer.constants(constants))
        # Without band scales all of a channel's sub-bands have one.
        scale = self.frame.input_scale[:, :1].view(-1, *(1,) * self.spatial)
        increments = states.diff(dim=1).flatten(1, 2)
        seen = torch.cat([increments, *present], 1) / scale  # (B, T C + K, *S)
        y: Tensor = self._linear(seen) + self.head(self.network(self._beside(seen, scalars)))
        if self.frame.detail is not None:
            y = y + self.frame.detail(torch.cat([*present, y], 1))
        return y

    def _linear(self, seen: Tensor) -> Tensor:
        """WaveLiT's skip: linear in the wavelet coefficients of a token."""
        shape, tokenizer = seen.shape[2:], self.frame.tokenizer
        tokens = tokenizer.encode_tokens(pad_grid(seen, self.config))
        grid = tokens.shape[1:-1]
        # As a WaveLiT's: the coefficients of neighbouring states nearly cancel.
        with torch.autocast(tokens.device.type, enabled=False):
            out = self.frame.skip(tokens.flatten(1, -2)).unflatten(1, grid)
        y = tokenizer.decode_tokens(out)
        for axis, n in enumerate(shape):
            y = y.narrow(2 + axis, 0, n)
        return y

    def _beside(self, seen: Tensor, scalars: Tensor | None) -> Tensor:
        """What the network reads: the frames, the PDE scalars and the distances from the sides."""
        parts = [seen]
        if scalars is not None:
            each = self.normalizer.scalars(scalars)
            each = each.view(*each.shape, *(1,) * self.spatial)
            parts.append(each.expand(*each.shape[:2], *seen.shape[2:]))
        parts.append(self.sides.expand(len(seen), *self.sides.shape))
        return torch.cat(parts, 1)
