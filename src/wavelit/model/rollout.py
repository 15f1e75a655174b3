"""Autoregressive rollout: the emulator's own predictions become its history.

    u(t+1) = step([u(t-T+1), ..., u(t)], constants, scalars)

`step` is any callable in physical units, so that networks, classical solvers and persistence share
one path.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wavelit.checks.arguments import require_dense, require_whole, shown
from wavelit.errors import WavelitError, one_line

__all__ = [
    "Emulator",
    "evaluation_mode",
    "inference",
    "persistence",
    "require_emulator",
    "require_state",
    "rollout",
    "step_by_step",
    "tensor_of",
    "with_forcings",
]

# Memory that the states of a rollout may take: more is a slip of the keyboard.
LARGEST = 64 * 2**30

States = TypeVar("States", Tensor, NDArray[Any])

Emulator: TypeAlias = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]
"""step(fields (B, T, C, *S), constants (B, K, *S) or None, scalars (B, P) or None) -> (B, C,
*S).
"""


def rollout(
    step: Emulator,
    history: States,
    n_steps: int,
    constants: Tensor | NDArray[Any] | None = None,
    scalars: Tensor | NDArray[Any] | None = None,
    valid: Tensor | NDArray[Any] | None = None,
    forcings: Tensor | NDArray[Any] | None = None,
    scalar_forcings: Tensor | NDArray[Any] | None = None,
) -> States:
    """Predict `n_steps` states, each from the T before it; no gradients are kept.

    >>> model = wavelit.load("shear_flow")
    >>> fields, scalars = torch.randn(1, 4, 4, 32, 64), torch.tensor([[1e4, 1.0]])
    >>> wavelit.rollout(model, fields, 20, scalars=scalars).shape
    torch.Size([1, 20, 4, 32, 64])

    A network is put into evaluation mode and each of its modules back into its own mode afterwards.
    Values that are not finite are passed on as they are.

    Args:
        step: the emulator.
        history: (B, T, C, *S), oldest first, physical units; a tensor, or a numpy array, which is
            taken in the type and on the device of a network's weights. The following likewise.
        n_steps: states to predict.
        constants: fields that do not change, (B, K, *S).
        scalars: parameters of the system, (B, P).
        valid: cells inside the domain, (B, 1, *S); the others are set to zero after every step.
        forcings: fields that are given in advance, (B, n_steps + 1, F, *S), from the history's last
            state on. At every step those at the last state and at the next follow the constants.
        scalar_forcings: scalars that are given in advance, (B, n_steps + 1, G), likewise.

    Returns:
        (B, n_steps, C, *S), the first one step after the history's end; a numpy array if the
        history is one.

    Raises:
        WavelitError: an argument of another type or shape, results of more than 64 GiB, or a step
            that does not return the next state.
    """
    require_emulator(step)
    n_steps = require_whole("n_steps", n_steps)
    as_numpy = isinstance(history, np.ndarray)
    past = tensor_of("history", history, *(_home(step) if as_numpy else (None, None)))
    if not 4 <= past.ndim <= 6 or not past.numel():
        raise WavelitError(
            f"history must be (B, T, C, *S) with 1 to 3 axes, none empty, not {shown(history)}"
        )
    state = past[:, -1]
    if (size := n_steps * state.numel() * state.element_size()) > LARGEST:
        raise WavelitError(
            f"n_steps={shown(n_steps)} of {tuple(state.shape)} take {shown(size >> 30)} GiB, more "
            f"than {LARGEST >> 30}: ask for fewer steps at a time"
        )
    fixed, numbers = _beside("constants", constants, past), _beside("scalars", scalars, past)
    varying = _forcings("forcings", forcings, past, n_steps)
    varying_numbers = _forcings("scalar_forcings", scalar_forcings, past, n_steps)
    inside = None if valid is None else _mask(valid, past)
    states = past.new_empty(state.shape[0], n_steps, *state.shape[1:])

    def told(n: int) -> tuple[Tensor | None, Tensor | None]:
        return with_forcings(fixed, varying, n), with_forcings(numbers, varying_numbers, n)

    def keep(n: int, following: Tensor) -> None:
        states[:, n] = following

    step_by_step(step, past, n_steps, told, inside, keep)
    found: Any = states.cpu().numpy() if as_numpy else states
    return found  # type: ignore[no-any-return]


def step_by_step(
    step: Emulator,
    past: Tensor,
    n_steps: int,
    told: Callable[[int], tuple[Tensor | None, Tensor | None]],
    inside: Tensor | None,
    visit: Callable[[int, Tensor], None],
) -> None:
    """Roll out and keep the history alone: what a step predicts is handed over and let go.

    Args:
        step: the emulator.
        past: history (B, T, C, *S).
        n_steps: states to predict.
        told: constants and scalars for the step of a number, from 0.
        inside: cells that are not set to zero after a step, (B, 1, *S); None: all.
        visit: gets the number of every step and its state (B, C, *S), in the history's type.

    Raises:
        WavelitError: a step that does not return the next state.
    """
    with inference(step):
        for n in range(n_steps):
            following = require_state(step(past, *told(n)), past).to(past.dtype)
            if inside is not None:
                following = following.where(inside, 0.0)
            visit(n, following)
            past = torch.cat([past[:, 1:], following.unsqueeze(1)], dim=1)


def with_forcings(constants: Tensor | None, forcings: Tensor | None, last: int) -> Tensor | None:
    """Constants with the forcings at the history's last frame and at the one to be predicted.

    Args:
        constants: (B, K, ...), or None.
        forcings: (B, frames, F, ...), or None.
        last: the frame at which the history ends.

    Returns:
        (B, K + 2 F, ...), the F at `last` first; None if there is neither.
    """
    if forcings is None:
        return constants
    given = [forcings[:, last], forcings[:, last + 1]]
    return torch.cat(given if constants is None else [constants, *given], 1)


def _home(step: Emulator) -> tuple[torch.device | None, torch.dtype | None]:
    """Where a network's weights are and their type; None of a function."""
    weights = step.parameters() if isinstance(step, nn.Module) else iter(())
    first = next((weight for weight in weights if weight.is_floating_point()), None)
    if first is None:
        return None, None
    # numpy has no bfloat16, and a state needs more digits than float16 has.
    return first.device, first.dtype if first.dtype.itemsize >= 4 else torch.float32


def require_emulator(step: Any) -> None:
    """Refuse what cannot be called with fields, constants and scalars.

    Raises:
        WavelitError: it cannot.
    """
    if not callable(step):
        raise WavelitError(
            "expected an emulator, a function of (fields, constants, scalars) or a module, got "
            f"{shown(step)}"
        )
    try:
        taken = inspect.signature(step.forward if isinstance(step, nn.Module) else step)
    except (TypeError, ValueError):
        # What is not written in Python does not say.
        return
    try:
        taken.bind(None, None, None)
    except TypeError as error:
        raise WavelitError(
            f"{type(step).__name__} takes {taken}, where an emulator takes (fields, constants, "
            "scalars): train a network by `wavelit.fit`, or give a function of the three"
        ) from error


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
    require_dense("the next state of the emulator", following)
    if following.device != history.device:
        raise WavelitError(
            f"expected an emulator that returns the next state on {history.device}, got "
            f"{following.device}: move it there"
        )
    return following.detach()


def tensor_of(
    name: str, value: Any, device: torch.device | None, dtype: torch.dtype | None = None
) -> Tensor:
    """A tensor of real floating-point numbers; of a numpy array a copy on the device, in `dtype`
    unless that is None.
    """
    if isinstance(value, np.ndarray):
        floats = value.dtype.kind == "f"
        try:
            # torch reads numbers in the machine's own order of bytes alone.
            value = torch.tensor(value.astype(value.dtype.newbyteorder("="), copy=False))
        except (TypeError, ValueError) as error:
            raise WavelitError(f"{name} must be real numbers: {one_line(error)}") from error
        value = value.to(device=device, dtype=dtype if floats else None)
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise WavelitError(
            f"{name} must be a torch.Tensor of floating-point numbers, not {shown(value)}"
        )
    require_dense(name, value)
    return value


def _beside(name: str, value: Any, history: Tensor) -> Tensor | None:
    """Constants (B, K, *S) or scalars (B, P) of the history's samples."""
    if value is None:
        return None
    tensor = tensor_of(name, value, history.device, history.dtype)
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
    tensor = tensor_of(name, value, history.device, history.dtype)
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


@contextmanager
def inference(step: Emulator) -> Iterator[None]:
    """No gradients, and a network in evaluation mode; every module's own mode comes back at the
    end.
    """
    with torch.no_grad(), evaluation_mode(step):
        yield


@contextmanager
def evaluation_mode(step: Emulator) -> Iterator[None]:
    """A network in evaluation mode; every module's own mode comes back at the end."""
    modes = (
        [(module, module.training) for module in step.modules()]
        if isinstance(step, nn.Module)
        else []
    )
    if isinstance(step, nn.Module):
        step.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
