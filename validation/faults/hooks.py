"""A kill or an error at the n-th file operation of a process.

The operations are those through which the package and its libraries write: `open` for writing,
`os.replace` and `rename`, `os.fsync`, `shutil.move` and `copyfile` (fsspec's commit across file
systems), `torch.save`, the weights' `save_file`, HDF5 files, folders made and removed.
"""

from __future__ import annotations

import builtins
import errno
import importlib
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["count_operations", "install"]

WHERE = (
    ("os", "replace"),
    ("os", "rename"),
    ("os", "fsync"),
    ("os", "mkdir"),
    ("os", "unlink"),
    ("shutil", "move"),
    ("shutil", "copyfile"),
    ("shutil", "rmtree"),
    ("torch", "save"),
    ("safetensors.torch", "save_file"),
    ("huggingface_hub", "save_torch_model"),
    ("h5py", "File"),
)


def install(at: int | None, how: str, place: str, log: Path | None = None) -> None:
    """Wrap the operations of this process.

    Args:
        at: Which of them, counted from 1; None only counts.
        how: "kill", "term" or "full".
        place: "before" the operation, "after" it, or "half" way: the file it wrote cut to half.
        log: Where the name of every operation goes, a line each.
    """
    count = 0

    def act(target: Any) -> None:
        if how == "full":
            name = os.fspath(target) if isinstance(target, str | os.PathLike) else None
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGTERM)

    def wrap(name: str, original: Callable[..., Any], position: int) -> Callable[..., Any]:
        def operation(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if log is not None:
                descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.write(descriptor, f"{name} {_name(args, position)}\n".encode())
                os.close(descriptor)
            if count != at:
                return original(*args, **options)
            target = args[position] if len(args) > position else None
            if place == "before":
                act(target)
                return original(*args, **options)
            value = original(*args, **options)
            if place == "half" and isinstance(target, str | os.PathLike) and os.path.isfile(target):
                os.truncate(target, os.path.getsize(target) // 2)
            act(target)
            return value

        return operation

    for module_name, name in WHERE:
        module = importlib.import_module(module_name)
        if name == "File":
            _wrap_hdf5(module, wrap)
        elif hasattr(module, name):
            position = (
                1 if name in ("replace", "rename", "move", "copyfile", "save", "save_file") else 0
            )
            setattr(module, name, wrap(name, getattr(module, name), position))
    plain = builtins.open
    writing = wrap("open", plain, 0)

    def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        is_written = (
            set(mode) & set("wxa+")
            and isinstance(file, str | os.PathLike)
            and os.fspath(file) != os.devnull
        )
        return (writing if is_written else plain)(file, mode, *args, **options)

    builtins.open = io.open = opened  # type: ignore[assignment]


def _name(args: tuple[Any, ...], position: int) -> str:
    target = args[position] if len(args) > position else None
    return Path(os.fsdecode(target)).name if isinstance(target, str | bytes | os.PathLike) else ""


def _wrap_hdf5(module: Any, wrap: Callable[..., Any]) -> None:
    original = module.File.__init__

    def body(self: Any, name: Any, mode: str = "r", *args: Any, **options: Any) -> None:
        original(self, name, mode, *args, **options)

    writing = wrap("hdf5", body, 1)

    def init(self: Any, name: Any, mode: str = "r", *args: Any, **options: Any) -> None:
        (body if mode == "r" else writing)(self, name, mode, *args, **options)

    module.File.__init__ = init


def count_operations(log: Path) -> list[str]:
    """The operations of a process that only counted, and what they were on."""
    return log.read_text().splitlines() if log.exists() else []
