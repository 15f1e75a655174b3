"""What is learnt for a field once and used by every system that has it.

A network reads channels by a matrix whose columns belong to them, and writes them by rows. With a
vocabulary each field owns its columns and rows, by its name and tensor order, and a system's matrix
is put together from those of its fields:

    embed = [velocity | pressure | ...],   head = [velocity ; pressure ; ...]

So too the kernels at full resolution, and what tells a token of a wall or an open side. A block is
drawn from a stream of its own, by its name: which other blocks there are changes nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavelit.model.config import WaveLiTConfig
from wavelit.model.conv_head import KERNEL
from wavelit.model.joint_config import constants_of
from wavelit.model.signature import Quantity, Signature
from wavelit.model.wavelit import WaveLiT

__all__ = ["FieldLinear", "Vocabulary", "key_of", "number_of", "seeded"]

# Channels that a reading matrix is initialised for: of four frames of five fields. The true number
# differs between systems, which share its blocks.
NOMINAL_CHANNELS = 20


def key_of(name: str) -> str:
    """A name as torch's containers take it: other signs than letters, digits, spaces, - and _ by
    number.
    """
    key = re.sub(r"[^A-Za-z0-9_ -]", lambda sign: f"%{ord(sign.group()):x}", name)
    # Containers refuse the names of their own methods.
    taken = hasattr(nn.ModuleDict, key) or hasattr(nn.ParameterDict, key)
    return f"%{key}" if taken or not key else key


def number_of(seed: int, *names: str) -> int:
    """A seed below 2^62 for the part of that name."""
    text = "\0".join([str(seed), *names]).encode("utf8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 2


@contextmanager
def seeded(seed: int, *names: str) -> Iterator[None]:
    """Draw from the stream of that name; torch's own stream goes on as if nothing had been drawn.

    Initialisation draws on the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(number_of(seed, *names))
        yield


class _Assembled(nn.Module):
    """A weight and a bias put together from blocks.

    Args:
        blocks: Of the weight.
        dim: The dimension along which they stand side by side.
        biases: Of the bias, along its only dimension.
    """

    def __init__(
        self, blocks: Sequence[nn.Parameter], dim: int, biases: Sequence[nn.Parameter] = ()
    ) -> None:
        super().__init__()
        self.dim = dim
        self.blocks = nn.ParameterList(blocks)
        self.biases = nn.ParameterList(biases)

    @property
    def weight(self) -> Tensor:
        return torch.cat(list(self.blocks), self.dim)

    @property
    def bias(self) -> Tensor | None:
        biases = list(self.biases)
        if not biases:
            return None
        return torch.cat(biases) if len(biases) > 1 else biases[0]


class FieldLinear(_Assembled):
    """A linear map whose columns (`dim` 1) or rows (`dim` 0) belong to fields."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., columns). Returns (..., rows)."""
        return F.linear(x, self.weight, self.bias)


class _FieldConv(_Assembled):
    """A convolution without padding, likewise."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, columns, *S). Returns (B, rows, *S less the kernel's reach)."""
        conv = (F.conv1d, F.conv2d, F.conv3d)[x.ndim - 3]
        y: Tensor = conv(x, self.weight, self.bias)
        return y


class Vocabulary(nn.Module):
    """Blocks of weights by name.

    Args:
        seed: Of the initial values.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.blocks = nn.ParameterDict()

    def block(self, *name: str, shape: Sequence[int], bound: float = 0.0) -> nn.Parameter:
        """The block of that name, made when it is first asked for.

        Args:
            name: Parts of its name; whatever decides its shape is among them.
            shape: Its shape.
            bound: It starts uniform between -bound and bound.
        """
        key = "/".join(key_of(part) for part in name)
        if key not in self.blocks:
            with seeded(self.seed, "vocabulary", *name):
                value = torch.zeros(*shape)
                self.blocks[key] = nn.Parameter(
                    nn.init.uniform_(value, -bound, bound) if bound else value
                )
        block: nn.Parameter = self.blocks[key]
        assert block.shape == tuple(shape)
        return block

    def furnish(self, model: WaveLiT, signature: Signature) -> None:
        """Put the blocks of a system's fields in the place of its own weights; the linear skip
        stays its own.
        """
        config, q = model.config, model.tokenizer.n_coefficients
        e = config.embed_dim
        coefficients = f"{config.wavelet} {config.levels}"
        model.embed = self._embed(config, signature, q, coefficients)  # type: ignore[assignment]
        rows, biases = [], []
        for field in signature.fields:
            name = ("write", *_name(field), coefficients)
            n = len(field.channels) * q
            rows.append(self.block(*name, shape=(n, e)))
            biases.append(self.block(*name, "bias", shape=(n,)))
        model.head = FieldLinear(rows, 0, biases)  # type: ignore[assignment]
        sides = [
            self.block("side", f"{axis} {side}", kind, shape=(e, 2), bound=0.5)
            for axis, pair in enumerate(config.boundary_conditions)
            for side, kind in zip(("low", "high"), pair, strict=True)
            if kind != "periodic"
        ]
        model.boundary = FieldLinear(sides, 1) if sides else None  # type: ignore[assignment]
        if model.detail is not None:
            self._furnish_convolutions(model.detail, config, signature)

    def furnish_middle(self, model: WaveLiT) -> None:
        """Put one convolution for all systems between those that read and write at full
        resolution: no field has a channel there.
        """
        if model.detail is None:
            return
        spatial, hidden = model.config.spatial, model.config.detail_dim
        width, shape = str(hidden), (hidden, hidden, *(KERNEL,) * spatial)
        mixed = self.block("mix", width, shape=shape, bound=(hidden * KERNEL**spatial) ** -0.5)
        bias = self.block("mix", "bias", width, shape=(hidden,))
        model.detail.mix = _FieldConv([mixed], 1, [bias])  # type: ignore[assignment]

    def _embed(
        self, config: WaveLiTConfig, signature: Signature, q: int, coefficients: str
    ) -> FieldLinear:
        """Columns of every frame's fields, the last state's last, then those of the constants."""
        e, t = config.embed_dim, config.n_steps_input
        bound = (NOMINAL_CHANNELS * q) ** -0.5
        columns = [
            self.block(
                "read",
                *_name(field),
                coefficients,
                f"{config.history} {t - 1 - frame}" if frame < t - 1 else "state",
                shape=(e, len(field.channels) * q),
                bound=bound,
            )
            for frame in range(t)
            for field in signature.fields
        ]
        columns += [
            self.block(
                "read constant",
                *_name(each),
                coefficients,
                shape=(e, len(each.channels) * q),
                bound=bound,
            )
            for each in constants_of(signature)
        ]
        return FieldLinear(columns, 1, [self.block("read", "bias", shape=(e,))])

    def _furnish_convolutions(
        self, head: nn.Module, config: WaveLiTConfig, signature: Signature
    ) -> None:
        """Kernels that read the last state, the constants and the prediction, and that write."""
        hidden, window = config.detail_dim, (KERNEL,) * config.spatial
        reads = 2 * hidden if config.detail_gate else hidden
        width = str(hidden)
        cells = KERNEL**config.spatial
        bound = (NOMINAL_CHANNELS / 2 * cells) ** -0.5
        seen = [
            self.block(
                "see",
                what,
                *_name(each),
                str(reads),
                shape=(reads, len(each.channels), *window),
                bound=bound,
            )
            for what, quantities in (
                ("state", signature.fields),
                ("constant", constants_of(signature)),
                ("prediction", signature.fields),
            )
            for each in quantities
        ]
        head.read = _FieldConv(seen, 1, [self.block("see", "bias", str(reads), shape=(reads,))])
        rows, biases = [], []
        for field in signature.fields:
            n = len(field.channels)
            rows.append(self.block("correct", *_name(field), width, shape=(n, hidden, *window)))
            biases.append(self.block("correct", *_name(field), width, "bias", shape=(n,)))
        head.write = _FieldConv(rows, 0, biases)


def _name(quantity: Quantity) -> tuple[str, str]:
    return quantity.name, str(quantity.order)
