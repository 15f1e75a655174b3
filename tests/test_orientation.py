"""Names decide how maps are turned: latitude up, longitude to the right, in every picture."""

import json
import re

import numpy as np
import pytest

import wavelit
from wavelit.errors import WavelitError
from wavelit.evaluation import evaluate_run, figures, films, report, watch
from wavelit.evaluation.averages import Scores
from wavelit.evaluation.orientation import View, view_of
from wavelit.evaluation.player import Rollout, player
from wavelit.evaluation.scores import Evaluation


@pytest.mark.parametrize(
    ("axes", "right", "up"),
    [
        (["x", "y"], "x", "y"),
        (["y", "x"], "x", "y"),
        (["latitude", "longitude"], "longitude", "latitude"),
        (["longitude", "latitude"], "longitude", "latitude"),
        (["lat", "lon"], "lon", "lat"),
        (["Lat", "LON"], "LON", "Lat"),
        (["z", "x"], "x", "z"),
        (["x", "z"], "x", "z"),
        (["y", "z"], "y", "z"),
        (["altitude", "lat"], "lat", "altitude"),
        (["r", "theta"], "r", "theta"),
        (["r", "x"], "x", "r"),
        (["lat", "r"], "r", "lat"),
        (["y", "r"], "y", "r"),
        (["x", "y", "z"], "x", "y"),
        (["z", "y", "x"], "x", "y"),
        (["level", "lat", "lon"], "lon", "lat"),
        (["lat", "lon", "level"], "lon", "lat"),
        (["a", "b", "c"], "a", "b"),
        (["x", "b", "c"], "x", "b"),
    ],
)
def test_names_decide(axes, right, up):
    view = view_of(axes)
    assert (axes[view.right], axes[view.up]) == (right, up)


def test_an_option_overrides():
    axes = ["lat", "lon", "level"]
    assert view_of(axes, "lat,level") == View(0, 2)
    assert view_of(axes, ("lat", "lon")).cut == 2
    for wrong in ("lat", "lat,lat", "lat,time", "lat,lon,level", ["lat", 3], 7):
        with pytest.raises(WavelitError, match=r"orientation|names"):
            view_of(axes, wrong)


@pytest.mark.parametrize("grid", [(3, 4), (3, 4, 5)])
@pytest.mark.parametrize("axes", ["yx", "xy"])
def test_an_image_is_the_plane_right_side_up(grid, axes):
    states = np.random.default_rng(0).normal(size=(2, *grid))
    image = view_of([*axes, "level"][: len(grid)]).plane(states)
    middle = states if len(grid) == 2 else states[..., 2]
    assert np.array_equal(image, middle if axes == "yx" else middle.swapaxes(1, 2))
    volume = np.random.default_rng(0).normal(size=(2, 5, 3, 4))
    assert np.array_equal(view_of(["z", "y", "x"]).plane(volume), volume[:, 2])


def earth(n_steps=3):
    """Latitude (6) by longitude (10), warm in the north, which is the last row."""
    north = np.linspace(0, 1, 6)[:, None] * np.ones(10)
    return np.stack([north * (1 + 0.1 * t) for t in range(n_steps)])[:, None]


def test_every_picture_has_latitude_up(tmp_path):
    truth, view = earth(), view_of(["latitude", "longitude"])
    figure = figures.rollout_figure(truth, 0.9 * truth, ["t"], steps=[1], view=view)
    image = figure.subfigs[0].axes[0].images[0]
    assert image.get_array().shape == (6, 10)
    assert image.origin == "lower"
    assert np.array_equal(image.get_array(), truth[0, 0])
    turned = figures.rollout_figure(truth, 0.9 * truth, ["t"], steps=[1])
    assert turned.subfigs[0].axes[0].images[0].get_array().shape == (10, 6)
    frames = films.animation(tmp_path / "film.gif", truth, 0.9 * truth, ["t"], view=view)
    assert frames.gif.exists()
    curve = np.full((2, 3, 1), 0.5)
    scores = {name: Scores(curve[:, 0], curve) for name in ("m", "persistence")}
    evaluation = Evaluation("earth", "test", "m", ("t",), 1, 1, scores)
    rollout = Rollout("0", truth, {"m": truth})
    contents = json.loads(player([rollout], ["t"], evaluation, view=view).contents)
    assert (contents["height"], contents["width"]) == (6, 10)


def test_a_dataset_with_latitude_is_drawn_with_latitude_up(tmp_path, monkeypatch):
    """From files to the report, the rollout's pictures and TensorBoard's."""
    rng = np.random.default_rng(0)
    u = rng.normal(size=(5, 9, 8, 16)).cumsum(1)
    folder = wavelit.write_dataset(
        tmp_path / "earth",
        {"t": u, "s": -u},
        splits={"train": 3, "valid": 1, "test": 1},
        name="earth",
        boundary_conditions=["wall", "periodic"],
        coordinates={"latitude": np.linspace(-70, 70, 8), "longitude": 22.5 * np.arange(16)},
    )
    seen = []
    for module in (evaluate_run, report, watch):

        def spy(*args, drawn=module.rollout_figure, **options):
            seen.append(options["view"])
            return drawn(*args, **options)

        monkeypatch.setattr(module, "rollout_figure", spy)
    wavelit.fit(tmp_path / "run", folder, steps=1, validate_every=1)
    out = tmp_path / "elsewhere"
    wavelit.evaluate(tmp_path / "run", field=["t", "s"], out=out)
    paths = wavelit.record_rollout(tmp_path / "run", field=["s", "t", "s"], out=out)
    assert set(seen) == {View(1, 0)}
    assert len(seen) == 5
    # Fields stand beside one another, and the run folder is left as it was.
    names = {path.name for path in paths}
    assert names >= {f"rollout-valid-0-{f}.{e}" for f in "st" for e in ("png", "gif")}
    assert "rollout-valid-0.hdf5" in names
    assert not list((tmp_path / "run").glob("rollout*"))
    assert not list((tmp_path / "run").glob("evaluation*"))
    pictures = {path.name for path in (out / "figures").iterdir()}
    assert pictures >= {"valid-0-t.png", "valid-0-s.gif", "training.png"}
    text = (out / "report-valid.html").read_text()
    contents = json.loads(re.search(r'id="contents">(.*?)</script>', text).group(1))
    assert (contents["height"], contents["width"]) == (8, 16)
    for expected in ("embed_dim", "linear stencil", "foundation model of many systems"):
        assert expected in text
