"""The page of examples/browser: a rollout in a real browser is the rollout here."""

import functools
import http.server
import importlib.util
import shutil
import threading
from pathlib import Path

import pytest

import wavelit
from wavelit.data.pocketwell import generate_one
from wavelit.metrics import vrmse

FOLDER = Path(__file__).parents[1] / "examples/browser"
SYSTEM, STEPS = "rayleigh_benard", 5


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("build", FOLDER / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_says_what_is_to_be_installed(example, tmp_path, monkeypatch):
    monkeypatch.setattr(example, "RUNTIME", tmp_path)
    with pytest.raises(SystemExit, match=r"ort.wasm.min.mjs is not there: npm install --prefix"):
        example.build(SYSTEM, "nowhere", str(tmp_path / "site"))
    assert not (tmp_path / "site").exists()


@pytest.fixture
def served(example, tmp_path):
    """Address, model and trajectory of a page of a model with scalars and constants of no kind."""
    if not example.RUNTIME.exists():
        pytest.skip(f"npm install --prefix {FOLDER}")
    dataset = generate_one(SYSTEM, tmp_path / "data", "small")
    folder = example.build(SYSTEM, str(dataset), str(tmp_path / "site"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        data = wavelit.WellDataModule(str(dataset))
        batch = next(iter(data.trajectories("valid", batch_size=1)))
        yield f"http://127.0.0.1:{server.server_port}/", wavelit.load(SYSTEM), batch
        server.shutdown()


# Needs the packages of examples/browser/package.json, chromium and playwright.
@pytest.mark.slow
def test_rolls_out_as_here(served):
    playwright = pytest.importorskip("playwright.sync_api")
    address, model, batch = served
    states = wavelit.rollout(model, batch.fields, STEPS, *batch.beside())
    expected = vrmse(states[:, -1], batch.target[:, STEPS - 1], 2).mean().item()
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
        page.select_option("#field", label="velocity_x")
        page.click("#prediction")
        assert "no truth" in page.inner_text("#state")
        page.click("#restart")
        page.wait_for_function("document.body.dataset.steps === '0'")
        assert (complaints, page.inner_text("#error")) == ([], "")
        browser.close()
