"""The map of transfer as a picture: a row a source, a column a target, the ratio in every cell.

Colours show log2 of the ratio, symmetric about 1: blue where the start from the source helps, red
where it harms. Grey cells were not measured. The range is that of the map, at most a factor of 4.
"""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from wavelit.evaluation.pictures import BLACK, LONGEST, NO_VALUE, look, new_figure, plain
from wavelit.evaluation.transfer import TransferMap

__all__ = ["map_figure"]

# Largest and smallest |log2 ratio| at the ends of the colours.
MOST, LEAST = 2.0, 0.25
# Share of the range beyond which a cell is dark and its number white.
DARK = 0.6
# Inches of a row, and of what is around the rows.
ROW, AROUND = 0.32, 2.0


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
