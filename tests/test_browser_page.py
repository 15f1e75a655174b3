"""The page of examples/browser: a rollout in a real browser is the rollout here."""

import functools
import http.server
import importlib.util
import shutil
import threading
from pathlib import Path

import pytest

import wavelit
from wavelit.data.pocketwell import SYSTEMS
from wavelit.metrics import vrmse

FOLDER = Path(__file__).parents[1] / "examples/browser"
STEPS = 5


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("build", FOLDER / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_says_what_is_to_be_installed(example, tmp_path, monkeypatch):
    monkeypatch.setattr(example, "RUNTIME", tmp_path)
    with pytest.raises(SystemExit, match=r"ort.wasm.min.mjs is not there: npm install"):
        example.build("rayleigh_benard", str(tmp_path / "site"))
    assert not (tmp_path / "site").exists()


@pytest.fixture(params=["rayleigh_benard", "helmholtz_staircase"])
def served(example, tmp_path, request):
    """Address, model and trajectory of a page: of a model with scalars, and of one with a mask."""
    system = request.param
    if not example.RUNTIME.exists():
        pytest.skip(f"npm install --prefix {FOLDER}")
    folder = example.build(system, str(tmp_path / "site"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mask_field = SYSTEMS[system].mask_field
        data = wavelit.WellDataModule(str(tmp_path / f"site-{system}"), mask_field=mask_field)
        batch = next(iter(data.trajectories("valid", batch_size=1)))
        yield f"http://127.0.0.1:{server.server_port}/", wavelit.load(system), batch
        server.shutdown()


# Needs the packages of examples/browser/package.json, chromium and playwright.
@pytest.mark.slow
def test_rolls_out_as_here(served):
    playwright = pytest.importorskip("playwright.sync_api")
    address, model, batch = served
    states = wavelit.rollout(model, batch.fields, STEPS, *batch.beside(), valid=batch.valid)
    truth = batch.target[:, STEPS - 1]
    expected = vrmse(states[:, -1], truth, 2, valid=batch.valid).mean().item()
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        complaints = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#step:enabled")
        for step in range(1, STEPS + 1):
            page.click("#step")
            page.wait_for_function(f"document.body.dataset.steps === '{step}'")
        assert float(page.evaluate("document.body.dataset.vrmse")) == pytest.approx(
            expected, rel=1e-3
        )
        for _ in range(2):
            page.click("#play")
        shown = int(page.evaluate("document.body.dataset.steps"))
        page.wait_for_timeout(300)
        assert int(page.evaluate("document.body.dataset.steps")) <= shown + 1
        page.select_option("#field", index=1)
        page.click("#prediction")
        page.wait_for_function("document.body.innerText.includes('a bump that')")
        assert page.inner_text("#play") == "Play"
        page.click("#restart")
        page.wait_for_function("document.body.dataset.steps === '0'")
        assert (complaints, page.inner_text("#error")) == ([], "")
        browser.close()
