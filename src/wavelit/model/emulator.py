"""What training, evaluation and rollouts ask of a network: the increment, in units of its
spread.
"""

from __future__ import annotations

from torch import Tensor, nn

from wavelit.errors import WavelitError
from wavelit.model.losses import field_loss
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
        self, predicted: Tensor, target: Tensor, wavelet_weight: float, valid: Tensor | None = None
    ) -> Tensor:
        """The training loss of a predicted scaled increment against the true one.

        Args:
            predicted: What `increment` returned, (B, C, *S).
            target: `normalizer.increment` of the true increment, (B, C, *S).
            wavelet_weight: Weight lambda of the wavelet-domain loss; 0 leaves it out.
            valid: (B, 1, *S) boolean; cells that are False do not count.
        """
        error = predicted - target
        loss = field_loss(error, valid)
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
        return self.normalizer.add_increment(
            fields[:, -1], self.increment(fields, constants, scalars)
        )
