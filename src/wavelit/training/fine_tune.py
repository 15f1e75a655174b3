"""A trained joint model made ready for other datasets: what it knows is taken by name.

    joint = for_dataset(wavelit.load("runs/joint"), "datasets/mine")

The trunk is taken whole. A dataset starts from the system of its own name, else from the nearest
one: that which has most fields in common, by name and tensor order, then constant fields, scalars
and sides. Its private parts are those of the channels that both have (`wavelit.training.transfer`);
a vocabulary of fields is taken as it is. What reads a new channel begins at zero, so that at first
the prediction of the others is what it was. Statistics and calibration are those of the new data,
but for constant fields and scalars that the system knows.

Calibration reads windows of data, of which `wavelit.model` knows nothing: this is no method of the
model.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from wavelit.checks.arguments import listed, require_instance, require_whole
from wavelit.data.datamodule import WellDataModule
from wavelit.data.format.folder import address
from wavelit.data.joint import JointDataModule, of_system
from wavelit.data.signature import signature_of
from wavelit.errors import WavelitError, printable
from wavelit.model.config import narrowest_mixers
from wavelit.model.foundation import JointWaveLiT, SystemEmulator
from wavelit.model.joint_config import SystemConfig, constants_of, scalars_of
from wavelit.model.signature import Quantity, Signature
from wavelit.model.vocabulary import key_of, number_of
from wavelit.training.data_scales import calibrate
from wavelit.training.joint import JointTrainConfig
from wavelit.training.rank_zero import is_first
from wavelit.training.transfer import (
    config_for,
    keep_known,
    middle_of,
    names_of,
    require_axes,
    take,
    with_known_scalars,
)

__all__ = [
    "Start",
    "as_joint",
    "for_dataset",
    "made_ready",
    "rank_of",
    "starts_of",
    "with_histories",
]

# Of the terms that low-rank training adds to a model without any.
RANK = 4


@dataclasses.dataclass(frozen=True)
class Start:
    """What a dataset starts from.

    Args:
        system: The system of the trained model.
        reached: Fields that the trained model can give, by name and tensor order: those of the
            system, with a vocabulary of fields those of all systems.
        signature: Of the dataset, with the ranges of scalars that the system knows.
        channels: Channels that the system reads and gives, where these are its own: a component of
            a vector is known by its name as well.
    """

    system: str
    reached: frozenset[tuple[str, int]]
    signature: Signature
    channels: frozenset[str] = frozenset()

    @property
    def taken(self) -> list[Quantity]:
        """Fields of the dataset that are known; if none is, nothing but the trunk is taken."""
        return [
            each
            for each in self.signature.fields
            if (each.name, each.order) in self.reached or self.channels.issuperset(each.channels)
        ]


def for_dataset(
    model: JointWaveLiT | SystemEmulator,
    data: WellDataModule | str | os.PathLike[str],
    start: str | None = None,
    *,
    rank: int = 0,
    seed: int = 0,
) -> JointWaveLiT:
    """The joint model of one system, made ready for a dataset: to be trained further, or used.

    Args:
        model: A trained joint model, or one of its systems; it stays as it is.
        data: The dataset; a folder is read with the history of the system that it starts from.
        start: The system to start from; that of the dataset's name, or the nearest, if absent.
        rank: Rank of terms that the system adds to the trunk's linear maps; 0: as in the model.
        seed: Of the weights that are new, and of the windows that calibration looks at.

    Raises:
        WavelitError: A model that is not joint, or knows no system of that name; data of other
            dimensions, or that cannot be read.
    """
    model = as_joint(model)
    if isinstance(data, WellDataModule):
        return made_ready(model, JointDataModule([data]), start, rank=rank, seed=seed)
    joint = with_histories(model, JointDataModule([address(data, "data")]), start)
    return made_ready(model, joint, start, rank=rank, seed=seed)


def as_joint(model: Any) -> JointWaveLiT:
    """A joint model as it is, and one of its systems as a joint model of it alone.

    Raises:
        WavelitError: It is neither.
    """
    if isinstance(model, SystemEmulator):
        return model.alone()
    require_instance("model", model, JointWaveLiT, "give a joint model, or one of its systems")
    assert isinstance(model, JointWaveLiT)
    return model


def rank_of(train: JointTrainConfig, model: JointWaveLiT) -> int:
    """The rank that a recipe asks of a model; 0 where it has terms of low rank already."""
    return RANK if train.trunk == "low-rank" and not model.config.rank else 0


def with_histories(
    model: JointWaveLiT, data: JointDataModule, start: str | None = None
) -> JointDataModule:
    """The datasets, each with as many frames of history as the system that it starts from reads."""
    systems = {}
    for name, begun in starts_of(model, data, start).items():
        history = model.config.system(begun.system).model.n_steps_input
        systems[name] = data.systems[name].replaced(n_steps_input=history)
    return JointDataModule(systems, data.shares, data.seed)


def starts_of(
    model: JointWaveLiT, data: JointDataModule, start: str | None = None
) -> dict[str, Start]:
    """What every dataset starts from.

    Args:
        model: The trained model.
        data: The datasets.
        start: The system to start from, of one dataset.

    Raises:
        WavelitError: Data of other dimensions, no such system, or a start for several datasets.
    """
    if start is not None:
        model.config.system(start)
        if len(data.systems) > 1:
            raise WavelitError(
                f"system {start} is what one dataset starts from, and {listed(data.systems)} came: "
                "leave it out, each starts from the system of its name or the nearest"
            )
    found = {}
    for name, system in data.systems.items():
        with of_system(name):
            require_axes(model.config.architecture.spatial, system)
            signature = signature_of(system)
        common = {
            each: _common(other.signature, signature)
            for each, other in model.config.systems.items()
            if start in (None, each)
        }
        best = max(common, key=lambda each: (bool(common[each][0]) and each == name, common[each]))
        among = list(model) if model.config.adapters == "field" else [best]
        reached = [model.config.system(each).signature.fields for each in among]
        names = frozenset((field.name, field.order) for fields in reached for field in fields)
        source = model.config.system(best).signature
        own = source.field_names if model.config.adapters == "system" else ()
        known = with_known_scalars(source, signature)
        found[name] = Start(best, names, known, frozenset(own))
    return found


def made_ready(
    model: JointWaveLiT,
    data: JointDataModule,
    start: str | None = None,
    *,
    rank: int = 0,
    seed: int = 0,
) -> JointWaveLiT:
    """A joint model of the datasets that knows what the trained one does; what it took of which
    system is said in a line each.

    Args:
        model: A trained joint model; it stays as it is.
        data: The datasets, by the names of their systems.
        start: As for `starts_of`.
        rank: As for `for_dataset`.
        seed: As for `for_dataset`.

    Raises:
        WavelitError: As for `starts_of`; or systems that cannot share a trunk.
    """
    if model.config.rank and require_whole("rank", rank, 0) not in (0, model.config.rank):
        raise WavelitError(
            f"the model has terms of rank {model.config.rank}, not {rank}: leave rank out"
        )
    starts = starts_of(model, data, start)
    configs = {}
    for name, begun in starts.items():
        with of_system(name):
            source = model.config.system(begun.system)
            configs[name] = config_for(source.model, data.systems[name])
    if len({config.mixers for config in configs.values()}) > 1:
        # A trunk has one.
        mixers = narrowest_mixers([*configs.values()])
        configs = {k: dataclasses.replace(each, mixers=mixers) for k, each in configs.items()}
    systems = {
        name: SystemConfig(config, starts[name].signature) for name, config in configs.items()
    }
    rank = model.config.rank or rank
    joint = JointWaveLiT(dataclasses.replace(model.config, systems=systems, seed=seed, rank=rank))
    _take_shared(model, joint)
    for name, begun in starts.items():
        if begun.taken:
            _quieten_new(model, joint, name)
            _take_private(model[begun.system], joint, name)
        system = data.systems[name]
        with of_system(name):
            joint[name].normalizer.set_statistics(system.statistics)
            known = dict(model[begun.system].normalizer.named_buffers())
            theirs = model.config.system(begun.system).signature
            keep_known(known, joint[name], theirs, begun.signature)
            calibrate(joint[name], system, number_of(seed, "calibration", name))
        _tell(name, system, begun, model.config.system(begun.system).signature)
    joint.mark_trained()
    return joint.train(model.training)


def _common(ours: Signature, theirs: Signature) -> tuple[int, ...]:
    """How many fields, constant fields, scalars and sides two systems have in common."""

    def parts(signature: Signature) -> Iterator[set[Any]]:
        yield {(each.name, each.order) for each in signature.fields}
        yield {(each.name, each.order) for each in constants_of(signature)}
        yield set(scalars_of(signature))
        sides = signature.boundary_conditions
        yield {(axis, side, sides[axis][side]) for axis in range(len(sides)) for side in (0, 1)}

    return tuple(len(a & b) for a, b in zip(parts(ours), parts(theirs), strict=True))


@torch.no_grad()
def _take_shared(model: JointWaveLiT, joint: JointWaveLiT) -> None:
    """The trunk and the vocabulary, by name."""
    known = model.state_dict()
    for name, value in joint.state_dict().items():
        if not name.startswith("systems.") and name in known:
            value.copy_(middle_of(known[name], value))


@torch.no_grad()
def _take_private(source: SystemEmulator, joint: JointWaveLiT, name: str) -> None:
    """What is a system's own: of its channels, and of its scalars where these are not shared."""
    fresh, prefix = joint[name], f"systems.{key_of(name)}."
    assert source.signature is not None
    assert fresh.signature is not None
    own = {
        key.removeprefix(prefix)
        for key in joint.state_dict()
        if key.startswith(prefix) and not key.startswith(f"{prefix}pieces.")
    }
    take(source, fresh, names_of(source.signature), names_of(fresh.signature), among=own)
    pieces = dict(zip(scalars_of(source.signature), source.pieces, strict=True))
    for scalar, piece in zip(scalars_of(fresh.signature), fresh.pieces, strict=True):
        if scalar in pieces:
            piece.copy_(pieces[scalar])


@torch.no_grad()
def _quieten_new(model: JointWaveLiT, joint: JointWaveLiT, name: str) -> None:
    """What reads fields, sides and scalars that the trained model does not know begins at zero."""
    known, fresh = model.state_dict().keys(), joint[name]
    new = {
        id(parameter)
        for key, parameter in joint.named_parameters()
        if key.startswith("systems.") or key not in known
    }
    readers = (fresh.embed, fresh.boundary, None if fresh.detail is None else fresh.detail.read)
    blocks = [block for reader in readers for block in getattr(reader, "blocks", ())]
    for block in (*blocks, *fresh.pieces):
        if id(block) in new:
            block.zero_()


def _tell(name: str, data: WellDataModule, begun: Start, source: Signature) -> None:
    """Say in a line what was taken, or warn that nothing could be but the trunk; of constants, what
    differs from those of the system that it starts from.
    """
    fields, taken = begun.signature.fields, begun.taken
    start = printable(begun.system, 60)
    if not taken:
        theirs = sorted({field for field, _ in begun.reached})
        other = [each for each in _names(fields) if each in theirs]
        order = f" ({listed(other, 60)}: of another tensor order)" if other else ""
        warnings.warn(
            f"{data.path} has the fields {listed(_names(fields), 60)}, none of them among those "
            f"that a start from {start} knows, {listed(theirs, 60)}{order}: the trunk alone is "
            "taken over, the rest is new",
            stacklevel=3,
        )
        return
    parts = {"taken": taken, "new": [each for each in fields if each not in taken]}
    said = "; ".join(f"{how} {listed(_names(each))}" for how, each in parts.items() if each)
    ours, theirs = (_names(constants_of(each)) for each in (begun.signature, source))
    differ = {
        "new": [each for each in ours if each not in theirs],
        "dropped": [each for each in theirs if each not in ours],
    }
    if any(differ.values()):
        words = (f"{how} {listed(names)}" for how, names in differ.items() if names)
        said += f"; constants {', '.join(words)}"
    if is_first():
        print(f"{printable(name, 60)} starts from {start}: fields {said}", flush=True)


def _names(fields: Sequence[Quantity]) -> list[str]:
    return [each.name for each in fields]
