"""What is written stands whole or not at all; names are drawn, printed and embedded as they are;
odd data are drawn too.
"""

import csv
import errno
import io
import json
import multiprocessing
import os

import imageio.v3 as imageio
import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from test_report import Page, evaluation_of, metrics_csv, wave
from wavelit.errors import WavelitError
from wavelit.evaluation import figures, films, pictures
from wavelit.evaluation.evaluate import Evaluation, Scores, format_table
from wavelit.evaluation.player import Rollout, player
from wavelit.evaluation.report import write_report

pytestmark = pytest.mark.long

HOSTILE = (
    "[/red]",
    r"$\frac{$",
    "<b>&",
    "\ud800",
    "n" * 4000,
    "\x1b[31m",
    "_a",
    "$x$",
    "a\nb",
    ":smile:",
    "\\",
)


def scores_of(names, steps=6, model="m"):
    held = Scores(np.full((9, len(names)), 0.2), np.full((3, steps, len(names)), 0.2))
    return Evaluation(
        names[0], "test", model, tuple(names), 4, 4, {model: held, "persistence": held}
    )


def states(names, steps=6, grid=(8, 8)):
    values = np.random.default_rng(0).normal(size=(steps, len(names), *grid)).astype(np.float32)
    return values, values + 0.1


def report(path, truth, prediction, evaluation, **options):
    return write_report(
        path, evaluation, truth=truth, prediction=prediction, run_info={}, **options
    )


def test_names_are_drawn_and_embedded_as_they_are(tmp_path):
    truth, prediction = states(HOSTILE, steps=3)
    with open(tmp_path / "metrics.csv", "w", newline="", encoding="utf8", errors="replace") as file:
        csv.writer(file).writerows(
            [["step", *(f"loss {name}" for name in HOSTILE)], [1, *[0.5] * 11], [2, *[0.4] * 11]]
        )
    path = report(
        tmp_path / "report.html",
        truth,
        prediction,
        scores_of(HOSTILE, 3, model=HOSTILE[2]),
        fields=HOSTILE[:3],
        metrics_csv=tmp_path / "metrics.csv",
    )
    text = path.read_text(encoding="utf8")
    words = Page(text).words
    assert all(pictures.printable(name, 80) in words for name in HOSTILE)
    assert "\x1b" not in text
    assert "<b>" not in text.split("</style>")[1]
    for name in HOSTILE[3:]:
        figures.rollout_figure(truth, prediction, HOSTILE, field=name, steps=[1]).canvas.draw()


def test_a_name_is_no_formula_and_is_in_the_legend():
    truth, prediction = states(["$a_b$"])
    figure = figures.rollout_figure(
        truth, prediction, ["$a_b$"], evaluation=scores_of(["$a_b$"], model="_$m$")
    )
    texts = [axes.get_ylabel() for axes in figure.get_axes()]
    assert r"\$a_b\$" in texts
    (legend,) = (axes.get_legend() for axes in figure.get_axes() if axes.get_ylabel() == "VRMSE")
    assert [text.get_text() for text in legend.get_texts()] == [r" _\$m\$", "persistence"]


def test_a_unit_stands_beside_its_field(tmp_path):
    truth, prediction = states(["a", "b"], steps=2)
    units = {"a": "$m$ s-1"}
    for name, shown in (("a", r"a (\$m\$ s-1)"), ("b", "b")):
        figure = figures.rollout_figure(truth, prediction, ["a", "b"], field=name, units=units)
        assert shown in [axes.get_ylabel() for axes in figure.get_axes()]
    scores = scores_of(["a", "b"], 2)
    rollout = Rollout("first", truth, {scores.model: prediction})
    contents = player([rollout], ["a", "b"], scores, units=units).contents
    assert '"fields":["a ($m$ s-1)","b"]' in contents
    plain, with_unit = (
        films.animation(
            tmp_path / f"{n}.gif", truth, prediction, ["a", "b"], units=known
        ).gif.read_bytes()
        for n, known in enumerate((None, units))
    )
    assert with_unit != plain


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_name_is_printed_as_it_is(name):
    console = Console(width=400, record=True, file=io.StringIO(), force_terminal=False)
    console.print(format_table(scores_of([name, "b"], model=name)))
    text = console.export_text()
    assert text.count(pictures.printable(name, 80)) >= 2
    assert "\x1b" not in text


def test_an_evaluation_of_any_names_comes_back_from_its_file(tmp_path):
    evaluation = scores_of(HOSTILE, model="\udcff")
    path = evaluation.save(tmp_path / "evaluation.json")
    assert Evaluation.from_dict(json.loads(path.read_text(encoding="utf8"))).field_names == HOSTILE


def test_two_hundred_fields_and_two_thousand_steps(tmp_path):
    names = [f"field_{n}" for n in range(200)]
    truth, prediction = states(names, steps=20, grid=(4, 4))
    report(tmp_path / "report.html", truth, prediction, scores_of(names, 20))
    truth, prediction = states(["a"], steps=2000, grid=(4, 4))
    film = films.animation(tmp_path / "long.gif", truth, prediction, ["a"])
    assert len(imageio.imread(film.gif)) <= films.MAX_FRAMES
    figures.save(
        figures.rollout_figure(truth, prediction, ["a"], evaluation=scores_of(["a"], 2000)),
        tmp_path / "a.png",
    )
    with open(tmp_path / "many.csv", "w", newline="", encoding="utf8") as file:
        csv.writer(file).writerows(
            [["step", *(f"loss {n}" for n in range(200))], [1, *[0.5] * 200]]
        )
    (axes,) = figures.training_figure(tmp_path / "many.csv").get_axes()
    assert len(axes.lines) == figures.MAX_CURVES
    assert axes.get_legend().get_title().get_text() == "9 of 200"


def spoilt(kind):
    truth, prediction = wave(8, 12, 10)
    valid = None
    if kind == "diverged":
        prediction[2:] = np.nan
        prediction[1] = 1e38
    elif kind == "never finite":
        prediction[:] = np.inf
    elif kind == "one step":
        truth, prediction = truth[:1], prediction[:1]
    elif kind == "constant":
        truth[:], prediction[:] = 3.0, 3.0
    elif kind == "no true value":
        truth[:] = np.nan
    elif kind == "NaN under a mask":
        valid = np.ones((12, 10), bool)
        valid[:, 4] = False
        truth[..., 4] = np.nan
    elif kind == "all masked":
        valid = np.zeros((12, 10), bool)
    elif kind == "one cell":
        truth, prediction = truth[..., :1, :1], prediction[..., :1, :1]
    elif kind == "flat grid":
        truth, prediction = wave(8, 400, 2)
    elif kind == "squares that overflow":
        truth, prediction = truth.astype(float) * 1e200, prediction.astype(float) * -1e300
    return truth, prediction, valid


KINDS = [
    "diverged",
    "never finite",
    "one step",
    "constant",
    "no true value",
    "NaN under a mask",
    "all masked",
    "one cell",
    "flat grid",
    "squares that overflow",
]


@pytest.mark.parametrize("kind", KINDS)
def test_odd_data_are_drawn(kind, tmp_path):
    truth, prediction, valid = spoilt(kind)
    evaluation = evaluation_of(len(truth))
    if kind in ("diverged", "never finite"):
        evaluation.scores["WaveLiT nano"].rollout[:, 2:] = np.inf
    if kind in ("diverged", "never finite", "no true value"):
        report(tmp_path / "report.html", truth, prediction, evaluation, valid=valid)
    # No tick or label shows a NaN.
    figure = figures.rollout_figure(
        truth, prediction, ["pressure", "density"], evaluation=evaluation, valid=valid
    )
    figure.canvas.draw()
    ticks = [text.get_text() for axes in figure.get_axes() for text in axes.get_yticklabels()]
    assert not any("nan" in tick for tick in ticks)


WRITERS = {
    "a.png": lambda path: figures.save(Figure(), path),
    "a.gif": lambda path: films.animation(path, *wave(3, 8, 8), ["a", "b"]),
    "a.json": lambda path: evaluation_of().save(path),
    "a.html": lambda path: report(path, *wave(30, 8, 8), evaluation_of()),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_cannot_be_written_leaves_what_was_there(name, tmp_path, monkeypatch):
    path = tmp_path / name
    path.write_text("old")
    flush = pictures.atomic_path.__wrapped__.__globals__["flush"]

    def full(written):
        if path.name in written.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(written)

    monkeypatch.setattr("wavelit.files.atomic.flush", full)
    with pytest.raises(OSError, match="No space") as caught:
        WRITERS[name](path)
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert not list(tmp_path.glob("**/*.tmp"))


def test_an_mp4_that_fails_leaves_nothing(tmp_path, monkeypatch):
    encoder = tmp_path / "ffmpeg"
    encoder.write_text(
        '#!/bin/sh\nfor last; do :; done\nhead -c 100 > "$last"\ncat > /dev/null\necho '
        '"disk\nfull" >&2; exit 1\n'
    )
    encoder.chmod(0o755)
    monkeypatch.setattr(films, "_ffmpeg", lambda: str(encoder))
    with pytest.raises(WavelitError, match=r"could not write .*a\.mp4: disk full") as caught:
        films.animation(tmp_path / "a.gif", *wave(3, 8, 8), ["a", "b"])
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"ffmpeg", "a.gif"}


def _report(folder, factor, name):
    truth, prediction = wave(20, 8, 8)
    for _ in range(2):
        report(
            folder / name,
            factor * truth,
            factor * prediction,
            evaluation_of(20),
            metrics_csv=folder / "metrics.csv",
        )


@pytest.mark.slow
def test_two_reports_of_a_run_at_once_are_whole_and_their_own(tmp_path):
    metrics_csv(tmp_path / "metrics.csv")
    context = multiprocessing.get_context("spawn")
    works = [
        context.Process(target=_report, args=(tmp_path, f, name))
        for f, name in ((1, "a.html"), (9, "b.html"))
    ]
    for work in works:
        work.start()
    for work in works:
        work.join()
    assert [work.exitcode for work in works] == [0, 0]
    alone = tmp_path / "alone"
    alone.mkdir()
    metrics_csv(alone / "metrics.csv")
    for factor, name in ((1, "a.html"), (9, "b.html")):
        _report(alone, factor, name)
        assert (tmp_path / name).read_text() == (alone / name).read_text()
    assert not list(tmp_path.glob("**/*.tmp"))
    assert len(imageio.imread(tmp_path / "figures" / "rollout-pressure.gif")) == 20


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"step,loss\n1,x\n",
        b"step,loss\n\n",
        b"[]",
        b"step,loss\n" + b"1" * 200_000,
        b"a,b\n1,2\n",
    ],
    ids=range(7),
)
def test_a_table_that_is_none_is_named(content, tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with pytest.raises(WavelitError, match=r"metrics\.csv.*the metrics\.csv of a run") as caught:
        figures.training_figure(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_table_that_is_not_there_is_named():
    with pytest.raises(WavelitError, match=r"lines is no table.*metrics\.csv of a run") as caught:
        figures.training_figure("two\nlines")
    assert len(str(caught.value).splitlines()) == 1


def test_lines_cut_short_or_too_long_are_drawn(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,loss\n1,0.5,7\n2\n3,0.4\n")
    (axes,) = figures.training_figure(tmp_path / "metrics.csv").get_axes()
    assert axes.lines[0].get_xydata().tolist() == [[1, 0.5], [3, 0.4]]


def test_half_a_line_that_a_kill_left_is_not_drawn(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,loss\n1,0.5\n2,0.25\n3,0.1")
    (axes,) = figures.training_figure(tmp_path / "metrics.csv").get_axes()
    assert axes.lines[0].get_xydata().tolist() == [[1, 0.5], [2, 0.25]]


def test_a_notebook_shows_a_figure_without_pyplot(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,loss\n1,0.5\n")
    assert figures.training_figure(tmp_path / "metrics.csv")._repr_png_().startswith(b"\x89PNG")
