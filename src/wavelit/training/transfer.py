"""A trained WaveLiT on other data: what it knows of a field, constant field or scalar is kept by
name.

Channels meet where a state enters and leaves the network: columns of the embedding and of the
skip, rows of the head, channels of the convolutions at full resolution. Those of a name that both
have are taken; those of a new name begin at zero, so that at first the prediction of the others is
what it was. The history is aligned at its newest frame. The blocks are taken as they are.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from wavelit.checks.arguments import listed
from wavelit.data.batch import names_with_forcings
from wavelit.data.datamodule import WellDataModule
from wavelit.data.signature import signature_of
from wavelit.errors import WavelitError
from wavelit.model.config import (
    WaveLiTConfig,
    mixers_that_fit,
    padded_shape,
    with_fitting_mixers,
)
from wavelit.model.signature import Quantity, Signature
from wavelit.model.units import units_differ
from wavelit.model.wavelit import WaveLiT
from wavelit.training.data_scales import calibrate, is_solenoidal

__all__ = [
    "Names",
    "adapt",
    "config_for",
    "fits",
    "keep_known",
    "middle_of",
    "names_of",
    "require_axes",
    "require_units",
    "take",
    "with_known_scalars",
]

Index = list[int | None]
# Of the spread that a model saw of a constant field: how far the mean of other data may be and how
# much they may vary, and how little.
FAR, NARROW = 3.0, 0.1
KINDS = ("fields", "constants", "scalars")
FORCINGS = ("forcing_fields", "forcing_scalars")


@dataclasses.dataclass(frozen=True)
class Names:
    """Names of a model's channels in their order."""

    fields: tuple[str, ...]
    constants: tuple[str, ...]
    scalars: tuple[str, ...]
    history: int
    boundaries: tuple[tuple[str, str], ...]


def names_of(signature: Signature) -> Names:
    """Those of a signature, as a data module names what emulators see."""

    def seen(names: Sequence[str], forcings: Sequence[Quantity]) -> tuple[str, ...]:
        channels = [channel for each in forcings for channel in each.channels]
        return tuple(names_with_forcings(names, channels))

    return Names(
        signature.field_names,
        seen(signature.constant_names, signature.forcing_fields),
        seen(signature.scalar_names, signature.forcing_scalars),
        signature.n_steps_input,
        signature.boundary_conditions,
    )


def fits(model: WaveLiT, data: WellDataModule) -> bool:
    """Whether a model takes what the data give: in the same order, if it knows any of their
    fields by name; on their grid, and with the flows that it keeps free of divergence.
    """
    config = model.config
    if model.signature is not None:
        names = names_of(model.signature)
        ours = [*names.fields], [*names.constants], [*names.scalars]
        known = not set(names.fields).isdisjoint(data.field_names)
        if known and ours != (data.field_names, data.constant_field_names, data.scalar_names):
            return False
    same = (
        config.n_fields,
        config.n_constant_fields,
        config.n_scalars,
        config.n_steps_input,
        config.boundary_conditions,
    ) == (
        len(data.field_names),
        len(data.constant_field_names),
        len(data.scalar_names),
        data.n_steps_input,
        data.boundary_conditions,
    )
    return (
        same
        and mixers_that_fit(data.metadata.spatial_resolution, config) is None
        and (not config.divergence_free or is_solenoidal(data))
    )


def config_for(config: WaveLiTConfig, data: WellDataModule) -> WaveLiTConfig:
    """An architecture with the layout of other data. A kernel that is wider than their grid gets
    shorter, and a projection that their flow does not bear is left out, each with a warning.

    Raises:
        WavelitError: Their grid does not divide as the architecture needs.
    """
    projects = config.divergence_free and is_solenoidal(data)
    if config.divergence_free and not projects:
        warnings.warn(
            f"the model keeps its velocity free of divergence, and no vector field of {data.path} "
            "can be: divergence_free is left out",
            stacklevel=3,
        )
    fitted = dataclasses.replace(
        config,
        n_fields=len(data.field_names),
        n_constant_fields=len(data.constant_field_names),
        n_scalars=len(data.scalar_names),
        n_steps_input=data.n_steps_input,
        boundary_conditions=data.boundary_conditions,
        divergence_free=projects,
    )
    shape = data.metadata.spatial_resolution
    try:
        fitted = with_fitting_mixers(shape, fitted, data.path, ", with the middle of each kernel")
        padded_shape(shape, fitted)
    except WavelitError as error:
        raise WavelitError(
            f"{data.path}: {error}; a trained model keeps its own, so give data on another grid, "
            "or train anew"
        ) from error
    return fitted


def adapt(
    model: WaveLiT, data: WellDataModule, seed: int, keep_statistics: bool
) -> tuple[WaveLiT, list[str]]:
    """A model for the data that knows what the trained one does, and what was taken, a line each.

    Args:
        model: A trained model; it stays as it is.
        data: The data to train on.
        seed: Seed of the weights that are new, and of the windows that calibration looks at.
        keep_statistics: Whether statistics and calibration of what is taken are the model's own.

    Raises:
        WavelitError: The data have another number of axes, no field in common with the model, or
            the model does not know the names of its channels.
    """
    require_axes(model.config.spatial, data)
    if model.signature is None:
        raise WavelitError(
            "the model does not know the names of its fields, and has other counts, history or "
            f"boundaries than {data.path}: give data with the same, in the same order"
        )
    signature = with_known_scalars(model.signature, signature_of(data))
    old, new = names_of(model.signature), names_of(signature)
    if not set(old.fields) & set(new.fields):
        raise WavelitError(
            f"{data.path} has the fields {listed(new.fields, 60)}, the model "
            f"{listed(old.fields, 60)}: none in common, so nothing can be taken by name; a joint "
            "model can be, --from joint-1M"
        )
    if keep_statistics:
        require_units(model.signature, signature)
    config = config_for(model.config, data)
    torch.manual_seed(seed)
    fresh = WaveLiT(config)
    fresh.normalizer.set_statistics(data.statistics)
    ours = dict(model.normalizer.named_buffers())
    keep_known(ours, fresh, model.signature, signature)
    calibrate(fresh, data, seed)
    take(model, fresh, old, new, keep_statistics)
    fresh.signature, fresh.trained = signature, True
    return fresh, _lines(old, new)


@torch.no_grad()
def keep_known(ours: Mapping[str, Tensor], fresh: WaveLiT, old: Signature, new: Signature) -> None:
    """See constant fields and scalars that a trained model knows as it saw them: what a density or
    a Reynolds number means is no statistic of the data.

    A constant field that varies by less than a tenth or more than three times of what the model
    saw, or about another value, is seen by the data's own; so is a scalar of another range.

    Args:
        ours: Statistics of the trained model, by the names of a normaliser's buffers.
        fresh: The new one, with the statistics of its data.
        old: What the trained model takes.
        new: What the new one does, `with_known_scalars`.
    """
    _keep_constants(ours, fresh, old, new)
    known = {each.name: (place, each.ranges) for place, each in enumerate(old.scalars)}
    for place, each in enumerate(new.scalars):
        source, ranges = known.get(each.name, (0, None))
        if ranges is not None and ranges == each.ranges:
            for name in ("scalar_mean", "scalar_std", "scalar_log"):
                getattr(fresh.normalizer, name)[place] = ours[name][source]


def _keep_constants(
    ours: Mapping[str, Tensor], fresh: WaveLiT, old: Signature, new: Signature
) -> None:
    units, theirs = (_units_of_constants(each) for each in (old, new))
    before = names_of(old).constants
    means, stds = fresh.normalizer.constant_mean, fresh.normalizer.constant_std
    for place, name in enumerate(names_of(new).constants):
        if name not in before or units_differ(units.get(name, ""), theirs.get(name, "")):
            continue
        source = before.index(name)
        mean, std = ours["constant_mean"][source], ours["constant_std"][source]
        near = (means[place] - mean).abs() <= FAR * std
        if near and NARROW * std <= stds[place] <= FAR * std:
            means[place], stds[place] = mean, std


def _units_of_constants(signature: Signature) -> dict[str, str]:
    """By channel, of constant fields and of fields that are given."""
    found = {name: each.unit for each in signature.constants for name in each.channels}
    for each in signature.forcing_fields:
        found |= dict.fromkeys(names_with_forcings((), each.channels), each.unit)
    return found


def with_known_scalars(old: Signature, new: Signature) -> Signature:
    """What new data give, with scalars of values that a trained model has seen as it knows them: a
    Reynolds number of 1000 means the same among few others.

    Args:
        old: What the trained model takes.
        new: What the data give.
    """
    known = {each.name: each for each in old.scalars}
    scalars = []
    for each in new.scalars:
        ours = known.get(each.name)
        if ours is not None and not units_differ(ours.unit, each.unit) and _is_within(each, ours):
            scalars.append(dataclasses.replace(each, ranges=ours.ranges))
        else:
            scalars.append(each)
    return dataclasses.replace(new, scalars=tuple(scalars))


def _is_within(scalar: Quantity, known: Quantity) -> bool:
    if scalar.ranges is None or known.ranges is None:
        return False
    ((low, high),), ((least, most),) = scalar.ranges, known.ranges
    return least <= low and high <= most


def require_axes(spatial: int, data: WellDataModule) -> None:
    """Refuse data of another number of axes than a model has.

    Raises:
        WavelitError: Names both numbers.
    """
    if (axes := int(data.metadata.n_spatial_dims)) != spatial:
        raise WavelitError(
            f"the model is of {spatial}-D fields, {data.path} of {axes}-D: train anew"
        )


def require_units(ours: Signature, theirs: Signature) -> None:
    """Refuse to keep statistics in other units than those of the data.

    Raises:
        WavelitError: Names the first quantity of two units.
    """
    for kind in (*KINDS, *FORCINGS):
        units = {each.name: each.unit for each in getattr(ours, kind)}
        for each in getattr(theirs, kind):
            unit = units.get(each.name, "")
            if units_differ(unit, each.unit):
                raise WavelitError(
                    f"'{each.name}' is in {each.unit} in the data and in {unit} in the model: its "
                    "statistics cannot be kept; leave keep_statistics out"
                )


@torch.no_grad()
def take(
    model: WaveLiT,
    fresh: WaveLiT,
    old: Names,
    new: Names,
    keep_statistics: bool = False,
    among: Collection[str] | None = None,
) -> None:
    """Give a new model what a trained one knows of its channels.

    Args:
        model: The trained model.
        fresh: The new one.
        old: Names of the channels of the trained model.
        new: Those of the new one.
        keep_statistics: Whether statistics and calibration are taken too.
        among: Keys of the state dict that may be written to; all if absent.
    """
    fields, constants, scalars = (_index(getattr(new, kind), getattr(old, kind)) for kind in KINDS)
    c, k, t = len(old.fields), len(old.constants), old.history
    earlier = new.history - t
    inputs: Index = [
        None if channel is None or frame < earlier else (frame - earlier) * c + channel
        for frame in range(new.history)
        for channel in fields
    ]
    inputs += _shifted(constants, t * c)
    seen = fields + _shifted(constants, c) + _shifted(fields, c + k)
    q = model.tokenizer.n_coefficients
    columns = _spread(inputs, q)
    rows = _spread(fields, q)
    sides = _index(_sides(new.boundaries), _sides(old.boundaries))
    # Along which dimensions a weight has channels, and which of the old ones the new ones are.
    where: dict[str, dict[int, Index]] = {
        "embed.weight": {1: columns},
        "skip.weight": {0: rows, 1: columns},
        "head.weight": {0: rows},
        "head.bias": {0: rows},
        "condition.weight": {1: scalars},
        "boundary.weight": {1: _spread(sides, 2)},
        "detail.read.weight": {1: seen},
        "detail.write.weight": {0: fields},
        "detail.write.bias": {0: fields},
    }
    statistics: dict[str, dict[int, Index]] = {
        "input_scale": {0: inputs},
        "output_scale": {0: fields},
        "conserved": {0: fields},
        **{f"normalizer.{name}": {0: fields} for name in ("mean", "std", "delta_std")},
        **{f"normalizer.constant_{name}": {0: constants} for name in ("mean", "std")},
        **{f"normalizer.scalar_{name}": {0: scalars} for name in ("mean", "std", "log")},
    }
    theirs = model.state_dict()
    for name, value in fresh.state_dict().items():
        if among is not None and name not in among:
            continue
        if name in ("solenoidal", "cell"):
            # Of the grid and the flow of the new data.
            continue
        if name in statistics:
            if keep_statistics and name in theirs:
                value.copy_(_taken(theirs[name], statistics[name], value))
        elif name in theirs:
            value.copy_(_taken(theirs[name], where.get(name, {}), torch.zeros_like(value)))
        elif name == "boundary.weight":
            # The model knew no sides: at first they say nothing, as other new inputs.
            value.zero_()


def _taken(old: Tensor, where: dict[int, Index], rest: Tensor) -> Tensor:
    """The old values where there are such, else those of `rest`."""
    values, there = (
        middle_of(old.to(rest), rest),
        torch.ones((), dtype=torch.bool, device=rest.device),
    )
    for dim, index in where.items():
        known = torch.tensor([i is not None for i in index], dtype=torch.bool, device=rest.device)
        values = _select(values, dim, index)
        there = there & known.view(-1, *(1,) * (rest.ndim - 1 - dim))
    return torch.where(there, values, rest)


def middle_of(kernel: Tensor, like: Tensor) -> Tensor:
    """A kernel, (.., .., *sides), or its middle where the other is shorter."""
    for dim in range(2, like.ndim):
        cut = kernel.shape[dim] - like.shape[dim]
        if cut > 0:
            kernel = kernel.narrow(dim, cut // 2, like.shape[dim])
    return kernel


def _select(values: Tensor, dim: int, index: Index) -> Tensor:
    if not values.shape[dim]:
        return values.new_zeros(*values.shape[:dim], len(index), *values.shape[dim + 1 :])
    places = torch.tensor([i or 0 for i in index], dtype=torch.long, device=values.device)
    return values.index_select(dim, places)


def _index(new: Sequence[object], old: Sequence[object]) -> Index:
    places = {name: place for place, name in enumerate(old)}
    return [places.get(name) for name in new]


def _shifted(index: Index, by: int) -> Index:
    return [None if i is None else i + by for i in index]


def _spread(index: Index, n: int) -> Index:
    """Every channel as its n coefficients."""
    return [None if i is None else i * n + j for i in index for j in range(n)]


def _sides(boundaries: Sequence[tuple[str, str]]) -> list[tuple[int, int, str]]:
    """Those that the model marks, in its order."""
    return [
        (axis, side, kind)
        for axis, pair in enumerate(boundaries)
        for side, kind in enumerate(pair)
        if kind != "periodic"
    ]


def _lines(old: Names, new: Names) -> list[str]:
    """What was taken, what is new and what was dropped, a line for each kind of channel."""
    lines = []
    for kind in KINDS:
        ours, theirs = getattr(old, kind), getattr(new, kind)
        if not ours and not theirs:
            continue
        parts = {
            "taken": [name for name in theirs if name in ours],
            "new": [name for name in theirs if name not in ours],
            "dropped": [name for name in ours if name not in theirs],
        }
        said = "; ".join(f"{how} {listed(names)}" for how, names in parts.items() if names)
        lines.append(f"{kind}: {said}")
    if old.history != new.history:
        lines.append(f"history: {new.history} frames, {min(old.history, new.history)} taken")
    if old.boundaries != new.boundaries:
        lines.append(f"boundaries: {new.boundaries} for {old.boundaries}")
    return lines
