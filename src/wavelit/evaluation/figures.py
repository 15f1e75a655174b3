"""Pictures of a rollout: truth, prediction and error at chosen steps, spectra, VRMSE over time;
learning curves.

Truth and prediction share one colour range for all steps, taken from the truth; a field of both
signs gets a diverging map that is symmetric about zero; the error, prediction minus truth, has a
range of its own (see `wavelit.evaluation.ranges`). Cells beyond a range are magenta above it and
cyan below, cells that are excluded or not finite grey. Names of the axes decide which runs to the
right and which up (`wavelit.evaluation.orientation`); a field in 1-D is drawn over space and time.
All colours can be told apart by colour-blind readers.

The pictures are 5 inches wide, so that their type stays readable where a phone scales them to its
screen.
"""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wavelit.checks.arguments import (
    listed,
    require_instance,
    require_path,
    shown,
)
from wavelit.errors import WavelitError, one_line, printable
from wavelit.evaluation.evaluate import Evaluation
from wavelit.evaluation.orientation import View
from wavelit.evaluation.pictures import (
    BLACK,
    BLUE,
    FROM_THE_FILE,
    GREEN,
    GREY,
    LINES,
    LONGEST_SIDE,
    MIN_PANEL,
    ORANGE,
    WIDTH,
    Pictures,
    arrays,
    channel_of,
    look,
    new_figure,
    pictures_of,
    plain,
    save,
    show,
    unit_of,
)
from wavelit.files.plain import read_text, whole_lines
from wavelit.metrics import isotropic_spectrum

__all__ = [
    "last_validation",
    "learning_curve",
    "rollout_figure",
    "save",
    "training_figure",
    "validations",
]

Array = NDArray[Any]

# Columns of images that 5 inches hold, and the curves of a panel that can be told apart.
MAX_COLUMNS, MAX_CURVES = 8, 9


def rollout_figure(
    truth: Any,
    prediction: Any,
    field_names: Sequence[str],
    *,
    field: str | None = None,
    steps: Sequence[int] | None = None,
    evaluation: Evaluation | None = None,
    valid: Any = None,
    view: View = FROM_THE_FILE,
    units: Mapping[str, str] | None = None,
) -> Figure:
    """One rollout: images of a field at several steps, its spectrum at the first and last of them,
    VRMSE over time.

    Args:
        truth: (steps, C, *S), from the first predicted step on.
        prediction: of the same shape.
        field_names: the C fields.
        field: the one to show; the first if absent.
        steps: rollout steps to show, counted from 1, eight at most; a few from first to last if
            absent.
        evaluation: adds the mean VRMSE of its emulators over the steps, with the windows of the
            protocols.
        valid: cells inside the domain, bool (*S).
        view: which axis runs to the right and which upwards: `wavelit.evaluation.orientation`.
        units: units of the fields that have one, by name.

    Raises:
        WavelitError: shapes, field or steps do not fit.
    """
    u, v, mask = arrays(truth, prediction, field_names, valid)
    channel = channel_of(field_names, field)
    if evaluation is not None:
        require_instance(
            "evaluation", evaluation, Evaluation, "get one from wavelit.evaluation.evaluate"
        )
    n_steps, spatial = len(v), v.ndim - 2
    height, width = view.plane(v[:1, channel]).shape[1:]
    if steps is None:
        n_columns = 4 if width <= 1.5 * height else 3 if width <= 2.5 * height else 2
        steps = sorted({round(s) for s in np.geomspace(1, n_steps, n_columns)})
    if not isinstance(steps, list | tuple | range) or not 1 <= len(steps) <= MAX_COLUMNS:
        raise WavelitError(
            f"steps must be a list of 1 to {MAX_COLUMNS} rollout steps, not {shown(steps)}"
        )
    if not all(isinstance(step, int | np.integer) and 1 <= step <= n_steps for step in steps):
        raise WavelitError(
            f"expected steps from 1 to {n_steps}, got {shown(list(steps))}: choose among the "
            "rollout's steps"
        )
    index = [step - 1 for step in steps]

    columns = 1 if spatial == 1 else len(steps)
    panel = (
        1.0
        if spatial == 1
        else float(np.clip((WIDTH - 1.0) / columns * height / width, MIN_PANEL, 2.6))
    )
    parts = [3 * panel + 0.5, 2.5] + [2.7] * (evaluation is not None)
    with look():
        figure = new_figure(sum(parts))
        boxes = np.atleast_1d(np.asarray(figure.subfigures(len(parts), 1, height_ratios=parts)))
        chosen = slice(None) if spatial == 1 else index
        pictures = pictures_of(v, u, channel, mask, shown=chosen, view=view)
        name = field_names[channel]
        title = f"{plain(name, LONGEST_SIDE)} {unit_of(name, units)}".rstrip()
        _draw_images(boxes[0], pictures, title, steps, spatial)
        _draw_spectra(
            boxes[1].subplots(), u[:, channel], v[:, channel], sorted({steps[0], steps[-1]}), mask
        )
        if evaluation is not None:
            _draw_vrmse(boxes[2].subplots(), evaluation)
    return figure


def _draw_images(
    box: Any, pictures: Pictures, name: str, steps: Sequence[int], spatial: int
) -> None:
    axes = box.subplots(3, 1 if spatial == 1 else len(steps), squeeze=False)
    for line, (label, images, colours) in enumerate(pictures.rows()):
        for column, ax in enumerate(axes[line]):
            if spatial == 1:
                n_steps, _, n = images.shape
                extent = (0.5, n_steps + 0.5, -0.5, n - 0.5)
                show(ax, images[:, 0].T, colours, aspect="auto", extent=extent)
                ax.set_ylabel("cell")
                ax.set_title(f"{name}: {label}" if line == 0 else label)
                ax.set_xlabel("rollout step" if line == 2 else "")
                continue
            show(ax, images[column], colours)
            ax.set_xticks([])
            ax.set_yticks([])
            if line == 0:
                ax.set_title(f"step {steps[column]}")
        if spatial > 1:
            axes[line][0].set_ylabel(label)
    for rows, colours, label in (
        (axes[:2], pictures.colours, name),
        (axes[2:], pictures.error_colours, "error"),
    ):
        # Its ends show the colours of what is beyond the range.
        bar = box.colorbar(
            colours,
            ax=rows,
            fraction=0.05,
            pad=0.01,
            aspect=24 if len(rows) == 2 else 12,
            extend="both",
        )
        bar.set_label("" if spatial == 1 else label)
        bar.outline.set_visible(False)
        bar.formatter.set_powerlimits((-2, 3))


def _draw_spectra(
    ax: Axes, prediction: Array, truth: Array, steps: Sequence[int], valid: Array | None
) -> None:
    top, bottom = 0.0, math.inf
    for n, step in enumerate(steps):
        for states, colour, dash, label in (
            (truth, BLACK if n == 0 else GREY, "-", "truth"),
            (prediction, LINES[n], "--", "prediction"),
        ):
            state = states[step - 1].astype(np.float64)
            state = state if valid is None else np.where(valid, state, 0.0)
            if not np.isfinite(state).all():
                continue
            k, energy = (
                x.numpy() for x in isotropic_spectrum(torch.from_numpy(state)[None], state.ndim)
            )
            # One cell has no wavenumber, a constant field no energy; squares may overflow.
            if not energy[0, 1:].any() or not np.isfinite(energy).all():
                continue
            ax.loglog(
                k[1:], energy[0, 1:], color=colour, linestyle=dash, label=f"{label}, step {step}"
            )
            high = energy[0, 1:].max()
            # A prediction that blows up and rounding noise would otherwise take up most of the
            # picture.
            top = max(top, high if states is truth else min(high, 1e3 * top))
            bottom = min(bottom, energy[0, 1:].min())
    if top > 0:
        ax.set_ylim(max(bottom, top * 1e-12) / 3, top * 5)
    ax.set_xlabel("wavenumber (cycles per domain)")
    ax.set_ylabel("energy per shell")
    ax.set_title("Isotropic spectrum", loc="left")
    if ax.lines:
        ax.legend(loc="best")


def _draw_vrmse(ax: Axes, evaluation: Evaluation) -> None:
    curves = {name: scores.rollout.mean((0, 2)) for name, scores in evaluation.scores.items()}
    steps = np.arange(1, evaluation.n_steps + 1)
    finite = np.concatenate([curve[np.isfinite(curve) & (curve > 0)] for curve in curves.values()])
    low, high = (finite.min(), finite.max()) if finite.size else (0.1, 1.0)
    # Room above the curves for two lanes of windows.
    span = max(math.log10(high / low), 0.3)
    ax.set_yscale("log")
    ax.set_ylim(low / 10 ** (0.06 * span), high * 10 ** (0.3 * span))
    for window, protocol in evaluation.windows():
        lane, colour = (0.92, BLUE) if protocol == "The Well" else (0.84, GREEN)
        left, right = window.first - 0.5, window.last + 0.5
        ax.axvspan(left, right, color=colour, alpha=0.07, linewidth=0)
        ax.axvspan(
            left + 0.1, right - 0.1, lane, lane + 0.07, color=colour, alpha=0.35, linewidth=0
        )
        ax.text(
            (left + right) / 2,
            lane + 0.032,
            window.label,
            transform=ax.get_xaxis_transform(),
            ha="center",
            va="center",
            fontsize=7,
        )
    for n, (name, curve) in enumerate(curves.items()):
        colour, dash = (
            (BLUE, "-") if n == 0 else (GREY, "--") if name == "persistence" else (ORANGE, ":")
        )
        ax.plot(steps, np.where(np.isfinite(curve), curve, np.nan), color=colour, linestyle=dash,
                label=plain(name))  # fmt: skip
    if low < 1 < high:
        ax.axhline(1.0, color=BLACK, linewidth=0.6)
    ax.set_xlim(0.5, evaluation.n_steps + 0.5)
    ax.set_xlabel("rollout step")
    ax.set_ylabel("VRMSE")
    ax.set_title("VRMSE, mean over trajectories and fields", loc="left")
    ax.legend(loc="best")


def training_figure(path: str | Path) -> Figure:
    """Learning curves of a `metrics.csv` as the CSV logger writes it: losses above, VRMSE below.

    Columns whose name holds "loss" or "vrmse" are drawn over the column "samples" where there is
    one, else "step"; of more than nine in a panel the first nine.

    Raises:
        WavelitError: the file has no such column, or is no table of numbers.
    """
    path = require_path("path", path, is_file=True)
    lines = _table(path)
    columns = [name for name in (lines[0] if lines else {}) if name is not None]
    names = [name for name in columns if "loss" in name.lower() or "vrmse" in name.lower()]
    groups = [
        [n for n in names if "vrmse" not in n.lower()],
        [n for n in names if "vrmse" in n.lower()],
    ]
    groups = [group for group in groups if group]
    clock = next((name for name in ("samples", "step") if name in columns), None)
    if clock is None or not groups:
        raise WavelitError(
            f"{printable(path)}: expected columns step or samples and a loss or vrmse, got "
            f"{listed(columns)}: give the metrics.csv of a run"
        )
    with look():
        figure = new_figure(2.3 * len(groups))
        for ax, group in zip(
            np.atleast_1d(np.asarray(figure.subplots(len(groups), 1))), groups, strict=True
        ):
            for n, name in enumerate(group[:MAX_CURVES]):
                points = _points(path, lines, clock, name)
                marker = "." if len(points) < 40 else None
                ax.plot(
                    *zip(*points, strict=True),
                    color=list(LINES.values())[n % 3],
                    marker=marker,
                    label=plain(name),
                    linestyle=("-", "--", ":")[n // 3 % 3],
                )
            ax.set_yscale("log")
            ax.set_ylabel(
                "VRMSE" if group is groups[-1] and "vrmse" in group[0].lower() else "loss"
            )
            ax.legend(title=f"{MAX_CURVES} of {len(group)}" if len(group) > MAX_CURVES else None)
        ax.set_xlabel("training samples" if clock == "samples" else "optimiser step")
    return figure


def learning_curve(folder: Path) -> Path | None:
    """A run's metrics.csv; None, with a warning, where it is not there or no table: scores need
    none.
    """
    path = folder / "logs" / "metrics.csv"
    try:
        _table(path)
    except WavelitError as error:
        warnings.warn(f"{error}: there is no learning curve", stacklevel=3)
        return None
    return path


def last_validation(path: str | Path, system: str | None = None) -> float | None:
    """The last validation VRMSE in a `metrics.csv`, of one system in that of a joint run; None
    where there is none, or no file.
    """
    found = validations(path, system)
    return found[-1] if found and math.isfinite(found[-1]) else None


def validations(path: str | Path, system: str | None = None) -> list[float]:
    """All validation VRMSE in a `metrics.csv` in their order, likewise; empty where there is none,
    or no file.
    """
    score = "val_vrmse" if system is None else f"val_vrmse/{system}"
    path = Path(path)
    lines = _table(path) if path.is_file() else []
    clock = next((name for name in ("samples", "step") if lines and name in lines[0]), None)
    if clock is None or score not in lines[0]:
        return []
    return [value for _, value in _points(path, lines, clock, score)]


def _table(path: Path) -> list[dict[str, str]]:
    try:
        return list(csv.DictReader(whole_lines(read_text(path))))
    except (WavelitError, OSError, csv.Error) as error:
        raise WavelitError(
            f"{printable(path)} is no table: {one_line(error)}: give the metrics.csv of a run"
        ) from error


def _points(
    path: Path, lines: Sequence[dict[str, str]], clock: str, name: str
) -> list[tuple[float, float]]:
    """The lines that have a value of that column, as (clock, value)."""
    try:
        return [
            (float(line[clock]), float(line[name])) for line in lines if line[clock] and line[name]
        ]
    except ValueError as error:
        raise WavelitError(
            f"{printable(path)}: column {printable(name, 60)} or {clock}: {one_line(error)}: give "
            "the metrics.csv of a run"
        ) from error
