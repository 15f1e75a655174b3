"""Films of a rollout: truth, prediction and error side by side, as GIF and MP4."""

from __future__ import annotations

import importlib
import math
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
from numpy.typing import NDArray

from wavelit.checks.arguments import require_names, require_path, require_whole
from wavelit.errors import WavelitError, printable
from wavelit.evaluation.orientation import View
from wavelit.evaluation.pictures import (
    BLUE,
    FROM_THE_FILE,
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
    show,
    unit_of,
    write_bytes,
)
from wavelit.files.atomic import atomic_path

__all__ = ["Animation", "animation"]

Array = NDArray[Any]

MAX_FRAMES = 60
MAX_GIF_BYTES = 2_000_000
MIN_DPI = 100.0  # 500 pixels across


@dataclass(frozen=True)
class Animation:
    """Files written: a GIF always, an MP4 where ffmpeg was found; `note` says why there is none,
    `content` is the GIF.
    """

    gif: Path
    mp4: Path | None
    note: str
    content: bytes = field(repr=False)


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
    view: View = FROM_THE_FILE,
    units: Mapping[str, str] | None = None,
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
        view: see `rollout_figure`.
        units: units of the fields that have one, by name.

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
        name: pictures_of(v, u, channel_of(field_names, name), mask, levels=32, view=view)
        for name in chosen
    }
    dpi = 140.0
    while True:
        frames = _frames(films, shown, first_step, v.ndim - 2, dpi, units)
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
    frames = _frames(films, shown, first_step, v.ndim - 2, 200.0, units)
    return Animation(
        gif, _write_mp4(encoder, gif.with_suffix(".mp4"), frames, frames_per_second), "", content
    )


def _frames(
    films: dict[str, Pictures],
    shown: Sequence[int],
    first_step: int,
    spatial: int,
    dpi: float,
    units: Mapping[str, str] | None,
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
                    image = show(ax, images[0], colours, animated=True)
                    moving.append((image, image.set_data, images))
                    ax.set_xticks([])
                    ax.set_yticks([])
                limits = f"±{high:.2g}" if low == -high else f"{low:.2g} to {high:.2g}"
                ax.set_title(f"{label} ({limits})", fontsize=8)
            row[0].set_ylabel(f"{plain(name, LONGEST_SIDE)}\n{unit_of(name, units)}".rstrip())
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
