"""Reading over a network that fails now and then: once more after a pause, and after a longer one,
a bounded number of times.
"""

from __future__ import annotations

import gc
import io
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from wavelit.data.format.hdf5 import REFUSALS
from wavelit.errors import one_line, printable

__all__ = ["PatientFile", "patiently"]

# Seconds between attempts; after the last one the error is the caller's.
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
LONGEST_PAUSE = 60.0
# Of HTTP: too slow, too early, too many requests. Those of 500 and more are the server's own.
BUSY = (408, 425, 429)
# What trying again does not change.
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)

# What libraries call an answer that ends too early.
CUT = ("ClientPayloadError", "ServerDisconnectedError", "IncompleteRead", "RemoteProtocolError")

Result = TypeVar("Result")


class CutError(OSError):
    """Fewer bytes came than the file has."""


def patiently(
    attempt: Callable[[], Result],
    address: str,
    failures: tuple[type[BaseException], ...],
    reached: bool = False,
) -> Result:
    """What an attempt returns that may fail for a while; a warning says that it did.

    Args:
        attempt: What is tried.
        address: Of what is read, for the warning.
        failures: What it may fail with; what is no matter of time is raised at once.
        reached: Whether it was there before. What was not is given time only if it answers, but
            that it is busy, or not to the end: an address may be wrong.
    """
    for number, pause in enumerate(PAUSES):
        try:
            return attempt()
        except failures as error:
            if not _passes(error, reached):
                raise
            if number == 0:
                reason = one_line(error) or type(error).__name__
                warnings.warn(
                    f"{printable(address)}: {reason}; trying again for up to {sum(PAUSES):.0f} s",
                    stacklevel=2,
                )
            time.sleep(max(pause, _asked(error)))
    return attempt()


def _status(error: BaseException) -> int | None:
    """Of an answer by HTTP, whichever library it came through."""
    for place in (error, getattr(error, "response", None)):
        for name in ("status", "status_code"):
            if isinstance(status := getattr(place, name, None), int):
                return status
    return None


def _passes(error: BaseException, reached: bool) -> bool:
    if (status := _status(error)) is not None:
        return status in BUSY or status >= 500
    if type(error).__name__ in CUT:
        return True
    if isinstance(error, OSError):
        return reached and not isinstance(error, FINAL)
    # Or of the network's library, and no mistake in a program.
    return reached and not isinstance(error, (*REFUSALS, ImportError))


def _asked(error: BaseException) -> float:
    """Seconds that a busy server asks for."""
    headers = getattr(error, "headers", None) or getattr(
        getattr(error, "response", None), "headers", None
    )
    try:
        seconds = float((headers or {}).get("Retry-After", 0))
    except (AttributeError, TypeError, ValueError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST_PAUSE)


class _Uncollected:
    """No garbage collection while HDF5 waits for a file. It would also run in the thread of the
    network's loop. There an object of h5py would wait for HDF5's lock, which the reader holds, who
    waits for the loop.
    """

    def __init__(self) -> None:
        self._lock, self._readers, self._before = threading.Lock(), 0, False

    def __enter__(self) -> None:
        with self._lock:
            if self._readers == 0:
                self._before = gc.isenabled()
                gc.disable()
            self._readers += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0 and self._before:
                gc.enable()


UNCOLLECTED = _Uncollected()


class PatientFile(io.RawIOBase):
    """A remote file for reading, opened anew where it fails.

    Args:
        open_file: Opens it, as fsspec does.
        address: For warnings.
        failures: What reading may fail with.
    """

    def __init__(
        self,
        open_file: Callable[[], Any],
        address: str,
        failures: tuple[type[BaseException], ...],
    ) -> None:
        super().__init__()
        self._open_file, self._address, self._failures = open_file, address, failures
        self._file, self._place = patiently(open_file, address, failures), 0
        self._size = int(self._file.seek(0, io.SEEK_END))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from here on, as far as the file goes."""
        view = memoryview(buffer).cast("B")
        due = max(0, min(len(view), self._size - self._place))

        def attempt() -> bytes:
            if self._file is None:
                self._file = self._open_file()
            try:
                self._file.seek(self._place)
                found: bytes = self._file.read(due)
                if len(found) < due:
                    raise CutError(f"{len(found)} of {due} bytes came")
            except self._failures:
                # What it keeps in memory may be cut as well.
                file, self._file = self._file, None
                file.close()
                raise
            return found

        if due:
            with UNCOLLECTED:
                view[:due] = patiently(attempt, self._address, self._failures, reached=True)
        self._place += due
        return due

    def close(self) -> None:
        if not self.closed and self._file is not None:
            self._file.close()
        super().close()
