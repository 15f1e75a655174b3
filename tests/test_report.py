"""Figures and report: what is drawn, what is embedded, what the summary admits, and that nothing
points outside.
"""

import re
from html.parser import HTMLParser

import imageio.v3 as imageio
import numpy as np
import pytest

from wavelit.errors import WavelitError
from wavelit.evaluation import figures, films
from wavelit.evaluation.evaluate import Evaluation, Scores
from wavelit.evaluation.pictures import pictures_of
from wavelit.evaluation.report import summary, write_report


def wave(steps, *grid):
    """(steps, 2, *S): a signed travelling wave and a positive one, and a slightly late
    prediction of them.
    """
    phase = sum(
        2 * np.pi * np.arange(n).reshape(-1, *(1,) * (len(grid) - 1 - a)) / n
        for a, n in enumerate(grid)
    )
    time = np.arange(steps).reshape(-1, *(1,) * len(grid)) * 0.2
    truth = np.stack([np.cos(phase - time), np.exp(np.sin(phase - time))], axis=1).astype(
        np.float32
    )
    prediction = np.stack(
        [np.cos(phase - 0.95 * time), np.exp(np.sin(phase - 0.95 * time))], axis=1
    )
    return truth, prediction.astype(np.float32)


def evaluation_of(steps=30, factor=0.1, names=("pressure", "density")):
    curve = np.linspace(0.1, 1.2, steps)[None, :, None] * np.ones((3, 1, len(names)))
    held = Scores(np.full((9, len(names)), 0.2), curve)
    scores = {
        "WaveLiT nano": Scores(factor * held.one_step, factor * held.rollout),
        "persistence": held,
    }
    return Evaluation("waves <b>", "test", "WaveLiT nano", tuple(names), 4, 4, scores)


def metrics_csv(path):
    path.write_text(
        "epoch,step,train_loss,val_vrmse,lr\n0,10,0.5,,1e-3\n0,20,0.3,,1e-3\n0,20,,0.2,\n0,30,0.2,,1e-3\n0,40,,0.1,\n"
    )
    return path


@pytest.mark.parametrize("grid", [(32,), (20, 16), (10, 8, 6)])
def test_gif_has_one_frame_a_step(tmp_path, grid):
    truth, prediction = wave(9, *grid)
    film = films.animation(tmp_path / "rollout.gif", truth, prediction, ["pressure", "density"])
    frames = imageio.imread(film.gif)
    assert len(frames) == 9
    assert any((frames[0] != frame).any() for frame in frames[1:])
    assert film.gif.stat().st_size < films.MAX_GIF_BYTES
    assert (film.mp4 is None) == ("ffmpeg" in film.note)


def test_long_rollouts_skip_frames(tmp_path):
    truth, prediction = wave(130, 8, 8)
    film = films.animation(tmp_path / "rollout.gif", truth, prediction, ["pressure", "density"])
    assert len(imageio.imread(film.gif)) == 44  # every third of 130


def test_mp4_where_ffmpeg_is(tmp_path, monkeypatch):
    encoder = tmp_path / "ffmpeg"
    encoder.write_text('#!/bin/sh\nfor last; do :; done\ncat > "$last"\n')
    encoder.chmod(0o755)
    monkeypatch.setattr(films, "_ffmpeg", lambda: str(encoder))
    truth, prediction = wave(4, 16, 16)
    film = films.animation(tmp_path / "rollout.gif", truth, prediction, ["pressure", "density"])
    assert film.mp4 == tmp_path / "rollout.mp4"
    assert film.note == ""
    # The stand-in stores the raw video it is given: four RGB frames of even size.
    assert film.mp4.stat().st_size % (4 * 3 * 4) == 0
    encoder.write_text("#!/bin/sh\necho no such codec >&2\nexit 1\n")
    with pytest.raises(WavelitError, match="no such codec"):
        films.animation(tmp_path / "rollout.gif", truth, prediction, ["pressure", "density"])


def test_truth_and_prediction_share_colours():
    truth, prediction = wave(6, 20, 16)
    pictures = pictures_of(truth, 3 * prediction, 0, None)
    (_, _, of_truth), (_, _, of_prediction), (_, error, of_error) = pictures.rows()
    assert of_truth is of_prediction
    low, high = of_truth.get_clim()
    assert low == -high
    assert high == pytest.approx(np.abs(truth[:, 0]).max(), rel=1e-2)
    np.testing.assert_allclose(
        error, np.swapaxes(3.0 * prediction[:, 0] - truth[:, 0], 1, 2), rtol=1e-5
    )
    assert of_error.get_clim()[1] == pytest.approx(np.abs(error).max(), rel=2e-2)
    low, high = pictures_of(truth, prediction, 1, None).colours.get_clim()  # a positive field
    assert low > 0
    assert high == pytest.approx(truth[:, 1].max(), rel=2e-2)


def test_excluded_and_infinite_cells_are_blank():
    truth, prediction = wave(3, 20, 16)
    prediction[2] = np.inf
    valid = np.ones((20, 16), bool)
    valid[4, 5] = False
    pictures = pictures_of(truth, prediction, 0, valid)
    assert np.isnan(pictures.truth[:, 5, 4]).all()
    assert np.isnan(pictures.truth).sum() == 3
    assert np.isnan(pictures.prediction[2]).all()


@pytest.mark.parametrize("grid", [(32,), (48, 16), (10, 8, 6)])
def test_rollout_figure_draws_and_labels(tmp_path, grid):
    truth, prediction = wave(30, *grid)
    figure = figures.rollout_figure(
        truth, prediction, ["pressure", "density"], field="density", evaluation=evaluation_of()
    )
    text = {
        label
        for axes in figure.get_axes()
        for label in (axes.get_title(), axes.get_title("left"), axes.get_xlabel())
    }
    assert {"wavenumber (cycles per domain)", "rollout step", "Isotropic spectrum"} <= text
    if len(grid) > 1:
        assert {"step 1", "step 30"} <= text
    image = imageio.imread(figures.save(figure, tmp_path / "rollout.png"))
    assert image.shape[1] == 1000
    assert (image[..., :3] < 250).any()


def test_rollout_figure_survives_divergence(tmp_path):
    truth, prediction = wave(30, 16, 16)
    prediction[10:] = np.nan
    evaluation = evaluation_of()
    evaluation.scores["WaveLiT nano"].rollout[:, 10:] = np.inf
    figure = figures.rollout_figure(
        truth, prediction, ["pressure", "density"], evaluation=evaluation
    )
    assert figures.save(figure, tmp_path / "rollout.png").stat().st_size > 10_000


def test_training_figure(tmp_path):
    figure = figures.training_figure(metrics_csv(tmp_path / "metrics.csv"))
    loss, score = figure.get_axes()
    assert loss.lines[0].get_xydata().tolist() == [[10, 0.5], [20, 0.3], [30, 0.2]]
    assert score.lines[0].get_xydata().tolist() == [[20, 0.2], [40, 0.1]]
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(WavelitError, match="loss or vrmse"):
        figures.training_figure(tmp_path / "other.csv")


def test_errors_are_named(tmp_path):
    truth, prediction = wave(5, 8, 8)
    names = ["pressure", "density"]
    with pytest.raises(WavelitError, match="of one shape"):
        figures.rollout_figure(truth, prediction[:4], names)
    with pytest.raises(WavelitError, match="a field among"):
        figures.rollout_figure(truth, prediction, names, field="velocity")
    with pytest.raises(WavelitError, match="steps from 1 to 5"):
        figures.rollout_figure(truth, prediction, names, steps=[1, 6])
    with pytest.raises(WavelitError, match="three"):
        films.animation(tmp_path / "a.gif", truth, prediction, names, fields=["pressure"] * 4)


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [
            value for name, value in attrs if name in ("src", "href", "srcset", "data")
        ]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    truth, prediction = wave(30, 20, 16)
    info = {
        "parameters": 482133,
        "seed": 0,
        "environment": {"torch": "2.13", "machine": {"threads": 1}},
        "commit": None,
    }
    return write_report(
        folder / "report.html",
        evaluation_of(),
        truth=truth,
        prediction=prediction,
        run_info=info,
        metrics_csv=metrics_csv(folder / "metrics.csv"),
    )


def test_report_holds_everything_and_points_nowhere(report):
    text = report.read_text(encoding="utf-8")
    page = Page(text)
    text = re.sub(r'base64,[^"]*|<script type="text/plain"[^>]*>[^<]*', "", text)
    assert not re.search(r"https?:|//[a-z]|<link|url\(|@import|fetch\(|<script[^>]*src", text)
    assert [source.split(";")[0] for source in page.sources] == ["data:image/png"] * 2
    assert page.tags.count("table") == 4  # all fields, by field, run, environment
    assert page.tags.count("img") == 2
    assert "default-src 'none'" in text
    words = " ".join(" ".join(page.words).split())
    for expected in ("waves <b>", "WaveLiT nano", "482,133", "machine.threads", "6:12", "13:30",
                     "21:30", "eps = 1e-07", "N - 1", "median over trajectories"):  # fmt: skip
        assert expected in words
    assert (report.parent / "figures" / "rollout-pressure.gif").exists()


def test_report_shows_the_scores_of_the_evaluation(report):
    words = Page(report.read_text(encoding="utf-8")).words
    row = next(row for row in evaluation_of().rows() if (row.steps, row.how) == ("6:12", "mean"))
    for values in row.scores.values():
        assert f"{values[0]:.4f}" in words
    assert "0.0200" in words  # one step, the model
    assert "0.2000" in words  # one step, persistence


def test_summary_says_what_is_worse():
    good, bad = summary(evaluation_of(factor=0.1)), summary(evaluation_of(factor=1.5))
    assert "better than persistence on every window" in good
    assert "first reaches 1" not in good
    assert "no better than persistence on: one step, 1:20, 6:12, 13:30, 21:30" in bad
    assert "first reaches 1, the score of the true spatial mean, at step 16" in bad
    diverging = evaluation_of(factor=0.1)
    diverging.scores["WaveLiT nano"].rollout[1, 25:] = np.inf
    assert "1 rollout of 3 diverged" in summary(diverging)
    assert "no better than persistence on: 13:30, 21:30" in summary(diverging)
