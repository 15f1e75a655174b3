"""Scores one by one, as a table for other programs: a line for every emulator, rollout, step and
field, in the order of the evaluation.

column      holds
emulator    its name
rollout     number of the rollout or window, from 0: those of one record follow one another
step        states ahead, from 1
of          "one step" for all windows of the split, "rollout" for rollouts
field       name of the channel
vrmse       `wavelit.metrics.vrmse`; infinite where the prediction is not finite
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wavelit.checks.arguments import require_path, shown
from wavelit.errors import WavelitError
from wavelit.evaluation.scores import Evaluation
from wavelit.files.atomic import atomic_path, require_writable

__all__ = ["COLUMNS", "records_path", "write_records"]

COLUMNS = ("emulator", "of", "rollout", "step", "field", "vrmse")
FORMATS = (".parquet", ".csv")


def write_records(path: str | os.PathLike[str], evaluation: Evaluation) -> Path:
    """Write all scores of an evaluation.

    Args:
        path: The file, .parquet (which needs pyarrow) or .csv.
        evaluation: The scores.

    Raises:
        WavelitError: Another suffix, or pyarrow is not installed.
    """
    path = records_path(path)
    write = _write_csv if path.suffix == ".csv" else _write_parquet
    with atomic_path(path) as temporary:
        write(temporary, evaluation)
    return path


def records_path(path: str | os.PathLike[str]) -> Path:
    """The file of records, of a format and in a place that can be written: to be asked before
    scores are computed.

    Raises:
        WavelitError: Another suffix, or pyarrow is not installed.
        OSError: Its folder cannot be written into.
    """
    path = require_path("records", path, is_file=True)
    if path.suffix not in FORMATS:
        raise WavelitError(
            f"{path}: the suffix says the format, {' or '.join(FORMATS)}, not {shown(path.suffix)}"
        )
    if path.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise WavelitError(
                "a .parquet file needs pyarrow: pip install 'wavelit[parquet]', or write .csv"
            ) from error
    require_writable(path.parent)
    return path


def _blocks(evaluation: Evaluation) -> Iterator[tuple[str, str, Any]]:
    """Emulator, kind, scores (rollouts, steps, C)."""
    for name, scores in evaluation.scores.items():
        yield name, "one step", np.asarray(scores.one_step)[:, None]
        yield name, "rollout", np.asarray(scores.rollout)


def _columns(values: Any) -> dict[str, Any]:
    """The lines of a block, its fields by number."""
    rollout, step, field = (axis.ravel() for axis in np.indices(values.shape))
    return {"rollout": rollout, "step": step + 1, "field": field, "vrmse": values.ravel()}


def _write_csv(path: Path, evaluation: Evaluation) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for block in _blocks(evaluation):
            columns = _columns(block[2])
            numbers = zip(*(columns[name].tolist() for name in columns), strict=True)
            table.writerows(
                [*block[:2], rollout, step, evaluation.field_names[field], vrmse]
                for rollout, step, field, vrmse in numbers
            )


def _write_parquet(path: Path, evaluation: Evaluation) -> None:
    import pyarrow
    import pyarrow.parquet

    def words(names: list[str], index: Any) -> Any:
        """Repeated names: each is stored once."""
        return pyarrow.DictionaryArray.from_arrays(pyarrow.array(index, pyarrow.int32()), names)

    emulators, kinds = list(evaluation.scores), ["one step", "rollout"]
    tables = []
    for block in _blocks(evaluation):
        columns = _columns(block[2])
        n = len(columns["vrmse"])
        columns |= {
            "emulator": words(emulators, np.full(n, emulators.index(block[0]), np.int32)),
            "of": words(kinds, np.full(n, kinds.index(block[1]), np.int32)),
            "field": words(list(evaluation.field_names), columns["field"].astype(np.int32)),
        }
        tables.append(pyarrow.table({name: columns[name] for name in COLUMNS}))
    pyarrow.parquet.write_table(pyarrow.concat_tables(tables), path)
