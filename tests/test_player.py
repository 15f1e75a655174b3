"""The data of a report's player: eight bits are as near as they say, blocks hold what they should,
a page stays small, and no name leaves its place.
"""

import base64
import hashlib
import json
import re
import zlib

import numpy as np
import pytest

from test_pictures import HOSTILE, KINDS, scores_of, spoilt
from test_report import evaluation_of, wave
from wavelit.errors import WavelitError, printable
from wavelit.evaluation import page as pages
from wavelit.evaluation.curves import band_errors, band_labels, shells, spectra, vrmse_over_time
from wavelit.evaluation.player import Rollout, player, script_json
from wavelit.evaluation.ranges import (
    ABOVE,
    BELOW,
    EMPTY,
    Range,
    error_range,
    quantised,
    restored,
    value_range,
)
from wavelit.evaluation.reduction import Extent, keep
from wavelit.evaluation.report import write_report

NAMES = ["pressure", "density"]


def played(truth, prediction, evaluation=None, valid=None, names=NAMES, **options):
    evaluation = evaluation or evaluation_of(len(truth), names=names)
    rollouts = [Rollout("trajectory 0", truth, {evaluation.model: prediction}, valid)]
    return player(rollouts, names, evaluation, **options)


def images_of(made, key="0-0"):
    """Codes (images, steps, H, W) and ranges of a field, as the page's script reads them."""
    contents = json.loads(made.contents)
    differences = np.frombuffer(
        zlib.decompress(base64.b64decode(made.blocks[f"images-{key}"])), "u1"
    )
    codes = np.cumsum(differences, dtype=np.uint8)
    shape = -1, len(contents["steps"]), contents["height"], contents["width"]
    trajectory, field = map(int, key.split("-"))
    ranges = contents["ranges"][trajectory][field]
    value, error = (
        Range(r["low"], r["high"], r["map"]) for r in (ranges["value"], ranges["error"])
    )
    return codes.reshape(shape), value, error


@pytest.mark.parametrize(
    ("low", "high"), [(-1.0, 1.0), (3.0, 3.001), (0.0, 1e300), (-1e308, 1e308)]
)
def test_eight_bits_are_as_near_as_they_say(low, high):
    within = Range(low, high, "viridis")
    values = np.linspace(0, 1, 5001)
    values = low * (1 - values) + high * values
    back = restored(quantised(values, within), within)
    assert np.abs(back / 2 - values / 2).max() <= within.half_step / 2 * 1.01
    assert back[0] == low
    assert back[-1] == high


def test_what_has_no_level_is_marked():
    codes = quantised(np.array([np.nan, np.inf, -1.1, 1.1, 1.0, -1.0]), Range(-1.0, 1.0, "x"))
    assert codes.tolist() == [EMPTY, EMPTY, BELOW, ABOVE, 254, 2]


def test_a_range_is_widened_to_extremes_that_are_near_and_to_no_others():
    smooth = np.sin(np.linspace(0, 20, 10_000))
    within = value_range(smooth)
    assert within.high == np.abs(smooth).max() == -within.low
    within = value_range(np.append(smooth, 50.0))
    assert within.high < 1.01
    assert value_range(np.full(9, np.nan)).high == 1.0
    constant = value_range(np.full(9, 1e30))
    assert constant.low < 1e30 < constant.high
    # A prediction that blows up leaves the errors of a good one in sight.
    errors = error_range([np.full(100, 0.1), np.full(100, 1e30)], Range(0.0, 1.0, "x"))
    assert errors.high == 2.0


def test_images_are_the_fields_with_the_second_axis_up():
    truth, prediction = wave(6, 20, 16)
    codes, value, error = images_of(played(truth, prediction))
    assert codes.shape == (3, 6, 16, 20)
    for image, states, within in zip(
        codes, (truth, prediction, prediction - truth), (value, value, error), strict=True
    ):
        expected = np.swapaxes(states[:, 0], 1, 2)
        shown = image > BELOW
        assert shown.mean() > 0.98
        off = np.abs(restored(image, within) - expected)[shown & (image < ABOVE)]
        assert off.max() <= 1.01 * within.half_step


def test_masked_and_infinite_cells_have_no_value():
    truth, prediction = wave(4, 20, 16)
    valid = np.ones((20, 16), bool)
    valid[3, 5] = False
    truth[..., 3, 5] = np.nan
    prediction[2] = np.inf
    codes, *_ = images_of(played(truth, prediction, valid=valid))
    assert (codes[:, :, 5, 3] == EMPTY).all()
    assert (codes[1:, 2] == EMPTY).all()
    assert (codes[0] == EMPTY).sum() == 4


@pytest.mark.parametrize("kind", KINDS)
def test_odd_data_become_a_page(kind, tmp_path):
    truth, prediction, valid = spoilt(kind)
    made = played(truth, prediction, valid=valid)
    codes, value, error = images_of(made)
    assert np.isfinite([value.low, value.high, error.low, error.high]).all()
    assert value.low < value.high
    assert error.low < error.high
    if kind == "never finite":
        assert (codes[1:] == EMPTY).all()
    if kind == "all masked":
        assert (codes == EMPTY).all()


@pytest.mark.parametrize("grid", [(37,), (20, 16), (9, 7, 6)])
def test_curves_add_up(grid):
    truth, prediction = (states[:, 0] for states in wave(5, *grid))
    score = vrmse_over_time(prediction, truth, None)
    error = ((prediction - truth).astype(float) ** 2).reshape(5, -1).mean(1)
    variance = truth.astype(float).reshape(5, -1).var(1, ddof=1)
    np.testing.assert_allclose(score, np.sqrt(error / (variance + 1e-7)))
    bands = band_errors(prediction, truth, None, score)
    assert len(bands) == len(band_labels(grid))
    np.testing.assert_allclose((bands**2).sum(0), score**2)
    energy = spectra(truth, None)
    assert energy.shape == (5, len(shells(grid)))
    assert len(shells((4096,))) <= 64


def test_checkerboards_are_in_the_finest_band():
    truth = np.zeros((1, 8, 8))
    board = np.indices((8, 8)).sum(0)[None] % 2 * 2.0 - 1.0
    bands = band_errors(board, truth, None, np.ones(1))
    np.testing.assert_allclose(bands[:, 0], [0, 0, 0, 1])


def test_a_diverged_rollout_scores_infinity():
    truth, prediction = (states[:, 0] for states in wave(5, 8, 8))
    prediction[3:] = np.nan
    score = vrmse_over_time(prediction, truth, None)
    assert np.isfinite(score[:3]).all()
    assert np.isinf(score[3:]).all()
    assert np.isnan(band_errors(prediction, truth, None, score)[:, 3:]).all()
    assert np.isnan(spectra(prediction, None)[3:]).all()


@pytest.mark.parametrize(
    "extent",
    [
        Extent(4, 200, 2000, 512, 512, 1, 200),
        Extent(1, 1, 2000, 1, 100_000, 6, 200),
        Extent(4, 3, 10, 16, 16, 2, 30),
    ],
)
def test_what_is_kept_fits_and_what_is_left_out_is_said(extent):
    budget = 30_000_000
    kept = keep(extent, budget)
    assert kept.size(extent) <= budget
    assert kept.steps(extent)[0] == 0
    assert kept.steps(extent)[-1] == extent.steps - 1
    left_out = [kept.trajectories < extent.trajectories, kept.fields < extent.fields,
                kept.step > 1, kept.cell > 1]  # fmt: skip
    assert len(kept.notes(extent)) == sum(left_out)


def test_noise_of_many_fields_and_steps_stays_within_the_bound():
    names = [f"field_{n}" for n in range(40)]
    truth = np.random.default_rng(0).normal(size=(50, 40, 24, 24)).astype(np.float32)
    made = played(truth, truth[::-1], names=names, max_bytes=300_000)
    assert made.size <= 300_000
    text = " ".join(made.notes)
    assert "eight bits" in text
    assert re.search(r"first \d+ of 40 fields", text)
    with pytest.raises(WavelitError, match="one step fits into 100 bytes"):
        played(truth, truth, names=names, max_bytes=100)


def test_a_page_that_would_be_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "MAX_PAGE", 100_000)
    truth, prediction = wave(5, 8, 8)
    with pytest.raises(WavelitError, match="report of at most") as caught:
        write_report(
            tmp_path / "a.html", evaluation_of(5), truth=truth, prediction=prediction, run_info={}
        )
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "a.html").exists()


def test_json_in_a_script_ends_neither_it_nor_a_line():
    text = script_json(["</script><!--", "&amp;", "\u2028\u2029", "ä"])
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text) == ["</script><!--", "&amp;", "\u2028\u2029", "ä"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json(float("nan"))


def test_names_stay_text_and_the_script_is_the_one_that_is_allowed(tmp_path):
    names = (*HOSTILE, "</script><script>alert(1)</script>")
    truth = np.random.default_rng(0).normal(size=(3, len(names), 8, 8))
    evaluation = scores_of(names, 3, model="a</script>&")
    path = write_report(
        tmp_path / "a.html", evaluation, truth=truth, prediction=truth, run_info={"</script>": "<"}
    )
    text = path.read_text(encoding="utf-8")
    contents = re.search(r'id="contents">(.*?)</script>', text).group(1)
    assert json.loads(contents)["fields"] == [printable(name, 80) for name in names]
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text


def test_rollouts_that_do_not_fit_are_named():
    truth, prediction = wave(5, 8, 8)
    evaluation = evaluation_of(5)
    whole = Rollout("a", truth, {"m": prediction})
    for others, message in (
        ([Rollout("b", truth[:4], {"m": prediction[:4]})], "one shape"),
        ([Rollout("b", truth, {"n": prediction})], "same runs"),
        ([Rollout("b", truth, {"m": prediction[:2]})], "one shape"),
    ):
        with pytest.raises(WavelitError, match=message):
            player([whole, *others], NAMES, evaluation)
    for wrong in ([], [Rollout("a", truth, {})]):
        with pytest.raises(WavelitError, match="1 to 6 runs"):
            player(wrong, NAMES, evaluation)
