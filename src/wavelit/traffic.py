"""Bytes, operations and FLOPs of a step in eager mode, counted without a card: every operation
reads its tensors and writes its results once; views move nothing, and caches are not known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["Traffic", "flop_counter"]

# Views by another name, and memory that is asked for but not written.
IDLE = (
    "aten::detach",
    "aten::_unsafe_view",
    "aten::_reshape_alias",
    "aten::empty",
    "aten::empty_like",
    "aten::empty_strided",
    "aten::new_empty",
    "aten::new_empty_strided",
)


class Traffic(TorchDispatchMode):
    """Adds up what passes by.

    Attributes:
        operations: Calls that are no views, about one kernel each.
        n_bytes: What they read and write. Of an expanded tensor, what it is stored in.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations, self.n_bytes = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view and func._schema.name not in IDLE:
            passing = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
            self.operations += 1
            self.n_bytes += sum(
                min(x.numel() * x.element_size(), x.untyped_storage().nbytes()) for x in passing
            )
        return out


def flop_counter() -> FlopCounterMode:
    """PyTorch's, which takes the gradients of a depthwise convolution for those of a full one, put
    right.
    """
    mapping = {torch.ops.aten.convolution_backward: _convolution_backward_flops}
    return FlopCounterMode(display=False, custom_mapping=mapping)


def _convolution_backward_flops(
    grad_shape: Sequence[int],
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    *_: Any,
    **__: Any,
) -> int:
    """Both gradients cost what the convolution does."""
    return 2 * 2 * math.prod(grad_shape) * math.prod(weight_shape[1:])
