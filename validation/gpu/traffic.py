"""Bytes and operations of a step in eager mode, counted without a card: every operation reads its
tensors and writes its results once; views move nothing.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Traffic"]


class Traffic(TorchDispatchMode):
    """Adds up what passes by.

    Attributes:
        operations: Calls that are no views, about one kernel each.
        n_bytes: What they read and write.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.n_bytes = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view and func._schema.name != "aten::detach":
            passing = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
            self.operations += 1
            self.n_bytes += sum(x.numel() * x.element_size() for x in passing)
        return out
