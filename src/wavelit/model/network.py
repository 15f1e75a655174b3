"""Any network of torch as an emulator: it sees normalised fields and gives the next state, or the
increment in units of its spread.

    x = (history, constants, scalars as constant channels), each with mean 0 and spread 1
    increment   u(t+1) = u(t) + sigma_D net(x)
    state       u(t+1) = m + s net(x)

With statistics m, s of the state and sigma_D of the increment (`wavelit.model.normalizer`). Both
are trained on the same loss, that of the scaled increment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wavelit.checks.arguments import require_dense, require_instance, require_name, shown
from wavelit.errors import WavelitError
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.normalizer import Normalizer

__all__ = ["PREDICTS", "TAKES", "Channels", "NetworkEmulator", "require_output", "wrap"]

PREDICTS = ("increment", "state")
TAKES = ("channels", "fields")


@dataclass(frozen=True)
class Channels:
    """What a dataset gives a network: channels C, K and P, history T and grid axes."""

    n_fields: int
    n_constant_fields: int
    n_scalars: int
    n_steps_input: int
    spatial: int

    def __str__(self) -> str:
        return (
            f"C={self.n_fields}, K={self.n_constant_fields}, P={self.n_scalars}, "
            f"T={self.n_steps_input} on {self.spatial} axes"
        )


def wrap(network: nn.Module, predicts: str = "increment", takes: str = "channels") -> Any:
    """A network of one's own as `wavelit.fit` and all that follows take it.

    >>> net = torch.nn.Conv2d(4, 1, 3, padding=1)
    >>> wavelit.wrap(net, predicts="state").network is net
    True

    Args:
        network: Called with normalised values.
        predicts: What it returns, (B, C, *S): the "increment" over its standard deviation, or the
            normalised next "state".
        takes: "channels": one tensor (B, T C + K + P, *S), the history oldest first, the constant
            fields, then the scalars as constant channels. Or "fields": history (B, T, C, *S),
            constants (B, K, *S) and scalars (B, P), None where the dataset has none.

    Returns:
        A `NetworkEmulator`. It meets the dataset in `fit`, `resume` and `load`.

    Raises:
        WavelitError: It is no module, or another word.
    """
    return NetworkEmulator(network, predicts, takes)


class NetworkEmulator(IncrementEmulator):
    """A network between a dataset's units and its own; `wrap` explains the arguments."""

    def __init__(
        self, network: nn.Module, predicts: str = "increment", takes: str = "channels"
    ) -> None:
        super().__init__()
        require_instance("network", network, nn.Module, "give a module of torch")
        if isinstance(network, IncrementEmulator):
            raise WavelitError(f"{type(network).__name__} is an emulator already: give it as it is")
        self.predicts = require_name("predicts", predicts, PREDICTS)
        self.takes = require_name("takes", takes, TAKES)
        self.network = network
        # What is in evaluation mode within a network that is not stays so.
        self.training = network.training
        self.channels: Channels | None = None
        self.spatial, self.normalizer = 0, Normalizer(0)

    def bind(self, channels: Channels) -> None:
        """Make room for the statistics of a dataset.

        Raises:
            WavelitError: It is bound to one of other channels.
        """
        if self.channels == channels:
            return
        if self.channels is not None:
            raise WavelitError(
                f"{self.title} has {self.channels}, the data {channels}: wrap a network for them"
            )
        self.channels = channels
        self.spatial, self.n_steps_input = channels.spatial, channels.n_steps_input
        self.normalizer = Normalizer(
            channels.n_fields, channels.n_constant_fields, channels.n_scalars
        )

    @property
    def title(self) -> str:
        """The network's own name."""
        return type(self.network).__name__

    def increment(
        self, fields: Tensor, constants: Tensor | None = None, scalars: Tensor | None = None
    ) -> Tensor:
        """The predicted increment over its standard deviation, (B, C, *S).

        Raises:
            WavelitError: It has met no dataset yet, or returns anything else than such a tensor.
        """
        if self.channels is None:
            raise WavelitError(
                f"{self.title} has met no dataset: give it to `wavelit.fit`, or take it from "
                "`wavelit.load(folder, model=network)`"
            )
        y = require_output(
            self.title, self.network(*self._seen(fields, constants, scalars)), fields
        )
        if self.predicts == "increment":
            return y
        normalizer, shape = self.normalizer, (-1, *(1,) * self.spatial)
        state = normalizer.mean.view(shape) + normalizer.std.view(shape) * y
        return normalizer.increment(state - fields[:, -1])

    def _seen(
        self, fields: Tensor, constants: Tensor | None, scalars: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """What the network is called with."""
        history = self.normalizer.fields(fields)
        constants = None if constants is None else self.normalizer.constants(constants)
        scalars = None if scalars is None else self.normalizer.scalars(scalars)
        if self.takes == "fields":
            return history, constants, scalars
        parts = [history.flatten(1, 2)]
        if constants is not None:
            parts.append(constants)
        if scalars is not None:
            grid = fields.shape[3:]
            parts.append(scalars.view(*scalars.shape, *(1,) * len(grid)).expand(-1, -1, *grid))
        return (torch.cat(parts, 1),)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Tensors alone: some networks add how they were made."""
        before = set(kwargs.get("destination") or ())
        state: dict[str, Any] = super().state_dict(*args, **kwargs)
        for name in state.keys() - before:
            if not isinstance(state[name], Tensor):
                del state[name]
        return state


def require_output(name: str, value: Any, fields: Tensor) -> Tensor:
    """What a network returned for fields (B, T, C, *S): a real tensor (B, C, *S) of float32 or
    wider.

    Raises:
        WavelitError: It is anything else.
    """
    # A batch of any size where the network is traced, which len() would fix.
    due = (fields.shape[0], *fields.shape[2:])
    if not isinstance(value, Tensor):
        what = (
            f"a {type(value).__name__} of {len(value)}"
            if isinstance(value, tuple | list | Mapping)
            else shown(value)
        )
        raise WavelitError(
            f"{name} returned {what}; one torch tensor (B, C, *S) = {due} is due: return it alone, "
            "and compute in torch, as a numpy array has no gradient"
        )
    if tuple(value.shape) != due or not value.is_floating_point():
        raise WavelitError(
            f"{name} returned {value.dtype} {tuple(value.shape)}; real numbers (B, C, *S) = {due} "
            "are due"
        )
    require_dense(f"what {name} returned", value)
    return value.float() if value.dtype.itemsize < 4 else value
