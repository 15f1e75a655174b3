"""What a model takes and gives, by name: a weights file that explains itself.

A signature names the fields, constant fields and scalars in the order of the model's channels, with
their units, the grid's axes and spacing, the time step, the boundaries, and the ranges that
training saw. It is plain data: frozen, compared by value, written as JSON and checked as it is
read. `wavelit.data.signature.signature_of` makes it of a dataset.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wavelit.checks.arguments import require_mask, require_real, require_whole, shown
from wavelit.checks.settings import require_mapping
from wavelit.errors import WavelitError, printable
from wavelit.model.boundaries import BoundaryConditions

__all__ = ["KINDS", "Quantity", "Signature"]

Range = tuple[float, float]

# Quantities of a kind, and characters of a name.
MOST, LONGEST = 10_000, 10_000


@dataclass(frozen=True)
class Quantity:
    """A field, a constant field or a scalar.

    Args:
        name: Its own name, such as velocity.
        channels: Names of its channels in order, such as velocity_x and velocity_y; of a scalar
            its name alone.
        order: Tensor order, 0 to 2.
        unit: As the files spell it; "" where they say none.
        ranges: For each channel the smallest and largest value that training saw; None: unknown.

    Raises:
        WavelitError: An entry of another type, or ranges that do not fit the channels.
    """

    name: str
    channels: tuple[str, ...]
    order: int = 0
    unit: str = ""
    ranges: tuple[Range, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("name", "unit"):
            _require_text(name, getattr(self, name))
        _require_tuple("channels", self.channels, 1)
        for channel in self.channels:
            _require_text("channels", channel)
        require_whole("order", self.order, 0, 2)
        if self.ranges is not None:
            _require_tuple("ranges", self.ranges, len(self.channels), len(self.channels))
            for pair in self.ranges:
                _require_range("ranges", pair)


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives.

    The model's constant channels are those of `constants`, then those of `forcing_fields` at the
    end of the history, then these at the step to be predicted. Its scalars likewise.

    Args:
        dataset: Name of the dataset that it was trained on.
        n_steps_input: Frames of history T.
        fields: Predicted fields in the order of the channels: by tensor order, then as written.
        constants: Constant fields, likewise.
        scalars: Parameters of the PDE.
        forcing_fields: Fields that vary in time and are given.
        forcing_scalars: Scalars that vary in time and are given.
        axes: Names of the grid axes.
        axis_units: Their units; "" where the files say none.
        spacing: Distance between cells along every axis, in these units; None: unknown.
        time_step: Smallest and largest time between frames; None: unknown.
        time_unit: Its unit; "" where the files say none.
        boundary_conditions: The (low, high) kinds of every axis.
        mask: Name of the constant field that tells which cells count; "": all do.
        mask_excludes: Its value on cells that do not count.

    Raises:
        WavelitError: An entry of another type, or as many entries as axes are due and others came.
    """

    dataset: str
    n_steps_input: int
    fields: tuple[Quantity, ...]
    constants: tuple[Quantity, ...]
    scalars: tuple[Quantity, ...]
    axes: tuple[str, ...]
    boundary_conditions: BoundaryConditions
    forcing_fields: tuple[Quantity, ...] = ()
    forcing_scalars: tuple[Quantity, ...] = ()
    axis_units: tuple[str, ...] = ()
    spacing: tuple[float, ...] | None = None
    time_step: Range | None = None
    time_unit: str = ""
    mask: str = ""
    mask_excludes: float = 1.0

    def __post_init__(self) -> None:
        for name in ("dataset", "time_unit", "mask"):
            _require_text(name, getattr(self, name))
        require_whole("n_steps_input", self.n_steps_input)
        for kind in KINDS:
            _require_tuple(kind, getattr(self, kind), 1 if kind == "fields" else 0)
            for each in getattr(self, kind):
                if not isinstance(each, Quantity):
                    raise WavelitError(f"{kind} must be quantities, not {shown(each)}")
        _require_tuple("axes", self.axes, 1, 3)
        if not self.axis_units:
            object.__setattr__(self, "axis_units", ("",) * len(self.axes))
        for name in ("axis_units", "boundary_conditions", "spacing"):
            if (value := getattr(self, name)) is not None:
                _require_tuple(name, value, len(self.axes), len(self.axes))
        for text in (*self.axes, *self.axis_units):
            _require_text("axes and their units", text)
        for pair in self.boundary_conditions:
            _require_tuple("boundary_conditions", pair, 2, 2)
            for side in pair:
                _require_text("boundary_conditions", side)
        for step in self.spacing or ():
            require_real("spacing", step, beyond=True)
        if self.time_step is not None:
            _require_range("time_step", self.time_step, 0.0)
        require_mask(self.mask or None, self.mask_excludes)

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of the C predicted channels."""
        return _channels(self.fields)

    @property
    def constant_names(self) -> tuple[str, ...]:
        """Names of the channels of the constant fields, without those of forcings."""
        return _channels(self.constants)

    @property
    def scalar_names(self) -> tuple[str, ...]:
        """Names of the scalars, without those of forcings."""
        return _channels(self.scalars)

    def require_counts(self, n_fields: int, n_constants: int, n_scalars: int) -> None:
        """Refuse a signature of another number of channels than the model has.

        Raises:
            WavelitError: Names the kind and both numbers.
        """
        for kind, count, due in (
            ("fields", len(self.field_names), n_fields),
            (
                "constants",
                len(self.constant_names) + 2 * len(_channels(self.forcing_fields)),
                n_constants,
            ),
            ("scalars", len(self.scalar_names) + 2 * len(self.forcing_scalars), n_scalars),
        ):
            if count != due:
                raise WavelitError(
                    f"the signature names {count} channels of {kind}, the model has {due}: it is "
                    "of another model"
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and text, as JSON has them."""
        plain: dict[str, Any] = _thawed(dataclasses.asdict(self))
        return plain

    @classmethod
    def from_dict(cls, content: Any, where: str = "signature") -> Signature:
        """The inverse of `to_dict`; entries that are not there keep their defaults.

        Args:
            content: What was read.
            where: The file, for errors.

        Raises:
            WavelitError: It is no mapping, has an unknown entry, or one of another kind.
        """
        values = _entries(cls, content, where)
        for kind in KINDS & values.keys():
            if not isinstance(values[kind], tuple):
                raise WavelitError(f"{where}: {kind} must be a list, not {shown(values[kind])}")
            values[kind] = tuple(
                _built(Quantity, _entries(Quantity, each, f"{where}, {kind}"), f"{where}, {kind}")
                for each in values[kind]
            )
        signature: Signature = _built(cls, values, where)
        return signature


KINDS = frozenset(("fields", "constants", "scalars", "forcing_fields", "forcing_scalars"))


def _channels(quantities: tuple[Quantity, ...]) -> tuple[str, ...]:
    return tuple(channel for each in quantities for channel in each.channels)


def _entries(kind: type[Any], content: Any, where: str) -> dict[str, Any]:
    known = {field.name for field in dataclasses.fields(kind)}
    require_mapping(where, content, known)
    return {name: _frozen(value) for name, value in content.items()}


def _built(kind: type[Any], values: Mapping[str, Any], where: str) -> Any:
    try:
        return kind(**values)
    except WavelitError as error:
        raise WavelitError(f"{where}: {error}; write it again") from error
    except TypeError as error:
        raise WavelitError(f"{where}: {printable(error)}; write it again") from error


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list | tuple) else value


def _thawed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _thawed(each) for name, each in value.items()}
    return [_thawed(each) for each in value] if isinstance(value, list | tuple) else value


def _require_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or len(value) > LONGEST:
        raise WavelitError(f"{name} must be text, not {shown(value)}")


def _require_tuple(name: str, value: Any, least: int, most: int = MOST) -> None:
    if not isinstance(value, tuple) or not least <= len(value) <= most:
        due = f"{least}" if least == most else f"{least} to {most}"
        raise WavelitError(f"{name} must be a list of {due} entries, not {shown(value)}")


def _require_range(name: str, pair: Any, low: float = -math.inf) -> None:
    _require_tuple(name, pair, 2, 2)
    least, most = (require_real(name, end, low) for end in pair)
    if least > most:
        raise WavelitError(f"{name} must be (smallest, largest), not {shown(pair)}")
