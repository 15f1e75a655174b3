"""Room on the disk, taken before it is written to.

HDF5 does not survive a write that the system refuses: the file cannot be closed any more, and the
process ends by a segmentation fault. So the whole of a file's room is reserved first, where a
refusal is an ordinary error.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import h5py

__all__ = ["bytes_needed", "hdf5_file", "reserve"]

# Bytes of headers and attributes: of a file, and of each array in it.
FILE, ARRAY = 2**15, 2**12
CHUNK = 2**20


class Sized(Protocol):
    """An array, or what will be one."""

    @property
    def nbytes(self) -> int: ...


def bytes_needed(arrays: Iterable[Sized]) -> int:
    """Bytes that a file of these arrays takes at most."""
    return FILE + sum(array.nbytes + ARRAY for array in arrays)


def reserve(path: Path, size: int) -> None:
    """Make the file at least `size` bytes long, on blocks that are its own.

    Raises:
        OSError: there is no such room.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    try:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(descriptor, 0, size)
                return
            except OSError as error:
                # A file system that cannot: it is written to below.
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    raise
        start = os.lseek(descriptor, 0, os.SEEK_END)
        while start < size:
            start += os.write(descriptor, bytes(min(CHUNK, size - start)))
    finally:
        os.close(descriptor)


@contextmanager
def hdf5_file(path: Path, size: int) -> Iterator[h5py.File]:
    """A new HDF5 file, whose `size` bytes are reserved before HDF5 writes any; it ends up as long
    as it has to be.

    Raises:
        OSError: there is no such room.
    """
    reserve(path, size)
    # Opening it gives the room back, but for the time of a call.
    with h5py.File(path, "w", libver="earliest") as file:
        reserve(path, size)
        yield file
        file.flush()
        end = file.id.get_filesize()
    os.truncate(path, end)
