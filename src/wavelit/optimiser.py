"""Muon for the matrices of the blocks, AdamW for everything else, as one optimiser.

References:
    Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024, https://kellerjordan.github.io/posts/muon.
    Liu et al., Muon is Scalable for LLM Training, 2025, arXiv 2502.16982 (updates scaled to the size of AdamW's).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

__all__ = ["MuonAdamW"]


class MuonAdamW(Optimizer):
    """`torch.optim.Muon` and `torch.optim.AdamW` side by side, with one state and one list of groups.

    Args:
        matrices: 2-D parameters for Muon.
        groups: groups of parameters for AdamW.
        lr: learning rate of both; Muon's updates have the root mean square that AdamW's tend to.
        betas: of AdamW.
        weight_decay: of Muon; AdamW's stands in the groups.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        groups: Iterable[Mapping[str, Any]],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        self.muon = Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self.adamw = AdamW([dict(group) for group in groups], lr=lr, betas=betas, fused=True)
        super().__init__([{"params": group["params"]} for group in self._groups()], {})
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.muon.step()
        self.adamw.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        n_groups = len(self.muon.param_groups)
        self.muon.param_groups = self.param_groups[:n_groups]
        self.adamw.param_groups = self.param_groups[n_groups:]
        self._share()

    def _groups(self) -> list[dict[str, Any]]:
        return [*self.muon.param_groups, *self.adamw.param_groups]

    def _share(self) -> None:
        # The very same dictionaries: a learning rate set on this optimiser's groups is seen by both parts.
        self.param_groups = self._groups()
        state: dict[Tensor, Any] = self.state
        self.muon.state = self.adamw.state = state  # type: ignore[assignment]
