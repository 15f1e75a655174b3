"""What the blocks of a joint model are told of the system that runs through them.

    h = e_system + sum over scalars (a_name + s b_name) + sum over sides c_(axis, side, kind) + W f
    condition = SiLU(M SiLU(h))

s are the normalised PDE scalars and f the logarithms of the time step and of the grid spacing: its
mean over the axes, and what each axis differs from it. Every piece is learnt by name or kind, so a
new system finds what is known of its scalars and sides. The blocks turn the condition into a scale
and a shift, which are zero at the start.

References:
    Perez et al., FiLM, 2018, arXiv 1709.07871.
    Peebles, Xie, Scalable Diffusion Models with Transformers, 2023, arXiv 2212.09748 (zero at the
    start).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavelit.model.boundaries import BOUNDARY_TYPES, BoundaryConditions
from wavelit.model.signature import Signature
from wavelit.model.vocabulary import seeded

__all__ = ["Conditioner", "grid_facts", "one_hot_sides", "spread_out"]

# Spread of a piece at the start: the sum of a few is about one.
SPREAD = 0.5
# Logarithms of spacings and steps come to a few units.
LOG_SCALE = 4.0


class Conditioner(nn.Module):
    """The condition of a system from its name, scalars, boundaries, spacing and time step.

    Args:
        dim: Channels E_c of the condition.
        spatial: Grid axes.
        seed: Of the initial values.
        names: Of the stream that they are drawn from.
    """

    def __init__(self, dim: int, spatial: int, seed: int, *names: str) -> None:
        super().__init__()
        self.dim = dim
        with seeded(seed, "conditioner", *names):
            self.sides_embedding = spread_out(
                spatial, 2, len(BOUNDARY_TYPES), dim, over=(2 * spatial) ** 0.5
            )
            self.facts = nn.Linear(spatial + 2, dim)
            self.mix = nn.Linear(dim, dim)
        nn.init.zeros_(self.facts.bias)
        nn.init.zeros_(self.mix.bias)

    def forward(
        self,
        scalars: Tensor | None,
        pieces: Sequence[Tensor],
        sides: Tensor,
        facts: Tensor,
        system: Tensor | None,
    ) -> Tensor:
        """The condition, (B, E_c), or (1, E_c) without scalars.

        Args:
            scalars: Normalised, (B, P), or None.
            pieces: Of the P scalars.
            sides: `one_hot_sides` of the system.
            facts: `grid_facts` of the system.
            system: What is learnt for it alone, (E_c,), or None.
        """
        h = self.facts(facts) + (sides[..., None] * self.sides_embedding).sum((0, 1, 2))
        if system is not None:
            h = h + system
        h = h[None]
        if scalars is not None and pieces:
            presence, value = torch.stack(list(pieces), 1)  # (P, E_c) each
            h = h + presence.sum(0) + scalars.to(value) @ value
        condition: Tensor = F.silu(self.mix(F.silu(h)))
        return condition


def spread_out(*shape: int, over: float = 1.0) -> nn.Parameter:
    """Values at the start of spread `SPREAD` / `over`; on the meta device none, where arithmetic
    imports torch's compiler.
    """
    values = torch.empty(shape)
    return nn.Parameter(values if values.is_meta else SPREAD * values.normal_() / over)


def one_hot_sides(boundary_conditions: BoundaryConditions) -> Tensor:
    """The kind of every side, (axes, 2, kinds), one of the kinds 1 and the others 0."""
    # Lists, as in `grid_facts`: on the meta device arithmetic imports torch's compiler.
    rows = {kind: [float(kind == known) for known in BOUNDARY_TYPES] for kind in BOUNDARY_TYPES}
    return torch.tensor([[rows[kind] for kind in pair] for pair in boundary_conditions])


def grid_facts(signature: Signature) -> Tensor:
    """Logarithms of the time step and of the spacing, (axes + 2,); 0 where they are not known."""
    spacing = [math.log(step) for step in signature.spacing or (1.0,) * len(signature.axes)]
    mean = sum(spacing) / len(spacing)
    low, high = signature.time_step or (1.0, 1.0)
    step = 0.5 * (math.log(low) + math.log(high)) if low > 0 else 0.0
    return torch.tensor([each / LOG_SCALE for each in (*(s - mean for s in spacing), mean, step)])
