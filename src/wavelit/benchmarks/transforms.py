"""Wavelet analysis, synthesis and their gradients beside ptwt's and beside a copy of the bytes that
must move.

A call is `idwt(dwt(x))` followed by the backward pass of a random cotangent to x: four transforms,
the analysis, the synthesis and their two adjoints. x is (8, 16, 256, 256) float32, both axes
periodic, two levels. ptwt is `waverec2(wavedec2(x))` with its mode "periodic", the closest it has:
it pads by wrapping and keeps the padding's extra coefficients, where WaveLiT's are as many as the
samples. `tokens` is `WaveletTokenizer.decode(encode(x))` and its backward pass.

The bound is the time of the copies that no transform taken level by level can save: each transform
reads and writes the data of level j once, which is a copy of 4^(1 - j) of x, so 1 + 1/4 copies of x
each and 5 copies of x in all; the tokenizer treats all levels at once: 4 copies. It is stated
twice: by `copy_` between two arrays that exist, and by `clone`, which allocates its result as a
transform must.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from ptwt.conv_transform_2 import wavedec2, waverec2
from torch import Tensor

from wavelit.benchmarks.timing import Row, medians
from wavelit.model.tokenizer import WaveletTokenizer
from wavelit.wavelets.transform import dwt, idwt

__all__ = ["measure"]

SHAPE = (8, 16, 256, 256)
LEVELS = 2
WAVELETS = ("haar", "bior2.2")
PERIODIC = (True, True)


def measure() -> list[Row]:
    """Milliseconds of a call of WaveLiT's, of ptwt's and of the bound, and the ratios."""
    return _rows(SHAPE)


def _rows(shape: tuple[int, int, int, int], rounds: int = 7) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).requires_grad_()
    cotangent = torch.randn(shape, generator=generator)
    source, target = x.detach(), torch.empty(shape)
    rows: list[Row] = []
    for name in ("transform", "tokens"):
        n_copies = 4 * (sum(4.0**-j for j in range(LEVELS)) if name == "transform" else 1)
        for wavelet in WAVELETS:
            ours = {"transform": _transform, "tokens": _tokens}[name](wavelet)
            theirs = _ptwt(wavelet)
            for call in (ours, theirs):
                torch.testing.assert_close(call(source), source)
            seconds = medians(
                {
                    "ours": lambda call=ours: _there_and_back(call, x, cotangent),  # type: ignore[misc]
                    "ptwt": lambda call=theirs: _there_and_back(call, x, cotangent),  # type: ignore[misc]
                    "copy": lambda: target.copy_(source),
                    "clone": lambda: source.clone(),
                },
                rounds,
            )
            bound = {key: n_copies * seconds[key] for key in ("copy", "clone")}
            rows.append(
                {
                    "case": name,
                    "wavelet": wavelet,
                    "shape": "x".join(map(str, shape)),
                    "levels": LEVELS,
                    "wavelit_ms": round(1e3 * seconds["ours"], 2),
                    "ptwt_ms": round(1e3 * seconds["ptwt"], 2),
                    "copy_bound_ms": round(1e3 * bound["copy"], 2),
                    "clone_bound_ms": round(1e3 * bound["clone"], 2),
                    "ptwt_over_wavelit": round(seconds["ptwt"] / seconds["ours"], 2),
                    "wavelit_over_copy_bound": round(seconds["ours"] / bound["copy"], 2),
                    "wavelit_over_clone_bound": round(seconds["ours"] / bound["clone"], 2),
                }
            )
    return rows


def _transform(wavelet: str) -> Callable[[Tensor], Tensor]:
    return lambda x: idwt(dwt(x, wavelet, LEVELS, PERIODIC), wavelet, PERIODIC)


def _tokens(wavelet: str) -> Callable[[Tensor], Tensor]:
    tokenizer = WaveletTokenizer(2, LEVELS, PERIODIC, wavelet)
    return lambda x: tokenizer.decode(tokenizer.encode(x))


def _ptwt(wavelet: str) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor) -> Tensor:
        y: Tensor = waverec2(wavedec2(x, wavelet, level=LEVELS, mode="periodic"), wavelet)
        return y[..., : x.shape[-2], : x.shape[-1]]

    return call


def _there_and_back(call: Callable[[Tensor], Tensor], x: Tensor, cotangent: Tensor) -> None:
    torch.autograd.grad(call(x), x, cotangent)
