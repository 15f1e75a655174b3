"""The growth of what a model does without its blocks and its correction, of the shipped models.

    .venv/bin/python scripts/linear_part.py

The skip is linear and acts on each token alone. The head reads normalised channels and the bounded
correction is limited, so both give a limited increment b. A token's Q coefficients of every field,
over the field's spread, obey

    v(t+1) = v(t) + (d / s) S [v(t-T+1) .. v(t)] + b

with the spread d of increments and s of states. As one map of the whole history this is linear. If
its eigenvalues lie within the unit circle, rollouts of any length stay bounded. If one lies
outside, a state far enough from the data's grows by its modulus at every step. Left out are a
projection, what keeping a field's mean does to the mean, and grids that tokens do not fill.
"""

import torch
from torch import Tensor

from wavelit import WaveLiT, load
from wavelit.model.pretrained import pretrained


@torch.no_grad()
def linear_map(model: WaveLiT) -> Tensor:
    """The map of a token's history, (T C Q, T C Q), float64, oldest state first."""
    n, states = model.skip.weight.shape[0], model.config.n_steps_input
    weight = model._fold_scales_into_weight(model.skip.weight)[:, : states * n].double()
    weight = weight * model.output_scale.flatten()[:, None]
    spread = (model.normalizer.delta_std / model.normalizer.std).double()
    increment = spread.repeat_interleave(model.tokenizer.n_coefficients)[:, None] * weight
    following = torch.eye(states * n, dtype=torch.float64).roll(n, 1)
    following[-n:] = increment
    following[-n:, -n:] += torch.eye(n, dtype=torch.float64)
    return following


def growth(model: WaveLiT) -> float:
    """The largest modulus of an eigenvalue."""
    return float(torch.linalg.eigvals(linear_map(model)).abs().max())


if __name__ == "__main__":
    for name in pretrained():
        print(f"{name} {growth(load(name)):.3f}")
