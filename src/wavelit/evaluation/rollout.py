"""Autoregressive rollout: the emulator's own predictions become its history.

    u(t+1) = step([u(t-T+1), ..., u(t)], constants, scalars)

`step` is any callable in physical units, so that networks, classical solvers and persistence share
one path.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from wavelit.checks.arguments import (
    listed,
    require_instance,
    require_names,
    require_path,
    require_whole,
    shown,
)
from wavelit.data.batch import with_forcings
from wavelit.data.writing.write import write_well
from wavelit.errors import WavelitError, one_line

__all__ = [
    "Emulator",
    "inference",
    "persistence",
    "require_emulator",
    "require_state",
    "rollout",
    "rotation",
    "write_rollout",
]

# Memory that the states of a rollout may take: more is a slip of the keyboard.
LARGEST = 64 * 2**30

Emulator: TypeAlias = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]
"""step(fields (B, T, C, *S), constants (B, K, *S) or None, scalars (B, P) or None) -> (B, C,
*S).
"""


def rollout(
    step: Emulator,
    history: Tensor,
    n_steps: int,
    constants: Tensor | None = None,
    scalars: Tensor | None = None,
    valid: Tensor | None = None,
    forcings: Tensor | None = None,
    scalar_forcings: Tensor | None = None,
) -> Tensor:
    """Predict `n_steps` states, each from the T before it; no gradients are kept.

    >>> model = wavelit.load("shear_flow")
    >>> fields, scalars = torch.randn(1, 4, 4, 32, 64), torch.tensor([[1e4, 1.0]])
    >>> wavelit.rollout(model, fields, 20, scalars=scalars).shape
    torch.Size([1, 20, 4, 32, 64])

    A network is put into evaluation mode and each of its modules back into its own mode afterwards.
    Values that are not finite are passed on as they are.

    Args:
        step: the emulator.
        history: (B, T, C, *S), oldest first, physical units; a numpy array becomes a tensor of its
            type, as the following do.
        n_steps: states to predict.
        constants: fields that do not change, (B, K, *S).
        scalars: parameters of the system, (B, P).
        valid: cells inside the domain, (B, 1, *S); the others are set to zero after every step.
        forcings: fields that are given in advance, (B, n_steps + 1, F, *S), from the history's last
            state on. At every step those at the last state and at the next follow the constants.
        scalar_forcings: scalars that are given in advance, (B, n_steps + 1, G), likewise.

    Returns:
        (B, n_steps, C, *S), the first one step after the history's end.

    Raises:
        WavelitError: an argument of another type or shape, results of more than 64 GiB, or a step
            that does not return the next state.
    """
    require_emulator(step)
    n_steps = require_whole("n_steps", n_steps)
    history = _tensor("history", history, None)
    if not 4 <= history.ndim <= 6 or not history.numel():
        raise WavelitError(
            f"history must be (B, T, C, *S) with 1 to 3 axes, none empty, not {shown(history)}"
        )
    state = history[:, -1]
    if (size := n_steps * state.numel() * state.element_size()) > LARGEST:
        raise WavelitError(
            f"n_steps={shown(n_steps)} of {tuple(state.shape)} take {shown(size >> 30)} GiB, more "
            f"than {LARGEST >> 30}: ask for fewer steps at a time"
        )
    constants, scalars = (
        _beside("constants", constants, history),
        _beside("scalars", scalars, history),
    )
    valid = None if valid is None else _mask(valid, history)
    forcings = _forcings("forcings", forcings, history, n_steps)
    scalar_forcings = _forcings("scalar_forcings", scalar_forcings, history, n_steps)
    states = history.new_empty(state.shape[0], n_steps, *state.shape[1:])
    with inference(step):
        for n in range(n_steps):
            told = (
                with_forcings(constants, forcings, n),
                with_forcings(scalars, scalar_forcings, n),
            )
            following = require_state(step(history, *told), history)
            if valid is not None:
                following = following.where(valid, 0.0)
            states[:, n] = following
            history = torch.cat([history[:, 1:], following.unsqueeze(1).to(history.dtype)], dim=1)
    return states


def require_emulator(step: Any) -> None:
    """Refuse what cannot be called.

    Raises:
        WavelitError: it cannot.
    """
    if not callable(step):
        raise WavelitError(
            "expected an emulator, a function of (fields, constants, scalars) or a module, got "
            f"{shown(step)}"
        )


def require_state(following: Any, history: Tensor) -> Tensor:
    """What an emulator made of a history (B, T, C, *S), if it is the next state (B, C, *S), without
    its gradients.

    Raises:
        WavelitError: it is none: no tensor, of another shape or device, or not of real
            floating-point numbers.
    """
    due = (history.shape[0], *history.shape[2:])
    if not isinstance(following, Tensor):
        raise WavelitError(
            f"expected an emulator that returns the next state, a torch.Tensor {due}, got "
            f"{shown(following)}"
        )
    if following.shape != due:
        raise WavelitError(
            f"expected an emulator that returns the next state {due}, got "
            f"{tuple(following.shape)}: return (B, C, *S) without a time axis"
        )
    if not following.is_floating_point():
        raise WavelitError(
            f"expected an emulator that returns the next state in {history.dtype}, got "
            f"{following.dtype}: convert it by .to({history.dtype})"
        )
    if following.device != history.device:
        raise WavelitError(
            f"expected an emulator that returns the next state on {history.device}, got "
            f"{following.device}: move it there"
        )
    return following.detach()


def _tensor(name: str, value: Any, device: torch.device | None) -> Tensor:
    """A tensor of real floating-point numbers; of a numpy array a copy on the device."""
    if isinstance(value, np.ndarray):
        try:
            value = torch.tensor(value, device=device)
        except (TypeError, ValueError) as error:
            raise WavelitError(f"{name} must be real numbers: {one_line(error)}") from error
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise WavelitError(
            f"{name} must be a torch.Tensor of floating-point numbers, not {shown(value)}"
        )
    return value


def _beside(name: str, value: Any, history: Tensor) -> Tensor | None:
    """Constants (B, K, *S) or scalars (B, P) of the history's samples."""
    if value is None:
        return None
    tensor = _tensor(name, value, history.device)
    grid = tuple(history.shape[3:]) if name == "constants" else ()
    if (
        tensor.ndim != 2 + len(grid)
        or tensor.shape[0] != history.shape[0]
        or tensor.shape[2:] != grid
    ):
        due = ", ".join(map(str, (history.shape[0], "K" if grid else "P", *grid)))
        raise WavelitError(f"{name} must be ({due}) beside this history, not {tuple(tensor.shape)}")
    if tensor.device != history.device:
        raise WavelitError(
            f"{name} are on {tensor.device}, the history on {history.device}: move them there"
        )
    return tensor


def _forcings(name: str, value: Any, history: Tensor, n_steps: int) -> Tensor | None:
    """What is given at the history's last state and at every state to be predicted."""
    if value is None:
        return None
    tensor = _tensor(name, value, history.device)
    grid = tuple(history.shape[3:]) if name == "forcings" else ()
    shape = tuple(tensor.shape)
    if len(shape) != 3 + len(grid) or shape[0] != history.shape[0] or shape[3:] != grid:
        due = ", ".join(map(str, (history.shape[0], n_steps + 1, "F" if grid else "G", *grid)))
        raise WavelitError(f"{name} must be ({due}) beside this history, not {shape}")
    if shape[1] < n_steps + 1:
        raise WavelitError(
            f"{name} have {shape[1]} frames, but {n_steps} steps need {n_steps + 1}, the one at "
            f"the history's end first: give more, or roll out {shape[1] - 1} steps"
        )
    if tensor.device != history.device:
        raise WavelitError(
            f"{name} are on {tensor.device}, the history on {history.device}: move them there"
        )
    return tensor


def _mask(valid: Any, history: Tensor) -> Tensor:
    if isinstance(valid, np.ndarray) and valid.dtype == np.bool_:
        valid = torch.tensor(valid, device=history.device)
    due = (history.shape[0], 1, *history.shape[3:])
    if (
        not isinstance(valid, Tensor)
        or valid.dtype != torch.bool
        or valid.shape not in (due, (1, *due[1:]))
    ):
        raise WavelitError(f"valid must be a mask {due} of torch.bool, not {shown(valid)}")
    if valid.device != history.device:
        raise WavelitError(
            f"valid is on {valid.device}, the history on {history.device}: move it there"
        )
    return valid


def persistence(
    fields: Tensor, constants: Tensor | None = None, scalars: Tensor | None = None
) -> Tensor:
    """The emulator that predicts no change: (B, T, C, *S) -> (B, C, *S), the last state."""
    return fields[:, -1]


def rotation(field_names: Sequence[str]) -> Emulator:
    """The exact emulator of helmholtz_staircase, whose fields are U(t) = u exp(-i w t) stored 50
    times a period.

    One step turns (re, im) by 2 pi / 50 whatever w and place, so that a score on this dataset
    measures the precision of a fit and not a solver.

    Args:
        field_names: the C fields, `pressure_re` and `pressure_im` among them.

    Raises:
        WavelitError: they are not.
    """
    field_names = require_names("field_names", field_names)
    if not {"pressure_re", "pressure_im"} <= set(field_names):
        raise WavelitError(
            f"expected fields pressure_re and pressure_im, got {listed(field_names)}: only these "
            "two are rotated"
        )
    re, im = field_names.index("pressure_re"), field_names.index("pressure_im")
    cosine, sine = math.cos(2 * math.pi / 50), math.sin(2 * math.pi / 50)

    def step(
        fields: Tensor, constants: Tensor | None = None, scalars: Tensor | None = None
    ) -> Tensor:
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
    """Write a rollout as a file in The Well's format, its channels back in scalars, vectors and
    matrices.

    The prediction stands under the fields' own names, so that whatever reads the dataset reads the
    rollout; the truth, where given, beside it as truth_<name>.

    Args:
        path: the HDF5 file.
        prediction: (B, n_steps, C, *S).
        truth: of the same shape.
        dataset: the dataset's name.
        field_names: the C channels by tensor order, as The Well's metadata have them: {0:
            ["pressure"], 1: ["velocity_x", "velocity_y"], 2: ["D_xx", "D_xy", "D_yx", "D_yy"]}.
        boundary_conditions: (low, high) of each axis.
        axes: names of the grid axes, which the components are named after.
        time: times of the steps; 1, 2, 3 ... if absent.
        coordinates: axis -> positions; 0, 1, 2 ... if absent.

    Returns:
        The path written.

    Raises:
        WavelitError: channels, axes and names do not fit, or a value is not finite.
    """
    path = require_path("path", path, is_file=True)
    require_instance("dataset", dataset, str, "give its name")
    prediction = _tensor("prediction", prediction, None)
    truth = None if truth is None else _tensor("truth", truth, None)
    if not 4 <= prediction.ndim <= 6:
        raise WavelitError(
            f"prediction must be (B, n_steps, C, *S) with 1 to 3 axes, not {shown(prediction)}"
        )
    require_names("axes", axes, prediction.ndim - 3)
    if not isinstance(field_names, Mapping) or not set(field_names) <= {0, 1, 2}:
        raise WavelitError(
            f"field_names must be the names of each tensor order 0, 1, 2, not {shown(field_names)}"
        )
    for order, names in field_names.items():
        require_names(f"field_names[{order}]", names, 0)
    n_channels = sum(len(names) for names in field_names.values())
    if prediction.shape[2] != n_channels or (truth is not None and truth.shape != prediction.shape):
        shapes = " and ".join(str(tuple(x.shape)) for x in (prediction, truth) if x is not None)
        raise WavelitError(
            f"expected prediction and truth (B, n_steps, {n_channels}, *S), got {shapes}: one "
            "channel a field name"
        )
    fields = _tensor_fields(prediction, field_names, axes)
    if truth is not None:
        fields |= {
            f"truth_{name}": value
            for name, value in _tensor_fields(truth, field_names, axes).items()
        }
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
    """Channels (B, n_steps, C, *S) to fields (B, n_steps, *S, d ...) by name, d as often as the
    tensor order.
    """
    spatial = states.ndim - 3
    values = states.detach().movedim(2, -1).cpu().numpy()
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
                    f"expected the components {', '.join(core + suffix for suffix in suffixes)}, "
                    f"got {', '.join(names)}: name and order channels as The Well's metadata do"
                )
            tensor = values[..., first : first + len(names)]
            fields[core] = tensor.reshape(*tensor.shape[:-1], *(spatial,) * order)
            first += len(names)
    return fields


@contextmanager
def inference(step: Emulator) -> Iterator[None]:
    """No gradients, and a network in evaluation mode; every module's own mode comes back at the
    end.
    """
    modes = (
        [(module, module.training) for module in step.modules()]
        if isinstance(step, nn.Module)
        else []
    )
    if isinstance(step, nn.Module):
        step.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
