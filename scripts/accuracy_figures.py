"""The figures of docs/results_first.md, from results/accuracy.

.venv/bin/python scripts/accuracy_figures.py
"""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean

import matplotlib as mpl
import matplotlib.pyplot as plt
from accuracy import OTHER_NETWORKS
from accuracy_scores import DIVERGED, SEVEN, one_step, rollout, runs, typical_scores
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from wavelit.benchmarks.entries import TWINS
from wavelit.benchmarks.protocol import THE_EIGHT

IMAGES = Path("docs/images/results")
COLOURS = dict(
    zip(["WaveLiT", *OTHER_NETWORKS, *TWINS], mpl.colormaps["tab20"].colors, strict=False)
)  # type: ignore[attr-defined]


def curves(budget: str, systems: Sequence[str], file: str) -> None:
    """Validation VRMSE against seconds of one core's work, by the quiet rate, a panel a system;
    seed 0.
    """
    rows = math.ceil(len(systems) / 4)
    columns = math.ceil(len(systems) / rows)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1 + 3 * columns, 3 * rows), layout="constrained", squeeze=False
    )
    found = runs(budget)
    for system, ax in zip(systems, axes.flat, strict=False):
        for name, colour in COLOURS.items():
            for result in found.get((name, system), [])[:1]:
                points = [p for p in result.get("curve", []) if p["vrmse"] is not None]
                ax.plot(
                    [p["samples"] * result["ms_per_sample"] / 1e3 for p in points],
                    [p["vrmse"] for p in points],
                    color=colour,
                    label=name,
                    lw=2.5 if name == "WaveLiT" else 1.2,
                    ls="--" if name in TWINS else "-",
                )
        ax.set(title=system.replace("_", " "), yscale="log")
        _label_decades(ax)
        ax.tick_params(labelsize=7, which="both")
        ax.grid(alpha=0.3, which="both")
    for ax in axes[-1]:
        ax.set_xlabel("core-seconds of training")
    for ax in axes[:, 0]:
        ax.set_ylabel("one-step VRMSE, validation")
    shown = dict(
        pair[::-1] for ax in axes.flat for pair in zip(*ax.get_legend_handles_labels(), strict=True)
    )
    figure.legend(
        shown.values(), shown.keys(), loc="outside lower center", ncols=columns + 1, fontsize=9
    )
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / file, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _label_decades(ax: Axes) -> None:
    """Few labels on a logarithmic axis, so that they never overlap, enough for one that spans
    less than a decade.
    """
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.4, 2, 3, 5, 7)))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def sizes() -> None:
    """Test VRMSE against parameters, geometric means over the seven systems, of who was run on
    all of them.
    """
    figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    found = runs()
    for ax, (label, score) in zip(
        axes, (("one step", one_step), ("rollout 1:20", rollout)), strict=True
    ):
        scores = typical_scores(score)
        for name, colour in COLOURS.items():
            if not all(scores.get((name, s), math.inf) <= DIVERGED for s in SEVEN):
                continue
            size = geometric_mean(found[name, s][0]["parameters"] for s in SEVEN)
            value = geometric_mean(scores[name, s] for s in SEVEN)
            marker = "*" if name == "WaveLiT" else "o" if name in OTHER_NETWORKS else "s"
            ms = 15 if name == "WaveLiT" else 8
            ax.plot(size, value, marker, ms=ms, color=colour, label=name)
        ax.axhline(geometric_mean(scores["persistence", s] for s in SEVEN), color="grey", ls=":")
        ax.set(
            xscale="log",
            yscale="log",
            xlim=(8e4, 6e7),
            xlabel="parameters",
            ylabel=f"VRMSE, {label}",
        )
        _label_decades(ax)
        ax.grid(alpha=0.3, which="both")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9
    )
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / "sizes.png", dpi=110, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    curves("5min", THE_EIGHT, "curves.png")
    longer = [s for s in THE_EIGHT if any(system == s for _, system in runs("30min"))]
    if longer:
        curves("30min", longer, "lasting.png")
    sizes()
