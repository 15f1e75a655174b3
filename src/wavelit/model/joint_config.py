"""What determines a joint model: its systems by name, what they share, and presets.

A system is a configuration of `WaveLiT` with the signature of its dataset. All systems run through
one trunk, so their architectures agree in what makes up a trunk. Systems are kept in the order of
their names: in which order they are given changes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wavelit.checks.arguments import listed, require_name, require_names, require_whole, shown
from wavelit.checks.settings import check_types, from_mapping, require_mapping
from wavelit.errors import WavelitError, printable
from wavelit.model.config import WaveLiTConfig
from wavelit.model.signature import Quantity, Signature
from wavelit.model.units import same_unit

__all__ = [
    "BASE",
    "JOINT_PRESETS",
    "TRUNK",
    "JointConfig",
    "SystemConfig",
    "constants_of",
    "scalars_of",
]

ADAPTERS = ("field", "system")
TRUNKS = ("shared", "private")
# What of shared blocks a system can have for itself (`wavelit.model.block_adapters`).
OWN = ("stencils", "gains", "outputs")
# What a trunk is made of: systems that share one agree in it.
TRUNK = (
    "spatial",
    "embed_dim",
    "num_heads",
    "depth",
    "mlp_ratio",
    "num_scales",
    "num_exchanges",
    "shared",
    "feature_map",
    "centre",
    "gate",
    "local",
    "layer_scale",
    "mixers",
    "wall_padding",
)

BASE = "nano"
"""The preset of a system whose entries a joint one does not name."""

JOINT_PRESETS: dict[str, dict[str, Any]] = {
    "joint-1M": {"embed_dim": 144, "own": ("stencils", "gains")},
    "joint-10M": {
        "embed_dim": 256,
        "num_heads": 8,
        "depth": 12,
        "num_scales": 3,
        "num_exchanges": 3,
        "mixers": "attention",
        "detail_dim": 0,
        "detail_gate": False,
        "detail_bound": False,
    },
}
"""Each preset's difference from `BASE`, and from the defaults of `JointConfig`."""


@dataclass(frozen=True)
class SystemConfig:
    """One system of a joint model.

    Args:
        model: The architecture and the layout of its data.
        signature: What it takes and gives, by name.

    Raises:
        WavelitError: The signature names another number of channels.
    """

    model: WaveLiTConfig
    signature: Signature

    def __post_init__(self) -> None:
        self.signature.require_counts(
            self.model.n_fields, self.model.n_constant_fields, self.model.n_scalars
        )


@dataclass(frozen=True)
class JointConfig:
    """All that determines a joint model.

    Args:
        systems: Each system by its name.
        adapters: What reads and writes fields is learnt for every "system"; or for every "field",
            by name and tensor order, and shared by the systems that have it, which learnt less in
            equal time (docs/transfer.md).
        trunk: "shared" by all systems, or "private" to each: the control.
        system_embedding: Whether the blocks are told the name of the system; without it they know
            its PDE scalars, boundaries, spacing and time step alone.
        rank: Of the terms that each system adds to the linear maps of shared blocks; 0: none.
        own: What of shared blocks each system has for itself: "stencils", "gains", "outputs"
            (`wavelit.model.block_adapters`).
        seed: Of the initial weights; every part has a stream of its own, by its name.

    Raises:
        WavelitError: No system, systems that cannot share a trunk, or one name for two things.
    """

    systems: Mapping[str, SystemConfig]
    adapters: str = "system"
    trunk: str = "shared"
    system_embedding: bool = True
    rank: int = 0
    own: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        require_name("adapters", self.adapters, ADAPTERS)
        require_name("trunk", self.trunk, TRUNKS)
        require_whole("rank", self.rank, 0)
        own = require_names("own", self.own, 0)
        for name in own:
            require_name("own", name, OWN)
        object.__setattr__(self, "own", tuple(own))
        if self.trunk == "private" and (self.rank or own):
            raise WavelitError(
                "rank and own are what a system adds to a shared trunk: leave them out with "
                "trunk private"
            )
        require_whole("seed", self.seed, 0, 2**63 - 1)
        if not self.systems:
            raise WavelitError("a joint model needs a system: name one dataset at least")
        if empty := [name for name in self.systems if not isinstance(name, str) or not name]:
            raise WavelitError(f"a system's name must be text, not {shown(empty[0])}")
        object.__setattr__(self, "systems", dict(sorted(self.systems.items())))
        _require_one_trunk(self.systems)
        _require_one_meaning(self.systems)

    @property
    def architecture(self) -> WaveLiTConfig:
        """Of the first system; what makes up the trunk is the same for all."""
        return next(iter(self.systems.values())).model

    def system(self, name: str) -> SystemConfig:
        """The system of that name.

        Raises:
            WavelitError: There is none.
        """
        if name not in self.systems:
            raise WavelitError(
                f"the joint model knows no system {shown(name)}: it has {listed(self.systems)}; "
                "name one of them, or train a model with it"
            )
        return self.systems[name]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and text, as JSON has them."""
        entries = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "systems"
        }
        systems = {
            name: {
                "model": dataclasses.asdict(system.model),
                "signature": system.signature.to_dict(),
            }
            for name, system in self.systems.items()
        }
        return {"joint": entries, "systems": systems}

    @classmethod
    def from_dict(cls, content: Any, where: str) -> JointConfig:
        """The inverse of `to_dict`.

        Args:
            content: What was read.
            where: The file, for errors.

        Raises:
            WavelitError: It is of a bespoke model, damaged, or has an unknown entry.
        """
        if isinstance(content, Mapping) and "joint" not in content and "n_fields" in content:
            raise WavelitError(
                f"{where} is of a model of one system: load it by WaveLiT.from_pretrained"
            )
        require_mapping(where, content, {"joint", "systems"})
        entries, systems = (content.get(name) for name in ("joint", "systems"))
        known = {field.name for field in dataclasses.fields(cls)} - {"systems"}
        require_mapping(f"{where}, joint", entries, known)
        require_mapping(f"{where}, systems", systems)
        assert isinstance(entries, Mapping)
        assert isinstance(systems, Mapping)
        built = {}
        for name, system in systems.items():
            here = f"{where}, systems, {printable(name, 60)}"
            require_mapping(here, system, {"model", "signature"})
            model = from_mapping(WaveLiTConfig, system.get("model"), f"{here}, model")
            signature = Signature.from_dict(system.get("signature"), f"{here}, signature")
            built[name] = _refused_at(here, lambda m=model, s=signature: SystemConfig(m, s))
        joint: JointConfig = _refused_at(where, lambda: cls(systems=built, **entries))
        return joint


def constants_of(signature: Signature) -> tuple[Quantity, ...]:
    """The quantities of a model's constant channels in their order, forcings twice among them."""
    given = [
        Quantity(
            f"{each.name} ({when})",
            tuple(f"{channel} ({when})" for channel in each.channels),
            each.order,
            each.unit,
        )
        for when in ("now", "next")
        for each in signature.forcing_fields
    ]
    return (*signature.constants, *given)


def scalars_of(signature: Signature) -> tuple[str, ...]:
    """What a model's scalars are called among all systems: by name, and whether their logarithm is
    seen, as `wavelit.model.normalizer` has it.
    """
    names = []
    for each in signature.scalars:
        low, high = (0.0, 0.0) if each.ranges is None else each.ranges[0]
        names.append(f"log {each.name}" if low > 0 and high > 10 * low else each.name)
    given = [each.name for each in signature.forcing_scalars]
    return (*names, *(f"{name} ({when})" for when in ("now", "next") for name in given))


def _require_one_trunk(systems: Mapping[str, SystemConfig]) -> None:
    (first, one), *others = systems.items()
    for name, other in others:
        for entry in TRUNK:
            ours, theirs = getattr(one.model, entry), getattr(other.model, entry)
            if ours == theirs:
                continue
            if entry == "spatial":
                raise WavelitError(
                    f"system '{printable(first, 60)}' has {ours} axes, '{printable(name, 60)}' has "
                    f"{theirs}: one trunk works on one dimension, so train them apart"
                )
            raise WavelitError(
                f"system '{printable(first, 60)}' has {entry} {ours}, '{printable(name, 60)}' "
                f"{theirs}: a trunk has one; give both the same"
            )


def _require_one_meaning(systems: Mapping[str, SystemConfig]) -> None:
    orders: dict[tuple[str, str], tuple[str, int]] = {}
    units: dict[str, tuple[str, str]] = {}
    kinds = ("scalar", "vector", "tensor of order 2")
    for system, config in systems.items():
        signature = config.signature
        parts = {"field": signature.fields, "constant field": constants_of(signature)}
        for part, quantities in parts.items():
            for each in quantities:
                other, order = orders.setdefault((part, each.name), (system, each.order))
                if order != each.order:
                    raise WavelitError(
                        f"{part} '{printable(each.name, 60)}' is a {kinds[order]} in system "
                        f"'{printable(other, 60)}' and a {kinds[each.order]} in "
                        f"'{printable(system, 60)}': rename it in one of the datasets"
                    )
        for each in (*signature.scalars, *signature.forcing_scalars):
            if not each.unit:
                continue
            other, unit = units.setdefault(each.name, (system, each.unit))
            if not same_unit(unit, each.unit):
                raise WavelitError(
                    f"scalar '{printable(each.name, 60)}' is in {printable(unit, 40)} in system "
                    f"'{printable(other, 60)}' and in {printable(each.unit, 40)} in "
                    f"'{printable(system, 60)}': write it in one unit, or rename it in one"
                )


def _refused_at(where: str, build: Any) -> Any:
    try:
        return build()
    except WavelitError as error:
        raise WavelitError(f"{where}: {error}") from error
    except TypeError as error:
        raise WavelitError(f"{where}: {printable(error)}; write it again") from error
