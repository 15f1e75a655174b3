"""The joint model: one trunk for several systems, each of them an emulator of its own.

    joint = JointWaveLiT.from_pretrained("runs/joint/weights")
    joint["rayleigh_benard"](fields, constants, scalars)  # the next state, in physical units

A system is a `WaveLiT` whose blocks are those of all, so that rollouts, scores and reports take it
as it is. Its own are: the linear skip, statistics, scales, kept means, what the blocks are told of
it (`conditioner`), what reads and writes its fields, or their places in a vocabulary of fields
(`vocabulary`), and parts of the blocks where the configuration says so (`block_adapters`). Its
parts are kept by name and drawn from a stream of that name: other systems that come, go, or stand
before it change nothing of it.

References:
    McCabe et al., Multiple Physics Pretraining, 2024, arXiv 2310.02994 (fields by name).
    Sankaran, Wang, Perdikaris, 2026, arXiv 2605.25949 trains one WaveLiT on eight systems; how it
    reads different fields is not stated there and is a choice made here.
"""

# No postponed annotations here: the hub mixin reads the type of `config` from the constructor's
# signature.

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from typing_extensions import Self

from wavelit.checks.arguments import listed
from wavelit.errors import WavelitError
from wavelit.model.block_adapters import own_blocks
from wavelit.model.conditioner import (
    SPREAD,
    Conditioner,
    grid_facts,
    one_hot_sides,
    spread_out,
)
from wavelit.model.config import WaveLiTConfig
from wavelit.model.joint_config import TRUNK, JointConfig, SystemConfig, scalars_of
from wavelit.model.pretrained import read_joint, write_joint
from wavelit.model.signature import Signature
from wavelit.model.vocabulary import Vocabulary, key_of, seeded
from wavelit.model.wavelit import WaveLiT

__all__ = ["JointWaveLiT", "SystemEmulator", "Trunk"]


class Trunk(nn.Module):
    """Blocks, their last norm, and what tells them of a system.

    Args:
        config: A system's; its layout does not matter.
        seed: Of the initial weights.
        names: Of the stream that they are drawn from.
    """

    def __init__(self, config: WaveLiTConfig, seed: int, *names: str) -> None:
        super().__init__()
        # Only what makes up a trunk counts; with a scalar the blocks have a modulation.
        whole = WaveLiTConfig(
            n_fields=1, n_scalars=1, **{entry: getattr(config, entry) for entry in TRUNK}
        )
        with seeded(seed, "trunk", *names):
            donor = WaveLiT(whole)
        self.pyramid, self.norm = donor.pyramid, donor.norm
        self.conditioner = Conditioner(whole.condition_dim, config.spatial, seed, *names)
        self.scalars = Vocabulary(seed)

    def pieces(self, scalars: Sequence[str]) -> list[nn.Parameter]:
        """For every scalar what its presence and its value add to the condition, (2, E_c)."""
        shape = (2, self.conditioner.dim)
        return [self.scalars.block("scalar", name, shape=shape, bound=SPREAD) for name in scalars]


class SystemEmulator(WaveLiT):
    """One system of a joint model: a WaveLiT whose blocks are those of the trunk.

    Saved by itself it is a joint model of one system.

    Args:
        config: Its architecture and the layout of its data.
        name: Its name in the joint model.
        joint: The joint model's configuration.
        trunk: What runs it.
        vocabulary: What reads and writes its fields, by configuration, and the convolution between
            at full resolution, which a shared trunk has; None: it has weights of its own.
    """

    def __init__(
        self,
        config: WaveLiTConfig,
        name: str,
        joint: JointConfig,
        trunk: Trunk,
        vocabulary: Vocabulary | None,
    ) -> None:
        super().__init__(config)
        self.name, self.joint_config = name, joint
        signature = joint.system(name).signature
        self.signature: Signature | None = signature
        self.condition = None
        self.pyramid, self.norm, self.conditioner = trunk.pyramid, trunk.norm, trunk.conditioner
        if joint.rank or joint.own:
            self.pyramid = own_blocks(trunk.pyramid, joint.rank, joint.own)
        self.pieces = nn.ParameterList(trunk.pieces(scalars_of(signature)))
        self.embedding = spread_out(trunk.conditioner.dim) if joint.system_embedding else None
        self.register_buffer("sides", one_hot_sides(config.boundary_conditions), persistent=False)
        self.register_buffer("facts", grid_facts(signature), persistent=False)
        self.sides: Tensor
        self.facts: Tensor
        if vocabulary is not None and joint.adapters == "field":
            vocabulary.furnish(self, signature)
        if vocabulary is not None and joint.trunk == "shared":
            vocabulary.furnish_middle(self)

    def _condition(self, scalars: Tensor | None) -> Tensor:
        seen = None
        if scalars is not None and self.config.condition:
            seen = self.normalizer.scalars(scalars)
        condition: Tensor = self.conditioner(
            seen, list(self.pieces), self.sides, self.facts, self.embedding
        )
        return condition

    def alone(self) -> "JointWaveLiT":
        """A joint model of this system alone, with a copy of its weights."""
        systems = {self.name: self.joint_config.system(self.name)}
        joint = JointWaveLiT(dataclasses.replace(self.joint_config, systems=systems))
        joint[self.name].load_state_dict(self.state_dict())
        joint[self.name].trained = self.trained
        return joint.train(self.training)

    def _save_pretrained(self, save_directory: Path) -> None:
        alone = self.alone()
        write_joint(save_directory, alone, alone.config)


class JointWaveLiT(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="wavelit",
    license="mit",
    tags=["PDE", "emulator", "wavelets"],
):
    """Emulators of several systems by name, which share a trunk.

    Args:
        config: The systems, and what they share.
    """

    def __init__(self, config: JointConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = Trunk(config.architecture, config.seed) if config.trunk == "shared" else None
        by_field, shared = config.adapters == "field", self.trunk is not None
        self.vocabulary = Vocabulary(config.seed) if by_field or shared else None
        self.systems = nn.ModuleDict()
        for name, system in config.systems.items():
            trunk = self.trunk or Trunk(system.model, config.seed, name)
            with seeded(config.seed, "system", name):
                self.systems[key_of(name)] = SystemEmulator(
                    system.model, name, config, trunk, self.vocabulary
                )
        self.require_gradients()
        self.register_state_dict_post_hook(_leave_out_repeated)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_repeat)  # type: ignore[no-untyped-call]

    def __getitem__(self, name: str) -> SystemEmulator:
        """The emulator of the system `name`.

        Raises:
            WavelitError: The model knows none of that name; the message lists those that it knows.
        """
        self.config.system(name)
        system = self.systems[key_of(name)]
        assert isinstance(system, SystemEmulator)
        return system

    def forward(self, *_: Any, **__: Any) -> Tensor:
        """Refused: predictions are those of one system, `model[name]`.

        Raises:
            WavelitError: Always.
        """
        raise WavelitError(
            f"a joint model predicts one of its systems, {listed(list(self))}: name it, "
            f'model["{next(iter(self))}"]'
        )

    predict = forward

    def __iter__(self) -> Iterator[str]:
        """Names of the systems, in their order."""
        return iter(self.config.systems)

    def __len__(self) -> int:
        return len(self.config.systems)

    def __contains__(self, name: object) -> bool:
        return name in self.config.systems

    def items(self) -> Iterator[tuple[str, SystemEmulator]]:
        """Names and emulators."""
        return ((name, self[name]) for name in self)

    def values(self) -> Iterator[SystemEmulator]:
        """Emulators, in the order of their names."""
        return (self[name] for name in self)

    def require_gradients(self) -> None:
        """Let everything be trained that a system runs through. What all systems have a copy of
        for themselves stays in the trunk as it was at the start, for systems to come.
        """
        used = self._used()
        for parameter in self.parameters():
            parameter.requires_grad_(id(parameter) in used)

    def _used(self) -> set[int]:
        """Which parameters a system runs through."""
        return {id(parameter) for system in self.values() for parameter in system.parameters()}

    @property
    def n_parameters(self) -> int:
        """Trainable parameters that are stored, of all systems."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    @property
    def n_shared(self) -> int:
        """Parameters that every system runs through."""
        common: dict[int, int] | None = None
        for system in self.values():
            own = {id(p): p.numel() for p in system.parameters()}
            common = own if common is None else {k: n for k, n in common.items() if k in own}
        return sum((common or {}).values())

    def describe(self) -> str:
        """In a sentence what is stored and what is shared."""
        active = [system.n_parameters for system in self.values()]
        return (
            f"{len(self)} systems: {self.n_parameters:,} parameters stored; "
            f"{min(active):,} to {max(active):,} active for a system, of which {self.n_shared:,} "
            f"are shared by all ({self.n_shared / max(active):.0%} to "
            f"{self.n_shared / min(active):.0%})"
        )

    def checkpoint_activations(self, enabled: bool) -> None:
        """Keep only the blocks' inputs for the backward pass."""
        for system in self.values():
            system.checkpoint_activations(enabled)

    def trunk_parameters(self) -> list[nn.Parameter]:
        """Blocks, their last norm, the conditioning and the convolution between those that read and
        write, of all trunks; without what a system has for itself in blocks of others.
        """
        trunks = [self.trunk] if self.trunk is not None else self.values()
        parts: list[nn.Module] = []
        for each in trunks:
            parts += [each.pyramid, each.norm, each.conditioner]
        parts += [each.detail.mix for each in self.values() if each.detail is not None]
        used = self._used()
        found = {id(parameter): parameter for part in parts for parameter in part.parameters()}
        return [parameter for key, parameter in found.items() if key in used]

    @property
    def trained(self) -> bool:
        """Whether all systems come from a training: further training then is fine-tuning."""
        return all(system.trained for system in self.values())

    def mark_trained(self) -> None:
        """Say of every system that it has been trained, as `IncrementEmulator.trained` does."""
        for system in self.values():
            system.trained = True

    def with_systems(
        self, systems: Mapping[str, SystemConfig], renamed: Mapping[str, str] | None = None
    ) -> "JointWaveLiT":
        """A joint model of these systems: what has a name that is known keeps its values.

        Args:
            systems: All systems that it is to have.
            renamed: For a system that was called otherwise, its name here.

        Returns:
            A new model, in evaluation mode if this one is.

        Raises:
            WavelitError: Systems that cannot share a trunk, or another layout under a known name.
        """
        joint = JointWaveLiT(dataclasses.replace(self.config, systems=systems))
        before = {key_of(new): key_of(old) for old, new in (renamed or {}).items()}
        known, state = self.state_dict(), {}
        for key, value in joint.state_dict().items():
            parts = key.split(".")
            if parts[0] == "systems":
                parts[1] = before.get(parts[1], parts[1])
            kept = known.get(".".join(parts))
            if kept is not None and kept.shape != value.shape:
                raise WavelitError(
                    f"{key} has shape {tuple(kept.shape)} in the model and {tuple(value.shape)} "
                    "for these data: give the system another name"
                )
            state[key] = value if kept is None else kept
        joint.load_state_dict(state)
        return joint.train(self.training)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        name: str | os.PathLike[str],
        *,
        map_location: str | torch.device = "cpu",
        strict: bool = True,
        **hub: Any,
    ) -> Self:
        """A trained joint model.

        Args:
            name: A run folder, a folder that `save_pretrained` wrote, or a name on the Hugging Face
                hub.
            map_location: Where its weights go.
            strict: Whether the weights must be all that the configuration asks for, and no others.
            **hub: For a name on the hub, what `huggingface_hub.hf_hub_download` takes.

        Raises:
            WavelitError: No such model, one of a single system that is not joint, an entry that
                this version does not know, or weights that are damaged, not finite or of another
                model.
        """
        model = read_joint(name, cls, map_location, strict, **hub)
        model.mark_trained()
        return model

    def _save_pretrained(self, save_directory: Path) -> None:
        """What `save_pretrained` and `push_to_hub` write; the card is theirs."""
        write_joint(save_directory, self, self.config)


def _repeated(module: nn.Module) -> dict[str, str]:
    """Names under which a shared parameter stands once more, and its first name."""
    first: dict[int, str] = {}
    again = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if first.setdefault(id(parameter), name) != name:
            again[name] = first[id(parameter)]
    return again


def _leave_out_repeated(
    module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any
) -> None:
    for name in _repeated(module):
        state.pop(f"{prefix}{name}", None)


def _repeat(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, first in _repeated(module).items():
        if f"{prefix}{first}" in state:
            state[f"{prefix}{name}"] = state[f"{prefix}{first}"]
