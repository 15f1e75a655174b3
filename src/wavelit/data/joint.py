"""Several datasets as one: every training step has a batch of each, or of a stated share of them.

A system is a dataset with a name. Step k has the systems that are due at it: one of share p takes
part in a share p of the steps, evenly spaced, so that after k steps it has had p k batches, give or
take one. Its batches come from a stream of its own, drawn by the seed and its name. A step is a
function of the seed and its number alone, and the sizes of the datasets play no part.
"""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import cached_property
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from wavelit.checks.arguments import listed, require_instance, require_real, require_whole, shown
from wavelit.data.batch import Batch
from wavelit.data.datamodule import WellDataModule
from wavelit.data.format.folder import address
from wavelit.data.sampling import StepBatchSampler
from wavelit.errors import WavelitError, printable
from wavelit.model.vocabulary import number_of

__all__ = ["JointBatch", "JointDataModule", "JointSampler", "by_own_name", "of_system"]

JointBatch = dict[str, Batch]
"""The batches of a step, or the single one of a validation, by the names of their systems."""

# Shares are fractions with denominators up to this.
FINEST = 1000


@contextmanager
def of_system(name: str) -> Iterator[None]:
    """Errors within name the system."""
    try:
        yield
    except WavelitError as error:
        raise WavelitError(f"system '{printable(name, 60)}': {error}") from error


class JointSampler:
    """Which systems make up a training step, and which samples of each.

    `first_step` and `n_steps` are plain attributes, to be set before the loaders start: that is all
    a resumed run has to do.

    Args:
        streams: The stream of batches of every system, by name.
        shares: The share of the steps that each takes part in.
    """

    def __init__(
        self, streams: Mapping[str, StepBatchSampler], shares: Mapping[str, float]
    ) -> None:
        self.streams = dict(streams)
        self.first_step = 0
        self.n_steps: int | None = None
        self._shares = {
            name: Fraction(share).limit_denominator(FINEST) for name, share in shares.items()
        }
        # Where the systems of a small share begin, so that they do not all meet in one step.
        self._phases = {
            name: Fraction(number_of(0, "phase", name) % FINEST, FINEST) for name in shares
        }

    def count(self, name: str, step: int) -> int:
        """Batches of a system in the steps before `step`."""
        return int(self._shares[name] * step + self._phases[name])

    def names(self, step: int) -> list[str]:
        """The systems of a step."""
        return [
            name for name in self.streams if self.count(name, step + 1) > self.count(name, step)
        ]

    def indices(self, step: int) -> dict[str, list[int]]:
        """Indices of the samples of a step, for every system in it."""
        return {
            name: self.streams[name].indices(self.count(name, step)) for name in self.names(step)
        }

    def __iter__(self) -> Iterator[list[str]]:
        """The systems of every step, in turn."""
        steps = (
            itertools.count(self.first_step)
            if self.n_steps is None
            else range(self.first_step, self.n_steps)
        )
        return map(self.names, steps)


class JointDataModule(pl.LightningDataModule):
    """Batches of several dataset folders for the training and validation of a joint model.

    Args:
        systems: Datasets by name; or datasets alone, which are called as their files say.
            A dataset is a folder, or a data module.
        shares: For every system that is not in every step, the share of the steps that it takes
            part in, above 0 and at most 1; one system at least is in every step.
        seed: Of the streams of training batches.
        **options: Of `WellDataModule`, for the folders; a data module has its own.

    Raises:
        WavelitError: No dataset, two of one name, an unknown name among the shares, options and no
            folder, or a dataset that cannot be read; it names the system.
    """

    def __init__(
        self,
        systems: Mapping[str, Any] | Sequence[Any],
        shares: Mapping[str, float] | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        self.seed = require_whole("seed", seed, 0, 2**63 - 1)
        if not isinstance(systems, Mapping | list | tuple) or not systems:
            raise WavelitError(
                f"name the datasets of a joint model, one at least, not {shown(systems)}"
            )
        for name in systems if isinstance(systems, Mapping) else ():
            if not isinstance(name, str) or not name:
                raise WavelitError(f"a system's name must be text, not {shown(name)}")
        given = systems.values() if isinstance(systems, Mapping) else systems
        if options and not any(isinstance(each, str | os.PathLike) for each in given):
            raise WavelitError(
                f"options {listed(sorted(options))} are for folders, and each dataset is a data "
                "module, which has its own: leave them out"
            )
        named = (
            {name: _named(name, each, options) for name, each in systems.items()}
            if isinstance(systems, Mapping)
            else by_own_name([_opened(each, options) for each in systems])
        )
        self.systems: dict[str, WellDataModule] = {
            name: _with_seed(data, number_of(self.seed, "batches", name))
            for name, data in sorted(named.items())
        }
        # Of a validation of each system; 0: all windows. A training sets it.
        self.validation_batches = 0
        self.shares = dict.fromkeys(self.systems, 1.0) | _shares(shares or {}, self.systems)
        if max(self.shares.values()) < 1:
            raise WavelitError(
                f"shares are at most {max(self.shares.values()):g}: one system at least takes part "
                "in every step, with share 1"
            )

    @property
    def n_steps_output(self) -> int:
        """Frames of target, the fewest of all systems."""
        return min(data.n_steps_output for data in self.systems.values())

    @property
    def batch_size(self) -> float:
        """Samples of a step and process, on average over the steps."""
        return sum(
            float(self.shares[name]) * data.batch_size for name, data in self.systems.items()
        )

    @cached_property
    def train_sampler(self) -> JointSampler:
        """Which systems and samples make up a step; built on first use, so the Trainer must be
        attached by then to share steps.
        """
        streams = {}
        for name, data in self.systems.items():
            data.trainer = self.trainer
            # The stream of an earlier run with this data module may have had another seed.
            data.__dict__.pop("train_sampler", None)
            with of_system(name):
                streams[name] = data.train_sampler
        return JointSampler(streams, self.shares)

    def train_dataloader(self) -> Iterator[JointBatch]:
        """The batches of every step, without end unless the sampler has one."""
        sampler, loaders = self.train_sampler, {}
        for name, data in self.systems.items():
            sampler.streams[name].first_step = sampler.count(name, sampler.first_step)
            loaders[name] = iter(data.train_dataloader())
        return _Steps(sampler, loaders)

    def transfer_batch_to_device(
        self, batch: JointBatch, device: torch.device, dataloader_idx: int
    ) -> JointBatch:
        return {name: windows.moved(device) for name, windows in batch.items()}

    def val_dataloader(self) -> _Windows:
        """What each system is validated on, system by system."""
        for data in self.systems.values():
            data.trainer, data.validation_batches = self.trainer, self.validation_batches
        return _Windows({name: data.validation_windows() for name, data in self.systems.items()})


class _Steps(Iterator[JointBatch]):
    def __init__(self, sampler: JointSampler, loaders: Mapping[str, Iterator[Batch]]) -> None:
        self._names, self._loaders = iter(sampler), loaders

    def __next__(self) -> JointBatch:
        return {name: next(self._loaders[name]) for name in next(self._names)}


class _Windows:
    def __init__(self, loaders: Mapping[str, DataLoader[Batch]]) -> None:
        self._loaders = loaders

    def __iter__(self) -> Iterator[JointBatch]:
        for name, loader in self._loaders.items():
            for batch in loader:
                yield {name: batch}

    def __len__(self) -> int:
        return sum(len(loader) for loader in self._loaders.values())


def _opened(data: Any, options: Mapping[str, Any]) -> WellDataModule:
    if isinstance(data, str | os.PathLike):
        return WellDataModule(address(data, "data"), **options)
    require_instance("its data", data, WellDataModule, "give one, or a dataset's folder")
    return data  # type: ignore[no-any-return]


def _with_seed(data: WellDataModule, seed: int) -> WellDataModule:
    """A data module with a stream of its own, of the same open files; the one given stays as it
    is.
    """
    own = copy.copy(data)
    own.__dict__.pop("train_sampler", None)
    own.seed = seed
    return own


def _named(name: Any, data: Any, options: Mapping[str, Any]) -> WellDataModule:
    with of_system(str(name)):
        return _opened(data, options)


def by_own_name(
    datasets: Sequence[WellDataModule], names: Sequence[str | None] = ()
) -> dict[str, WellDataModule]:
    """Datasets by the names that they are given, or by those in their files where that is None.

    Raises:
        WavelitError: Two of one name, or a name that is no text.
    """
    named: dict[str, WellDataModule] = {}
    for data, given in itertools.zip_longest(datasets, names):
        if given is not None and (not isinstance(given, str) or not given):
            raise WavelitError(f"a system's name must be text, not {shown(given)}")
        name = data.metadata.dataset_name if given is None else given
        if name in named:
            raise WavelitError(
                f"system '{printable(name, 60)}' is there twice, {printable(named[name].path)} and "
                f"{printable(data.path)}: give each a name of its own, systems: [{{name: ..., "
                "path: ...}], in Python {name: path}"
            )
        named[name] = data
    return named


def _shares(given: Mapping[str, float], systems: Mapping[str, Any]) -> dict[str, float]:
    require_instance("shares", given, Mapping, "give a share by the name of its system")
    if strange := [name for name in given if name not in systems]:
        raise WavelitError(
            f"a share is given for {shown(strange[0])}, which is no system: they are "
            f"{listed(systems)}"
        )
    shares = {}
    for name, share in given.items():
        with of_system(name):
            shares[name] = require_real("share", share, 0.0, 1.0, beyond=True)
            if Fraction(shares[name]).limit_denominator(FINEST) == 0:
                raise WavelitError(f"share {share:g} is below 1/{FINEST}: leave the system out")
    return shares
