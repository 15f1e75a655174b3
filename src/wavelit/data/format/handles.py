"""Files that stay open, and the windows read through them.

A window is the frames start, start + stride, ... of every field of one trajectory, channels first.
Where a file stores a field as one plain block of native float32 on a local disk, as
`wavelit.data.writing.write` does, the operating system puts the frames straight where they belong,
HDF5 being asked only for the offset of the block. Compressed, chunked and remote fields, and those
stored along some axes only, go through HDF5.
"""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
import torch
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray
from the_well.data.utils import IO_PARAMS
from torch import Tensor

from wavelit.data.format.folder import open_file
from wavelit.data.format.hdf5 import REFUSALS, reading, unreadable
from wavelit.data.format.layout import ORDERS, FieldLayout, FileLayout
from wavelit.data.format.selection import Component, Logarithm
from wavelit.errors import WavelitError

__all__ = ["Handles", "Node", "OpenFile"]

# A remote file keeps up to 256 MB of blocks in memory (fsspec's block cache of 32 x 8 MB), a local
# one some kilobytes.
MAX_OPEN_REMOTE = 4
MAX_OPEN_LOCAL = 256
# What one `preadv` may be asked for: Linux caps it at 1024 pieces and 2 GiB.
MAX_PIECES, MAX_BYTES = 1024, 2**30


class Node:
    """What of a file is declared, as The Well's code looks it up: members by name, attributes as
    plain values; a dataset indexes like the original.

    Args:
        path: of the file.
        label: how messages call the item.
        item: the array, in the file or in memory; None for a group.
        attrs: its attributes.
        members: what is in a group.
        dtype: what the values are turned into; None: they stay what they are.
    """

    def __init__(
        self,
        path: str,
        label: str,
        item: Any = None,
        attrs: dict[str, Any] | None = None,
        members: dict[str, Node] | None = None,
        dtype: str | None = None,
    ) -> None:
        self.item, self._dtype = item, dtype
        self.attrs = attrs or {}
        self._path, self._label, self._members = path, label, members or {}

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._members[key]
        try:
            values = self.item[key]
            return values if self._dtype is None else values.astype(self._dtype)
        except REFUSALS as error:
            raise unreadable(self._path, self._label, error) from error

    def keys(self) -> list[str]:
        return list(self._members)


def _tree(file: h5py.File, layout: FileLayout, in_memory: bool) -> Node:
    """What the layout declares, and nothing else of the file; nothing is read unless it is to be
    kept in memory.
    """
    path = layout.path

    def array(
        group: str,
        name: str,
        label: str,
        dtype: str | None = None,
        component: tuple[int, ...] = (),
        logarithm: bool = False,
        **attrs: Any,
    ) -> Node:
        with reading(path, label):
            item = file[group][name]
            if component:
                item = Component(item, component)
            if logarithm:
                item = Logarithm(item)
            return Node(path, label, item[()] if in_memory else item, attrs, dtype=dtype)

    def group(label: str, members: dict[str, Node], **attrs: Any) -> Node:
        return Node(path, f"group '{label}'", None, attrs, members)

    top = {}
    for order, name in ORDERS.items():
        fields = {
            field.name: array(
                field.group,
                field.source,
                f"field '{field.name}'",
                component=field.component,
                logarithm=field.logarithm,
                sample_varying=field.sample_varying,
                time_varying=field.time_varying,
                dim_varying=field.dim_varying,
            )
            for field in layout.fields
            if field.order == order
        }
        top[name] = group(name, fields, field_names=list(fields))
    scalars = {
        name: array(
            "scalars",
            name,
            f"scalar '{name}'",
            sample_varying=name in layout.own_scalars,
            time_varying=name in layout.time_varying_scalars,
        )
        for name in layout.scalar_names
    }
    top["scalars"] = group("scalars", scalars, field_names=list(scalars))
    lines = {
        "time": _type_of_lines(file, ["time"]),
        **dict.fromkeys(layout.axes, _type_of_lines(file, layout.axes)),
    }
    coordinates = {
        name: array(
            "dimensions",
            name,
            f"'/dimensions/{name}'",
            dtype,
            sample_varying=name in layout.own_coordinates,
        )
        for name, dtype in lines.items()
    }
    top["dimensions"] = group("dimensions", coordinates, spatial_dims=list(layout.axes))
    boundaries = {
        each.name: group(
            each.name,
            {
                "mask": array(
                    f"boundary_conditions/{each.name}",
                    "mask",
                    f"'mask' of boundary condition '{each.name}'",
                )
            },
            bc_type=each.kind,
            associated_dims=list(each.dims),
        )
        for each in layout.boundaries
    }
    top["boundary_conditions"] = group("boundary_conditions", boundaries)
    return group("/", top)


def _type_of_lines(file: h5py.File, names: Sequence[str]) -> str | None:
    """The type that coordinates are turned into: torch takes no minimum of unsigned ones and
    makes no grid of several types.
    """
    types = {file["dimensions"][name].dtype for name in names}
    return "f8" if len(types) > 1 or any(dtype.kind == "u" for dtype in types) else None


class _Field:
    """One field of an open file, and where its frames go.

    Args:
        data: the stored array, (trajectory?, time?, axis?..., component...), in the file or in
            memory.
        layout: what the field varies along.
        file: what its file holds.
        first: the first of its channels.
        descriptor: of the local file, for reading without HDF5; None: not possible.
        keep: whether a field that is the same for all trajectories and times is kept in memory.
    """

    def __init__(
        self,
        data: Any,
        layout: FieldLayout,
        file: FileLayout,
        first: int,
        descriptor: int | None,
        keep: bool,
    ) -> None:
        resolution = file.resolution
        self.label = f"field '{layout.name}'"
        self.path, self.resolution, self.n_components = file.path, resolution, layout.n_components
        self.sample_varying, self.time_varying = layout.sample_varying, layout.time_varying
        self.n_steps = file.n_steps if layout.time_varying else 1
        self.channels = slice(first, first + layout.n_components)
        self.stored = tuple(
            n if varies else 1 for n, varies in zip(resolution, layout.dim_varying, strict=True)
        )
        self.frame_bytes = 4 * math.prod(resolution) * layout.n_components
        self.descriptor = descriptor
        self.offset: int | None = None
        whole = descriptor is not None and all(layout.dim_varying)
        whole = whole and not (layout.component or layout.logarithm)
        whole = whole and self.frame_bytes <= MAX_BYTES
        with reading(self.path, self.label):
            # What was never written, or holds fewer bits than h5py's float32, takes another room
            # than its values do.
            if whole and data.id.get_storage_size() == data.nbytes:
                self.offset = (
                    data.id.get_offset()
                )  # None unless the array is one block of this file
            invariant = not (layout.sample_varying or layout.time_varying)
            self.data = data[()] if self.offset is None and invariant and keep else data

    def read(
        self, frames: Sequence[NDArray[Any]], trajectory: int, start: int, stride: int
    ) -> None:
        """Read frames start, start + stride, ... of a trajectory into arrays (C, *S), one a
        frame.
        """
        try:
            if self.offset is None:
                self._read_by_hdf5(frames, trajectory, start, stride)
            else:
                self._read_block(frames, trajectory, start, stride)
        except WavelitError:
            raise
        except REFUSALS as error:
            raise unreadable(self.path, self.label, error) from error

    def _read_block(
        self, frames: Sequence[NDArray[Any]], trajectory: int, start: int, stride: int
    ) -> None:
        assert self.offset is not None
        place = self.offset + self.frame_bytes * (
            start + self.n_steps * trajectory * self.sample_varying
        )
        step = self.frame_bytes * stride
        if self.n_components > 1:
            stored = np.empty((*self.resolution, self.n_components), np.float32)
            channels_first = np.moveaxis(stored, -1, 0)
            for i, frame in enumerate(frames):
                self._fill([stored], place + i * step)
                frame[self.channels] = channels_first
            return
        rows = [frame[self.channels] for frame in frames]
        together = max(1, min(MAX_PIECES, MAX_BYTES // self.frame_bytes)) if stride == 1 else 1
        for i in range(0, len(rows), together):
            self._fill(rows[i : i + together], place + i * step)

    def _fill(self, rows: list[Any], place: int) -> None:
        assert self.descriptor is not None
        wanted = self.frame_bytes * len(rows)
        if os.preadv(self.descriptor, rows, place) == wanted:
            return
        # A mounted filesystem may give less than it has at once: piece by piece then, until nothing
        # comes.
        for row in rows:
            values, done = memoryview(row).cast("B"), 0
            while done < self.frame_bytes:
                got = os.preadv(self.descriptor, [values[done:]], place + done)
                if not got:
                    raise WavelitError(
                        f"{self.path}: ends before its data do; download or write it again"
                    )
                done += got
            place += self.frame_bytes

    def _read_by_hdf5(
        self, frames: Sequence[NDArray[Any]], trajectory: int, start: int, stride: int
    ) -> None:
        index: tuple[Any, ...] = (trajectory,) if self.sample_varying else ()
        if self.time_varying:
            index = (*index, slice(start, start + stride * len(frames), stride))
        values = self.data[index].reshape(len(frames), *self.stored, self.n_components)
        for frame, value in zip(frames, values, strict=True):
            frame[self.channels] = np.moveaxis(value, -1, 0)


class OpenFile:
    """A file looked up once: a tree that indexes like the file, its fields by channel, its scalars
    by trajectory.

    Attributes:
        file: the handle; None if everything is in memory.
        node: the tree.
        plain: whether all fields are native float32; only then `read` serves.
        scalars: (trajectory, time, scalar), those that vary in time; or None.
        constant_scalars: (trajectory, scalar), those that do not; or None.
    """

    def __init__(
        self, file: h5py.File, layout: FileLayout, in_memory: bool, keep: bool = True
    ) -> None:
        self.node = _tree(file, layout, in_memory)
        self.file = None if in_memory else file
        # The descriptor that HDF5 itself reads from: closed with the file.
        on_disk = not in_memory and file.driver == "sec2" and hasattr(os, "preadv")
        descriptor = file.id.get_vfd_handle() if on_disk else None
        self._varying: list[_Field] = []
        self._constant: list[_Field] = []
        self.plain = True
        counts = [0, 0]
        for field in layout.fields:
            item = self.node[ORDERS[field.order]][field.name].item
            self.plain &= item.dtype == np.float32 and item.dtype.isnative
            first = counts[field.time_varying]
            counts[field.time_varying] += field.n_components
            reader = _Field(item, field, layout, first, descriptor, keep)
            (self._varying if field.time_varying else self._constant).append(reader)
        self.constant_scalars = self._scalars(list(layout.scalars), (layout.n_trajectories,))
        lengths = (layout.n_trajectories, layout.n_steps)
        self.scalars = self._scalars(list(layout.time_varying_scalars), lengths)

    def read(
        self,
        frames: Sequence[NDArray[Any]],
        constants: NDArray[Any] | None,
        trajectory: int,
        start: int,
        stride: int,
    ) -> None:
        """Read a window.

        Args:
            frames: float32 arrays (C, *S) to fill, one a frame, each contiguous.
            constants: the array (K, *S) to fill, if the file has constant fields.
            trajectory: which trajectory of the file.
            start: its first frame.
            stride: frames from one to the next.
        """
        for field in self._varying:
            field.read(frames, trajectory, start, stride)
        if constants is not None:
            for field in self._constant:
                field.read([constants], trajectory, 0, 1)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def _scalars(self, names: list[str], lengths: tuple[int, ...]) -> Tensor | None:
        columns = []
        for name in names:
            item = self.node["scalars"][name]
            values = torch.as_tensor(np.asarray(item[()]))
            if not item.attrs["sample_varying"]:
                values = values[None]
            columns.append(values.expand(lengths)[..., None])
        return torch.cat(columns, -1) if columns else None


class Handles:
    """The files of a dataset by number, opened on first use.

    Every process has its own, so that forked and spawned workers open theirs; pickles hold none.
    Beyond a limit the one used least recently is closed.

    Args:
        fs: the filesystem of the files.
        layouts: what the files hold; they name the paths.
        in_memory: whether a file is read whole and closed.
        keep: whether what is the same for all samples and slow to read is kept in memory.
    """

    def __init__(self, fs: Any, layouts: Sequence[FileLayout], in_memory: bool, keep: bool) -> None:
        self._fs, self._layouts, self._in_memory, self._keep = fs, layouts, in_memory, keep
        self._limit = MAX_OPEN_LOCAL if isinstance(fs, LocalFileSystem) else MAX_OPEN_REMOTE
        self._open: OrderedDict[int, OpenFile] = OrderedDict()
        self._memory: dict[int, OpenFile] = {}
        self._pid = os.getpid()

    def __len__(self) -> int:
        """How many files are open."""
        return len(self._open)

    def __getitem__(self, number: int) -> OpenFile:
        if number in self._memory:
            return self._memory[number]
        if self._pid != os.getpid():
            # Handles inherited by a fork belong to the parent: kept aside, neither read nor closed
            # here.
            self._inherited = self._open
            self._open, self._pid = OrderedDict(), os.getpid()
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        layout = self._layouts[number]
        file = open_file(self._fs, layout.path, **IO_PARAMS["fsspec_params"])
        if self._in_memory:
            with file:
                self._memory[number] = OpenFile(file, layout, in_memory=True)
            return self._memory[number]
        while len(self._open) >= self._limit:
            self._open.popitem(last=False)[1].close()
        self._open[number] = OpenFile(file, layout, in_memory=False, keep=self._keep)
        return self._open[number]

    def __getstate__(self) -> dict[str, Any]:
        return {
            **self.__dict__,
            "_open": OrderedDict(),
            "_memory": {},
            "_inherited": None,
            "_pid": -1,
        }

    def close(self) -> None:
        """Close the files that this process has open; they open again when needed."""
        if self._pid == os.getpid():
            for file in self._open.values():
                file.close()
        self._open = OrderedDict()
