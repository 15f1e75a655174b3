"""Arrays to a dataset in The Well's format: one folder per split, with a file for each line of
times, and the statistics of the training split.

`wavelit.data.writing.well_file` writes a file, `wavelit.data.writing.records` says what is in it.
`stats.yaml` beside the splits holds the moments of every field over the training split. The folder
is whole or absent.

References: Ohana, McCabe, Meyer et al., The Well: a Large-Scale Collection of Diverse Physics
Simulations for Machine Learning, 2024, arXiv:2412.00568.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wavelit.checks.arguments import require_names
from wavelit.data.statistics import write_statistics
from wavelit.data.writing.contents import Contents, checked_given, is_shared
from wavelit.data.writing.given import (
    Boundaries,
    check_file_name,
    check_sides,
    local_path,
    rounds_off,
)
from wavelit.data.writing.masks import check_mask
from wavelit.data.writing.progress import writing_bar
from wavelit.data.writing.records import (
    Part,
    Records,
    counted_splits,
    parts,
    shares_in_time,
)
from wavelit.data.writing.sources import Source
from wavelit.data.writing.well_file import write_contents, write_well
from wavelit.data.writing.xarrays import by_name
from wavelit.errors import WavelitError
from wavelit.files.owner import owned

__all__ = ["new_dataset", "rounds_off", "write_dataset", "write_well"]

# Frames left out between splits in time: the history of a model unless told otherwise.
GAP = 4


def write_dataset(
    path: str | Path,
    fields: Mapping[str, Any],
    *,
    splits: Mapping[str, int] | None = None,
    name: str,
    boundary_conditions: Boundaries,
    constant_fields: Mapping[str, Any] | None = None,
    scalars: Mapping[str, Any] | None = None,
    coordinates: Mapping[str, Any] | None = None,
    time: Any = None,
    mask_field: str | None = None,
    mask_excludes: float = 1.0,
    split_in_time: Sequence[float] | None = None,
    gap: int = GAP,
    equal_steps: bool = False,
    units: Mapping[str, str] | None = None,
    forcings: Sequence[str] = (),
) -> Path:
    """Write arrays as a folder ready for training: data/{train,valid,test}/<name>.hdf5 and
    stats.yaml.

    >>> x, t = np.arange(64) / 64, np.arange(30) / 30
    >>> speed = np.random.default_rng(0).uniform(0.5, 1.5, 10)
    >>> u = np.sin(2 * np.pi * (x - speed[:, None, None] * t[:, None]))  # (10, 30, 64)
    >>> folder = wavelit.write_dataset(
    ...     "datasets/waves",
    ...     {"u": u},
    ...     splits={"train": 8, "valid": 1, "test": 1},
    ...     name="waves",
    ...     boundary_conditions=["periodic"],
    ...     scalars={"speed": speed},
    ... )

    Args:
        path: the folder of the dataset; its `data` must not exist yet.
        fields: as in `write_well`, all trajectories together; or lists of arrays (T_i, *S, ...),
            one a trajectory, where they differ in length.
        splits: number of trajectories of train, valid and test, taken in this order from the first
            axis; they add up to N.
        name: the dataset's name.
        boundary_conditions: as in `write_well`, as are the arguments up to `coordinates`.
        time: (T,) for all trajectories, or a list of lines (T_i,), one for each. Trajectories of
            the same times share a file, which changes their order where times alternate. Where
            steps differ by more than a hundredth, they are written as a scalar, `time_step`.
        mask_field: the constant field that marks cells outside the domain. There any value is
            accepted, NaN and hidden ones too, and 0 is stored. It is declared in the files:
            statistics, checks, training and scores leave these cells out.
        mask_excludes: its value there.
        split_in_time: instead of `splits`, the shares of time of train, valid and test, in this
            order: every trajectory is cut.
        gap: frames left out between two splits in time; the history that models will have.
        equal_steps: take an irregular time axis, such as calendar months, as regular.
        units: as in `write_well`.
        forcings: as in `write_well`; scalars (N, T) are among them without being named.

    Returns:
        The folder written.

    Raises:
        WavelitError: as `write_well`; or the splits do not fit, trajectories are too short to be
            cut, the time axis is irregular, the folder holds data already, or another process
            writes there.
        OSError: as `write_well`.
    """
    path = local_path("path", path)
    check_file_name("name", name)
    if (splits is None) == (split_in_time is None) and split_in_time is not None:
        raise WavelitError("splits and split_in_time exclude each other: give one of them")
    if split_in_time is None and gap != GAP:
        raise WavelitError("gap is between splits in time: give split_in_time, or leave it out")
    counts = None if split_in_time is not None else counted_splits(splits)
    shares = () if split_in_time is None else shares_in_time(split_in_time, gap)
    sides = check_sides(boundary_conditions)
    given = by_name(
        checked_given(fields, constant_fields, scalars, coordinates, time, units), len(sides)
    )
    check_mask(mask_field, mask_excludes, given.constant_fields)
    found = Records.take(given, mask_field is not None, equal_steps)
    _check_number(found, counts, len(sides))
    told = tuple(require_names("forcings", forcings, 0))
    contents = Contents(found.given, name, sides, "cartesian", mask_field, mask_excludes, told)
    if shares:
        contents = replace(contents, attributes={"split_in_time": np.array(shares)})
    return _write(path, contents, parts(found, counts, shares, gap, len(sides)))


def _write(path: Path, contents: Contents, files: Sequence[Part]) -> Path:
    # As many digits in every name: files are read in the order of their names.
    last = max(part.number for part in files)
    fields = [list(part.given.fields.values()) for part in files]
    total = sum(value.nbytes for values in fields for value in values)
    where = ""
    with new_dataset(path):
        try:
            with writing_bar(f"writing {contents.name}", total) as told:
                for part in files:
                    where = part.where
                    number = f"{part.number:0{len(str(last))}}"
                    stem = f"{contents.name}_{number}" if last else contents.name
                    write_contents(
                        path / "data" / part.split / f"{stem}.hdf5",
                        replace(contents, given=part.given),
                        told,
                    )
            where = "statistics"
            write_statistics(
                path, mask_field=contents.mask_field, mask_excludes=contents.mask_excludes
            )
        except WavelitError as error:
            raise WavelitError(f"{where}: {error}") from error
    return path


@contextlib.contextmanager
def new_dataset(path: Path) -> Iterator[None]:
    """Own a folder in which a dataset is written; if that fails nothing of it is left in the way of
    the next attempt.

    Raises:
        WavelitError: the folder holds data, or another process writes there.
    """
    existed = path.exists()
    try:
        with owned(path, "generating"):
            if (path / "data").exists():
                raise WavelitError(
                    f"{path / 'data'} exists already: remove it or choose another folder"
                )
            try:
                yield
            except BaseException:
                shutil.rmtree(path / "data", ignore_errors=True)
                raise
    except BaseException:
        if not existed:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


def _check_number(found: Records, counts: Mapping[str, int] | None, d: int) -> None:
    """All that is given by trajectory must be so for as many as there are."""
    total = sum(counts.values()) if counts else len(found.lengths)
    given, shape = found.given, found.grid(d)
    values: dict[str, Any] = {
        key: np.empty((len(value), 0)) if isinstance(value, list) else value
        for key, value in given.fields.items()
    }
    values |= {
        key: value
        for key, value in given.constant_fields.items()
        if not is_shared(value, total, shape)
    }
    values |= {key: value for key, value in given.scalars.items() if value.ndim}
    source = f"splits add up to {total} trajectories" if counts else f"there are {total} records"
    for key, value in values.items():
        if value.shape[:1] != (total,):
            got = f"of shape {value.shape} " if isinstance(value, Source) or value.ndim == 1 else ""
            raise WavelitError(
                f"{source}, but '{key}' {got}has {value.shape[0] if value.shape else 'none'} along "
                f"its first axis: mend the splits, or repeat it for every trajectory, (N={total}, "
                "...)"
            )
