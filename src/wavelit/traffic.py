"""Bytes and operations of a step in eager mode, counted without a card: every operation reads its
tensors and writes its results once; views move nothing, and caches are not known.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Traffic"]

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
