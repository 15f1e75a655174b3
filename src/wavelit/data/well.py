"""From The Well's HDF5 files to batches: windows of history and target, constants, scalars,
channels first.

A sample of window i of a trajectory is the history u(i), ..., u(i + n_steps_input - 1) and the
target, the n_steps_output frames after it. `WellDataset` gives the very samples of The Well's own
reader, from files that stay open instead of being opened once a sample.
`wavelit.data.format.handles` reads fields channels first, of which samples show a view channels
last; `collate` is the only place where values are checked to be finite, and where a declared mask
decides which cells count.

References:
    The Well: a Large-Scale Collection of Diverse Physics Simulations for Machine Learning, Ohana et
    al., 2024, arXiv 2412.00568; package the_well, `the_well.data.WellDataset`.
"""

from __future__ import annotations

import itertools
import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from the_well.data import WellDataset as _TheWellDataset
from the_well.data.datasets import WellMetadata
from the_well.data.utils import IO_PARAMS
from torch import Tensor

from wavelit.checks.arguments import listed, require_whole
from wavelit.data.batch import Arrays, Batch, Samples, arrays_of, empty_batch
from wavelit.data.finite import require_cells, require_finite, require_finite_scalars
from wavelit.data.format.examine import read_layout
from wavelit.data.format.folder import find_files, open_file, split_folder
from wavelit.data.format.handles import Handles, Node
from wavelit.data.format.layout import FileLayout, mask_of, require_agreement, require_steps
from wavelit.data.format.metadata import tables
from wavelit.data.format.selection import channel_names, select
from wavelit.data.part import Part
from wavelit.errors import WavelitError

__all__ = ["WellDataset"]


class WellDataset(_TheWellDataset):  # type: ignore[misc]
    """The Well's dataset, sample for sample, from files that stay open.

    Takes the arguments of `the_well.data.WellDataset` by keyword, and those below. Handles are
    opened on first use, one set per process, and left out of pickles, so that forked and spawned
    workers open their own.

    Args:
        path: dataset folder, local or any fsspec address; with `well_split_name` its data/<split>
            is read.
        well_split_name: train, valid or test.
        mask_field: name of the constant scalar field that tells which cells count; None: the one
            that the files declare, all cells if they declare none.
        mask_excludes: value of that field on the cells that do not count.
        cache_bytes: the fields of the split are kept in memory if they take no more than this many
            bytes.
        fields: those to predict, a vector as a whole or one of its components; all that vary in
            time and are no forcings if absent. Constant fields always stay.
        forcings: fields and scalars that vary in time and are given in advance; those that the
            files declare if absent.
        log_constants: constant scalar fields that are read by their logarithm.
        part: the part of the split that is read; all of it if absent.
        **options: everything else that The Well's class takes.

    Raises:
        WavelitError: the folder or one of its files cannot serve; names the file, what is wrong and
            the fix.
    """

    layouts: tuple[FileLayout, ...]
    files_paths: list[str]
    # The step at which the part begins in each file.
    first_steps: tuple[int, ...]

    def __init__(
        self,
        path: str | None = None,
        *,
        well_split_name: str | None = None,
        mask_field: str | None = None,
        mask_excludes: float = 1.0,
        cache_bytes: int = 0,
        fields: Sequence[str] | None = None,
        forcings: Sequence[str] | None = None,
        log_constants: Sequence[str] = (),
        part: Part | None = None,
        **options: Any,
    ) -> None:
        for name in ("n_steps_input", "n_steps_output", "min_dt_stride", "max_dt_stride"):
            if name in options:
                options[name] = require_whole(name, options[name])
        self._choice, self._part = (fields, forcings, log_constants), part or Part()
        path = None if path is None else os.fspath(path)
        if path is not None:
            find_files(split_folder(path, well_split_name), options.get("storage_options"))
        try:
            super().__init__(path=path, well_split_name=well_split_name, **options)
        except AssertionError as error:
            raise WavelitError(f"{path or options.get('well_dataset_name')}: {error}") from error
        # The Well's code keeps what it reads by name: a scalar, a field and a grid may have the
        # same.
        self.caches: list[dict[str, dict[str, Any]]] = [
            {"fields": {}, "scalars": {}, "others": {}} for _ in self.files_paths
        ]
        self.mask = mask_of(self.layouts[0], mask_field, mask_excludes)
        self.mask_channel = (
            None if self.mask is None else self.constant_channels.index(self.mask.field)
        )
        self.in_memory = sum(layout.nbytes for layout in self._stored) <= cache_bytes
        needed = self._stored
        if self.boundary_return_type is None:
            needed = tuple(replace(layout, boundaries=()) for layout in needed)
        self._handles = Handles(self.fs, needed, self.in_memory, keep=self.cache_small)
        # Forcings are the fields of a dataset of their own, from the same files.
        self.forced: WellDataset | None = None
        if self._forcing_fields:
            if self.max_dt_stride > self.min_dt_stride:
                raise WavelitError("forcings need one stride: leave max_dt_stride out")
            self.forced = WellDataset(
                path,
                well_split_name=well_split_name,
                mask_field=mask_field,
                mask_excludes=mask_excludes,
                cache_bytes=cache_bytes,
                fields=self._forcing_fields,
                forcings=self.metadata.scalar_names,
                log_constants=log_constants,
                part=part,
                **options,
            )

    def _build_metadata(self) -> WellMetadata:
        layouts: list[FileLayout] = []
        self._forcing_fields: list[str] = []
        for path in self.files_paths:
            with open_file(self.fs, path, **IO_PARAMS["fsspec_params"]) as file:
                chosen = select(read_layout(file, path), *self._choice)
            layouts.append(chosen.predicted)
            if chosen.forcings is not None:
                self._forcing_fields = [f.name for f in chosen.forcings.fields if f.time_varying]
        require_agreement(layouts)
        counts = self._part.counts(layouts, self.data_path)
        given = [n for n in counts if n]
        self.files_paths = list(itertools.compress(self.files_paths, counts))
        # Whole files are opened, of which a part is read.
        self._stored: tuple[FileLayout, ...] = tuple(itertools.compress(layouts, counts))
        steps = self.n_steps_input, self.n_steps_output, self.min_dt_stride
        require_steps(self._stored, *steps)
        needed = 1 + self.min_dt_stride * (self.n_steps_input + self.n_steps_output - 1)
        self.layouts, self.first_steps = self._part.cut(self._stored, given, needed)
        known = tables(
            self.layouts,
            self.n_steps_input,
            self.n_steps_output,
            self.min_dt_stride,
            self.full_trajectory_mode,
            self.start_output_steps_at_t,
        )
        for name, value in known.items():
            setattr(self, name, value)
        metadata: WellMetadata = known["metadata"]
        return metadata

    @property
    def field_channels(self) -> list[str]:
        """Name of each of the C channels of the fields: components spelled out, by tensor order."""
        return [name for names in self.metadata.field_names.values() for name in names]

    @property
    def field_units(self) -> dict[str, str]:
        """Unit of each channel of the fields, where the files tell one."""
        layout = self.layouts[0]
        return {
            channel: layout.units[field.source]
            for field in layout.fields
            if field.time_varying and layout.units.get(field.source)
            for channel in channel_names(field, layout.axes)
        }

    @property
    def constant_channels(self) -> list[str]:
        """Name of each of the K channels of the constant fields."""
        return [name for names in self.metadata.constant_field_names.values() for name in names]

    @property
    def forcing_channels(self) -> list[str]:
        """Name of each of the F channels of the fields that are given in advance."""
        return [] if self.forced is None else self.forced.field_channels

    @property
    def forcing_scalars(self) -> list[str]:
        """Name of each of the G scalars that are given in advance."""
        return list(self.metadata.scalar_names)

    def forcing_values(self) -> NDArray[np.float64] | None:
        """All values (trajectories and frames, G) of the scalars that are given in advance."""
        values = [self._handles[number].scalars for number in range(len(self.layouts))]
        known = [
            x[: layout.n_trajectories, start : start + layout.n_steps].double().flatten(0, 1)
            for x, layout, start in zip(values, self.layouts, self.first_steps, strict=True)
            if x is not None
        ]
        return torch.cat(known).numpy() if known else None

    def close(self) -> None:
        """Close the files that this process has open; they open again when needed."""
        self._handles.close()

    def node(self, file_index: int) -> Node:
        """What a file declares, opened on first use, as The Well's code looks it up."""
        return self._handles[file_index].node

    def load(self) -> None:
        """Read the whole split into memory now, if it is small enough: before workers are
        forked, they share it.
        """
        if self.in_memory:
            for file_index in range(len(self.files_paths)):
                self._handles[file_index]

    def locate(self, index: int) -> tuple[int, int, int]:
        """File, trajectory within the file and first time step of a sample."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of a dataset of {len(self)}")
        if self.restriction_set is not None:
            index = int(self.restriction_set[index])
        # The first offset is stored as -1.
        file_index = bisect_right(self.file_index_offsets, index) - 1
        trajectory, start = divmod(
            index - max(int(self.file_index_offsets[file_index]), 0),
            self.n_windows_per_trajectory[file_index],
        )
        if self.full_trajectory_mode and self.start_output_steps_at_t >= 0:
            start = self.start_output_steps_at_t - self.n_steps_input * self.min_dt_stride
        return file_index, trajectory, start + self.first_steps[file_index]

    def _load_one_sample(self, index: int) -> tuple[dict[str, Any], int, int, int, int]:
        """The Well's step from an index to raw tensors, its file replaced by one that is open
        already.
        """
        file_index, trajectory, start = self.locate(index)
        stride = self._draw_stride(file_index, start)
        n_steps = self.n_steps_input + self._n_steps_target
        node, caches = self.node(file_index), self.caches[file_index]
        where = (trajectory, start, n_steps, stride)
        data: dict[str, Any] = {}
        fields = self._reconstruct_fields(node, caches["fields"], *where)
        data["variable_fields"], data["constant_fields"] = fields
        scalars = self._reconstruct_scalars(node, caches["scalars"], *where)
        data["variable_scalars"], data["constant_scalars"] = scalars
        if self.boundary_return_type is not None:
            data["boundary_conditions"] = self._reconstruct_bcs(node, caches["others"], *where)
        if self.return_grid:
            data["space_grid"], data["time_grid"] = self._reconstruct_grids(
                node, caches["others"], *where
            )
        return data, file_index, trajectory, start, stride

    def _pad_axes(
        self,
        field_data: Tensor,
        use_dims: Sequence[bool],
        time_varying: bool = False,
        tensor_order: int = 0,
    ) -> Tensor:
        """Repeat a field along the axes that are not stored.

        The Well's own tiling is right only where the missing axes come first or are stored with
        length 1; this is the same there, and right elsewhere.
        """
        lead = tuple(field_data.shape[: int(time_varying)])
        components = tuple(field_data.shape[field_data.ndim - tensor_order :])
        stored = tuple(
            n if varies else 1 for n, varies in zip(self.size_tuple, use_dims, strict=True)
        )
        full = field_data.reshape(*lead, *stored, *components).expand(
            *lead, *self.size_tuple, *components
        )
        # A transform may write in place, and what is expanded may be the cache.
        return full if self.transform is None else full.clone()

    def _draw_stride(self, file_index: int, start: int) -> int:
        low, high = int(self.min_dt_stride), int(self.max_dt_stride)
        if high <= low:
            return low
        intervals = self.n_steps_input + self.n_steps_output - 1
        stop = self.first_steps[file_index] + self.n_steps_per_trajectory[file_index]
        high = min(high, (stop - 1 - start) // intervals)
        return int(torch.randint(low, high + 1, ())) if high > low else low

    @property
    def _n_steps_target(self) -> int:
        return int(min(self.n_steps_output, self.max_rollout_steps))

    @property
    def _is_raw(self) -> bool:
        """Whether samples are what the files hold: neither normalized nor transformed."""
        return self.transform is None and not (self.use_normalization and self.norm)

    def _arrays(self, n_samples: int) -> Arrays:
        """Room for history, target and constants of so many samples, channels first."""
        n_fields, n_constants = len(self.field_channels), len(self.constant_channels)
        shape = (n_fields, *self.size_tuple)
        fields = empty_batch((n_samples, self.n_steps_input, *shape))
        target = empty_batch((n_samples, self._n_steps_target, *shape))
        constants = empty_batch((n_samples, n_constants, *self.size_tuple)) if n_constants else None
        return fields, target, constants

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """A sample of The Well's, by its names, channels last; its fields are views of
        channels-first memory.
        """
        sample: dict[str, Tensor] = self.__getitems__([index])[0]
        del sample["index"]
        return sample

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """What a DataLoader fetches for a batch: the samples, each with its `index`, which
        `collate` needs.

        Their fields are views of arrays which `collate` makes the batch's own.
        """
        samples = self._fetch(indices)
        if self.forced is not None:
            for sample, given in zip(samples, self.forced._fetch(indices), strict=True):
                sample["forcings"] = given
        return samples

    def _fetch(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        places = [self.locate(index) for index in indices]
        if not self._is_raw:
            return self._samples_of_the_wells_code(indices)
        arrays = self._arrays(len(indices))
        samples = Samples(arrays)
        for b, (index, place) in enumerate(zip(indices, places, strict=True)):
            if not self._handles[place[0]].plain:
                return self._samples_of_the_wells_code(indices)
            sample = self._read(
                *place, arrays[0][b], arrays[1][b], None if arrays[2] is None else arrays[2][b]
            )
            sample["index"] = index
            samples.append(sample)
        return samples

    def _samples_of_the_wells_code(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        return [
            {**super(WellDataset, self).__getitem__(index), "index": index} for index in indices
        ]

    def _read(
        self,
        file_index: int,
        trajectory: int,
        start: int,
        fields: Tensor,
        target: Tensor,
        constants: Tensor | None,
    ) -> dict[str, Any]:
        """A sample as The Well's reader gives it, its fields views of the channels-first arrays
        that are filled here.
        """
        stride = self._draw_stride(file_index, start)
        file, cache = self._handles[file_index], self.caches[file_index]["others"]
        frames = [*fields.numpy(), *target.numpy()]
        file.read(
            frames, None if constants is None else constants.numpy(), trajectory, start, stride
        )
        sample = {"input_fields": fields.movedim(1, -1), "output_fields": target.movedim(1, -1)}
        if constants is not None:
            sample["constant_fields"] = constants.movedim(0, -1)
        if file.scalars is not None:
            # A copy, as all of a sample is: what it is done to stays outside the table.
            scalars = file.scalars[
                trajectory, start : start + stride * len(frames) : stride
            ].clone()
            sample["input_scalars"], sample["output_scalars"] = scalars.split(
                [len(fields), len(target)]
            )
        if file.constant_scalars is not None:
            sample["constant_scalars"] = file.constant_scalars[trajectory].clone()
        where = (file.node, cache, trajectory, start, len(frames), stride)
        if self.boundary_return_type is not None:
            sample["boundary_conditions"] = self._reconstruct_bcs(*where)
        if self.return_grid:
            sample["space_grid"], times = self._reconstruct_grids(*where)
            sample["input_time_grid"], sample["output_time_grid"] = times.split(
                [len(fields), len(target)]
            )
        return sample

    def collate(self, samples: Sequence[dict[str, Any]]) -> Batch:
        """Stack samples into a batch: channels first, float32, finite wherever a cell counts.

        The batch takes over the memory of samples that `__getitems__` made, and writes into it.

        Raises:
            WavelitError: a value on a cell that counts is not finite, or a scalar varies in time
                and is no forcing.
        """
        if unknown := [n for n in self.forcing_scalars if n not in self.layouts[0].forcings]:
            raise WavelitError(
                f"{self.data_path}: scalar '{unknown[0]}' varies in time: name it in forcings if "
                "it is known in advance; forcings=[] leaves it out"
            )
        fields, target, constants, valid, n_filled = self._finite(samples)
        indices = _indices(samples)
        forcings = scalar_forcings = scalars = None
        if self.forced is not None:
            before, after, *_ = self.forced._finite([sample["forcings"] for sample in samples])
            forcings = torch.cat([before, after], 1)
        if self.forcing_scalars:
            lines = [torch.cat([s["input_scalars"], s["output_scalars"]]) for s in samples]
            scalar_forcings = torch.stack(lines).float()
            if not torch.isfinite(scalar_forcings).all():
                raise WavelitError(
                    f"{self.data_path}: one of the scalars {listed(self.forcing_scalars)} is not "
                    "finite in float32; write it again"
                )
        if "constant_scalars" in samples[0]:
            scalars = torch.stack([sample["constant_scalars"] for sample in samples]).float()
            require_finite_scalars(self, scalars, indices)
        return Batch(
            fields, target, constants, scalars, valid, indices, n_filled, forcings, scalar_forcings
        )

    def _finite(
        self, samples: Sequence[dict[str, Any]]
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """History, target, constants, the cells that count, and how many values on others were set
        to 0.
        """
        indices = _indices(samples)
        fields, target, constants = arrays_of(samples)
        valid = None
        if self.mask is not None:
            assert constants is not None
            valid = constants[:, self.mask_channel, None] != self.mask.excludes  # (B, 1, *S)
            require_cells(self, valid, indices, self.mask)
        n_filled = None if valid is None else torch.zeros(len(samples), dtype=torch.int64)
        for x, names, lag in (
            (fields, self.field_channels, 0),
            (target, self.field_channels, self.n_steps_input),
            (constants, self.constant_channels, None),
        ):
            if x is not None:
                require_finite(self, x, names, indices, lag, valid, n_filled)
        if valid is not None and constants is not None:
            # As a rollout has them: what stands on an excluded cell, such as a fill value, is
            # nobody's input.
            for x in (fields, target):
                x.masked_fill_(~valid[:, None], 0.0)
            for channel in range(constants.shape[1]):
                if channel != self.mask_channel:
                    constants[:, channel, None].masked_fill_(~valid, 0.0)
        return fields, target, constants, valid, n_filled


def _indices(samples: Sequence[dict[str, Any]]) -> Tensor:
    return torch.tensor([sample["index"] for sample in samples], dtype=torch.int64)
