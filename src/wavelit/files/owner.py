"""One owner a folder: whoever writes into a run or a dataset holds its lock, and the next one is
told who does.

The lock is the operating system's, so that it ends with its process, however that ends.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wavelit.errors import WavelitError, printable

__all__ = ["LOCK", "FolderInUseError", "owned"]


class FolderInUseError(WavelitError):
    """Another process writes there."""


LOCK = ".wavelit.lock"
OWNER = ".wavelit.owner"


@contextmanager
def owned(folder: Path, doing: str) -> Iterator[None]:
    """Hold a folder, which is made if it is not there; without a wait.

    Args:
        folder: What is written into.
        doing: What its owner does, for others to read: "training", "generating".

    Raises:
        WavelitError: Another process holds it; the message says which, where and since when.
        OSError: The folder cannot be made, or written into.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise FolderInUseError(
            f"{folder} is in use: {_holder(folder)}; wait for it, stop it, or choose another folder"
        ) from error
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        owner = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "since": since,
            "doing": doing,
        }
        # On a full disk the note fails, not the work: that may need no room, or names the file that
        # does.
        with suppress(OSError):
            (folder / OWNER).write_text(json.dumps(owner), encoding="utf8")
        yield
    finally:
        # While the lock is held, so that whoever has opened the file sees that it is no longer the
        # folder's. A system that keeps open files leaves it there.
        for name in (OWNER, LOCK):
            with suppress(OSError):
                (folder / name).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    try:
        owner = json.loads((folder / OWNER).read_text(encoding="utf8"))
        words = {
            name: printable(owner[name], 100) for name in ("process", "host", "since", "doing")
        }
    except (OSError, ValueError, KeyError, TypeError):
        # Between the lock and its note.
        return "another process holds it"
    return (
        f"process {words['process']} on {words['host']} has been {words['doing']} there since "
        f"{words['since']}"
    )
