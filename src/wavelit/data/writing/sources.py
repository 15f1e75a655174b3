"""Fields that are read piece by piece, so that a record larger than memory can be written.

A `Source` is numbers of a known shape that are fetched by slices: of a numpy array or tensor
without a copy; of a dask array, an HDF5 dataset or a zarr array from where they lie. Sources are
cut, turned and stacked before a value is read. What is missing (hidden by a mask, or equal to the
fill value that the array names) comes as NaN.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from wavelit.data.writing.given import kind_of, labelled, masked, numbers
from wavelit.errors import WavelitError, one_line, printable

__all__ = ["Source", "arrays_of", "lazy", "records", "source", "text_of"]

Array = npt.NDArray[Any]
Index = tuple[slice, ...]

# Bytes read at once: of numbers in the type that they have.
PIECE_BYTES = 32 * 1024**2
# A chunk is read whole, so that pieces follow chunks of up to so many bytes.
LARGEST_CHUNK = 4 * PIECE_BYTES
# Packages whose arrays are read by slices; asking numpy for one would read it whole.
LAZY = ("dask", "h5py", "netCDF4", "zarr")
MISSING = ("_FillValue", "missing_value")
PACKED = ("scale_factor", "add_offset")


@dataclass(frozen=True)
class Source:
    """Numbers of a shape, fetched by one slice an axis.

    `chunks` are the lengths in which they are stored, by axis; 1 where that does not matter.
    """

    what: str
    shape: tuple[int, ...]
    itemsize: int
    fetch: Callable[[Index], Array]
    chunks: tuple[int, ...]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in a file, where numbers have four."""
        return 4 * math.prod(self.shape)

    def read(self, index: Index = ()) -> Array:
        """The numbers under slices of the first axes, in their own dtype.

        Raises:
            WavelitError: they cannot be read, or are of another shape than promised.
        """
        whole = (*index, *(slice(None) for _ in self.shape[len(index) :]))
        index = tuple(slice(*part.indices(n)) for part, n in zip(whole, self.shape, strict=True))
        values = np.asarray(self.fetch(index))
        due = tuple(part.stop - part.start for part in index)
        if values.shape != due:
            raise WavelitError(
                f"{self.what}: expected a piece of shape {due}, got {values.shape}: write it again"
            )
        return values

    def cut(self, part: slice, axis: int = 0) -> Source:
        """A range of an axis."""
        start, stop, _ = part.indices(self.shape[axis])

        def fetch(index: Index) -> Array:
            moved = list(index)
            moved[axis] = slice(index[axis].start + start, index[axis].stop + start)
            return self.fetch(tuple(moved))

        return replace(self, shape=_with(self.shape, axis, stop - start), fetch=fetch)

    def flip(self, axes: Sequence[int]) -> Source:
        """Axes in the opposite order."""
        if not axes:
            return self

        def fetch(index: Index) -> Array:
            turned = list(index)
            for axis in axes:
                n = self.shape[axis]
                turned[axis] = slice(n - index[axis].stop, n - index[axis].start)
            values: Array = np.flip(self.fetch(tuple(turned)), tuple(axes))
            return values

        return replace(self, fetch=fetch)

    def transpose(self, order: Sequence[int]) -> Source:
        """Axes in another order: axis i is axis order[i] of these numbers."""
        back = np.argsort(order)
        return replace(
            self,
            shape=tuple(self.shape[axis] for axis in order),
            chunks=tuple(self.chunks[axis] for axis in order),
            fetch=lambda index: np.transpose(self.fetch(tuple(index[i] for i in back)), order),
        )

    def grow(self) -> Source:
        """A first axis of length 1."""
        return replace(
            self,
            shape=(1, *self.shape),
            chunks=(1, *self.chunks),
            fetch=lambda index: self.fetch(index[1:])[None][index[0]],
        )

    def each(self) -> list[Source]:
        """What lies along the first axis, one by one."""

        def one(i: int) -> Source:
            return replace(
                self,
                shape=self.shape[1:],
                chunks=self.chunks[1:],
                fetch=lambda index: self.fetch((slice(i, i + 1), *index))[0],
            )

        return [one(i) for i in range(self.shape[0])]

    @staticmethod
    def stack(parts: Sequence[Source]) -> Source:
        """A new first axis over numbers of one shape."""
        first = parts[0]

        def fetch(index: Index) -> Array:
            return np.stack([part.fetch(index[1:]) for part in parts[index[0]]])

        return replace(
            first, shape=(len(parts), *first.shape), chunks=(1, *first.chunks), fetch=fetch
        )

    def pieces(self, lead: int) -> Iterator[Index]:
        """Slices of the first `lead` axes that together are all of them, each of bounded size."""
        lengths: list[int] = []
        for axis in range(lead):
            bytes_ = self.itemsize * math.prod(self.shape[axis + 1 :])
            n = max(1, PIECE_BYTES // max(bytes_, 1))
            chunk = min(self.chunks[axis], self.shape[axis])
            if chunk > 1 and chunk * bytes_ <= LARGEST_CHUNK:
                n = max(chunk, n // chunk * chunk)
            # Only the last axis that is cut can be cut within: before it, one by one.
            lengths.append(n)
        starts = [range(0, n, step) for n, step in zip(self.shape, lengths, strict=False)]
        for corner in itertools.product(*starts):
            yield tuple(
                slice(start, min(start + step, n))
                for start, step, n in zip(corner, lengths, self.shape, strict=False)
            )


def source(what: str, value: Any, holes: bool = False) -> Source:
    """Numbers of any make.

    Args:
        what: their name in messages: "field 'a'".
        value: an array, tensor, dask array, HDF5 dataset, zarr array or list of those of one shape.
        holes: whether entries may be missing: masked, or equal to the array's fill value.

    Raises:
        WavelitError: they are no real numbers, or some are missing.
    """
    if isinstance(value, Source):
        return value
    found = records(what, value, holes)
    if isinstance(found, Source):
        return found
    shapes = {part.shape for part in found}
    if len(shapes) > 1:
        raise WavelitError(
            f"{what}: expected real numbers, but they make no array: shapes "
            f"{', '.join(map(str, sorted(shapes)[:3]))} differ"
        )
    return Source.stack(found)


def records(what: str, value: Any, holes: bool = False) -> Source | list[Source]:
    """As `source`, but a list of arrays stays one: they may differ in length.

    Raises:
        WavelitError: as `source`.
    """
    if isinstance(value, Source):
        return value
    if isinstance(value, list | tuple) and value and all(_array_like(item) for item in value):
        return [source(f"{what} of trajectory {i}", item, holes) for i, item in enumerate(value)]
    if lazy(value):
        return _stored(what, value)
    if isinstance(value, np.ma.MaskedArray):
        if not holes or not np.ma.is_masked(value):
            return _plain(what, numbers(what, value))
        return replace(
            _plain(what, numbers(what, value.data)), fetch=lambda index: masked(value[index])
        )
    return _plain(what, numbers(what, value))


def lazy(value: Any) -> bool:
    """Whether it is an array that another package reads by slices."""
    module = type(value).__module__.split(".")[0]
    return module in LAZY and all(hasattr(value, name) for name in ("shape", "dtype"))


def arrays_of(value: Any) -> Any:
    """The arrays by name of a zarr group or an xarray Dataset; anything else as it is."""
    if type(value).__module__.split(".")[0] == "zarr" and hasattr(value, "arrays"):
        return dict(value.arrays())
    if hasattr(value, "data_vars"):
        return dict(value.data_vars)
    return value


def text_of(value: Any, name: str) -> str:
    """A text among the attributes of an array; empty if it has none."""
    try:
        found = getattr(value, "attrs", {}).get(name, "")
    except (AttributeError, OSError, RuntimeError):
        return ""
    if isinstance(found, bytes):
        found = found.decode("utf8", "replace")
    return printable(found, 100).strip() if isinstance(found, str | int) else ""


def _array_like(item: Any) -> bool:
    if isinstance(item, Source):
        return True
    known = isinstance(item, np.ndarray | Tensor) or lazy(item) or labelled(item)
    return known and getattr(item, "ndim", 0) > 0


def _with(shape: tuple[int, ...], axis: int, n: int) -> tuple[int, ...]:
    return (*shape[:axis], n, *shape[axis + 1 :])


def _plain(what: str, array: Array) -> Source:
    return Source(what, array.shape, array.itemsize, lambda index: array[index], (1,) * array.ndim)


def _stored(what: str, value: Any) -> Source:
    """An array of another package, which is asked for slices alone."""
    # Of a compound type the numbers have names, and of text no length.
    dtype = np.dtype(value.dtype) if not isinstance(value.dtype, type) else np.dtype(object)
    if dtype.kind not in "fiub":
        raise WavelitError(f"{what}: expected real numbers, got {kind_of(value, dtype, 1)}")
    if value.shape is None:
        raise WavelitError(f"{what}: expected real numbers, got an empty dataset")
    if any(math.isnan(n) for n in value.shape):
        raise WavelitError(f"{what}: its length is not known yet: call compute_chunk_sizes() first")
    shape = tuple(int(n) for n in value.shape)
    module = type(value).__module__.split(".")[0]
    attributes: Mapping[str, Any] = getattr(value, "attrs", {}) if module != "netCDF4" else {}
    if packed := [name for name in PACKED if name in attributes]:
        raise WavelitError(
            f"{what} is packed by '{packed[0]}', which is not undone here: open its file with "
            "xarray, and pass the DataArray"
        )
    fills = [np.ravel(attributes[name])[0] for name in MISSING if name in attributes]
    fills = [fill for fill in fills if isinstance(fill, np.number | int | float)]
    if module == "zarr":
        require_whole_store(what, value, any(fill == value.fill_value for fill in fills))

    def fetch(index: Index) -> Array:
        try:
            piece = masked(value[index])
        except (OSError, RuntimeError, ValueError, LookupError) as error:
            raise WavelitError(
                f"{what} cannot be read: {one_line(error)}: write it again"
            ) from error
        for fill in fills:
            hole = piece == (fill if piece.dtype.kind != "f" else piece.dtype.type(fill))
            piece = np.where(hole, np.nan, piece) if hole.any() else piece
        return piece

    chunks = getattr(value, "chunksize", None) or getattr(value, "chunks", None)
    return Source(what, shape, dtype.itemsize, fetch, tuple(chunks or (1,) * len(shape)))


def require_whole_store(what: str, array: Any, decoded: bool) -> None:
    """All chunks of a zarr array must have been written: those that were not read as its fill
    value, which is a number like any other unless it is NaN, or `decoded` to it.

    Raises:
        WavelitError: some are missing.
    """
    fill = array.fill_value
    missing = array.nchunks - array.nchunks_initialized
    if missing <= 0 or decoded or (isinstance(fill, float | np.floating) and np.isnan(fill)):
        return
    raise WavelitError(
        f"{what}: {missing} of its {array.nchunks} chunks were never written, and would read as "
        f"{fill}: write the store to its end; where they are meant to be {fill}, write it with "
        "zarr.config.set({'array.write_empty_chunks': True}), or pass its values, as in array[:]"
    )
