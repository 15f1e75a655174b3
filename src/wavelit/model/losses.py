"""The two terms of the training loss (`IncrementEmulator.loss`): in space, and in the wavelet
domain.

    L = mean |e|^2 + lambda * mean over sub-bands b of  mean |W_b e| / sigma_b
    e = predicted - true scaled increment

By Parseval an unweighted squared loss in an orthonormal basis is the field loss again; what the
second term adds is that every sub-band weighs the same, whatever its number of coefficients, and
the absolute value, whose gradient does not fade with the error. sigma_b is the RMS of the sub-band
in a model with band scales, where quiet sub-bands count as much as loud ones; else it is 1.

References:
    Sankaran, Wang, Perdikaris, 2026, arXiv 2605.25949 names a wavelet-domain auxiliary loss;
    weights and norm are choices made here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wavelit.model.tokenizer import WaveletTokenizer

__all__ = ["field_loss", "wavelet_loss"]


def field_loss(error: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean of error^2 over everything that counts.

    Args:
        error: (B, C, *S).
        valid: (B, 1, *S) boolean; cells that are False are left out of the mean.
    """
    if valid is None:
        return error.square().mean()
    return (error.square() * valid).sum() / (valid.sum() * error.shape[1])


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
    bands = torch.tensor(tokenizer.bands, device=error.device)
    weight = 1 / torch.bincount(bands)[bands]
    mean: Tensor = (size.mean(0) * weight).sum() / tokenizer.n_bands
    return mean
