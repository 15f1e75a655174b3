"""Dataset folders, local or at any fsspec address: their filesystem, their files, and what others
may not do by them.

A folder is read, and nothing else: an entry that is no regular file is refused by name, an address
that cannot be reached is one line, and a filesystem that looks elsewhere for what it holds is not
opened.
"""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
import h5py
from fsspec.implementations.local import LocalFileSystem

from wavelit.checks.arguments import shown
from wavelit.data.format.hdf5 import REFUSALS, unreadable
from wavelit.data.format.patient import PatientFile, patiently
from wavelit.errors import WavelitError, one_line, printable, system_error
from wavelit.files.plain import LONGEST_TEXT, decode_text, read_text

__all__ = [
    "SPLITS",
    "address",
    "filesystem",
    "find_files",
    "open_file",
    "read_address",
    "remote_failures",
    "require_storage_options",
    "split_folder",
]

SPLITS = ("train", "valid", "test")
# Its files say where, on this machine or elsewhere, others are to be read, in templates that are
# evaluated.
REFUSED_PROTOCOL = "reference"
# Where the libraries below fsspec keep the errors that are none of Python's.
ERRORS_OF = (
    ("aiohttp", "ClientError"),
    # Of the hub's client, by its version.
    ("httpx2", "HTTPError"),
    ("httpx", "HTTPError"),
    ("requests", "RequestException"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("azure.core.exceptions", "AzureError"),
    ("paramiko", "SSHException"),
    ("ftplib", "Error"),
)
DEEPEST = 16


def address(path: Any, name: str = "path") -> str:
    """A dataset folder as text, a local one with its ~ expanded; `name` is the argument's.

    Raises:
        WavelitError: it is neither text nor a path, or blank.
    """
    if not isinstance(path, str | os.PathLike):
        raise WavelitError(f"{name} must be a folder or an address, not {shown(path)}")
    if not os.fsdecode(path).strip():
        raise WavelitError(f"{name} is {shown(path)}, a blank word; name a folder or an address")
    return os.path.expanduser(os.fspath(path))


def split_folder(path: str, split: str | None) -> str:
    """The folder that holds the files of a split.

    Raises:
        WavelitError: the split is not one of train, valid and test.
    """
    if split is None:
        return path
    if split not in SPLITS:
        raise WavelitError(f"unknown split '{split}' of {path}: use one of {', '.join(SPLITS)}")
    return f"{path.rstrip('/')}/data/{split}"


def require_storage_options(options: Any) -> None:
    """What is given to fsspec must be plain data.

    Raises:
        WavelitError: it is no dict of names to text, numbers, truth values, None, and lists and
            dicts of them; or it names the protocol `reference`.
    """
    if options is None:
        return
    if not isinstance(options, dict):
        raise WavelitError(f"storage_options must be a dict, not {shown(options)}")
    _require_plain(options, "storage_options", DEEPEST)


def _require_plain(value: Any, where: str, depth: int) -> None:
    if depth == 0:
        raise WavelitError(f"{where[:80]}: nested too deeply; give plain entries")
    if isinstance(value, dict):
        for key, entry in value.items():
            if type(key) is not str:
                raise WavelitError(f"{where} has the key {shown(key)}; names are due")
            _require_plain(entry, f"{where}.{printable(key, 80)}", depth - 1)
    elif isinstance(value, list | tuple):
        for i, entry in enumerate(value):
            _require_plain(entry, f"{where}[{i}]", depth - 1)
    elif value is not None and type(value) not in (str, int, float, bool):
        raise WavelitError(
            f"{where} is a {type(value).__name__}; text, numbers, true, false, and lists and dicts "
            "of them are due"
        )
    elif isinstance(value, str):
        _require_protocol(value, where)


def _require_protocol(address: str, where: str) -> None:
    for part in address.split("::"):
        if part.split("://")[0].strip().lower() == REFUSED_PROTOCOL:
            raise WavelitError(
                f"{where}: the protocol 'reference' reads files elsewhere; copy the dataset into a "
                "folder"
            )


@contextmanager
def _reaching(address: str) -> Iterator[None]:
    """Name the address that cannot be reached."""
    try:
        yield
    except (WavelitError, FileNotFoundError):
        raise
    except remote_failures() as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: BaseException) -> WavelitError:
    if isinstance(error, OSError) and error.errno is not None and "://" not in address:
        return WavelitError(system_error(error))
    reason = one_line(error) or type(error).__name__
    return WavelitError(
        f"{address}: cannot be reached ({reason}); check the address, the network and "
        "storage_options"
    )


def remote_failures() -> tuple[type[BaseException], ...]:
    """What fsspec and the libraries under it raise."""
    loaded = [(sys.modules.get(module), name) for module, name in ERRORS_OF]
    theirs = [getattr(module, name) for module, name in loaded if hasattr(module, name)]
    return (*REFUSALS, ImportError, *theirs)


def filesystem(address: str, storage_options: dict[str, Any] | None = None) -> tuple[Any, str]:
    """The filesystem of an address and the path in it.

    Raises:
        WavelitError: there is none for it, or it is one that reads elsewhere; or the options are
            not plain data.
    """
    require_storage_options(storage_options)
    _require_protocol(address, printable(address))
    try:
        fs, path = fsspec.url_to_fs(address, **(storage_options or {}))
    except remote_failures() as error:
        raise WavelitError(
            f"{address}: no filesystem for this address ({one_line(error)})"
        ) from error
    return fs, str(path)


def find_files(folder: str, storage_options: dict[str, Any] | None = None) -> tuple[Any, list[str]]:
    """The filesystem of a folder (local path or fsspec address) and its HDF5 files, sorted.

    Raises:
        WavelitError: the folder does not exist or cannot be reached, holds no file ending in .hdf5
            or .h5 or one whose name has control characters, or its own name is a pattern.
    """
    fs, root = filesystem(folder, storage_options)
    with _reaching(folder):
        if not fs.isdir(root):
            raise WavelitError(
                f"{folder}: no such folder; a dataset is a folder with data/train, data/valid and "
                "data/test in it"
            )
        if glob.has_magic(root):
            raise WavelitError(
                f"{folder}: its name holds one of * ? [, which The Well's reader takes for a "
                "pattern; rename it"
            )
        files = sorted(
            patiently(
                lambda: fs.glob(f"{root}/*.h5") + fs.glob(f"{root}/*.hdf5"),
                folder,
                remote_failures(),
            )
        )
    if not files:
        raise WavelitError(
            f"{folder}: no file ending in .hdf5 or .h5 in this folder; give the dataset's own "
            "folder"
        )
    for file in files:
        name = file.rsplit("/", 1)[-1]
        if printable(name, len(name)) != name:
            raise WavelitError(
                f"{folder}: the name of '{printable(name)}' has control characters; rename it"
            )
    return fs, files


def open_file(fs: Any, path: str, **fsspec_params: Any) -> h5py.File:
    """Open an HDF5 file for reading: by HDF5 itself when local, through fsspec otherwise.

    Raises:
        WavelitError: the file is missing, truncated or not HDF5, or no regular file.
    """
    try:
        if isinstance(fs, LocalFileSystem):
            # A pipe would wait for a writer.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise WavelitError(f"{path}: not a regular file; move it away")
            return h5py.File(path, "r")
        with _reaching(path):
            stream = PatientFile(
                lambda: fs.open(path, "rb", **fsspec_params), path, remote_failures()
            )
        return h5py.File(stream, "r")
    except FileNotFoundError as error:
        raise WavelitError(f"{path}: no such file; it was listed but has gone since") from error
    except WavelitError:
        raise
    except OSError as error:
        reason = one_line(error)
        if "truncated" in reason:
            raise WavelitError(
                f"{path}: truncated HDF5 file; download or write it again"
            ) from error
        if "signature" in reason:
            raise WavelitError(f"{path}: not an HDF5 file; delete it or write it again") from error
        raise WavelitError(f"{path}: HDF5 cannot open this file ({reason})") from error
    except remote_failures() as error:
        raise unreadable(path, "the file", error) from error


def read_address(address: str, storage_options: dict[str, Any] | None = None) -> str:
    """The text of a file, local or at any fsspec address.

    Raises:
        FileNotFoundError: there is none.
        WavelitError: it cannot be read, is larger than 16 MB or not UTF-8.
    """
    fs, path = filesystem(address, storage_options)
    try:
        if isinstance(fs, LocalFileSystem):
            return read_text(path)

        def read() -> bytes:
            with fs.open(path, "rb") as stream:
                found: bytes = stream.read(LONGEST_TEXT + 1)
                return found

        return decode_text(patiently(read, address, remote_failures()), printable(address))
    except (FileNotFoundError, WavelitError):
        raise
    except remote_failures() as error:
        raise _unreachable(address, error) from error
