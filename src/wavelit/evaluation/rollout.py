"""Rollouts beside the model's own: the exact one of a system that has it, and rollouts as files.

`wavelit.model.rollout` rolls out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from wavelit.checks.arguments import (
    listed,
    require_instance,
    require_names,
    require_path,
    require_values,
    shown,
)
from wavelit.data.writing.write import write_well
from wavelit.errors import WavelitError
from wavelit.model.rollout import (
    Emulator,
    inference,
    persistence,
    require_emulator,
    require_state,
    rollout,
    tensor_of,
)

__all__ = [
    "Beside",
    "Emulator",
    "inference",
    "persistence",
    "require_emulator",
    "require_state",
    "rollout",
    "rotation",
    "write_rollout",
]


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


@dataclass(frozen=True)
class Beside:
    """What a trajectory has beside its fields, as it is written with a rollout.

    Args:
        constants: Constant fields (B, K, *S) in their own units; None: none.
        constant_names: Names of the K channels by tensor order.
        scalars: Parameters by name.
        forcings: Fields that are given (B, n_steps, F, *S); None: none.
        forcing_names: Names of the F channels by tensor order.
        series: Scalars that are given, (B, n_steps) by name.
        units: Of fields, constant fields, scalars, axes and "time".
        mask_field: The constant field that marks cells that do not count; None: all do.
        mask_excludes: Its value there.
    """

    constants: Tensor | None = None
    constant_names: Mapping[int, Sequence[str]] = field(default_factory=dict)
    scalars: Mapping[str, float] = field(default_factory=dict)
    forcings: Tensor | None = None
    forcing_names: Mapping[int, Sequence[str]] = field(default_factory=dict)
    series: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    mask_field: str | None = None
    mask_excludes: float = 1.0


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
    beside: Beside | None = None,
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
        beside: what else the trajectory has.

    Returns:
        The path written.

    Raises:
        WavelitError: channels, axes and names do not fit, or a value is not finite.
    """
    path = require_path("path", path, is_file=True)
    require_instance("dataset", dataset, str, "give its name")
    prediction = tensor_of("prediction", prediction, None)
    truth = None if truth is None else tensor_of("truth", truth, None)
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
    beside = beside or Beside()
    given, constants = {}, {}
    if beside.forcings is not None:
        given = _tensor_fields(beside.forcings, beside.forcing_names, axes)
    if beside.constants is not None:
        # As of one frame.
        still = _tensor_fields(beside.constants[:, None], beside.constant_names, axes)
        constants = {name: value[:, 0] for name, value in still.items()}
    known = {*fields, *given, *constants, *beside.scalars, *beside.series, *axes, "time"}
    units = {name: unit for name, unit in beside.units.items() if name in known}
    truths = {f"truth_{name}": unit for name, unit in units.items() if f"truth_{name}" in fields}
    return write_well(
        path,
        fields | given,
        constant_fields=constants,
        scalars={**beside.scalars, **beside.series},
        forcings=[*given, *beside.series],
        units=units | truths,
        mask_field=beside.mask_field,
        mask_excludes=beside.mask_excludes,
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
    require_values("prediction", states)
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
