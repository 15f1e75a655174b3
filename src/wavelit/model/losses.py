"""The two terms of the training loss (`IncrementEmulator.loss`): in space, and in the wavelet
domain.

    L = F + lambda * mean over sub-bands b of  mean |W_b e| / sigma_b
    e = predicted - true scaled increment
    F = mean e^2                                        mse
    F = mean over samples and channels of RMS(e)        rmse

`rmse` is of the kind that scores are: the gradient of a sample does not fade with its error, and
one sample of large error does not take the place of all others.

By Parseval an unweighted squared loss in an orthonormal basis is the field loss again; what the
second term adds is that every sub-band weighs the same, whatever its number of coefficients, and
the absolute value, whose gradient does not fade with the error. sigma_b is the RMS of the sub-band
in a model with band scales, where quiet sub-bands count as much as loud ones; else it is 1.

References:
    Sankaran, Wang, Perdikaris, 2026, arXiv 2605.25949 names a wavelet-domain auxiliary loss;
    weights and norm are choices made here.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from wavelit.model.tokenizer import WaveletTokenizer
from wavelit.ops.kept import kept

__all__ = ["FIELD_LOSSES", "FieldLoss", "field_loss", "wavelet_loss"]

FieldLoss = Literal["mse", "rmse"]
FIELD_LOSSES: tuple[str, ...] = get_args(FieldLoss)
# Beside a mean square: at an error of nothing the root has no gradient.
LEAST = 1e-8


def field_loss(error: Tensor, valid: Tensor | None = None, kind: FieldLoss = "mse") -> Tensor:
    """The mean of error^2 over everything that counts, or of its root over every grid.

    Args:
        error: (B, C, *S).
        valid: (B, 1, *S) boolean; cells that are False are left out of the mean.
        kind: mse, or rmse: the root of the mean square of every sample and channel, then the mean
            of the roots.
    """
    square = error.square() if valid is None else error.square() * valid
    if kind == "rmse":
        axes = tuple(range(2, error.ndim))
        if valid is None:
            mean = square.mean(axes)
        else:
            mean = square.sum(axes) / valid.sum(axes).clamp(min=1)
        return (mean + LEAST).sqrt().mean()
    if valid is None:
        return square.mean()
    return square.sum() / (valid.sum() * error.shape[1])


def wavelet_loss(error: Tensor, tokenizer: WaveletTokenizer, scale: Tensor | None = None) -> Tensor:
    """Mean over sub-bands of mean |W_b error| / sigma_b: every sub-band weighs the same, whatever
    its number of coefficients.

    Args:
        error: (B, C, *S), each axis a multiple of 2^J; zero in cells that do not count.
        tokenizer: The transform.
        scale: sigma of every channel and coefficient, (C, Q); 1 if absent.
    """
    tokens = tokenizer.encode_tokens(error)  # (B, *S / 2^J, C Q)
    size = (
        tokens.abs().flatten(0, -2).mean(0).unflatten(0, (-1, tokenizer.n_coefficients))
    )  # (C, Q)
    if scale is not None:
        size = size / scale
    share = _shares(tuple(tokenizer.bands), size.device).to(size.dtype)
    mean: Tensor = (size.mean(0) * share).sum() / tokenizer.n_bands
    return mean


@kept(64)
def _shares(bands: tuple[int, ...], device: torch.device) -> Tensor:
    """For every coefficient one over how many its sub-band has, (Q,)."""
    counts = [bands.count(band) for band in bands]
    return 1 / torch.tensor(counts, dtype=torch.float32, device=device)
