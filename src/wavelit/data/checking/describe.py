"""What is in a dataset folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from wavelit.data.batch import Batch
from wavelit.data.datamodule import boundary_conditions
from wavelit.data.format.folder import SPLITS, address, find_files, split_folder
from wavelit.data.format.layout import require_agreement
from wavelit.data.well import WellDataset
from wavelit.errors import WavelitError
from wavelit.metrics import vrmse
from wavelit.model.boundaries import BoundaryConditions

__all__ = ["DatasetSummary", "describe_dataset"]


@dataclass(frozen=True)
class DatasetSummary:
    """What a dataset folder holds.

    `fields` and `constant_fields` name channels, `forcings` those of fields and scalars that are
    declared as given in advance; `scalars` gives the (lowest, highest) value over
    all splits; `trajectories` and `steps` (fewest, most) are by split; `nbytes` is the size of the
    HDF5 files; `persistence` is the one-step VRMSE, by channel, of predicting no change on the
    validation split, the mean over its windows.
    """

    name: str
    resolution: tuple[int, ...]
    boundary_conditions: BoundaryConditions
    fields: tuple[str, ...]
    constant_fields: tuple[str, ...]
    forcings: tuple[str, ...]
    scalars: dict[str, tuple[float, float]]
    trajectories: dict[str, int]
    steps: dict[str, tuple[int, int]]
    dt: float
    nbytes: int
    persistence: dict[str, float]


def describe_dataset(
    path: str | os.PathLike[str],
    mask_field: str | None = None,
    mask_excludes: float = 1.0,
    storage_options: dict[str, Any] | None = None,
) -> DatasetSummary:
    """Say what a dataset folder holds; splits that are not there are left out, except train.

    Args:
        path: dataset folder, local or any fsspec address.
        mask_field: constant scalar field that tells which cells count for the persistence error;
            the one that the files declare if absent.
        mask_excludes: its value on the cells that do not.
        storage_options: what fsspec needs to open the address.

    Raises:
        WavelitError: the training split is missing, a file cannot be read, or files do not agree.
    """
    path = address(path)
    datasets = {}
    nbytes = 0
    for split in SPLITS:
        try:
            fs, files = find_files(split_folder(path, split), storage_options)
        except WavelitError:
            if split == "train":
                raise
            continue
        nbytes += sum(fs.size(file) for file in files)
        datasets[split] = WellDataset(
            path,
            well_split_name=split,
            mask_field=mask_field,
            mask_excludes=mask_excludes,
            storage_options=storage_options,
            boundary_return_type=None,
            return_grid=False,
        )
    train = datasets["train"]
    layouts = {split: dataset.layouts for split, dataset in datasets.items()}
    require_agreement([layout for split in layouts.values() for layout in split])
    values = {
        name: np.concatenate(
            [layout.scalars[name] for split in layouts.values() for layout in split]
        )
        for name in train.layouts[0].scalars
    }
    return DatasetSummary(
        name=train.metadata.dataset_name,
        resolution=train.metadata.spatial_resolution,
        boundary_conditions=boundary_conditions(train),
        fields=tuple(train.field_channels),
        constant_fields=tuple(train.constant_channels),
        forcings=(*train.forcing_channels, *train.forcing_scalars),
        scalars={name: (float(x.min()), float(x.max())) for name, x in values.items()},
        trajectories={
            split: sum(f.n_trajectories for f in files) for split, files in layouts.items()
        },
        steps={
            split: (min(f.n_steps for f in files), max(f.n_steps for f in files))
            for split, files in layouts.items()
        },
        dt=train.layouts[0].dt,
        nbytes=nbytes,
        persistence=_persistence(datasets["valid"]) if "valid" in datasets else {},
    )


def _persistence(dataset: WellDataset) -> dict[str, float]:
    total = torch.zeros(len(dataset.field_channels), dtype=torch.float64)
    loader: DataLoader[Batch] = DataLoader(
        dataset, batch_size=8, collate_fn=dataset.collate, generator=torch.Generator()
    )
    for batch in loader:
        total += vrmse(
            batch.fields[:, -1],
            batch.target[:, 0],
            dataset.metadata.n_spatial_dims,
            valid=batch.valid,
        ).sum(0)
    return dict(zip(dataset.field_channels, (total / len(dataset)).tolist(), strict=True))
