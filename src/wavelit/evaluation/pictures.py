"""What all pictures share: width, type and colours, names as text, states as images, and how a
picture becomes a file.

A name comes from a file and may hold anything: `plain` shows it as it is, never as a formula,
shortened where it is long.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wavelit.checks.arguments import (
    listed,
    require_array,
    require_instance,
    require_names,
    require_path,
    require_whole,
)
from wavelit.errors import WavelitError, printable
from wavelit.evaluation.orientation import View
from wavelit.evaluation.ranges import Range, error_range, value_range
from wavelit.files.atomic import atomic_path

__all__ = [
    "ABOVE_RANGE",
    "BELOW_RANGE",
    "BLACK",
    "BLUE",
    "FROM_THE_FILE",
    "GREEN",
    "GREY",
    "LINES",
    "LONGEST_SIDE",
    "MIN_PANEL",
    "NO_VALUE",
    "ORANGE",
    "WIDTH",
    "Pictures",
    "arrays",
    "channel_of",
    "fields_to_show",
    "file_part",
    "finite_plane",
    "look",
    "new_figure",
    "pictures_of",
    "plain",
    "png",
    "save",
    "show",
    "unit_of",
    "write_bytes",
]

Array = NDArray[Any]

# The view of axes whose names are not known.
FROM_THE_FILE = View()

WIDTH = 5.0  # inches
# Inches that the lowest row of images takes.
MIN_PANEL = 0.1
# Characters of a name across a picture, and along an image's side; and of a unit.
LONGEST, LONGEST_SIDE, LONGEST_UNIT = 40, 24, 16
# Okabe and Ito's palette.
BLACK, BLUE, ORANGE, GREEN, GREY = "#000000", "#0072B2", "#D55E00", "#009E73", "#767676"
# Cells without a value, and beyond the colour range: these two are in none of the maps.
NO_VALUE, BELOW_RANGE, ABOVE_RANGE = "#bbbbbb", "#00e5ff", "#ff2ee6"
LINES = {0: BLUE, 1: ORANGE, 2: GREEN}
LOOK: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.usetex": False,
}


@contextmanager
def look() -> Iterator[None]:
    """The settings of matplotlib that pictures are drawn with, whatever the user's are."""
    with matplotlib.rc_context(LOOK):
        yield


class Picture(Figure):
    """A figure that a notebook shows, whether pyplot was imported there or not."""

    def _repr_png_(self) -> bytes:
        return png(self, 100)


def new_figure(height: float) -> Figure:
    """An empty figure of that height in inches."""
    figure = Picture(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain(name: object, longest: int = LONGEST) -> str:
    """A name as matplotlib's text: no formula, no control characters, at most so many
    characters.
    """
    text = printable(name, longest).replace("$", r"\$")
    # A legend leaves out what begins with an underscore.
    return f" {text}" if text.startswith("_") else text


def unit_of(name: str, units: Mapping[str, str] | None) -> str:
    """A field's unit in brackets, as matplotlib's text; nothing where none is known.

    Args:
        name: The field.
        units: Of the fields that have one.
    """
    unit = (units or {}).get(name, "")
    return f"({plain(unit, LONGEST_UNIT)})" if unit else ""


def png(figure: Figure, dpi: int = 200) -> bytes:
    """A figure as PNG."""
    file = io.BytesIO()
    with look():
        figure.savefig(file, dpi=dpi, format="png", metadata={"Software": None})
    return file.getvalue()


def save(figure: Figure, path: str | Path, dpi: int = 200) -> Path:
    """Write a figure as PNG, whole or not at all.

    Raises:
        WavelitError: no figure, path or resolution (10 to 1000).
    """
    require_instance("figure", figure, Figure, "draw one with rollout_figure or training_figure")
    path, dpi = require_path("path", path, is_file=True), require_whole("dpi", dpi, 10, 1000)
    return write_bytes(path, png(figure, dpi))


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


@dataclass(frozen=True)
class Pictures:
    """Truth, prediction and error of one field as images (steps, H, W), row 0 at the bottom,
    with their colours.
    """

    truth: Array
    prediction: Array
    colours: ScalarMappable
    error_colours: ScalarMappable

    @property
    def error(self) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            return self.prediction - self.truth

    def rows(self) -> list[tuple[str, Array, ScalarMappable]]:
        return [
            ("truth", self.truth, self.colours),
            ("prediction", self.prediction, self.colours),
            ("error", self.error, self.error_colours),
        ]


def pictures_of(
    truth: Array,
    prediction: Array,
    channel: int,
    valid: Array | None,
    levels: int = 256,
    shown: Sequence[int] | slice = slice(None),
    view: View = FROM_THE_FILE,
) -> Pictures:
    """The images of a channel of truth and prediction (steps, C, *S) at the steps shown, with the
    colour range of all steps; cells that are not finite or not valid are NaN.
    """
    images = [finite_plane(states[:, channel], valid, view) for states in (truth, prediction)]
    with np.errstate(over="ignore", invalid="ignore"):
        error = images[1] - images[0]
    values = value_range(images[0])
    return Pictures(
        images[0][shown],
        images[1][shown],
        _colours(values, levels),
        _colours(error_range([error], values), levels),
    )


def finite_plane(states: Array, valid: Array | None, view: View = FROM_THE_FILE) -> Array:
    """States (steps, *S) as images (steps, H, W) in float64; cells that are not finite or not valid
    are NaN.
    """
    counted = np.ones(states.shape[1:], bool) if valid is None else valid
    images = view.plane(states).astype(np.float64)
    return np.where(view.plane(counted[None]) & np.isfinite(images), images, np.nan)


def _colours(within: Range, levels: int) -> ScalarMappable:
    colours = matplotlib.colormaps[within.colours].resampled(levels)
    return ScalarMappable(
        Normalize(within.low, within.high),
        colours.with_extremes(bad=NO_VALUE, under=BELOW_RANGE, over=ABOVE_RANGE),
    )


def show(ax: Any, image: Array, colours: ScalarMappable, **options: Any) -> Any:
    """Draw an image (H, W) in these colours, row 0 at the bottom, without a frame."""
    for spine in ax.spines.values():
        spine.set_visible(False)
    options = {"interpolation": "nearest", "origin": "lower", **options}
    return ax.imshow(image, cmap=colours.cmap, norm=colours.norm, **options)


def channel_of(field_names: Sequence[str], field: str | None) -> int:
    """The channel of a field; the first if there is none.

    Raises:
        WavelitError: no field of that name.
    """
    if field is not None and field not in field_names:
        raise WavelitError(
            f"expected a field among {listed(field_names)}, got {printable(field, 80)}"
        )
    return 0 if field is None else list(field_names).index(field)


def fields_to_show(field_names: Sequence[str], field: str | Sequence[str] | None) -> list[str]:
    """The fields that are asked for, each once; the first if none is.

    Raises:
        WavelitError: no field of that name, or something else than names.
    """
    if field is None:
        return list(field_names[:1])
    asked = [field] if isinstance(field, str) else require_names("field", field)
    return list(dict.fromkeys(field_names[channel_of(field_names, name)] for name in asked))


def file_part(name: str) -> str:
    """A name as part of a file's, at most 80 characters; where it had to be changed it ends with a
    checksum, so that two names never share a file.
    """
    plainly = re.sub(r'[\\/:*?"<>|]', "_", printable(name, 80))
    if plainly == name:
        return name
    return f"{plainly[:71]}-{zlib.crc32(name.encode('utf8', 'surrogatepass')):08x}"


def arrays(
    truth: Any, prediction: Any, field_names: Sequence[str], valid: Any
) -> tuple[Array, Array, Array | None]:
    """Prediction, truth and mask as arrays that fit one another and the names.

    Raises:
        WavelitError: they do not.
    """
    names = require_names("field_names", field_names)
    v, u = require_array("truth", truth), require_array("prediction", prediction)
    if u.shape != v.shape or not 3 <= v.ndim <= 5 or v.shape[1] != len(names) or not v.size:
        raise WavelitError(
            f"expected truth and prediction (steps, {len(names)}, *S) of one shape, one channel a "
            f"field name and no axis empty, got {v.shape} and {u.shape}"
        )
    if valid is None:
        return u, v, None
    mask = require_array("valid", valid)
    if mask.shape != v.shape[2:]:
        raise WavelitError(
            f"valid must be a mask {v.shape[2:]}, the fields' grid, not {mask.shape}"
        )
    return u, v, mask.astype(bool)
