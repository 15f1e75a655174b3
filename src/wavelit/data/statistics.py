"""Statistics of a dataset: mean, spread and spread of the increment of every channel, over
trajectories, steps and cells.

They are those of The Well's stats.yaml; those of the PDE's scalars come from the files.
`wavelit.model.normalizer` uses them.

References:
    The Well: a Large-Scale Collection of Diverse Physics Simulations for Machine Learning, Ohana et
    al., 2024, arXiv 2412.00568.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from wavelit.data.format.examine import read_layout
from wavelit.data.format.folder import (
    address,
    filesystem,
    find_files,
    open_file,
    read_address,
    split_folder,
)
from wavelit.data.format.layout import (
    FieldLayout,
    FileLayout,
    Mask,
    beyond_float32,
    mask_of,
    scalar_problems,
)
from wavelit.data.moments import Moments
from wavelit.data.pieces import pieces
from wavelit.errors import WavelitError
from wavelit.files.atomic import atomic_path
from wavelit.files.plain import load_yaml
from wavelit.model.normalizer import Statistics

__all__ = [
    "compute_statistics",
    "load_statistics",
    "read_table",
    "require_logarithms",
    "statistics_over",
    "write_statistics",
]

# Below this fraction of the mean, float32 data cannot show a variation.
FLOAT32_RESOLUTION = 1e-7
# Spread of a scalar that does not vary. Nothing can be learnt of it, so that models see zero at any
# other value too: divided by 1, a Reynolds number of 2000 after 1000 would be a thousand spreads.
UNSEEN = 2.0**100
# Below this, its digits go.
SMALLEST = float(np.finfo(np.float32).tiny)
# Increments below this many of it are rounded by more than a hundredth.
ROUNDING = 40


def read_table(path: str, storage_options: dict[str, Any] | None = None) -> Any:
    """What `path`/stats.yaml holds, unchecked.

    Raises:
        WavelitError: it is missing, cannot be reached, or is not plain YAML.
    """
    file = _file(path)
    try:
        return load_yaml(read_address(file, storage_options), file)
    except FileNotFoundError as error:
        raise WavelitError(f"{file}: no such file; {_fix(path)}") from error


def _file(path: str) -> str:
    return f"{path.rstrip('/')}/stats.yaml"


def _fix(path: str) -> str:
    return f"write it by `wavelit data check {path} --write-statistics`"


def load_statistics(
    path: str,
    layouts: Sequence[FileLayout],
    storage_options: dict[str, Any] | None = None,
    forcings: Sequence[FileLayout] = (),
    forcing_scalars: NDArray[np.float64] | None = None,
    table: Any = None,
    mask: Callable[[FileLayout], Mask | None] = lambda layout: layout.mask,
) -> Statistics:
    """Read `path`/stats.yaml, flat by channel, and take those of the scalars from the training
    files.

    Args:
        path: dataset folder, local or any fsspec address.
        layouts: layouts of the training files (`WellDataset.layouts`).
        storage_options: what fsspec needs to open the address.
        forcings: layouts whose fields that vary in time are given in advance: they follow the
            constant fields twice, as `wavelit.data.batch.with_forcings` has them.
        forcing_scalars: values (N, G) of the scalars that are given, which follow the scalars
            twice.
        table: what `statistics_over` returned, of a part of the data, in place of the file.
        mask: the mask of a file; what it excludes plays no part in logarithms, whose statistics
            come from the training files.

    Raises:
        WavelitError: the file or an entry is missing, or an entry or a scalar is not finite, or a
            field has no spread.
    """
    if table is None:
        told = _Table(_file(path), _fix(path), read_table(path, storage_options))
    else:
        fix = "give more trajectories, or a longer part"
        told = _Table(f"{path}, the part that is given", fix, table)
    fields = [f for f in layouts[0].fields if f.time_varying]
    constants = [f for f in layouts[0].fields if not f.time_varying]
    given = [f for layout in forcings[:1] for f in layout.fields if f.time_varying]
    mean: list[float] = []
    std: list[float] = []
    delta_std: list[float] = []
    for field in fields:
        middle, width = told.entry("mean", field), told.entry("std", field)
        delta = told.entry("std_delta", field)
        others = [f.name for f in fields if f is not field]
        told.require_spread(field, middle, width, delta, others)
        told.warn_of_rounding(field, middle, delta)
        mean += middle.tolist()
        std += width.tolist()
        delta_std += delta.tolist()
    constant_mean: list[float] = []
    constant_std: list[float] = []
    for field in [*constants, *given, *given]:
        if field.logarithm:
            fs, _ = filesystem(path, storage_options)
            middle, width = _logarithm_statistics(layouts, field, mask, fs)
        else:
            middle, width = told.entry("mean", field), told.entry("std", field)
        constant_mean += middle.tolist()
        constant_std += told.width_of_constant(field, middle, width).tolist()
    scalars = _statistics_of_scalars(layouts, forcing_scalars)
    return Statistics(
        mean=tuple(mean),
        std=tuple(std),
        delta_std=tuple(delta_std),
        constant_mean=tuple(constant_mean),
        constant_std=tuple(constant_std),
        scalar_mean=tuple(s[0] for s in scalars),
        scalar_std=tuple(s[1] for s in scalars),
        scalar_log=tuple(s[2] for s in scalars),
    )


@dataclass(frozen=True)
class _Table:
    """What stats.yaml says, entry by entry; `where` it stands and the `fix` are for messages."""

    where: str
    fix: str
    content: Any

    def entry(self, key: str, field: FieldLayout) -> NDArray[np.float64]:
        """A measure of every component of a field.

        Raises:
            WavelitError: It is missing, has another shape, or is no such measure.
        """
        of = f"'{key}' of field '{field.name}'"
        try:
            stored = np.asarray(self.content[key][field.source], dtype=np.float64)
            values: NDArray[np.float64] = np.reshape(stored[field.component], -1)
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise WavelitError(f"{self.where}: no number or list {of}; {self.fix}") from error
        if len(values) != field.n_components:
            raise WavelitError(
                f"{self.where}: {of} has {len(values)} entries but {field.n_components} are due; "
                f"{self.fix}"
            )
        if not np.isfinite(values).all():
            raise WavelitError(f"{self.where}: {of} is not finite; mend the data, then {self.fix}")
        if beyond_float32(values).any():
            raise WavelitError(
                f"{self.where}: {of} is {values[np.abs(values).argmax()]:.3g}, beyond float32; "
                f"choose units in which the field is about one, then {self.fix}"
            )
        if key != "mean" and (values < 0).any():
            raise WavelitError(
                f"{self.where}: {of} is {values.min():.3g}, which no spread is; {self.fix}"
            )
        return values

    def require_spread(
        self,
        field: FieldLayout,
        mean: NDArray[np.float64],
        std: NDArray[np.float64],
        delta: NDArray[np.float64],
        others: Sequence[str],
    ) -> None:
        """A field varies, and by as much as float32 can tell.

        Args:
            field: The field, whose mean, spread and spread of the increment follow.
            others: Fields that are left where this one is left out.
        """
        resolved = FLOAT32_RESOLUTION * np.abs(mean)
        for key, values, floor in (("std", std, resolved), ("std_delta", delta, 0.0)):
            of = f"{self.where}: '{key}' of field '{field.name}' is {values.min():.3g}"
            if (low := values <= floor).any():
                if values.min() > 0:
                    size = np.abs(mean[np.argmax(low)])
                    raise WavelitError(
                        f"{of}, which float32 does not resolve about its mean of {size:.3g}: "
                        "subtract the mean before writing"
                    )
                left_out = f"leave it out, fields={list(others)}, or " if others else ""
                raise WavelitError(
                    f"{of}, so it never varies; {left_out}write it as a constant one"
                )
            if (values < SMALLEST).any():
                raise WavelitError(
                    f"{of}, below float32; choose units in which the field varies by about one, "
                    f"then {self.fix}"
                )

    def warn_of_rounding(
        self, field: FieldLayout, mean: NDArray[np.float64], delta: NDArray[np.float64]
    ) -> None:
        """Increments of which float32 keeps little: those about a large mean."""
        worst = int(np.argmax(np.abs(mean) / delta))
        if delta[worst] < ROUNDING * FLOAT32_RESOLUTION * abs(mean[worst]):
            warnings.warn(
                f"{self.where}: field '{field.name}' changes by {delta[worst]:.3g} a step about a "
                f"mean of {mean[worst]:.6g}, of which float32 rounds off more than a hundredth; "
                "subtract the mean before writing",
                stacklevel=3,
            )

    def width_of_constant(
        self, field: FieldLayout, mean: NDArray[np.float64], std: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The spread that a constant field or a forcing is divided by; 1 where it has none."""
        flat = std <= np.maximum(FLOAT32_RESOLUTION * np.abs(mean), SMALLEST)
        if flat.any():
            warnings.warn(
                f"{self.where}: {'forcing' if field.time_varying else 'constant field'} "
                f"'{field.name}' is the same everywhere and carries no information",
                stacklevel=3,
            )
        return np.where(flat, 1.0, std)


def _statistics_of_scalars(
    layouts: Sequence[FileLayout], given: NDArray[np.float64] | None
) -> list[tuple[float, float, bool]]:
    """Mean, spread and whether it is seen by its logarithm, of every scalar of the training files
    and, twice, of those that are given in advance, (N, G).
    """
    for layout in layouts:
        for problem in scalar_problems(layout):
            raise WavelitError(f"{layout.path}: {problem}")
    scalars = [
        _scalar_statistics(np.concatenate([layout.scalars[name] for layout in layouts]))
        for name in layouts[0].scalars
    ]
    return scalars if given is None else scalars + 2 * [_spread(values) for values in given.T]


def _logarithm_statistics(
    layouts: Sequence[FileLayout],
    field: FieldLayout,
    mask: Callable[[FileLayout], Mask | None],
    fs: Any,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and spread of the logarithm of a constant scalar field over the cells that count."""
    moments = Moments(1)
    for layout in layouts:
        with open_file(fs, layout.path) as file:
            for piece in pieces(file, layout, field, mask(layout)):
                counted = piece.counted
                if not ((counted > 0) & np.isfinite(counted)).all():
                    worst = counted.min() if np.isfinite(counted).all() else np.nan
                    raise WavelitError(
                        f"{layout.path}: constant field '{field.source}' is {worst:.3g} "
                        "somewhere, which has no logarithm: leave it out of log_constants"
                    )
                moments.add(np.log(counted))
    return moments.mean, moments.std


def require_logarithms(train: Sequence[FileLayout], others: Sequence[FileLayout]) -> None:
    """Scalars that are seen as logarithms must be positive in every file.

    Raises:
        WavelitError: names the first file with one that is not.
    """
    for name in train[0].scalars if train else ():
        if not _scalar_statistics(np.concatenate([layout.scalars[name] for layout in train]))[2]:
            continue
        for layout in others:
            if (lowest := float(layout.scalars[name].min())) <= 0:
                raise WavelitError(
                    f"{layout.path}: scalar '{name}' is {lowest:g}, but in the training split it "
                    "is positive and spans more than a factor of 10, so that models see its "
                    "logarithm; write another measure of it in all splits"
                )


def _scalar_statistics(values: NDArray[np.float64]) -> tuple[float, float, bool]:
    log = bool(values.min() > 0 and values.max() > 10 * values.min())
    return *_spread(np.log(values) if log else values)[:2], log


def _spread(values: NDArray[np.float64]) -> tuple[float, float, bool]:
    mean, std = float(values.mean()), float(values.std())
    return mean, std if std > FLOAT32_RESOLUTION * abs(mean) else UNSEEN, False


def compute_statistics(
    path: str | os.PathLike[str],
    mask_field: str | None = None,
    mask_excludes: float = 1.0,
    storage_options: dict[str, Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """Statistics of the training split in The Well's keys, in float64, in one pass.

    Args:
        path: dataset folder, local or any fsspec address.
        mask_field: constant scalar field that tells which cells count, the others being left out;
            the one that the files declare if absent.
        mask_excludes: its value on the cells that do not count.
        storage_options: what fsspec needs to open the address.

    Returns:
        mean, std, rms of every field and mean_delta, std_delta, rms_delta of every one that varies
        in time: a number for a scalar field, a list for a vector, a list of lists for a tensor.
        Spreads divide by N.

    Raises:
        WavelitError: a file cannot be read, or a value that counts is not finite.
    """
    return statistics_over(
        path, lambda layout: mask_of(layout, mask_field, mask_excludes), storage_options
    )


def statistics_over(
    path: str | os.PathLike[str],
    mask: Callable[[FileLayout], Mask | None],
    storage_options: dict[str, Any] | None = None,
    parts: Sequence[FileLayout] | None = None,
) -> dict[str, dict[str, Any]]:
    """`compute_statistics` over the cells that count by the mask of each file; all where it is
    None.

    Args:
        path: dataset folder.
        mask: the mask of a file.
        storage_options: what fsspec needs to open the address.
        parts: files to go through, and how many trajectories and steps of each; all if absent.
    """
    path = address(path)
    fs, files = find_files(split_folder(path, "train"), storage_options)
    counts = {part.path: (part.n_trajectories, part.n_steps) for part in parts or ()}
    values: dict[str, Moments] = {}
    deltas: dict[str, Moments] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name in files if parts is None else counts:
        with open_file(fs, name) as file:
            layout = read_layout(file, name)
            if name in counts:
                n_trajectories, n_steps = counts[name]
                layout = replace(layout, n_trajectories=n_trajectories, n_steps=n_steps)
            for field in layout.fields:
                shapes[field.name] = (len(layout.axes),) * field.order
                value = values.setdefault(field.name, Moments(field.n_components))
                delta = deltas.setdefault(field.name, Moments(field.n_components))
                for piece in pieces(file, layout, field, mask(layout)):
                    counted = piece.counted
                    if not np.isfinite(counted).all():
                        raise WavelitError(
                            f"{name}: field '{field.name}' is not finite; mend it or declare a "
                            "mask_field"
                        )
                    if beyond_float32(counted).any():
                        raise WavelitError(
                            f"{name}: field '{field.name}' reaches {np.abs(counted).max():.3g}, "
                            "beyond float32; choose units in which it is about one"
                        )
                    value.add(counted)
                    if field.time_varying:
                        delta.add(piece.counted_steps)
    empty = [name for name, moments in values.items() if moments.count == 0]
    if empty:
        raise WavelitError(
            f"{path}: field '{empty[0]}' has no cell that counts; check mask_field and "
            "mask_excludes"
        )
    changing = {name: moments for name, moments in deltas.items() if moments.count > 0}

    def table(moments: dict[str, Moments], what: str) -> dict[str, Any]:
        return {
            name: getattr(m, what).reshape(shapes[name]).tolist() for name, m in moments.items()
        }

    plain = {what: table(values, what) for what in ("mean", "std", "rms")}
    return {**plain, **{f"{what}_delta": table(changing, what) for what in ("mean", "std", "rms")}}


def write_statistics(path: str | os.PathLike[str], **options: Any) -> Path:
    """Compute the statistics of a local dataset folder and write its stats.yaml, whole or not at
    all.

    Args:
        path: dataset folder.
        **options: as for `compute_statistics`.
    """
    path = os.path.expanduser(path)
    target = Path(path) / "stats.yaml"
    if not target.parent.is_dir():
        raise WavelitError(
            f"{path}: no such local folder; statistics are written to local datasets only"
        )
    text = yaml.safe_dump(compute_statistics(path, **options), sort_keys=False)
    with atomic_path(target) as scratch:
        scratch.write_text(text, encoding="utf8")
    return target
