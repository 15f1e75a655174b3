"""What training, evaluation and rollouts ask of a network: the increment, in units of its
spread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wavelit.errors import WavelitError
from wavelit.model.by_name import predict
from wavelit.model.losses import FieldLoss, field_loss
from wavelit.model.normalizer import Normalizer
from wavelit.model.signature import Signature

__all__ = ["IncrementEmulator"]


class IncrementEmulator(nn.Module):
    """A network that predicts the next state of a PDE as its last one plus a scaled increment, u +
    sigma_D y.

    A subclass sets `normalizer` and `spatial` and defines `increment`, and `wavelet_loss` if it is
    to be trained with it; `wavelit.training.module.EmulatorModule` trains it and
    `wavelit.evaluation.evaluate` and `wavelit.evaluation.rollout` take it as it is.
    """

    normalizer: Normalizer
    spatial: int
    # What it takes and gives by name; None where that is not known.
    signature: Signature | None = None
    # History T, where the network knows it.
    n_steps_input: int | None = None
    # Whether its weights come from a training: further training then is fine-tuning.
    trained: bool = False

    @property
    def title(self) -> str:
        """The network's name, as reports and errors have it."""
        return type(self).__name__

    @property
    def kept(self) -> Tensor:
        """Which fields' means over the grid the emulator keeps, (C,): none, unless it says so."""
        return torch.zeros_like(self.normalizer.mean, dtype=torch.bool)

    @property
    def n_parameters(self) -> int:
        """Trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def checkpoint_activations(self, enabled: bool) -> None:
        """Whether the backward pass computes activations anew instead of keeping them; a network
        that can defines this.

        Raises:
            WavelitError: It cannot, and is asked to.
        """
        if enabled:
            raise WavelitError(
                f"activation_checkpointing: {type(self).__name__} defines no "
                "checkpoint_activations(enabled); leave it out"
            )

    def increment(
        self, fields: Tensor, constants: Tensor | None = None, scalars: Tensor | None = None
    ) -> Tensor:
        """The predicted increment over its standard deviation, (B, C, *S) in float32: what the
        loss compares.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define increment(fields, constants, scalars)"
        )

    def wavelet_loss(self, error: Tensor) -> Tensor:
        """The wavelet-domain loss of an error of the scaled increment, (B, C, *S), zero in cells
        that do not count: `wavelit.model.losses.wavelet_loss` with the transform of the model's
        choice.
        """
        raise NotImplementedError(f"{type(self).__name__} must define wavelet_loss(error)")

    def loss(
        self,
        predicted: Tensor,
        target: Tensor,
        wavelet_weight: float,
        valid: Tensor | None = None,
        kind: FieldLoss = "mse",
    ) -> Tensor:
        """The training loss of a predicted scaled increment against the true one.

        Args:
            predicted: What `increment` returned, (B, C, *S).
            target: `normalizer.increment` of the true increment, (B, C, *S).
            wavelet_weight: Weight lambda of the wavelet-domain loss; 0 leaves it out.
            valid: (B, 1, *S) boolean; cells that are False do not count.
            kind: Of the field loss, mse or rmse (`wavelit.model.losses`).
        """
        error = predicted - target
        loss = field_loss(error, valid, kind)
        if not wavelet_weight:
            return loss
        return loss + wavelet_weight * self.wavelet_loss(error if valid is None else error * valid)

    def forward(
        self, fields: Tensor, constants: Tensor | None = None, scalars: Tensor | None = None
    ) -> Tensor:
        """The next state.

        Args:
            fields: History in physical units, oldest first, (B, T, C, *S), float32; 0 in cells
                outside the domain.
            constants: Constant fields, (B, K, *S), if the model has any.
            scalars: PDE scalars, (B, P), if the model has any.

        Returns:
            (B, C, *S), float32, physical units.

        Raises:
            WavelitError: A shape the model was not built for.
        """
        return self.advance(fields[:, -1], self.increment(fields, constants, scalars))

    def advance(self, state: Tensor, increment: Tensor) -> Tensor:
        """The state (B, C, *S) after `state` (B, C, *S), by what `increment` returned."""
        return self.normalizer.add_increment(state, increment)

    def predict(
        self,
        arrays: Mapping[str, Any],
        scalars: Mapping[str, Any] | None = None,
        steps: int = 1,
        *,
        mask: Any = None,
    ) -> Any:
        """Predict the next states of fields that are given by name, in any order.

        What training saw is in `signature`. A warning tells of values that lie beyond its range by
        more than half of the range's width, and of another spacing or time step. Another unit is
        refused.

        >>> model.predict({"height": u}, steps=20)["height"].shape
        (20, 16, 16)

        Args:
            arrays: For every field its history, (T, *S) or (N, T, *S), with d or d, d at the end
                for a vector or matrix; of more frames than the model reads the last ones. For every
                constant field (*S) or (N, *S), likewise. For every forcing its frames over those of
                the fields and all steps. Components may stand by their own names.
                A dictionary of numpy arrays, tensors or DataArrays, or xarray's Dataset: then
                dimensions go by name, and the scalars may be among them.
            scalars: For every scalar a number, or one a sample, (N,); for one that is a forcing its
                values over the fields' frames and all steps, (T + steps,) or (N, T + steps).
            steps: States to predict.
            mask: Cells that do not count, True there, bool (*S) or (N, *S); of a model that was
                trained with a mask, in place of the constant field that marks them.

        Returns:
            The predicted fields by the names that they came by, as what they came: ([N,] steps, *S)
            with components at the end; DataArrays with their coordinates and the times after the
            last. Cells that do not count are 0.

        Raises:
            WavelitError: A missing or unknown name, another shape, unit or grid, coordinates out of
                order, samples that are not the same, a value that is not finite, or a model whose
                weights do not name its fields.
        """
        return predict(self, arrays, scalars, steps, mask)
