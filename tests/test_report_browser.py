"""The report in a browser: it plays, steps and scrubs by mouse and keys, asks nothing of a
network, and fits a phone.
"""

import re
import shutil

import numpy as np
import pytest

from test_report import evaluation_of, wave
from wavelit.evaluation.evaluate import Evaluation, Scores
from wavelit.evaluation.page import write_page
from wavelit.evaluation.player import Rollout, player
from wavelit.evaluation.report import write_report

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install 'wavelit[browser]'"
)
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.long,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]

STEPS = 12


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        # The sandbox needs rights that containers do not give.
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def named(steps, names, runs=("WaveLiT nano",)):
    """Scores of these runs and of persistence."""
    held = evaluation_of(steps, names=names).scores["persistence"]
    scores = {run: Scores(0.1 * held.one_step, 0.1 * held.rollout) for run in runs}
    scores["persistence"] = held
    return Evaluation(
        "waves & <b>", "test", runs[0], names, 4, 4, scores, time_step=(0.25, 0.25), time_unit="s"
    )


@pytest.fixture(scope="module")
def page_of(tmp_path_factory):
    """Write the report of a rollout into a folder of its own."""

    def write(truth, prediction, names=("pressure", "<i>&density"), **options):
        folder = tmp_path_factory.mktemp("page")
        return write_report(
            folder / "report.html",
            named(len(truth), names),
            truth=truth,
            prediction=prediction,
            run_info={},
            **options,
        )

    return write


@pytest.fixture(scope="module")
def report(page_of):
    truth, prediction = wave(STEPS, 20, 16)
    both = [
        Rollout(f"trajectory {n}", sign * truth, {"WaveLiT nano": sign * prediction})
        for n, sign in enumerate((1, -1))
    ]
    return page_of(truth, prediction, rollouts=both)


@pytest.fixture
def opened(browser):
    """Open a page, and at the end look at what it asked for and complained about."""
    contexts, asked, said = [], [], []

    def opening(path, width=1200, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_selector("#player[data-ready]")
        return page

    yield opening
    for context in contexts:
        context.close()
    assert said == []
    assert len(asked) == len(contexts)
    assert all(url.startswith("file:") for url in asked)


def pixel(page, panel, x, y):
    """Red, green and blue of a cell, y counted from below."""
    script = """([panel, x, y]) => {
        const canvas = document.getElementById(`panel-${panel}`);
        return [...canvas.getContext("2d").getImageData(x, canvas.height - 1 - y, 1, 1).data];
    }"""
    return page.evaluate(script, [panel, x, y])[:3]


def scrub(page, index):
    page.locator("#step").evaluate(
        "(slider, i) => { slider.value = i; slider.dispatchEvent(new Event('input')); }", index
    )


def step(page):
    return int(re.match(r"step (\d+) of", page.locator("#shown").inner_text()).group(1))


def test_the_slider_shows_its_step(opened, report):
    page = opened(report)
    assert step(page) == 1
    assert page.locator("#shown").inner_text() == "step 1 of 12, after 0.25 s"
    red = pixel(page, 0, 0, 0)  # cos(0) = 1, the upper end of the map
    assert red[0] > 80 > red[2]
    # The wave travels two cells of phase: what stood at the corner has moved on.
    scrub(page, 11)
    assert step(page) == 12
    assert pixel(page, 0, 0, 0) != red
    page.locator("#step").scroll_into_view_if_needed()
    box = page.locator("#step").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert 5 <= step(page) <= 8


def test_cells_are_drawn_where_and_as_they_are(opened, report):
    page = opened(report)
    truth, prediction = wave(STEPS, 20, 16)
    page.locator("#panel-0").scroll_into_view_if_needed()
    scrub(page, 4)
    box = page.locator("#panel-1").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 3.5 / 20, box["y"] + box["height"] * (1 - 5.5 / 16))
    text = page.locator("#cell").inner_text().replace("−", "-")
    assert text.startswith("Cell (3, 5)")
    read = [float(re.search(rf"{name} (\S+)", text).group(1)) for name in
            ("truth", "prediction", "error")]  # fmt: skip
    u, v = prediction[4, 0, 3, 5], truth[4, 0, 3, 5]
    np.testing.assert_allclose(read, [v, u, u - v], atol=0.006)


def test_keys_step_and_play(opened, report):
    page = opened(report)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert step(page) == 3
    page.keyboard.press("ArrowLeft")
    assert step(page) == 2
    page.locator("#step").focus()
    page.keyboard.press("ArrowRight")
    assert step(page) == 3
    page.keyboard.press("End")
    assert step(page) == STEPS
    page.locator("#speed").select_option("16")
    page.locator("#step").focus()
    page.keyboard.press(" ")
    assert page.locator("#play").inner_text() == "Pause"
    # It begins anew, and stops at the end.
    playwright.expect(page.locator("#shown")).not_to_have_text("step 12 of 12, after 3 s")
    playwright.expect(page.locator("#play")).to_have_text("Play")
    assert step(page) == STEPS
    page.locator("#play").focus()
    page.keyboard.press(" ")
    assert page.locator("#play").inner_text() == "Pause"
    page.keyboard.press(" ")
    assert page.locator("#play").inner_text() == "Play"


def test_another_field_and_trajectory_are_drawn(opened, report):
    page = opened(report)
    before = pixel(page, 0, 0, 0)
    page.locator("#trajectory").select_option(label="trajectory 1")
    page.wait_for_selector('#player[data-ready="1-0"]')
    other = pixel(page, 0, 0, 0)
    assert other[2] > other[0]
    assert before[0] > before[2]
    page.locator("#field").select_option(label="<i>&density")
    page.wait_for_selector('#player[data-ready="1-1"]')
    assert pixel(page, 0, 0, 0) not in (before, other)
    assert "<i>&density" in page.locator("#bars").inner_text()
    assert page.locator("#panel-0").get_attribute("aria-label") == "truth of <i>&density at step 1"


def test_charts_read_the_value_under_the_pointer(opened, report):
    page = opened(report)
    page.locator("#vrmse").scroll_into_view_if_needed()
    scrub(page, 2)
    assert page.locator("#vrmse-values").inner_text().startswith("Step 3: WaveLiT nano 0.")
    box = page.locator("#vrmse").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 11, box["y"] + 40)
    text = page.locator("#vrmse-values").inner_text()
    assert re.match(rf"Step {STEPS}: WaveLiT nano 0\.\d+ · persistence 1\.2", text)
    page.mouse.click(box["x"] + box["width"] - 11, box["y"] + 40)
    assert step(page) == STEPS
    assert page.locator("#bands-values").inner_text().count("cells") == 4
    box = page.locator("#spectrum").bounding_box()
    page.mouse.move(box["x"] + 58, box["y"] + 40)
    assert page.locator("#spectrum-values").inner_text().startswith("Wavenumber 1: truth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_one_way(opened, report, scheme):
    page = opened(report, width=360, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#panel-2").bounding_box()["width"] > 100
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    levels = [int(level) for level in re.findall(r"\d+", background)]
    assert max(levels) < 60 if scheme == "dark" else min(levels) > 200
    # The text of a chart is drawn in the colours of the scheme.
    ink = page.evaluate("cssColour('--ink')")
    assert (int(ink[1:3], 16) > 128) == (scheme == "dark")


@pytest.mark.parametrize("kind", ["line", "volume", "diverged", "one step"])
def test_odd_rollouts_are_played(opened, page_of, kind):
    grid = {"line": (64,), "volume": (10, 8, 6)}.get(kind, (16, 16))
    truth, prediction = wave(1 if kind == "one step" else 6, *grid)
    valid = None
    if kind == "diverged":
        prediction[2] *= 1e20
        prediction[3:] = np.nan
        valid = np.ones(grid, bool)
        valid[:4, :4] = False
    page = opened(page_of(truth, prediction, valid=valid), width=360)
    scrub(page, 5)
    assert step(page) == len(truth)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    if kind == "diverged":
        assert "no finite value" in page.locator("#panels").inner_text()
        assert pixel(page, 1, 8, 8) == pixel(page, 0, 0, 0) == [0xBB] * 3
        assert "∞" in page.locator("#vrmse-values").inner_text()
        scrub(page, 2)
        assert pixel(page, 1, 8, 8) in ([0x00, 0xE5, 0xFF], [0xFF, 0x2E, 0xE6])
    if kind == "volume":
        assert "middle slice" in page.locator("#player ul").inner_text()
    if kind == "line":
        assert page.locator("#panel-0").bounding_box()["height"] > 60


def test_runs_stand_side_by_side(opened, tmp_path):
    truth, prediction = wave(6, 20, 16)
    runs = ("one", "two & <b>", "three")
    evaluation = named(6, ("pressure", "density"), runs)
    predictions = {run: (1 + 0.1 * n) * prediction for n, run in enumerate(runs)}
    made = player([Rollout("trajectory 0", truth, predictions)], evaluation.field_names, evaluation)
    path = write_page(
        tmp_path / "a.html",
        evaluation,
        runs=runs,
        summary="",
        player=made,
        settings={},
    )
    page = opened(path)
    assert page.locator("#panels canvas[id]").count() == 7
    tops = [page.locator(f"#panel-{n}").bounding_box() for n in range(7)]
    assert len({box["y"] for box in tops[:4]}) == 1
    # An error stands below its prediction.
    assert [box["x"] for box in tops[1:4]] == [box["x"] for box in tops[4:]]
    page.locator("#run").select_option(label="two & <b>")
    assert "prediction of two & <b>" in page.locator("#panels").inner_text()


def test_a_damaged_page_says_so(browser, report, tmp_path):
    text = report.read_text(encoding="utf-8")
    path = tmp_path / "damaged.html"
    path.write_text(re.sub(r'(id="images-0-0">).{40}', r"\1", text), encoding="utf-8")
    context = browser.new_context()
    page = context.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("#message:visible")
    assert "damaged" in page.locator("#message").inner_text()
    assert not page.locator("#stage").is_visible()
    context.close()
