"""Autoregressive rollout: the emulator's own predictions become its history.

    u(t+1) = step([u(t-T+1), ..., u(t)], constants, scalars)

`step` is any callable in physical units, so that networks, classical solvers and persistence share one path.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from wavelit.data.write import write_well
from wavelit.errors import WavelitError

__all__ = ["Emulator", "inference", "persistence", "rollout", "rotation", "write_rollout"]

Emulator: TypeAlias = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]
"""step(fields (B, T, C, *S), constants (B, K, *S) or None, scalars (B, P) or None) -> (B, C, *S)."""


def rollout(
    step: Emulator,
    history: Tensor,
    n_steps: int,
    constants: Tensor | None = None,
    scalars: Tensor | None = None,
    valid: Tensor | None = None,
) -> Tensor:
    """Predict `n_steps` states, each from the T before it; no gradients are kept.

    A network is put into evaluation mode and each of its modules back into its own mode afterwards. Values that are
    not finite are passed on as they are.

    Args:
        step: the emulator.
        history: (B, T, C, *S), oldest first, physical units.
        n_steps: states to predict.
        constants: fields that do not change, (B, K, *S).
        scalars: parameters of the system, (B, P).
        valid: cells inside the domain, (B, 1, *S); the others are set to zero after every step.

    Returns:
        (B, n_steps, C, *S), the first one step after the history's end.

    Raises:
        WavelitError: `n_steps` is below 1, or a step returns another shape than the state's.
    """
    if n_steps < 1:
        raise WavelitError(f"expected n_steps of at least 1, got {n_steps}: ask for one step or more")
    state = history[:, -1]
    states = history.new_empty(state.shape[0], n_steps, *state.shape[1:])
    with inference(step):
        for n in range(n_steps):
            following = step(history, constants, scalars)
            if following.shape != state.shape:
                raise WavelitError(
                    f"expected an emulator that returns the next state {tuple(state.shape)}, got "
                    f"{tuple(following.shape)}: return (B, C, *S) without a time axis"
                )
            if valid is not None:
                following = following.where(valid, 0.0)
            states[:, n] = following
            history = torch.cat([history[:, 1:], following.unsqueeze(1).to(history.dtype)], dim=1)
    return states


def persistence(fields: Tensor, constants: Tensor | None = None, scalars: Tensor | None = None) -> Tensor:
    """The emulator that predicts no change: (B, T, C, *S) -> (B, C, *S), the last state."""
    return fields[:, -1]


def rotation(field_names: Sequence[str]) -> Emulator:
    """The exact emulator of helmholtz_staircase, whose fields are U(t) = u exp(-i w t) stored 50 times a period.

    One step turns (re, im) by 2 pi / 50 whatever w and place, so that a score on this dataset measures the precision
    of a fit and not a solver.

    Args:
        field_names: the C fields, `pressure_re` and `pressure_im` among them.

    Raises:
        WavelitError: they are not.
    """
    if not {"pressure_re", "pressure_im"} <= set(field_names):
        raise WavelitError(
            f"expected fields pressure_re and pressure_im, got {', '.join(field_names)}: only these two are rotated"
        )
    re, im = field_names.index("pressure_re"), field_names.index("pressure_im")
    cosine, sine = math.cos(2 * math.pi / 50), math.sin(2 * math.pi / 50)

    def step(fields: Tensor, constants: Tensor | None = None, scalars: Tensor | None = None) -> Tensor:
        last = fields[:, -1]
        following = last.clone()
        following[:, re] = cosine * last[:, re] + sine * last[:, im]
        following[:, im] = cosine * last[:, im] - sine * last[:, re]
        return following

    return step


def write_rollout(
    path: str | Path,
    prediction: Tensor,
    truth: Tensor | None = None,
    *,
    dataset: str,
    field_names: Mapping[int, Sequence[str]],
    boundary_conditions: Sequence[tuple[str, str]],
    axes: Sequence[str] = ("x", "y", "z"),
    time: ArrayLike | None = None,
    coordinates: Mapping[str, ArrayLike] | None = None,
) -> Path:
    """Write a rollout as a file in The Well's format, its channels back in scalars, vectors and matrices.

    The prediction stands under the fields' own names, so that whatever reads the dataset reads the rollout; the truth,
    where given, beside it as truth_<name>.

    Args:
        path: the HDF5 file.
        prediction: (B, n_steps, C, *S).
        truth: of the same shape.
        dataset: the dataset's name.
        field_names: the C channels by tensor order, as The Well's metadata have them: {0: ["pressure"],
            1: ["velocity_x", "velocity_y"], 2: ["D_xx", "D_xy", "D_yx", "D_yy"]}.
        boundary_conditions: (low, high) of each axis.
        axes: names of the grid axes, which the components are named after.
        time: times of the steps; 1, 2, 3 ... if absent.
        coordinates: axis -> positions; 0, 1, 2 ... if absent.

    Returns:
        The path written.

    Raises:
        WavelitError: channels and names do not fit, or a value is not finite.
    """
    n_channels = sum(len(names) for names in field_names.values())
    if prediction.shape[2] != n_channels or (truth is not None and truth.shape != prediction.shape):
        shapes = " and ".join(str(tuple(x.shape)) for x in (prediction, truth) if x is not None)
        raise WavelitError(
            f"expected prediction and truth (B, n_steps, {n_channels}, *S), got {shapes}: one channel a field name"
        )
    fields = _tensor_fields(prediction, field_names, axes)
    if truth is not None:
        fields |= {f"truth_{name}": value for name, value in _tensor_fields(truth, field_names, axes).items()}
    return write_well(
        path,
        fields,
        name=dataset,
        boundary_conditions=boundary_conditions,
        coordinates=coordinates
        or {axis: range(n) for axis, n in zip(axes, prediction.shape[3:], strict=False)},
        time=range(1, prediction.shape[1] + 1) if time is None else time,
    )


def _tensor_fields(
    states: Tensor, field_names: Mapping[int, Sequence[str]], axes: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Channels (B, n_steps, C, *S) to fields (B, n_steps, *S, d ...) by name, d as often as the tensor order."""
    spatial = states.ndim - 3
    values = states.movedim(2, -1).cpu().numpy()
    fields: dict[str, NDArray[Any]] = {}
    first = 0
    for order in sorted(field_names):
        suffixes = [
            "_" + "".join(letters) if order else ""
            for letters in itertools.product(axes[:spatial], repeat=order)
        ]
        for position in range(0, len(field_names[order]), len(suffixes)):
            names = list(field_names[order][position : position + len(suffixes)])
            core = names[0].removesuffix(suffixes[0])
            if names != [core + suffix for suffix in suffixes]:
                raise WavelitError(
                    f"expected the components {', '.join(core + suffix for suffix in suffixes)}, got {', '.join(names)}: "
                    "name and order channels as The Well's metadata do"
                )
            tensor = values[..., first : first + len(names)]
            fields[core] = tensor.reshape(*tensor.shape[:-1], *(spatial,) * order)
            first += len(names)
    return fields


@contextmanager
def inference(step: Emulator) -> Iterator[None]:
    """No gradients, and a network in evaluation mode; every module's own mode comes back at the end."""
    modes = [(module, module.training) for module in step.modules()] if isinstance(step, nn.Module) else []
    if isinstance(step, nn.Module):
        step.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
