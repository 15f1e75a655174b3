"""Prediction by name: arrays and numbers go to the channels of a model by what they are called.

    model.predict({"pressure": p, "velocity": u}, scalars={"Rayleigh": 1e6}, steps=20)

The model's signature says which names are due, in which order and units, and which values training
saw. What is missing or unknown is refused by name, so that two fields or scalars cannot be
swapped. `wavelit.model.labelled` does for xarray's arrays what names of dimensions allow.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavelit.checks.arguments import listed, require_array, require_whole, shown
from wavelit.errors import WavelitError, printable
from wavelit.model.labelled import Labels, dataset_like, is_labelled
from wavelit.model.normalizer import Normalizer
from wavelit.model.rollout import rollout
from wavelit.model.seen import far_from, require_all, require_finite_scalar
from wavelit.model.signature import Quantity, Signature

# The scalar that `write_dataset` adds where records differ in it.
TIME_STEP = "time_step"

__all__ = ["Signed", "predict"]

Array = NDArray[Any]


class Signed(Protocol):
    """A network that says what it takes."""

    signature: Signature | None
    normalizer: Normalizer

    def __call__(
        self, fields: Tensor, constants: Tensor | None, scalars: Tensor | None
    ) -> Tensor: ...


def predict(
    model: Signed, arrays: Any, scalars: Mapping[str, Any] | None, steps: int, mask: Any = None
) -> Any:
    """See `wavelit.model.emulator.IncrementEmulator.predict`."""
    signature = _signature_of(model)
    steps = require_whole("steps", steps)
    if not isinstance(arrays, Mapping):
        raise WavelitError(f"arrays must be {{name: array}}, not {shown(arrays)}")
    if scalars is not None and not isinstance(scalars, Mapping):
        raise WavelitError(f"scalars must be {{name: number}}, not {shown(scalars)}")
    given = _Given(signature, dict(arrays), dict(scalars or {}), mask, steps)
    inputs = given.inputs(model.normalizer.scalar_log.tolist())
    for message in given.told:
        warnings.warn(message, stacklevel=3)
    states = rollout(
        model,
        inputs.history,
        steps,
        inputs.constants,
        inputs.scalars,
        inputs.valid,
        inputs.forcings,
        inputs.scalar_forcings,
    )
    result = given.outputs(states)
    return dataset_like(arrays, result)


def _signature_of(model: Signed) -> Signature:
    signature = model.signature
    if signature is None:
        raise WavelitError(
            "this model's weights do not name its fields: use wavelit.rollout(model, history, "
            "steps, constants, scalars), or set model.signature = "
            "wavelit.data.signature.signature_of(WellDataModule(...)) of the data it was trained on"
        )
    return signature


class _Inputs(NamedTuple):
    """What a rollout takes, as `wavelit.model.rollout.rollout` names it."""

    history: Array
    constants: Array | None
    scalars: Array | None
    valid: Array | None
    forcings: Array | None
    scalar_forcings: Array | None


@dataclass
class _Given:
    """What a user gave, and what is told of it."""

    signature: Signature
    arrays: dict[str, Any]
    scalars: dict[str, Any]
    mask: Any
    steps: int
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.labels = Labels(self.signature, self.told)
        self.spatial = len(self.signature.axes)
        # Of every field, the arrays that it came as: itself, or its components by their own names.
        self.parts: dict[str, list[str]] = {}
        self.frames: dict[str, int] = {}

    def inputs(self, logarithms: Sequence[bool]) -> _Inputs:
        """History (B, T, C, *S), constants (B, K, *S), scalars (B, P), valid cells (B, 1, *S), and
        what is given at the history's end and at every step, (B, steps + 1, F, *S) and
        (B, steps + 1, G).

        Raises:
            WavelitError: names, shapes or values that are not what the model takes.
        """
        signature = self.signature
        self._require_names()
        fields = [self._channels_first("field", each) for each in signature.fields]
        self.many = fields[0].ndim == 3 + self.spatial
        self._require_same_shape(fields)
        history = np.concatenate(fields, -1 - self.spatial)
        history = history if self.many else history[None]
        self.grid = history.shape[3:]
        constants = [self._constant(each, len(history)) for each in signature.constants]
        valid = self._valid(constants, len(history))
        fixed = np.concatenate(constants, 1) if constants else None
        self._require_one_direction()
        history = self._checked(history, "field", signature.fields, valid, axis=2)
        if fixed is not None:
            fixed = self._checked(fixed, "constant", signature.constants, valid, axis=1)
        n_scalars = len(signature.scalars)
        return _Inputs(
            history,
            fixed,
            self._scalars(len(history), logarithms),
            valid,
            self._forcings(len(history), valid),
            self._scalar_forcings(len(history), logarithms[n_scalars:]),
        )

    def outputs(self, states: Array) -> dict[str, Any]:
        """States (B, steps, C, *S) as what the fields came as, by the same names."""
        result: dict[str, Any] = {}
        first = 0
        for each in self.signature.fields:
            n = len(each.channels)
            own = states[:, :, first : first + n]
            own = np.moveaxis(own if self.many else own[0], -1 - self.spatial, -1)
            whole = own.reshape(*own.shape[:-1], *(self.spatial,) * each.order)
            parts = self.parts[each.name]
            for number, name in enumerate(parts):
                values = whole if parts == [each.name] else own[..., number]
                result[name] = self._as_it_came(name, np.ascontiguousarray(values))
            first += n
        return result

    def _as_it_came(self, name: str, values: Array) -> Any:
        came = self.arrays[name]
        if is_labelled(came):
            return self.labels.labelled(name, values)
        return torch.from_numpy(values).to(came.device) if isinstance(came, Tensor) else values

    def _require_names(self) -> None:
        """Find what every field, constant and scalar came as; refuse what is missing or unknown."""
        signature = self.signature
        for each in signature.scalars:
            # A dataset may hold its parameters too.
            named = any(each.name in (q.name, *q.channels) for q in (*signature.fields,
                        *signature.constants))  # fmt: skip
            if not named and each.name in self.arrays and each.name not in self.scalars:
                self.scalars[each.name] = self.arrays.pop(each.name)
        taken: set[str] = set()
        missing = []
        arrays = (*signature.fields, *signature.constants, *signature.forcing_fields)
        for each in arrays:
            own = [each.name] if each.name in self.arrays else list(each.channels)
            if not taken.isdisjoint(own):
                raise WavelitError(
                    f"'{printable(each.name, 60)}' names two quantities of this model: use "
                    "wavelit.rollout, which goes by order"
                )
            if (
                each.name == signature.mask
                and self.mask is not None
                and not set(own) <= set(self.arrays)
            ):
                own = []
            elif not set(own) <= set(self.arrays):
                missing.append(each.name)
            self.parts[each.name] = own
            taken.update(own)
        due = [each.name for each in arrays]
        require_all("arrays", missing, [name for name in self.arrays if name not in taken], due)
        names = [each.name for each in (*signature.scalars, *signature.forcing_scalars)]
        require_all(
            "scalars",
            [name for name in names if name not in self.scalars],
            [name for name in self.scalars if name not in names],
            names,
        )

    def _require_same_shape(self, fields: list[Array]) -> None:
        shapes = [list(array.shape) for array in fields]
        for shape in shapes:
            del shape[-1 - self.spatial]
        frames = [self.frames[name] for each in self.signature.fields for name in
                  self.parts[each.name]]  # fmt: skip
        names = [name for each in self.signature.fields for name in self.parts[each.name]]
        for name, n in zip(names, frames, strict=True):
            what = f"field '{printable(name, 60)}' has {n} frames"
            if n < self.signature.n_steps_input:
                raise WavelitError(
                    f"{what}; the model's history is {self.signature.n_steps_input}: give as many"
                )
            if n != frames[0]:
                raise WavelitError(
                    f"{what}, '{printable(names[0], 60)}' {frames[0]}: give the same of all"
                )
        for each, shape in zip(self.signature.fields, shapes, strict=True):
            if shape != shapes[0]:
                raise WavelitError(
                    f"field '{printable(each.name, 60)}' has samples, frames and grid {shape}, "
                    f"'{printable(self.signature.fields[0].name, 60)}' {shapes[0]}: give the same "
                    "of all"
                )

    def _constant(self, each: Quantity, n: int) -> Array:
        """A constant field of every sample, (B, c, *S)."""
        if not self.parts[each.name]:
            return np.full((n, 1, *self.grid), np.nan)
        array = self._channels_first("constant", each)
        array = array if array.ndim == 2 + self.spatial else array[None]
        if array.shape[2:] != self.grid or len(array) not in (1, n):
            raise WavelitError(
                f"constant '{printable(each.name, 60)}' is of the grid {array.shape[2:]} and "
                f"{len(array)} samples; the fields have {self.grid} and {n}"
            )
        return np.broadcast_to(array, (n, *array.shape[1:]))

    def _channels_first(self, kind: str, each: Quantity) -> Array:
        parts = self.parts[each.name]
        whole = parts == [each.name]
        order = each.order if whole else 0
        arrays = [
            self._numbers(kind, f"{kind} '{printable(name, 60)}'", name, each, order)
            for name in parts
        ]
        for name, array in zip(parts, arrays, strict=True):
            if array.shape != arrays[0].shape:
                raise WavelitError(
                    f"{kind} '{printable(name, 60)}' is {array.shape}, '{printable(parts[0], 60)}' "
                    f"{arrays[0].shape}: components need one shape"
                )
        if not whole:
            return np.stack(arrays, -1 - self.spatial)
        (array,) = arrays
        flat = array.reshape(*array.shape[: array.ndim - order], -1)
        return np.moveaxis(flat, -1, -1 - self.spatial)

    def _numbers(self, kind: str, what: str, name: str, each: Quantity, order: int) -> Array:
        """An array ([N,] T, *S, d ...), of a field its last T frames, of a constant without T."""
        value, varies = self.arrays[name], kind != "constant"
        if is_labelled(value):
            value = self.labels.arranged(kind, what, name, value, order, each.unit)
        if isinstance(value, np.ma.MaskedArray):
            value = np.ma.filled(value.astype(np.float64), np.nan)
        array = require_array(what, value)
        least = int(varies) + self.spatial + order
        components = (self.spatial,) * order
        if (
            array.ndim not in (least, least + 1)
            or array.shape[array.ndim - order :] != components
            or not array.size
        ):
            axes = ", ".join(self.signature.axes)
            inner = ", ".join(["T"] * varies + [axes] + [str(n) for n in components])
            raise WavelitError(f"{what} must be ({inner}) or (N, {inner}), not {array.shape}")
        if varies:
            self.frames[name] = array.shape[array.ndim - least]
        if kind == "field":
            t = self.signature.n_steps_input
            array = array[-t:] if array.ndim == least else array[:, -t:]
        return array.astype(np.float64)

    def _require_one_direction(self) -> None:
        """Refuse plain arrays beside DataArrays of which an axis was turned round: whether theirs
        runs down too is not known.
        """
        plain = [name for name, value in self.arrays.items() if not is_labelled(value)]
        if self.mask is not None and not is_labelled(self.mask):
            plain.append("mask")
        if plain and (axis := self.labels.turned()) is not None:
            raise WavelitError(
                f"axis '{printable(axis, 40)}' of the DataArrays decreases, {listed(plain)} "
                "without names may do so too: give DataArrays, or sort all by that axis"
            )

    def _valid(self, constants: list[Array], n: int) -> Array | None:
        """Cells that count, (B, 1, *S); the constant that marks them is filled in from `mask`."""
        signature = self.signature
        if not signature.mask:
            if self.mask is not None:
                raise WavelitError("mask: this model was trained without one; leave it out")
            return None
        number = [each.name for each in signature.constants].index(signature.mask)
        excludes = signature.mask_excludes
        if self.mask is None:
            return np.asarray(constants[number] != excludes)
        hidden = self.mask
        if is_labelled(hidden):
            hidden = self.labels.arranged("constant", "mask", "mask=", hidden, 0, "")
        hidden = np.asarray(hidden)
        if hidden.dtype != np.bool_ or hidden.shape not in (self.grid, (n, *self.grid)):
            raise WavelitError(
                f"mask must be bool {self.grid} or {(n, *self.grid)}, True on cells that do not "
                f"count, not {shown(self.mask)}"
            )
        hidden = np.broadcast_to(hidden, (n, *self.grid))[:, None]
        if self.parts[signature.mask]:
            if not np.array_equal(constants[number] == excludes, hidden):
                raise WavelitError(
                    f"mask differs from the constant '{printable(signature.mask, 60)}': leave one "
                    "of them out"
                )
        else:
            ranges = signature.constants[number].ranges
            inside = ranges[0][0] if ranges else float(excludes == 0)
            constants[number] = np.where(hidden, excludes, inside)
        return ~hidden

    def _checked(
        self, x: Array, kind: str, each: Sequence[Quantity], valid: Array | None, axis: int
    ) -> Array:
        """0 in cells that do not count, all others finite and told of where they are far from what
        training saw.
        """
        names = [(q, number) for q in each for number in range(len(q.channels))]
        counted = None if valid is None else valid[:, 0]
        for channel, (quantity, number) in enumerate(names):
            own = x.take(channel, axis)
            inside = own
            if counted is not None:
                where = counted if kind == "constant" else counted[:, None]
                inside = own[np.broadcast_to(where, own.shape)]
            what = f"{kind} '{printable(quantity.channels[number], 60)}'"
            with np.errstate(over="ignore"):
                finite = np.isfinite(inside.astype(np.float32))
            if not finite.all():
                raise WavelitError(
                    f"{what} holds {int((~finite).sum())} values that are not finite in float32: "
                    "fill them" + (", or mask their cells" if self.signature.mask else "")
                )
            if inside.size and quantity.ranges is not None:
                self._tell(what, inside, quantity.ranges[number], quantity.unit)
        if valid is None:
            return x
        if kind != "constant":
            return np.where(valid[:, :, None], x, 0.0)
        marks = [quantity.name == self.signature.mask for quantity, _ in names]
        marked = np.array(marks).reshape(-1, *(1,) * self.spatial)
        return np.where(valid | marked, x, 0.0)

    def _scalars(self, n: int, logarithms: Sequence[bool]) -> Array | None:
        columns = []
        for each, log in zip(self.signature.scalars, logarithms, strict=False):
            what, value = f"scalar '{printable(each.name, 60)}'", self.scalars[each.name]
            if is_labelled(value):
                self.labels.require_unit(what, value, each.unit)
                for dim in value.dims:
                    self.labels.require_same(what, value, str(dim))
                value = value.values
            values = require_array(what, value).astype(np.float64)
            if values.shape not in ((), (1,), (n,)):
                raise WavelitError(
                    f"{what} must be a number or ({n},), one a sample, not {values.shape}"
                )
            require_finite_scalar(what, values, log)
            step = self.labels.time_step if each.name == TIME_STEP else None
            if step is not None and not np.allclose(values, step, rtol=0.01, atol=0.0):
                raise WavelitError(
                    f"{what} is {values.flat[0]:.4g}, but the fields' times are {step:.4g} apart: "
                    "give the step that they have"
                )
            if each.ranges is not None:
                self._tell(what, values, each.ranges[0], each.unit, log)
            columns.append(np.broadcast_to(values, (n,)))
        return np.stack(columns, 1) if columns else None

    def _forcings(self, n: int, valid: Array | None) -> Array | None:
        """Fields that are given, from the history's last frame on."""
        found = []
        for each in self.signature.forcing_fields:
            array = self._channels_first("forcing", each)
            array = array if array.ndim == 3 + self.spatial else array[None]
            what = f"forcing '{printable(each.name, 60)}'"
            if array.shape[3:] != self.grid or len(array) not in (1, n):
                raise WavelitError(
                    f"{what} is of the grid {array.shape[3:]} and {len(array)} samples; the fields "
                    f"have {self.grid} and {n}"
                )
            array = self._from_the_last(what, array)
            found.append(np.broadcast_to(array, (n, *array.shape[1:])))
        if not found:
            return None
        joined = np.concatenate(found, 2)
        return self._checked(joined, "forcing", self.signature.forcing_fields, valid, axis=2)

    def _scalar_forcings(self, n: int, logarithms: Sequence[bool]) -> Array | None:
        columns = []
        for each, log in zip(self.signature.forcing_scalars, logarithms, strict=False):
            what, value = f"scalar '{printable(each.name, 60)}'", self.scalars[each.name]
            if is_labelled(value):
                self.labels.require_unit(what, value, each.unit)
                value = self.labels.from_the_first(what, value).values
            values = require_array(what, value).astype(np.float64)
            values = values[None] if values.ndim == 1 else values
            if values.ndim != 2 or len(values) not in (1, n):
                raise WavelitError(
                    f"{what} must be (T,) or ({n}, T), one a frame, not {values.shape}"
                )
            values = self._from_the_last(what, values)
            require_finite_scalar(what, values, log)
            if each.ranges is not None:
                self._tell(what, values, each.ranges[0], each.unit, log)
            columns.append(np.broadcast_to(values, (n, values.shape[1])))
        return np.stack(columns, 2) if columns else None

    def _from_the_last(self, what: str, array: Array) -> Array:
        """Of frames (B, T + steps, ...) those from the history's last on."""
        frames = self.frames[self.parts[self.signature.fields[0].name][0]]
        if array.shape[1] < frames + self.steps:
            raise WavelitError(
                f"{what} has {array.shape[1]} frames; the fields' {frames} and {self.steps} steps "
                f"need {frames + self.steps}: give more, or predict fewer steps"
            )
        return array[:, frames - 1 : frames + self.steps]

    def _tell(
        self, what: str, values: Array, seen: tuple[float, float], unit: str, log: bool = False
    ) -> None:
        if message := far_from(what, values, seen, unit, log):
            self.told.append(message)
