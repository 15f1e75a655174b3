"""Descriptors of a dataset, from its data alone: what its states and its increments are like.

    spectral_slope     slope of the energy per shell of wavenumber, from half the domain to 4 cells
    haar_share         share of the energy in the largest 5 % of Haar coefficients
    persistence        one-step VRMSE of predicting no change
    predictability     R^2 of a linear stencil of 3^d cells on increments of held-out windows
    advection          R^2 of the increments of scalar fields on v . grad u
    correlation_steps  steps until the autocorrelation has fallen to 1/2
    growth             growth of the distance of twin runs per step: known for PocketWell alone

Each is taken per channel that changes in time, then averaged over channels. Windows of two frames
are drawn at random from equal parts of the training split, as many as two minutes allow.
`wavelit.evaluation.snapshots` and `wavelit.evaluation.increments` hold the formulas.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wavelit.checks.arguments import (
    listed,
    require_instance,
    require_names,
    require_real,
    require_whole,
)
from wavelit.checks.settings import from_mapping
from wavelit.data.batch import Batch
from wavelit.data.format.folder import address
from wavelit.data.well import WellDataset
from wavelit.errors import WavelitError
from wavelit.evaluation.increments import CarriedShare
from wavelit.evaluation.sampled import SampledWindows, counted, windows
from wavelit.evaluation.snapshots import anomaly, haar_shares, shell_energies, spectral_slope
from wavelit.evaluation.stencil import LinearStencil, fit_windows, frames_read
from wavelit.metrics import vrmse
from wavelit.model.normalizer import Normalizer, Statistics

__all__ = ["DESCRIPTORS", "Descriptors", "descriptors_of", "measure_descriptors"]

DESCRIPTORS = (
    "spectral_slope",
    "haar_share",
    "persistence",
    "predictability",
    "advection",
    "correlation_steps",
    "growth",
)
"""The numbers of a dataset, in the order in which they are printed."""

# States whose spectra and coefficients are looked at, pairs of states at each lag, and values that
# each of these may have in all: one is taken of any size.
STATES, PAIRS = 32, 16
MOST_STATE_VALUES = 2**25
# Cells of a window that a stencil is fitted to are at most this part of all that it may see: few
# windows of large grids would fill the memory.
SHARES = 16
# Steps apart at which the autocorrelation is measured.
LAGS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Descriptors:
    """What a dataset is like; a number is None where it does not apply or was not measured.

    Args:
        dataset: Its name.
        grid: Cells along every axis.
        fields: The channels that change in time, over which the numbers are averaged.
        windows: How many windows were looked at.
        seed: Of their choice.
        longest_lag: Steps up to which the autocorrelation was looked at.
        unchanging: Channels that did not change in these windows.
        time_step: Time between frames.
        time_unit: Its unit; empty: not declared.
        spectral_slope: Slope of the spectrum, as at the top of this module.
        haar_share: Haar compressibility, likewise.
        persistence: Of one step, likewise.
        predictability: By a linear stencil, likewise.
        advection: Its share, likewise.
        correlation_steps: Likewise.
        growth: Of twin runs, likewise.

    Raises:
        WavelitError: An entry is of another type.
    """

    dataset: str
    grid: tuple[int, ...]
    fields: tuple[str, ...]
    windows: int
    seed: int
    longest_lag: int
    unchanging: tuple[str, ...] = ()
    time_step: float | None = None
    time_unit: str = ""
    spectral_slope: float | None = None
    haar_share: float | None = None
    persistence: float | None = None
    predictability: float | None = None
    advection: float | None = None
    correlation_steps: float | None = None
    growth: float | None = None

    def __post_init__(self) -> None:
        for name in ("dataset", "time_unit"):
            require_instance(name, getattr(self, name), str, "measure it anew")
        for name in ("windows", "seed", "longest_lag"):
            require_whole(name, getattr(self, name), 0)
        names = {name: tuple(require_names(name, getattr(self, name), 0)) for name in
                 ("fields", "unchanging")}  # fmt: skip
        grid = tuple(require_whole("grid", n) for n in self.grid)
        for name, value in ({"grid": grid} | names).items():
            object.__setattr__(self, name, value)
        for name in ("time_step", *DESCRIPTORS):
            if (number := getattr(self, name)) is not None:
                object.__setattr__(self, name, require_real(name, number, -math.inf))

    @property
    def values(self) -> dict[str, float]:
        """The descriptors that are known, by name."""
        known = {name: getattr(self, name) for name in DESCRIPTORS}
        return {name: value for name, value in known.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Any, where: str = "descriptors") -> Descriptors:
        """The reverse; `where` names the file in errors.

        Raises:
            WavelitError: An entry is missing, unknown or of another type.
        """
        return from_mapping(cls, values, where)


def measure_descriptors(
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    mask_field: str | None = None,
    mask_excludes: float = 1.0,
    storage_options: dict[str, Any] | None = None,
) -> Descriptors:
    """Measure a dataset's descriptors on its training split, within two minutes on one core.

    The stencil is fitted to windows of three quarters of the trajectories that were drawn, and
    judged on those of the others; of one trajectory it is judged on the last quarter of windows. A
    channel that it predicts worse than the mean increment counts as R^2 = 0.

    Args:
        path: Dataset folder, local or any fsspec address. It needs no stats.yaml.
        seed: Of the choice of windows.
        mask_field: Constant field that tells which cells count; the one declared if absent.
        mask_excludes: Its value on the cells that do not.
        storage_options: What fsspec needs to open the address.

    Raises:
        WavelitError: The training split is missing or cannot be read, a value on a cell that counts
            is not finite, or no field changes in time.
    """
    require_whole("seed", seed, 0)
    sample = SampledWindows(address(path), seed, (mask_field, mask_excludes), storage_options)
    return descriptors_of(sample, seed)


def descriptors_of(sample: SampledWindows, seed: int) -> Descriptors:
    """`measure_descriptors` of a dataset that is open, with the seed that chose its windows."""
    dataset = sample.dataset
    fit, held = sample.halves()
    moving, numbers = _pass(sample, [*fit, *held])
    names = dataset.field_channels
    layout = dataset.layouts[0]
    numbers["predictability"] = _predictability(sample, fit, held, moving)
    correlations, longest = _autocorrelation(sample, moving)
    numbers["correlation_steps"] = _half_time(correlations)
    return Descriptors(
        dataset=dataset.metadata.dataset_name,
        grid=tuple(int(n) for n in dataset.metadata.spatial_resolution),
        fields=tuple(name for name, moves in zip(names, moving, strict=True) if moves),
        windows=len(fit) + len(held),
        seed=seed,
        longest_lag=longest,
        unchanging=tuple(name for name, moves in zip(names, moving, strict=True) if not moves),
        time_step=layout.dt,
        time_unit=layout.units.get("time", ""),
        **numbers,
    )


def _channels(batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
    """Both frames of a window, (1, *S), a channel at a time: what follows is in float64, and a
    state of a large grid as a whole would fill the memory.
    """
    for channel in range(batch.fields.shape[2]):
        here = slice(channel, channel + 1)
        yield batch.fields[0, 0, here], batch.target[0, 0, here]


def _mean(values: Tensor) -> float | None:
    """The mean of what is finite, None where nothing is."""
    known = values[torch.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _pass(
    sample: SampledWindows, chosen: Sequence[int]
) -> tuple[list[bool], dict[str, float | None]]:
    """Which channels change, and all descriptors for which one pass over windows is enough."""
    dataset, periodic = sample.dataset, sample.periodic
    spatial, n_fields = len(periodic), len(dataset.field_channels)
    states = sorted(chosen)[:: -(-len(chosen) // STATES)]
    states = states[: max(1, MOST_STATE_VALUES // sample.state_size)]
    moved = torch.zeros(n_fields, dtype=torch.bool)
    persistence, energies, shares = [], [], []
    carried = CarriedShare(dataset)
    for index, batch in zip(chosen, windows(dataset, chosen), strict=True):
        carried.add(batch, periodic)
        pairs = list(_channels(batch))
        persistence.append(
            torch.cat([vrmse(a[None], b[None], spatial, valid=batch.valid)[0] for a, b in pairs])
        )
        # What the mask excludes is zero in both.
        moved |= torch.tensor([not torch.equal(a, b) for a, b in pairs])
        if index in states:
            of_state = [_of_state(before, counted(batch), periodic) for before, _ in pairs]
            energies.append(torch.cat([energy for energy, _ in of_state]))
            shares.append(torch.cat([share for _, share in of_state]))
    if not moved.any():
        raise WavelitError(
            f"{sample.path}: no field changes in {len(chosen)} windows of two frames "
            f"({listed(dataset.field_channels)}); give data that vary in time"
        )
    grid = dataset.metadata.spatial_resolution
    spectra = torch.stack(energies).nanmean(0)  # (C, K), over the states that are not uniform
    slopes = [_slope(line, grid) for line in spectra[moved]]
    return moved.tolist(), {
        "spectral_slope": _mean(torch.tensor(slopes, dtype=torch.float64)),
        "haar_share": _mean(torch.stack(shares).nanmean(0)[moved]),
        "persistence": _mean(torch.stack(persistence).mean(0)[moved]),
        "advection": _mean(carried.r_squared(moved)),
    }


def _of_state(
    state: Tensor, valid: Tensor | None, periodic: Sequence[bool]
) -> tuple[Tensor, Tensor]:
    about = anomaly(state, valid)
    return shell_energies(about, periodic), haar_shares(about)[0]


def _slope(energies: Tensor, grid: Sequence[int]) -> float:
    slope = spectral_slope(energies, grid) if torch.isfinite(energies).all() else None
    return math.nan if slope is None else slope


def _predictability(
    sample: SampledWindows, fit: Sequence[int], held: Sequence[int], moving: Sequence[bool]
) -> float | None:
    """R^2 of a stencil on held-out windows, None where one cannot be fitted or judged."""
    dataset, periodic = sample.dataset, sample.periodic
    n_fields = len(dataset.field_channels)
    if not fit or not held or frames_read(1, n_fields, len(periodic)) is None:
        return None
    normalizer = Normalizer(n_fields)
    normalizer.set_statistics(_scales(dataset, fit))
    stencil = fit_windows(windows(dataset, fit), normalizer, periodic, 1, max(len(fit), SHARES))
    sums = torch.zeros(4, n_fields, dtype=torch.float64)
    for batch in windows(dataset, held):
        sums += _residuals(stencil, batch)
    n, total, squares, missed = sums
    spread = squares - total * total / n
    r_squared = torch.where(spread > 0, (1 - missed / spread).clamp_min(0.0), torch.nan)
    return _mean(r_squared[torch.tensor(moving)])


def _residuals(stencil: LinearStencil, batch: Batch) -> Tensor:
    """Count, sum and sum of squares of the increments, and sum of squared errors, (4, C)."""
    predicted, counts = stencil(batch.fields)[0], counted(batch)
    columns = []
    for (before, after), following in zip(_channels(batch), predicted, strict=True):
        where = torch.ones_like(before[0], dtype=torch.bool) if counts is None else counts
        step = (after[0].double() - before[0].double())[where]
        error = (after[0].double() - following.double())[where]
        squares = (step.square().sum(), error.square().sum())
        columns.append(torch.stack([torch.ones_like(step).sum(), step.sum(), *squares]))
    return torch.stack(columns, 1)


def _scales(dataset: WellDataset, chosen: Sequence[int]) -> Statistics:
    """Mean and spread of channels and increments, 1 where there is none."""
    sums, n = torch.zeros(4, len(dataset.field_channels), dtype=torch.float64), 0
    for batch in windows(dataset, chosen):
        for channel, (before, after) in enumerate(_channels(batch)):
            x = before.double()
            step = after.double() - x
            terms = (x, x.square(), step, step.square())
            sums[:, channel] += torch.stack([term.sum() for term in terms])
        n += before.numel()
    mean, square, mean_step, square_step = sums / n

    def spread(square: Tensor, mean: Tensor) -> tuple[float, ...]:
        root = (square - mean.square()).clamp_min(0.0).sqrt()
        return tuple(torch.where(root > 0, root, torch.ones_like(root)).tolist())

    return Statistics(tuple(mean.tolist()), spread(square, mean), spread(square_step, mean_step))


def _autocorrelation(
    sample: SampledWindows, moving: Sequence[bool]
) -> tuple[dict[int, float | None], int]:
    """Mean over channels of the correlation of anomalies so many steps apart, and the longest lag.

    Anomalies are from the mean over space; products are summed over cells and windows.
    """
    shortest = min(layout.n_steps for layout in sample.dataset.layouts)
    lags = [lag for lag in LAGS if lag < shortest]
    found: dict[int, float | None] = {}
    for lag in lags:
        dataset = sample.dataset if lag == 1 else sample.at(lag)
        chosen = sample.choose(len(dataset), PAIRS, MOST_STATE_VALUES)
        sums = torch.zeros(3, len(moving), dtype=torch.float64)
        for batch in windows(dataset, chosen):
            for channel, pair in enumerate(_channels(batch)):
                a, b = (anomaly(state, counted(batch)) for state in pair)
                terms = ((a * b).sum(), a.square().sum(), b.square().sum())
                sums[:, channel] += torch.stack(terms)
        product, first, second = sums
        found[lag] = _mean((product / (first * second).sqrt())[torch.tensor(moving)])
    return found, max(lags, default=0)


def _half_time(correlations: Mapping[int, float | None]) -> float | None:
    """Steps at which the correlation, 1 at lag 0, first is 1/2, linear between lags; None where it
    never is.
    """
    before, above = 0, 1.0
    for lag, value in correlations.items():
        if value is None:
            return None
        if value <= 0.5:
            return before + (lag - before) * (above - 0.5) / (above - value)
        before, above = lag, value
    return None
