"""A term of the loss that keeps the linear part of a model from growing (`wavelit.model.growth`).

    sum over i of max(0, ln |lambda_i|),   i = 1 .. 16

over the eigenvalues of the map of a token's history that are largest in modulus. Every step applies
the map to 16 orthogonal directions, orthogonalises them again, and takes the eigenvalues of the map
within them (subspace iteration); the gradient takes the directions as given. The directions go on
from step to step and stand in checkpoints.

References:
    Saad, Numerical Methods for Large Eigenvalue Problems, 2nd edition, 2011, chapter 5 (subspace
    iteration).
"""

from __future__ import annotations

import torch
from torch import Tensor

from wavelit.errors import WavelitError
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.growth import following, increment_map
from wavelit.model.wavelit import WaveLiT

__all__ = ["StabilityTerm", "require_linear_part"]

DIRECTIONS = 16


class StabilityTerm:
    """The term of one model; it keeps the directions.

    Args:
        directions: Orthonormal, (T C Q, k); None before the first step.
    """

    def __init__(self, directions: Tensor | None = None) -> None:
        self.directions = directions

    def __call__(self, model: WaveLiT) -> Tensor:
        """The term, a scalar, in float32 also where the rest is in bfloat16."""
        with torch.autocast(model.skip.weight.device.type, enabled=False):
            increment = increment_map(model)
            directions = self._advanced(increment.detach())
            within = directions.T @ following(increment, directions)
            # The eigenvalues of 16 x 16 numbers: a processor finds them soonest.
            moduli: Tensor = torch.linalg.eigvals(within.cpu()).abs()
            return moduli.clamp(min=1).log().sum().to(increment.device)

    @torch.no_grad()
    def _advanced(self, increment: Tensor) -> Tensor:
        if self.directions is None:
            n = increment.shape[1]
            drawn = torch.randn(n, min(DIRECTIONS, n), generator=torch.Generator().manual_seed(0))
            self.directions = torch.linalg.qr(drawn).Q
        moved = following(increment, self.directions.to(increment))
        self.directions = torch.linalg.qr(moved).Q
        return self.directions


def require_linear_part(model: IncrementEmulator) -> WaveLiT:
    """The model, which must have a linear part to keep from growing.

    Raises:
        WavelitError: It is another network.
    """
    if not isinstance(model, WaveLiT):
        raise WavelitError(
            f"stability is of the linear part of a WaveLiT, which {type(model).__name__} has not: "
            "set it to 0"
        )
    return model
