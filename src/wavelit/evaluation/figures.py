"""Pictures of a rollout: truth, prediction and error at chosen steps, spectra, VRMSE over time, an
animation.

Truth and prediction share one colour range for all steps, taken from the truth; a field of both
signs gets a diverging map that is symmetric about zero; the error, prediction minus truth, has a
range of its own (see `wavelit.evaluation.ranges`). Cells beyond a range are magenta above it and
cyan below, cells that are excluded or not finite grey. The first axis of a field runs to the right
and the second up; a field in 3-D shows the middle of its third axis, a field in 1-D is drawn over
space and time. All colours can be told apart by colour-blind readers.

The pictures are 5 inches wide, so that their type stays readable where a phone scales them to its
screen.
"""

from __future__ import annotations

import csv
import importlib
import math
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wavelit.checks.arguments import (
    listed,
    require_instance,
    require_names,
    require_path,
    require_whole,
    shown,
)
from wavelit.errors import WavelitError, one_line, printable
from wavelit.evaluation.evaluate import Evaluation
from wavelit.evaluation.pictures import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LINES,
    LONGEST_SIDE,
    ORANGE,
    WIDTH,
    Pictures,
    arrays,
    channel_of,
    look,
    new_figure,
    plain,
    plane,
    save,
    write_bytes,
)
from wavelit.evaluation.pictures import pictures_of as _pictures
from wavelit.files.atomic import atomic_path
from wavelit.metrics import isotropic_spectrum

__all__ = ["Animation", "animation", "rollout_figure", "save", "training_figure"]

Array = NDArray[Any]

MAX_FRAMES = 60
MAX_GIF_BYTES = 2_000_000
MIN_DPI = 100.0  # 500 pixels across
# Columns of images that 5 inches hold, and the curves of a panel that can be told apart.
MAX_COLUMNS, MAX_CURVES = 8, 9
# Inches that the lowest row of images takes.
MIN_PANEL = 0.1


@dataclass(frozen=True)
class Animation:
    """Files written: a GIF always, an MP4 where ffmpeg was found; `note` says why there is none,
    `content` is the GIF.
    """

    gif: Path
    mp4: Path | None
    note: str
    content: bytes = field(repr=False)


def rollout_figure(
    truth: Any,
    prediction: Any,
    field_names: Sequence[str],
    *,
    field: str | None = None,
    steps: Sequence[int] | None = None,
    evaluation: Evaluation | None = None,
    valid: Any = None,
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
    height, width = plane(v[:, channel]).shape[1:]
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
        pictures = _pictures(v, u, channel, mask, shown=slice(None) if spatial == 1 else index)
        _draw_images(boxes[0], pictures, plain(field_names[channel], LONGEST_SIDE), steps, spatial)
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
                _show(ax, images[:, 0].T, colours, aspect="auto", extent=extent)
                ax.set_ylabel("cell")
                ax.set_title(f"{name}: {label}" if line == 0 else label)
                ax.set_xlabel("rollout step" if line == 2 else "")
                continue
            _show(ax, images[column], colours)
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


def _show(ax: Any, image: Array, colours: ScalarMappable, **options: Any) -> Any:
    for spine in ax.spines.values():
        spine.set_visible(False)
    options = {"interpolation": "nearest", "origin": "lower", **options}
    return ax.imshow(image, cmap=colours.cmap, norm=colours.norm, **options)


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


def _table(path: Path) -> list[dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
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


def animation(
    path: str | Path,
    truth: Any,
    prediction: Any,
    field_names: Sequence[str],
    *,
    fields: Sequence[str] | None = None,
    first_step: int = 1,
    frames_per_second: int = 8,
    valid: Any = None,
) -> Animation:
    """Truth, prediction and error side by side, one line for each of up to three fields, as GIF and
    MP4.

    Every step is a frame up to 60 steps, every second up to 120, and so on. A GIF of more than 2 MB
    is drawn again, smaller down to 500 pixels across, then with every second of its frames.

    Args:
        path: of the GIF; the MP4 has its name with the other ending.
        truth: (steps, C, *S).
        prediction: of the same shape.
        field_names: the C fields.
        fields: those to show, three at most; the first if absent.
        first_step: number of the first state given, for the title.
        frames_per_second: of both files.
        valid: cells inside the domain, bool (*S).

    Raises:
        WavelitError: shapes or fields do not fit.
    """
    u, v, mask = arrays(truth, prediction, field_names, valid)
    chosen = list(field_names[:1]) if fields is None else require_names("fields", fields)
    if len(chosen) > 3:
        raise WavelitError(
            f"expected one to three fields, got {len(chosen)}: an animation shows three at most"
        )
    # A GIF counts in hundredths of a second.
    require_whole("frames_per_second", frames_per_second, 1, 50)
    require_whole("first_step", first_step, 0)
    gif = require_path("path", path, is_file=True).with_suffix(".gif")
    stride = math.ceil(len(v) / MAX_FRAMES)
    shown = range(0, len(v), stride)
    # A GIF has 256 colours and compresses runs of one: 32 levels show as much and take half the
    # bytes.
    films = {
        name: _pictures(v, u, channel_of(field_names, name), mask, levels=32) for name in chosen
    }
    dpi = 140.0
    while True:
        frames = _frames(films, shown, first_step, v.ndim - 2, dpi)
        content: bytes = imageio.imwrite(
            "<bytes>",
            frames,
            plugin="pillow",
            extension=".gif",
            duration=1000 / frames_per_second,
            loop=0,
        )
        excess = len(content) / MAX_GIF_BYTES
        if excess < 1 or len(shown) == 1:
            break
        if dpi > MIN_DPI:
            dpi = max(MIN_DPI, dpi * 0.9 / math.sqrt(excess))
        else:
            shown = shown[::2]
    write_bytes(gif, content)
    encoder = _ffmpeg()
    if encoder is None:
        note = "No MP4: ffmpeg was not found; pip install imageio-ffmpeg brings it."
        return Animation(gif, None, note, content)
    frames = _frames(films, shown, first_step, v.ndim - 2, 200.0)
    return Animation(
        gif, _write_mp4(encoder, gif.with_suffix(".mp4"), frames, frames_per_second), "", content
    )


def _frames(
    films: dict[str, Pictures], shown: Sequence[int], first_step: int, spatial: int, dpi: float
) -> Array:
    """RGB frames (frames, H, W, 3) with even H and W, which video needs."""
    height, width = next(iter(films.values())).truth.shape[1:]
    line = (
        1.5 if spatial == 1 else float(np.clip((WIDTH - 0.2) / 3 * height / width, MIN_PANEL, 3.2))
    )
    with look():
        figure = new_figure((line + 0.1) * len(films) + 0.5)
        figure.set_dpi(dpi)
        axes = figure.subplots(len(films), 3, squeeze=False)
        moving: list[tuple[Any, Any, Array]] = []
        for row, (name, film) in zip(axes, films.items(), strict=True):
            for ax, (label, images, colours) in zip(row, film.rows(), strict=True):
                low, high = colours.get_clim()
                if spatial == 1:
                    (line,) = ax.plot(
                        images[0, 0], color=ORANGE if label == "error" else BLUE, animated=True
                    )
                    ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
                    ax.tick_params(labelsize=6)
                    moving.append((line, line.set_ydata, images[:, 0]))
                else:
                    image = _show(ax, images[0], colours, animated=True)
                    moving.append((image, image.set_data, images))
                    ax.set_xticks([])
                    ax.set_yticks([])
                limits = f"±{high:.2g}" if low == -high else f"{low:.2g} to {high:.2g}"
                ax.set_title(f"{label} ({limits})", fontsize=8)
            row[0].set_ylabel(plain(name, LONGEST_SIDE))
        title = figure.suptitle("rollout step 1", fontsize=9, animated=True)
        # Axes and text are drawn once; a frame adds the images and its number.
        canvas: Any = figure.canvas
        canvas.draw()
        background = canvas.copy_from_bbox(figure.bbox)
        frames: list[Array] = []
        for step in shown:
            canvas.restore_region(background)
            title.set_text(f"rollout step {first_step + step}")
            figure.draw_artist(title)
            for artist, update, images in moving:
                update(images[step])
                artist.axes.draw_artist(artist)
            pixels = np.asarray(canvas.buffer_rgba())[..., :3]
            frames.append(pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2].copy())
    return np.stack(frames)


def _ffmpeg() -> str | None:
    try:
        return str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return shutil.which("ffmpeg")


def _write_mp4(encoder: str, path: Path, frames: Array, frames_per_second: int) -> Path:
    size = f"{frames.shape[2]}x{frames.shape[1]}"
    command = [
        encoder,
        "-loglevel",
        "error",
        "-y",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-s",
        size,
    ]
    command += [
        "-r",
        str(frames_per_second),
        "-i",
        "-",
        "-pix_fmt",
        "yuv420p",
        "-movflags",
        "+faststart",
    ]
    with atomic_path(path) as temporary:
        # An absolute path, as ffmpeg takes a colon in another for the end of a protocol's name.
        command += ["-f", "mp4", os.path.abspath(temporary)]
        done = subprocess.run(command, input=frames.tobytes(), capture_output=True, check=False)
        if done.returncode:
            said = " ".join(done.stderr.decode(errors="replace").split())
            raise WavelitError(
                f"{printable(encoder)} could not write {printable(path)}: {printable(said)}: mend "
                "that, or take it off PATH to do without an MP4"
            )
    return path
