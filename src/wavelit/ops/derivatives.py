"""When operations are made of PyTorch's own alone, each as its definition has it.

The written-out gradients serve training: the first derivative, backward. Transforms of `torch.func`
(`jvp`, `vmap`, `jacrev`, ...) and forward-mode differentiation get plain operations by themselves.
Second derivatives get them where it is asked for:

    with plain_operations():
        (slope,) = torch.autograd.grad(model(fields).sum(), fields, create_graph=True)
    slope.square().mean().backward()

They take more time and memory, and agree to rounding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch
from torch.autograd import forward_ad

__all__ = ["are_plain", "plain_operations"]

_ASKED: ContextVar[bool] = ContextVar("plain operations", default=False)


@contextlib.contextmanager
def plain_operations() -> Iterator[None]:
    """What runs within can be differentiated as often as PyTorch's own operations."""
    before = _ASKED.set(True)
    try:
        yield
    finally:
        _ASKED.reset(before)


def are_plain() -> bool:
    """Whether operations must be PyTorch's own."""
    if torch.compiler.is_compiling():
        return False
    transformed: bool = torch._C._are_functorch_transforms_active()
    return transformed or forward_ad._current_level >= 0 or _ASKED.get()
