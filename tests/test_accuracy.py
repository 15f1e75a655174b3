"""The accuracy benchmark on a tiny set: what a run records, that nothing is run twice, that the test split is read last."""

import json

import pytest
from safetensors.torch import load_file

from wavelit.benchmarks import accuracy
from wavelit.benchmarks.accuracy import Cell, best_lr, run
from wavelit.benchmarks.contestants import CONTESTANTS, build
from wavelit.cli import main
from wavelit.data.pocketwell import generate
from wavelit.data.well import WellDataModule
from wavelit.errors import WavelitError
from wavelit.evaluate import evaluate
from wavelit.model import WaveLiT

MAZE, INCLUSIONS = "acoustic_scattering_maze", "acoustic_scattering_inclusions"
TWIN = "patchify twin"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for system in (MAZE, INCLUSIONS):
        generate(system, "tiny", root=root, processes=1, progress=False)
    return root / "tiny"


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(accuracy, "LR_SYSTEMS", (MAZE, INCLUSIONS))
    monkeypatch.setattr(accuracy, "LEARNING_RATES", (1e-4, 4e-3))
    monkeypatch.setattr(accuracy, "LR_MINUTES", 0.005)
    monkeypatch.setattr(accuracy, "RATE_STEPS", 1)


def test_stages_run_in_order_and_once(root, tmp_path):
    options = {
        "models": [TWIN],
        "systems": [MAZE],
        "minutes": 0.005,
        "root": root,
        "output": tmp_path / "results",
        "weights": tmp_path / "weights",
    }
    with pytest.raises(WavelitError, match="search patchify twin's learning rate first"):
        list(run(["final"], **options))
    paths = list(run(**options))
    assert [path.name for path in paths] == [
        "rates.csv",
        *(f"{system}-{lr}.json" for system in (MAZE, INCLUSIONS) for lr in ("0.0001", "0.004")),
        f"{MAZE}-0.json",
    ]
    for path in paths[1:-1]:
        assert "test" not in json.loads(path.read_text())
    final = json.loads(paths[-1].read_text())
    assert final["lr"] == best_lr(TWIN, tmp_path / "results")
    assert final["train"]["wavelet_weight"] == 0
    assert final["samples"] == final["curve"][-1]["samples"]
    assert final["samples"] == accuracy.BATCH_SIZE * max(
        1, int(0.005 * 60e3 / final["ms_per_sample"] / accuracy.BATCH_SIZE)
    )
    # The figures are those of the weights that were kept.
    data = WellDataModule(str(root / MAZE), batch_size=accuracy.BATCH_SIZE)
    model = build(TWIN, data, 0)
    model.load_state_dict(
        load_file(tmp_path / "weights" / "0.005min" / "patchify_twin" / f"{MAZE}-0.safetensors")
    )
    scores = evaluate(model, data, "test").scores["model"]
    assert final["test"]["one_step"] == pytest.approx(scores.one_step.mean(), rel=1e-3)
    # A tiny record has fewer than twenty steps to predict.
    (first, *_) = final["test"]["rollout"].values()
    assert first == pytest.approx(scores.rollout[:, :20].mean(), rel=1e-3)
    assert final["test"]["persistence"]["one_step"] > 0
    assert list(run(**options)) == []


def test_best_lr_is_the_geometric_mean_and_skips_what_failed(tmp_path):
    for system, lr, score in (
        (MAZE, 1e-4, 0.1),
        (INCLUSIONS, 1e-4, 0.4),
        (MAZE, 4e-3, 0.01),
        (INCLUSIONS, 4e-3, None),
    ):
        path = Cell(TWIN, system, 0, accuracy.LR_MINUTES, lr, "lr").path(tmp_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"valid": {"one_step": score}}))
    assert best_lr(TWIN, tmp_path) == 1e-4


def test_every_twin_is_a_wavelit_that_lacks_something(root):
    data = WellDataModule(str(root / MAZE), batch_size=2)
    whole = build("WaveLiT", data, 0)
    for name, contestant in CONTESTANTS.items():
        if contestant.model is None or name == "WaveLiT":
            continue
        twin = build(name, data, 0)
        assert isinstance(twin, WaveLiT)
        changed = twin.config != whole.config
        assert changed or contestant.train, name


def test_unknown_names_are_refused(capsys):
    assert main(["benchmark", "accuracy", "lr", "--models", "Transolver"]) == 2
    assert "unknown model 'Transolver': expected one of WaveLiT, CNextU-Net" in capsys.readouterr().err
