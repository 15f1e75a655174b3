"""What training, evaluation and rollouts ask of a network: the increment, in units of its spread."""

from __future__ import annotations

from torch import Tensor, nn

from wavelit.data.statistics import Normalizer

__all__ = ["IncrementEmulator"]


class IncrementEmulator(nn.Module):
    """A network that predicts the next state of a PDE as its last one plus a scaled increment, u + sigma_D y.

    A subclass sets `normalizer` and `spatial` and defines `increment`, and `wavelet_loss` if it is to be trained with it;
    `wavelit.training.module.EmulatorModule` trains it and `wavelit.evaluation.evaluate` and `wavelit.evaluation.rollout` take it as it is.
    """

    normalizer: Normalizer
    spatial: int

    @property
    def n_parameters(self) -> int:
        """Trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def increment(
        self, fields: Tensor, constants: Tensor | None = None, scalars: Tensor | None = None
    ) -> Tensor:
        """The predicted increment over its standard deviation, (B, C, *S) in float32: what the loss compares."""
        raise NotImplementedError(f"{type(self).__name__} must define increment(fields, constants, scalars)")

    def wavelet_loss(self, error: Tensor) -> Tensor:
        """The wavelet-domain loss of an error of the scaled increment, (B, C, *S), zero in cells that do not count:
        `wavelit.model.losses.wavelet_loss` with the transform of the model's choice.
        """
        raise NotImplementedError(f"{type(self).__name__} must define wavelet_loss(error)")

    def forward(
        self, fields: Tensor, constants: Tensor | None = None, scalars: Tensor | None = None
    ) -> Tensor:
        """The next state.

        Args:
            fields: History in physical units, oldest first, (B, T, C, *S), float32; 0 in cells outside the domain.
            constants: Constant fields, (B, K, *S), if the model has any.
            scalars: PDE scalars, (B, P), if the model has any.

        Returns:
            (B, C, *S), float32, physical units.

        Raises:
            WavelitError: A shape the model was not built for.
        """
        return self.normalizer.add_increment(fields[:, -1], self.increment(fields, constants, scalars))
