"""Transfer in pictures: a map at one lead time, and the ratio by lead time and by wavelet band.

The map has a row a source, a column a target, the ratio in every cell. Colours show log2 of the
ratio, symmetric about 1: blue where the start from the source helps, red where it harms. Grey cells
were not measured. The range is that of the map, at most a factor of 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from wavelit.evaluation.pictures import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LONGEST,
    NO_VALUE,
    ORANGE,
    look,
    new_figure,
    plain,
)
from wavelit.evaluation.transfer import (
    ONE_STEP,
    Record,
    TransferMap,
    measures_of,
    transfer_map,
)

__all__ = ["map_figure", "profile_figure"]

# Largest and smallest |log2 ratio| at the ends of the colours.
MOST, LEAST = 2.0, 0.25
# Share of the range beyond which a cell is dark and its number white.
DARK = 0.6
# Inches of a row, and of what is around the rows.
ROW, AROUND = 0.32, 2.0
# Of the lines by lead time and band, and inches of the picture.
TARGETS = (BLUE, ORANGE, GREEN, BLACK, GREY)
PROFILE = 3.6
TICKS = (0.125, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.4, 1.6, 1.8, 2, 4, 8)


def map_figure(found: TransferMap) -> Figure:
    """Draw a map."""
    with np.errstate(divide="ignore"):
        logs = np.log2(found.ratios)
    finite = np.abs(logs[np.isfinite(logs)])
    limit = float(np.clip(finite.max() if finite.size else 0.0, LEAST, MOST))
    trajectories, minutes = found.setting
    with look():
        figure = new_figure(ROW * len(found.sources) + AROUND)
        ax = figure.subplots()
        ax.set_facecolor(NO_VALUE)
        image = ax.imshow(
            np.ma.masked_invalid(np.clip(logs, -9.0, 9.0)),
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            aspect="auto",
        )
        for (i, j), ratio in np.ndenumerate(found.ratios):
            if not math.isnan(ratio):
                dark = abs(logs[i, j]) > DARK * limit
                text = f"{ratio:.2f}" if math.isfinite(ratio) else "inf"
                ax.text(j, i, text, ha="center", va="center", fontsize=8,
                        color="white" if dark else BLACK)  # fmt: skip
        for names, axis in ((found.targets, ax.xaxis), (found.sources, ax.yaxis)):
            axis.set_ticks(range(len(names)), [plain(name, LONGEST) for name in names])
        ax.tick_params(axis="x", rotation=40)
        for label in ax.get_xticklabels():
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")
        ax.set_xlabel("fine-tuned on")
        ax.set_ylabel("trained on")
        figure.suptitle(
            f"{plain(found.measure.replace('_', ' '))}: error over the better from-scratch\n"
            f"{trajectories} trajectories, {minutes:g} core-minute{'' if minutes == 1 else 's'}",
            x=0.01,
            ha="left",
            fontsize=10,
        )
        bar = figure.colorbar(image, ax=ax, fraction=0.05, pad=0.02, extend="both")
        ticks = [-limit, 0.0, limit]
        bar.set_ticks(ticks, labels=[f"{2**tick:.2g}" for tick in ticks])
        bar.outline.set_visible(False)
    return figure


def profile_figure(records: Sequence[Record], arm: str = "started") -> Figure:
    """Draw the ratio by lead time, and by wavelet band of one step where the cells have bands: a
    line a target, its mean over sources. Ratios that are not finite are left out.

    Args:
        records: Cells of pairs of one setting.
        arm: As for `wavelit.evaluation.transfer.ratio`.

    Raises:
        WavelitError: There is no record, or they have several settings.
    """
    measures = measures_of(records)
    bands = [name for name in measures if name.startswith("band ")]
    times = [name for name in measures if name not in bands]
    groups = {"lead time, steps": times, "wavelet band of one step, cells": bands}
    shown = {title: names for title, names in groups.items() if names}
    maps = {name: transfer_map(records, name, arm=arm) for name in measures}
    trajectories, minutes = next(iter(maps.values())).setting
    with look():
        figure = new_figure(PROFILE)
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for ax, (title, names) in zip(panels, shown.items(), strict=True):
            _profiles(ax, [maps[name] for name in names])
            ax.set_xticks(range(len(names)), [_short(name) for name in names])
            ax.set_xlabel(title)
        panels[0].set_ylabel("error over from-scratch")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
        figure.suptitle(
            f"fine-tuned on, mean over sources: {trajectories} trajectories, {minutes:g} "
            f"core-minute{'' if minutes == 1 else 's'}",
            x=0.01,
            ha="left",
            fontsize=10,
        )
    return figure


def _profiles(ax: Any, maps: Sequence[TransferMap]) -> None:
    ax.axhline(1.0, color=NO_VALUE, linewidth=0.8)
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_locator(FixedLocator(TICKS))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter("{x:g}")
    for n, target in enumerate(maps[0].targets):
        means = np.array([each.by_target()[target] for each in maps])
        ax.plot(
            np.where(np.isfinite(means), means, np.nan),
            marker="o",
            markersize=3,
            color=TARGETS[n % len(TARGETS)],
            label=plain(target, LONGEST),
        )


def _short(measure: str) -> str:
    """ "1", "1:20" or "2 cells", as much as an axis has room for."""
    if measure == ONE_STEP:
        return "1"
    if measure.startswith("band coarser than "):
        return f"> {measure.removeprefix('band coarser than ').removesuffix(' cells')}"
    return measure.removeprefix("rollout ").removeprefix("band details of ").removesuffix(" cells")
