"""A dataset folder as a run sees it: batches of training windows without end, of all windows of a
split, of whole trajectories.

`wavelit.data.well` reads one split, `wavelit.data.sampling` orders the training windows.
"""

from __future__ import annotations

import inspect
import os
import warnings
from functools import cached_property
from typing import Any

import pytorch_lightning as pl
import torch
from the_well.data.datasets import WellMetadata
from torch.utils.data import DataLoader

from wavelit.checks.arguments import (
    require_mask,
    require_name,
    require_names,
    require_real,
    require_whole,
    shown,
)
from wavelit.data.batch import Batch, names_with_forcings
from wavelit.data.format.folder import address, require_storage_options
from wavelit.data.format.layout import (
    common_boundaries,
    mask_of,
    require_agreement,
    uneven_lengths,
    unlike_cartesian,
)
from wavelit.data.part import Part
from wavelit.data.sampling import StepBatchSampler, spread
from wavelit.data.statistics import load_statistics, require_logarithms, statistics_over
from wavelit.data.well import WellDataset
from wavelit.data.workers import data_loader
from wavelit.errors import WavelitError
from wavelit.model.boundaries import BoundaryConditions
from wavelit.model.normalizer import Statistics

__all__ = ["WellDataModule", "boundary_conditions"]

# Of steps and samples; what a dataset has is compared with the files.
LARGEST = 2**31 - 1
MOST_WORKERS = 256
# Windows of a validation whose rollouts are scored.
ROLLOUTS = 8
# Where the number is left open: sixteen cores on a node of four GPUs have four for each.
WORKERS_A_GPU = 4

# Their order takes 8 bytes each.
MOST_WINDOWS = 2**29


def boundary_conditions(dataset: WellDataset) -> BoundaryConditions:
    """The (low, high) boundary of every axis, each "periodic", "wall" or "open".

    Raises:
        WavelitError: the files of the dataset do not agree.
    """
    return common_boundaries(dataset.layouts)


class WellDataModule(pl.LightningDataModule):
    """Batches of a dataset folder in The Well's format for training, validation and rollouts.

    Training draws the stream of `StepBatchSampler`: batch k is a function of the seed and k alone.
    To resume, set `train_sampler.first_step`. On several processes every one takes its share of a
    step by its rank, so the Trainer must not wrap the sampler (`use_distributed_sampler=False`).

    Args:
        path: folder with data/train, data/valid, data/test and stats.yaml, local or any fsspec
            address.
        n_steps_input: frames of history.
        n_steps_output: frames of target in training; evaluation windows have one.
        batch_size: samples a batch and process; on a CPU small batches learn more in the same time.
        seed: seed of the stream of training batches.
        n_workers: processes that read, at most 256; 0 reads in the training process. If absent, 0
            on a CPU and where the split is kept in memory, else up to 4 a GPU.
        mask_field: name of the constant field that tells which cells count; None: the one that the
            files declare, all cells if they declare none.
        mask_excludes: its value on the cells that do not.
        storage_options: what fsspec needs to open the address.
        cache_bytes: a split whose fields take no more than this many bytes is kept in memory; 0
            never keeps one.
        fields: names of the fields to predict, a vector as a whole or one of its components; all
            that vary in time and are no forcings if absent.
        forcings: names of fields and scalars that vary in time and are given in advance, not
            predicted; those that the files declare if absent.
        log_constants: names of constant scalar fields that models see as their natural logarithm,
            which is then called log NAME: for those that span decades, as a density may.
        trajectories: how many trajectories of the training split are given, spread evenly over its
            files, which follow parameters; all if absent.
        holdout: share of the time of the given trajectories, at its end, that is kept from training
            and takes the place of the validation split; if absent that split is read.

    With `trajectories` or `holdout` the statistics are those of what is given for training,
    whatever stats.yaml says.

    Raises:
        WavelitError: an argument is of another type or out of bounds, or `storage_options` are not
            plain data.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        n_steps_input: int = 4,
        n_steps_output: int = 1,
        batch_size: int = 4,
        seed: int = 0,
        n_workers: int | None = None,
        mask_field: str | None = None,
        mask_excludes: float = 1.0,
        storage_options: dict[str, Any] | None = None,
        cache_bytes: int = 2 * 1024**3,
        fields: list[str] | None = None,
        forcings: list[str] | None = None,
        trajectories: int | None = None,
        holdout: float | None = None,
        log_constants: list[str] | None = None,
    ) -> None:
        super().__init__()
        for name, value, least, most in (
            ("n_steps_input", n_steps_input, 1, LARGEST),
            ("n_steps_output", n_steps_output, 1, LARGEST),
            ("batch_size", batch_size, 1, LARGEST),
            ("seed", seed, 0, 2**63 - 1),
            ("cache_bytes", cache_bytes, 0, 2**63 - 1),
        ):
            require_whole(name, value, least, most)
        if n_workers is not None:
            require_whole("n_workers", n_workers, 0, MOST_WORKERS)
        require_mask(mask_field, mask_excludes)
        require_storage_options(storage_options)
        lists = {"fields": fields, "forcings": forcings, "log_constants": log_constants}
        for name, names in lists.items():
            if names is not None:
                require_names(name, names, 0)
        if trajectories is not None:
            require_whole("trajectories", trajectories, 1, LARGEST)
        if holdout is not None and not 0 < require_real("holdout", holdout) < 1:
            raise WavelitError(f"holdout must be a share between 0 and 1, not {shown(holdout)}")
        self.path = address(path)
        self.n_steps_input = n_steps_input
        self.n_steps_output = n_steps_output
        self.batch_size = batch_size
        self.seed = seed
        self.n_workers = n_workers
        self.mask_field = mask_field
        self.mask_excludes = mask_excludes
        self.storage_options = storage_options
        self.cache_bytes = cache_bytes
        self.fields = None if fields is None else list(fields)
        self.forcings = None if forcings is None else list(forcings)
        self.log_constants = None if log_constants is None else list(log_constants)
        # A number of trajectories, not of numpy's: it is written as YAML.
        self.n_trajectories = None if trajectories is None else int(trajectories)
        self.holdout = None if holdout is None else float(holdout)
        # Of a validation; 0: all windows, no rollouts. A training sets them.
        self.validation_batches = self.validation_rollout = 0

    @property
    def arguments(self) -> dict[str, Any]:
        """What it was made with."""
        # Whole trajectories are what the method of that name gives.
        attributes = {"trajectories": "n_trajectories"}
        names = inspect.signature(WellDataModule).parameters
        return {name: getattr(self, attributes.get(name, name)) for name in names}

    def replaced(self, **changes: Any) -> WellDataModule:
        """Another one, made with the same arguments but these."""
        return WellDataModule(**{**self.arguments, **changes})

    def dataset(self, split: str, n_steps_output: int = 1, **options: Any) -> WellDataset:
        """The windows of a split; `options` go to `WellDataset`.

        Raises:
            WavelitError: the split has other fields, another grid or other boundaries than the
                training split.
        """
        dataset = self._open(split, n_steps_output, **options)
        if split != "train":
            require_agreement([*self.train_dataset.layouts, *dataset.layouts])
            common_boundaries([*self.train_dataset.layouts, *dataset.layouts])
            require_logarithms(self.train_dataset.layouts, dataset.layouts)
        return dataset

    def _open(self, split: str, n_steps_output: int, **options: Any) -> WellDataset:
        held = split == "valid" and self.holdout is not None
        part = Part(self.n_trajectories, self.holdout, held)
        return WellDataset(
            self.path,
            well_split_name="train" if held else split,
            part=part if held or split == "train" else None,
            mask_field=self.mask_field,
            mask_excludes=self.mask_excludes,
            cache_bytes=self.cache_bytes,
            n_steps_input=self.n_steps_input,
            n_steps_output=n_steps_output,
            storage_options=self.storage_options,
            fields=self.fields,
            forcings=self.forcings,
            log_constants=self.log_constants or (),
            boundary_return_type=None,
            return_grid=False,
            **options,
        )

    def rollout_dataset(self, split: str) -> WellDataset:
        """Whole trajectories of a split: the history, then every frame after it as target; of the
        shortest's length, with a warning, where they differ.
        """
        # The Well's reader cuts a trajectory at 100 frames unless told otherwise.
        dataset = self.dataset(split, full_trajectory_mode=True, max_rollout_steps=2**62)
        if message := uneven_lengths(dataset.layouts):
            warnings.warn(f"{self.path}, {split}: {message}", stacklevel=2)
        return dataset

    @cached_property
    def train_dataset(self) -> WellDataset:
        dataset = self._open("train", self.n_steps_output)
        if message := unlike_cartesian(dataset.layouts[0]):
            warnings.warn(f"{self.path}: {message}", stacklevel=2)
        return dataset

    @cached_property
    def train_sampler(self) -> StepBatchSampler:
        """The stream of training batches; built on first use, so the Trainer must be attached by
        then to share steps.
        """
        if len(self.train_dataset) > MOST_WINDOWS:
            raise WavelitError(
                f"{self.path}: {len(self.train_dataset)} training windows, of which {MOST_WINDOWS} "
                "can be shuffled; put fewer files into the training split"
            )
        rank, n_ranks = self._ranks
        return StepBatchSampler(
            len(self.train_dataset), self.batch_size, self.seed, rank=rank, n_ranks=n_ranks
        )

    @property
    def metadata(self) -> WellMetadata:
        return self.train_dataset.metadata

    @property
    def boundary_conditions(self) -> BoundaryConditions:
        return boundary_conditions(self.train_dataset)

    @cached_property
    def statistics(self) -> Statistics:
        train, forced = self.train_dataset, self.train_dataset.forced
        table = None
        if self.n_trajectories is not None or self.holdout is not None:
            table = statistics_over(
                self.path,
                lambda layout: mask_of(layout, self.mask_field, self.mask_excludes),
                self.storage_options,
                train.layouts,
            )
        return load_statistics(
            self.path,
            train.layouts,
            self.storage_options,
            [] if forced is None else forced.layouts,
            train.forcing_values(),
            table,
            lambda layout: mask_of(layout, self.mask_field, self.mask_excludes),
        )

    @property
    def field_names(self) -> list[str]:
        return self.train_dataset.field_channels

    @property
    def constant_field_names(self) -> list[str]:
        """Of what emulators see as constant: forcings twice, at the last step and at the next."""
        train = self.train_dataset
        return names_with_forcings(train.constant_channels, train.forcing_channels)

    @property
    def scalar_names(self) -> list[str]:
        """Of the scalars that emulators see, likewise."""
        train = self.train_dataset
        return names_with_forcings(self.metadata.constant_scalar_names, train.forcing_scalars)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of training windows without end: a `for` over them never stops by itself, and
        they have no length. `epoch` gives one pass.
        """
        return self._loader(self.train_dataset, batch_sampler=self.train_sampler)

    def epoch(self, split: str = "train", number: int = 0) -> DataLoader[Batch]:
        """One pass over a split, for a training loop of one's own; its length is that of a list.

        Args:
            split: Of "train" whole batches in the order that the seed and the number draw, the
                same as in `train_dataloader`; of the others all windows in order.
            number: Which pass, from 0: each has another order.

        Raises:
            WavelitError: No such split, or a negative number.
        """
        require_name("split", split, ("train", "valid", "test"))
        require_whole("number", number, 0)
        if split != "train":
            return self.windows(split)
        # A sampler of its own: the stream's is left where it is.
        order = StepBatchSampler(len(self.train_dataset), self.batch_size, self.seed)
        n, first = order.steps_per_epoch, number * order.steps_per_epoch
        batches = [order.indices(first + step) for step in range(n)]
        return self._loader(self.train_dataset, batch_sampler=batches)

    def windows(self, split: str) -> DataLoader[Batch]:
        """All windows of a split in order, with one frame of target."""
        return self._loader(self.dataset(split), batch_size=self.batch_size)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """This process's share of a validation: windows, and those of rollouts where
        `validation_rollout` says how long they are.
        """
        if not self.validation_rollout:
            return self.validation_windows()
        dataset = self.dataset("valid", n_steps_output=self.validation_rollout)
        rollouts = self._share(dataset, ROLLOUTS)
        return [self.validation_windows(), rollouts]

    def validation_windows(self) -> DataLoader[Batch]:
        """This process's share of the windows of the validation split, or of as many as
        `validation_batches` says, evenly spread.
        """
        dataset, n_ranks = self.dataset("valid"), self._ranks[1]
        most = self.validation_batches * self.batch_size or len(dataset)
        if most >= len(dataset) and n_ranks == 1:
            return self._loader(dataset, batch_size=self.batch_size)
        return self._share(dataset, most)

    def _share(self, dataset: WellDataset, most: int) -> DataLoader[Batch]:
        """This process's share of so many windows, evenly spread."""
        rank, n_ranks = self._ranks
        chosen = spread(len(dataset), most)
        if len(chosen) >= n_ranks:
            # A process without any would leave the others waiting.
            chosen = chosen[rank::n_ranks]
        return self._loader(dataset, batch_size=self.batch_size, sampler=chosen)

    @property
    def _ranks(self) -> tuple[int, int]:
        """Number of this process, and how many share a training."""
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self.windows("test")

    def trajectories(self, split: str, batch_size: int = 1) -> DataLoader[Batch]:
        """All trajectories of a split in order, whole."""
        return self._loader(self.rollout_dataset(split), batch_size=batch_size)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        return batch.moved(device)

    def _workers(self, dataset: WellDataset) -> int:
        """Processes that read: where a GPU would wait for files, some; else none."""
        if self.n_workers is not None:
            return self.n_workers
        trainer = self.trainer
        if trainer is None or trainer.strategy.root_device.type != "cuda" or dataset.in_memory:
            return 0
        here = max(1, trainer.world_size // trainer.num_nodes)
        return min(WORKERS_A_GPU, max(1, (os.cpu_count() or 1) // here))

    def _loader(self, dataset: WellDataset, **sampling: Any) -> DataLoader[Batch]:
        dataset.load()
        return data_loader(
            dataset,
            self._workers(dataset),
            collate_fn=dataset.collate,
            pin_memory=torch.cuda.is_available(),
            # A loader draws a seed for its workers; its own generator keeps the global one, and so
            # a resumed run, intact.
            generator=torch.Generator().manual_seed(self.seed),
            **sampling,
        )
