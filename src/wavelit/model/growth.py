"""What a WaveLiT does far from the data, where its linear part alone is left.

The head reads normalised channels and the bounded correction is limited, so both give a limited
increment b. The skip is linear and acts on each token alone. A token's Q coefficients of every
field, over the field's spread, obey

    v(t+1) = v(t) + (d / s) S [v(t-T+1) .. v(t)] + b

with the spread d of increments and s of states. As one map of the whole history this is linear. If
its eigenvalues lie within the unit circle, rollouts of any length stay bounded. If one lies
outside, a state far enough from the data's grows by its modulus at every step. Left out are a
projection, what keeping a field's mean does to the mean, and grids that tokens do not fill.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wavelit.model.emulator import IncrementEmulator
from wavelit.model.wavelit import WaveLiT

__all__ = ["following", "growth", "growth_facts", "increment_map", "linear_map"]


def increment_map(model: WaveLiT) -> Tensor:
    """What the skip adds to a token's last state, (C Q, T C Q), oldest state first, in units of
    each field's spread; constants are left out.
    """
    n, states = model.skip.weight.shape[0], model.config.n_steps_input
    weight = model._fold_scales_into_weight(model.skip.weight)[:, : states * n]
    spread = model.normalizer.delta_std / model.normalizer.std
    each = spread.repeat_interleave(model.tokenizer.n_coefficients)
    return (each * model.output_scale.flatten())[:, None] * weight


def following(increment: Tensor, history: Tensor) -> Tensor:
    """Histories one step later.

    Args:
        increment: Of `increment_map`, (n, T n).
        history: Histories of a token, one in each column, (T n, k).
    """
    n = len(increment)
    return torch.cat([history[n:], history[-n:] + increment @ history])


@torch.no_grad()
def linear_map(model: WaveLiT) -> Tensor:
    """The map of a token's history, (T C Q, T C Q), float64."""
    increment = increment_map(model).double()
    return following(increment, torch.eye(increment.shape[1], dtype=torch.float64).to(increment))


def growth(model: WaveLiT) -> float:
    """The largest modulus of an eigenvalue of the linear part: what a state far from the data's
    grows by at every step. Below 1 rollouts of any length stay bounded.

    Args:
        model: A WaveLiT, or a system of a joint model.

    Example:
        >>> import wavelit
        >>> round(growth(wavelit.load("rayleigh_benard")), 3)
        1.011
    """
    return float(torch.linalg.eigvals(linear_map(model).cpu()).abs().max())


def growth_facts(model: IncrementEmulator) -> dict[str, str]:
    """For a report: the growth and what it says; nothing of another network, nor where corrections
    at full resolution have no bound.
    """
    if not isinstance(model, WaveLiT) or (model.detail and not model.config.detail_bound):
        return {}
    found = growth(model)
    says = (
        "rollouts of any length stay bounded"
        if found < 1
        else "far from the data a rollout can grow by this factor"
    )
    beside = ", its projection left out" if model.config.divergence_free else ""
    return {"growth of the linear part": f"{found:.3f} a step: {says}{beside}"}
