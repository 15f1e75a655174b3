"""When a prediction is made piece by piece, so that what a piece needs stays in the cache."""

from __future__ import annotations

import torch
from torch import Tensor

from wavelit.ops.derivatives import are_plain

__all__ = ["may_divide"]


def may_divide(x: Tensor) -> bool:
    """Whether pieces may pay: on a CPU, in full precision, where no gradient keeps the whole."""
    return (
        not torch.compiler.is_compiling()
        and not are_plain()
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )
