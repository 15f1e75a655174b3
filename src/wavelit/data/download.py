"""A dataset of The Well from the Hugging Face hub onto the disk.

The hub's own client fetches, resumes and tries again. What is added: the size is known before
anything is fetched, the disk must have room for it, and every file has its whole length at the end.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from wavelit.checks.arguments import require_names, require_path, require_whole
from wavelit.data.format.folder import SPLITS, remote_failures
from wavelit.errors import WavelitError, one_line, printable

__all__ = ["OWNER", "Download", "find_download"]

OWNER = "polymathic-ai"
STATISTICS = "stats.yaml"
PROCESSES = 4
SECONDS = 30.0
HUB_ERRORS: tuple[type[BaseException], ...] = (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
)


@dataclass(frozen=True)
class Download:
    """Files of a dataset on the hub that are wanted.

    Args:
        system: The dataset's name.
        folder: Where they go, a dataset folder.
        sizes: Bytes by name within the folder.
    """

    system: str
    folder: Path
    sizes: dict[str, int]

    @property
    def missing(self) -> dict[str, int]:
        """Those that are not there in their whole length."""
        return {
            name: size
            for name, size in self.sizes.items()
            if not (path := self.folder / name).is_file() or path.stat().st_size != size
        }

    @property
    def free(self) -> int:
        """Bytes free on the disk of the folder."""
        there = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        return shutil.disk_usage(there).free

    def __str__(self) -> str:
        files = [name for name in self.sizes if name != STATISTICS]
        parts = ", ".join(f"{len(_of(split, files))} {split}" for split in SPLITS)
        return (
            f"{self.system}: {_gigabytes(sum(self.sizes.values()))} in {len(files)} files "
            f"({parts}); {_gigabytes(sum(self.missing.values()))} are missing in {self.folder}, "
            f"where {_gigabytes(self.free)} are free"
        )

    def run(self) -> Path:
        """Fetch what is missing. Run again, it goes on where it was.

        Returns:
            The dataset's folder.

        Raises:
            WavelitError: Too little room, the hub does not answer, or a file is cut.
        """
        missing = self.missing
        due = sum(missing.values())
        if due > self.free:
            raise WavelitError(
                f"{self.folder} has room for {_gigabytes(self.free)}, and {_gigabytes(due)} of "
                f"{self.system} are missing: name another --to, fewer --splits or --files, or "
                f"train on the address hf://datasets/{OWNER}/{self.system}"
            )
        if missing:
            try:
                snapshot_download(
                    f"{OWNER}/{self.system}",
                    repo_type="dataset",
                    local_dir=self.folder,
                    allow_patterns=sorted(missing),
                    max_workers=PROCESSES,
                )
            except (*HUB_ERRORS, *remote_failures()) as error:
                raise _no_answer(self.system, error) from error
        for name, size in self.missing.items():
            path = self.folder / name
            found = path.stat().st_size if path.is_file() else 0
            raise WavelitError(
                f"{path} has {found:,} of {size:,} bytes: run the same command again"
            )
        return self.folder


def find_download(
    system: str,
    to: str | os.PathLike[str] = "datasets",
    splits: Sequence[str] = SPLITS,
    files: int | None = None,
) -> Download:
    """Ask the hub what a dataset of The Well consists of.

    Args:
        system: Its name, such as shear_flow.
        to: Folder of the datasets.
        splits: Of train, valid, test.
        files: The first so many of each split; all if absent.

    Raises:
        WavelitError: The hub has no such dataset or does not answer, or no file of a split.
    """
    to = require_path("to", to)
    splits = require_names("splits", splits)
    for split in splits:
        if split not in SPLITS:
            raise WavelitError(f"unknown split {printable(split, 40)}: of {', '.join(SPLITS)}")
    if files is not None:
        require_whole("files", files)
    try:
        found = HfApi().dataset_info(f"{OWNER}/{system}", timeout=SECONDS, files_metadata=True)
    except (*HUB_ERRORS, *remote_failures()) as error:
        raise _no_answer(system, error) from error
    sizes = {each.rfilename: each.size or 0 for each in found.siblings or ()}
    wanted = [STATISTICS] if STATISTICS in sizes else []
    for split in splits:
        own = _of(split, sizes)
        if not own:
            raise WavelitError(f"{OWNER}/{system} on the hub has no files in data/{split}")
        wanted += own[:files]
    return Download(system, to / system, {name: sizes[name] for name in wanted})


def _of(split: str, names: Sequence[str] | dict[str, int]) -> list[str]:
    return sorted(
        name
        for name in names
        if name.startswith(f"data/{split}/") and name.endswith((".hdf5", ".h5"))
    )


def _gigabytes(n: float) -> str:
    return f"{n / 1e9:,.3g} GB" if n < 1e12 else f"{n / 1e9:,.0f} GB"


def _no_answer(system: str, error: BaseException) -> WavelitError:
    return WavelitError(
        f"{printable(system, 80)} cannot be had from the hub: {one_line(error)}; what is here "
        "stays, and the same command goes on with it"
    )
