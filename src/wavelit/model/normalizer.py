"""Physical units to those of the network and back: what it sees has mean 0 and spread 1.

With the training split's mean m_c, standard deviation s_c and standard deviation d_c of the
increment u(t+1) - u(t) of channel c, a field is seen as (u - m) / s and the network's output y
stands for the increment d y. The statistics are buffers, so a checkpoint needs no file. A scalar of
the PDE is seen as its logarithm where it is positive and spans more than a factor of 10.

References:
    The Well: a Large-Scale Collection of Diverse Physics Simulations for Machine Learning, Ohana et
    al., 2024, arXiv 2412.00568.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wavelit.errors import WavelitError

__all__ = ["Normalizer", "Statistics"]


@dataclass(frozen=True)
class Statistics:
    """Mean and spread of C field channels, K constant channels and P scalars.

    `scalar_mean` and `scalar_std` are those of the logarithm where `scalar_log` says so.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    delta_std: tuple[float, ...]
    constant_mean: tuple[float, ...] = ()
    constant_std: tuple[float, ...] = ()
    scalar_mean: tuple[float, ...] = ()
    scalar_std: tuple[float, ...] = ()
    scalar_log: tuple[bool, ...] = ()


class Normalizer(nn.Module):
    """Physical units to the network's and back, by buffers that travel in the checkpoint.

    Until `set_statistics` is called the statistics are those of the identity, mean 0 and spread 1.
    The buffers keep float32 when the module is cast to a narrower type, and so does the arithmetic:
    a mean in bfloat16 is off by 0.4 %.

    Args:
        n_fields: field channels C.
        n_constant_fields: constant channels K.
        n_scalars: scalars P.
    """

    mean: Tensor
    std: Tensor
    delta_std: Tensor
    constant_mean: Tensor
    constant_std: Tensor
    scalar_mean: Tensor
    scalar_std: Tensor
    scalar_log: Tensor

    def __init__(self, n_fields: int, n_constant_fields: int = 0, n_scalars: int = 0) -> None:
        super().__init__()
        for name, n in (("", n_fields), ("constant_", n_constant_fields), ("scalar_", n_scalars)):
            self.register_buffer(f"{name}mean", torch.zeros(n))
            self.register_buffer(f"{name}std", torch.ones(n))
        self.register_buffer("delta_std", torch.ones(n_fields))
        self.register_buffer("scalar_log", torch.zeros(n_scalars, dtype=torch.bool))

    @property
    def is_set(self) -> bool:
        """Whether the statistics are others than those of the identity."""
        return bool((self.mean != 0).any() or (self.std != 1).any() or (self.delta_std != 1).any())

    def set_statistics(self, statistics: Statistics) -> None:
        """Take over the statistics of a dataset.

        Raises:
            WavelitError: they are of another number of channels.
        """
        for name, buffer in self.named_buffers(recurse=False):
            values = getattr(statistics, name)
            if len(values) != len(buffer):
                raise WavelitError(
                    f"statistics '{name}' have {len(values)} entries but the model has "
                    f"{len(buffer)} channels of that kind; build the model for this dataset"
                )
            buffer.copy_(torch.tensor(values, dtype=torch.float64))

    def fields(self, x: Tensor) -> Tensor:
        """Fields (B, T, C, *S), in units of their spread about their mean."""
        return (_widen(x) - _spread(self.mean, x, 2)) / _spread(self.std, x, 2)

    def constants(self, x: Tensor) -> Tensor:
        """Constant fields (B, K, *S), likewise."""
        return (_widen(x) - _spread(self.constant_mean, x, 1)) / _spread(self.constant_std, x, 1)

    def scalars(self, x: Tensor) -> Tensor:
        """Scalars (B, P), likewise, of their logarithm where they span decades."""
        x = _widen(x)
        # Where the value itself is meant, the logarithm of 1 is computed and dropped: its gradient
        # must be finite.
        seen = torch.where(
            self.scalar_log, torch.log(torch.where(self.scalar_log, x, torch.ones_like(x))), x
        )
        return (seen - self.scalar_mean) / self.scalar_std

    def increment(self, delta: Tensor) -> Tensor:
        """An increment (B, C, *S) in physical units, in units of the spread of increments."""
        return _widen(delta) / _spread(self.delta_std, delta, 1)

    def add_increment(self, u: Tensor, scaled: Tensor) -> Tensor:
        """The state (B, C, *S) after `u` (B, C, *S) for an increment in units of the spread of
        increments.
        """
        return _widen(u) + _spread(self.delta_std, scaled, 1) * _widen(scaled)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Normalizer:
        kept = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in kept.items():
            moved = getattr(self, name)
            if moved.is_floating_point() and moved.dtype.itemsize < 4:
                setattr(self, name, buffer.to(moved.device))
        return self


def _widen(x: Tensor) -> Tensor:
    return x.float() if x.dtype.itemsize < 4 else x


def _spread(values: Tensor, x: Tensor, axis: int) -> Tensor:
    """Per-channel values shaped to meet dimension `axis` of x."""
    if x.shape[axis] != len(values):
        raise WavelitError(
            f"expected {len(values)} channels along dimension {axis}, got shape {tuple(x.shape)}; "
            "build the model for this dataset"
        )
    return values.view(-1, *(1,) * (x.ndim - axis - 1))
