"""Tables that depend on shapes alone: computed once and kept, constants to a compiler."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch.utils._python_dispatch import _disable_current_modes

__all__ = ["kept"]

P = ParamSpec("P")
T = TypeVar("T")


def kept(maxsize: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Keep what a function made of arguments that it was called with before.

    Args:
        maxsize: Results that are kept.
    """

    def decorate(make: Callable[P, T]) -> Callable[P, T]:
        @functools.lru_cache(maxsize)
        def cached(*arguments: P.args, **options: P.kwargs) -> T:
            # Tables made in inference mode could not serve a later training step, and those made
            # while an exporter traces would hold no numbers.
            with (
                torch._C.DisableTorchFunction(),
                _disable_current_modes(),
                torch.inference_mode(False),
                torch.no_grad(),
            ):
                return make(*arguments, **options)

        @functools.wraps(make)
        def call(*arguments: P.args, **options: P.kwargs) -> T:
            return cached(*arguments, **options)  # type: ignore[arg-type]

        # A compiler that meets `lru_cache` traces what it wraps instead of calling it. The mark is
        # that of `torch.compiler.assume_constant_result`, which would import the compiler: as long
        # as the rest of torch takes.
        call._dynamo_marked_constant = True  # type: ignore[attr-defined]
        return call

    return decorate
