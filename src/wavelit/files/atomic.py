"""Files and folders that are whole or absent, whatever interrupts their writing.

What is written stands under a temporary name beside its target, so on the same file system. It is
flushed to the disk before it takes the target's name: after a power cut there is the old content or
the new one.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_folder", "atomic_path", "flush", "named", "require_writable", "sweep"]


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`: renamed to it when the block ends well, removed when it does
    not.

    Raises:
        OSError: its `filename` is `path` or its folder, not the temporary one.
    """
    with named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix is none that a reader looks for.
        temporary = _beside(path)
        try:
            yield temporary
            flush(temporary)
            os.replace(temporary, path)
            flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, which takes its place when the block ends well; it may hold
    files, no folders.

    A folder of that name is replaced. A kill between the two renames leaves none, so readers find
    all of it or nothing.
    """
    with named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, old = _beside(path), _beside(path)
        try:
            temporary.mkdir()
            yield temporary
            for file in temporary.iterdir():
                flush(file)
            flush(temporary)
            if path.exists():
                os.replace(path, old)
            try:
                os.replace(temporary, path)
            except BaseException:
                if old.exists():
                    os.replace(old, path)
                raise
            flush(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written into before the work that it is for, not after it.

    Args:
        folder: It need not be there yet.

    Raises:
        OSError: It, or what it would be made in, is no folder or closed to this user.
    """
    there = next(each for each in (folder / "file").absolute().parents if each.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))


def sweep(folder: Path, pattern: str = "**/.*.tmp") -> None:
    """Remove what killed processes left under temporary names; only who owns the folder may."""
    for path in folder.glob(pattern):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def flush(path: Path) -> None:
    """Put a file's content, or a folder's names, on the disk."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name[:100]}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")


@contextmanager
def named(path: Path) -> Iterator[None]:
    """An error of the system that names no file, or a temporary one, names `path`: what the user
    asked for.

    HDF5 wraps such errors in others.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        # HDF5 reports a full disk as a RuntimeError where it closes the file, and has the number in
        # its text.
        found = re.search(r"errno = (\d+)", str(error))
        number = int(found.group(1)) if found else getattr(error, "errno", None)
        file = getattr(error, "filename", None)
        if number is None or (isinstance(file, str) and not file.endswith(".tmp")):
            raise
        raise OSError(number, os.strerror(number), str(path)) from error
