"""WaveLiT for The Well's benchmark: wavelet tokens, mixed by convolutions or attention.

The package `wavelit` holds the network; here it meets the benchmark's interface, frames stacked as
channels in and the next state out.
"""

from collections.abc import Sequence

import torch
from the_well.benchmark.models.common import BaseModel

from wavelit import WaveLiT as Network
from wavelit import WaveLiTConfig
from wavelit.training.data_scales import INCREMENT_FLOOR


class WaveLiT(BaseModel):
    """The next state as the last one plus an increment.

    The benchmark hands over no statistics of increments: they are those of the first batch of
    training, and travel in the checkpoint.

    Args:
        dim_in: Channels read, T times those of the fields, then the constant fields.
        dim_out: Channels of the fields.
        n_spatial_dims: Axes.
        spatial_resolution: Points along each.
        n_steps_input: History T.
        preset: Of `wavelit.WaveLiTConfig`: nano, 1M, 3M, 10M or paper.
        boundary_conditions: For each axis what its low and its high side are, each of periodic,
            wall and open.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        n_spatial_dims: int,
        spatial_resolution: tuple[int, ...],
        n_steps_input: int = 4,
        preset: str = "1M",
        boundary_conditions: Sequence[Sequence[str]] | None = None,
    ) -> None:
        super().__init__(n_spatial_dims, spatial_resolution)
        sides = boundary_conditions or [["open", "open"]] * n_spatial_dims
        self.network = Network(
            WaveLiTConfig.preset(
                preset,
                n_fields=dim_out,
                n_constant_fields=dim_in - n_steps_input * dim_out,
                n_steps_input=n_steps_input,
                spatial=n_spatial_dims,
                boundary_conditions=tuple((low, high) for low, high in sides),
            )
        )
        self.register_buffer("calibrated", torch.tensor(False))
        # A device is waited for when the buffer is read: in the first step of training alone.
        self._asked = False

    @torch.no_grad()
    def calibrate(self, fields: torch.Tensor) -> None:
        """Take the sizes of increments from a history (B, T, C, *S)."""
        steps = fields.diff(dim=1)
        if steps.shape[1]:
            size = steps.square().mean((0, *range(3, steps.ndim))).sqrt()  # (T - 1, C)
            scale = self.network.input_scale
            scale[: size.numel()] = size.clamp(min=INCREMENT_FLOOR).reshape(-1, 1)
            self.network.normalizer.delta_std.copy_(size[-1].clamp(min=1e-6))
        self.calibrated.fill_(True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (B, T C + K, *S). Returns (B, C, *S)."""
        config = self.network.config
        n_history = config.n_steps_input * config.n_fields
        fields = x[:, :n_history].unflatten(1, (config.n_steps_input, config.n_fields))
        if self.training and not self._asked:
            self._asked = True
            if not self.calibrated:
                self.calibrate(fields)
        return self.network(fields, x[:, n_history:] if config.n_constant_fields else None)
