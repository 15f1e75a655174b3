"""The accuracy benchmark on a tiny set: what a run records, that nothing is run twice, that the
test split is read last.
"""

import csv
import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from wavelit.benchmarks import accuracy, baselines, protocol
from wavelit.benchmarks.accuracy import run
from wavelit.benchmarks.entries import CONTESTANTS, build
from wavelit.benchmarks.protocol import Cell, best_lr
from wavelit.cli.program import main
from wavelit.data.datamodule import WellDataModule
from wavelit.data.pocketwell import generate
from wavelit.errors import WavelitError
from wavelit.evaluation.evaluate import evaluate
from wavelit.metrics import binned_spectral_mse
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.normalizer import Normalizer
from wavelit.model.wavelit import WaveLiT
from wavelit.training.config import TrainConfig
from wavelit.training.finite import DivergedError

pytestmark = pytest.mark.slow

MAZE, INCLUSIONS = "acoustic_scattering_maze", "acoustic_scattering_inclusions"
TWIN = "patchify twin"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for system in (MAZE, INCLUSIONS):
        generate(system, "tiny", root=root, processes=1, progress=False)
    return root / "tiny"


@pytest.fixture(scope="module", autouse=True)
def short():
    with pytest.MonkeyPatch.context() as patch:
        for module in (accuracy, protocol):
            patch.setattr(module, "LR_SYSTEMS", (MAZE, INCLUSIONS))
        patch.setattr(protocol, "LEARNING_RATES", (1e-4, 4e-3))
        patch.setattr(protocol, "LR_MINUTES", 0.005)
        patch.setattr(accuracy, "RATE_TURNS", 1)
        patch.setattr(accuracy, "RATE_WARM_UP", 1)
        yield


@pytest.fixture(scope="module")
def stages(root, short, tmp_path_factory):
    """All stages of the smallest benchmark: its options and the files that it wrote, in order."""
    folder = tmp_path_factory.mktemp("stages")
    options = {
        "models": [TWIN],
        "systems": [MAZE],
        "minutes": 0.005,
        "root": root,
        "output": folder / "results",
        "weights": folder / "weights",
    }
    with pytest.raises(WavelitError, match="search patchify twin's learning rate first"):
        list(run(["final"], **options))
    return options, list(run(**options))


def test_stages_run_in_order_and_once(root, stages):
    options, paths = stages
    assert [path.name for path in paths] == [
        "rates.csv",
        *(f"{system}-{lr}.json" for system in (MAZE, INCLUSIONS) for lr in ("0.0001", "0.004")),
        f"{MAZE}-0.json",
    ]
    for path in paths[1:-1]:
        assert "test" not in json.loads(path.read_text())
    final = json.loads(paths[-1].read_text())
    assert final["lr"] == best_lr(TWIN, options["output"])
    assert final["train"]["wavelet_weight"] == 0
    assert final["samples"] == final["curve"][-1]["samples"]
    assert final["samples"] == accuracy.BATCH_SIZE * max(
        1, int(0.005 * 60e3 / final["ms_per_sample"] / accuracy.BATCH_SIZE)
    )
    # The figures are those of the weights that were kept.
    data = WellDataModule(str(root / MAZE), batch_size=accuracy.BATCH_SIZE)
    model = build(TWIN, data, 0)
    model.load_state_dict(
        load_file(options["weights"] / "0.005min" / "patchify_twin" / f"{MAZE}-0.safetensors")
    )
    scores = evaluate(model, data, "test").scores["model"]
    assert final["test"]["one_step"] == pytest.approx(scores.one_step.mean(), rel=1e-3)
    # A tiny record has fewer than twenty steps to predict.
    (first, *_) = final["test"]["rollout"].values()
    assert first == pytest.approx(scores.rollout[:, :20].mean(), rel=1e-3)
    whole = max(
        scores.rollout[:, first:last].mean((1, 2)).max()
        for first, last in ((0, 20), (5, 12), (12, 30))
        if first < 12
    )
    assert final["test"]["worst_window"] == pytest.approx(whole, rel=1e-3)
    assert final["test"]["worst"] >= final["test"]["worst_window"]
    assert final["test"]["persistence"]["one_step"] > 0
    assert final["bands"] == accuracy.band_errors(model, data)
    assert list(run(**options)) == []


@pytest.mark.slow
def test_the_search_does_without_a_test_split(root, tmp_path):
    for system in (MAZE, INCLUSIONS):
        shutil.copytree(
            root / system, tmp_path / "data" / system, ignore=shutil.ignore_patterns("test")
        )
    options = {
        "models": [TWIN],
        "systems": [MAZE],
        "root": tmp_path / "data",
        "output": tmp_path / "results",
    }
    assert len(list(run(["rates", "lr"], **options))) == 5


def test_a_result_of_other_settings_does_not_pass(stages, tmp_path):
    options, (*_, path) = stages
    shutil.copytree(options["output"], tmp_path / "results")
    path = tmp_path / "results" / path.relative_to(options["output"])
    options = options | {"output": tmp_path / "results"}
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {"lr": 1.0}))
    with pytest.raises(WavelitError, match=r"was run with lr 1.0, now lr 0.\d+ is due"):
        list(run(["final"], **options))
    path.write_text(json.dumps(result | {"train": result["train"] | {"wavelet_weight": 0.5}}))
    with pytest.raises(WavelitError, match="was run with wavelet_weight"):
        list(run(["final"], **options))


@pytest.mark.slow
def test_rates_count_in_the_reference_models_milliseconds(root, tmp_path):
    options = {"systems": [MAZE], "root": root, "output": tmp_path}
    list(run(["rates"], models=["WaveLiT"], **options))
    path = tmp_path / "rates.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["model"], row["system"]) for row in rows} == {
        ("WaveLiT", MAZE),
        ("WaveLiT", INCLUSIONS),
    }
    for row in rows:
        row["ms_per_sample"] = "1000.0"
    accuracy.write_rows(path, rows)
    list(run(["rates"], models=[TWIN], **options))
    with path.open(newline="") as file:
        twins = [row for row in csv.DictReader(file) if row["model"] == TWIN]
    assert len(twins) == 2
    for row in twins:
        ratio = float(row["measured_ms"]) / float(row["reference_ms"])
        assert float(row["ms_per_sample"]) == pytest.approx(1000 * ratio, rel=1e-2)
    assert accuracy.read_rates(tmp_path)["WaveLiT", MAZE] == 1000
    plain = "plain linear attention"
    list(run(["rates"], models=[plain], reference=TWIN, **options))
    with path.open(newline="") as file:
        rows = {row["model"]: row for row in csv.DictReader(file) if row["system"] == MAZE}
    ratio = float(rows[plain]["measured_ms"]) / float(rows[plain]["reference_ms"])
    twins = float(rows[TWIN]["ms_per_sample"])
    assert rows[plain]["reference"] == TWIN
    assert float(rows[plain]["ms_per_sample"]) == pytest.approx(twins * ratio, rel=1e-2)
    with pytest.raises(WavelitError, match="no rate of softmax twin"):
        list(run(["rates"], models=["without gate"], reference="softmax twin", **options))


@pytest.mark.slow
def test_what_diverges_is_recorded_and_what_fails_is_not(root, tmp_path, monkeypatch):
    options = {"models": [TWIN], "systems": [MAZE], "root": root, "output": tmp_path}
    list(run(["rates"], **options))

    def fail(error):
        def train(*_):
            raise error

        return train

    monkeypatch.setattr(accuracy, "_train", fail(WavelitError("unreadable")))
    with pytest.raises(WavelitError, match="unreadable"):
        list(run(["lr"], **options))
    assert not (tmp_path / "lr").exists()
    monkeypatch.setattr(accuracy, "_train", fail(DivergedError("loss is nan")))
    for path in run(["lr"], **options):
        result = json.loads(path.read_text())
        assert (result["failure"], result["valid"]["one_step"]) == ("loss is nan", None)


class Convolution(IncrementEmulator):
    """The smallest network that is no WaveLiT, with a batch normalisation."""

    def __init__(self, data):
        super().__init__()
        self.spatial = 2
        self.normalizer = Normalizer(3, 2, 0)
        self.normalizer.set_statistics(data.statistics)
        self.network = nn.Sequential(nn.BatchNorm2d(14), nn.Conv2d(14, 3, 3, padding=1))

    def increment(self, fields, constants=None, scalars=None):
        x = torch.cat(
            [self.normalizer.fields(fields).flatten(1, 2), self.normalizer.constants(constants)], 1
        )
        return self.network(x)


def test_any_network_that_predicts_the_increment_is_trained(root):
    data = WellDataModule(str(root / MAZE), batch_size=2)
    model = Convolution(data)
    before = model.network[1].weight.clone()
    accuracy._train(model, data, TrainConfig(steps=3, wavelet_weight=0.0), 0, [])
    assert not torch.equal(model.network[1].weight, before)
    # Statistics are the mean over the batches, not a moving average that still remembers its start.
    seen = [model.normalizer.constants(batch.constants) for batch in data.train_dataloader()]
    expected = torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0)
    torch.testing.assert_close(model.network[0].running_var[12:], expected)
    with pytest.raises(WavelitError, match="Convolution has no wavelet loss"):
        accuracy._train(model, data, TrainConfig(steps=3), 0, [])


def test_a_rival_can_have_the_loss_of_wavelit(root, monkeypatch):
    monkeypatch.setattr(
        baselines, "rival", lambda name, dim_in, dim_out, shape: nn.Conv2d(dim_in, dim_out, 1)
    )
    data = WellDataModule(str(root / MAZE), batch_size=2)
    plain, increments, alike = (
        build(f"CNextU-Net-0.5M{how}", data, 0)
        for how in ("", " with increments", " trained as WaveLiT")
    )
    assert (plain.increments, increments.increments, alike.increments) == (False, True, True)
    weights = [
        CONTESTANTS[f"CNextU-Net-0.5M{how}"].train
        for how in ("", " with increments", " trained as WaveLiT")
    ]
    assert [TrainConfig(steps=1, **train).wavelet_weight for train in weights] == [0.0, 0.0, 1.0]
    error = torch.randn(2, 3, *data.metadata.spatial_resolution)
    torch.testing.assert_close(
        alike.wavelet_loss(error), build("WaveLiT", data, 0).wavelet_loss(error)
    )
    before = alike.network.weight.clone()
    accuracy._train(alike, data, TrainConfig(steps=2), 0, [])
    assert not torch.equal(alike.network.weight, before)


def test_bands_share_the_error_by_wavenumber(root, monkeypatch):
    monkeypatch.setattr(accuracy, "CURVE_STRIDE", 10**6)
    data = WellDataModule(str(root / MAZE), batch_size=2)
    model = Convolution(data)
    (batch,) = accuracy._some_windows(data)
    model.eval()
    with torch.no_grad():
        following = model(batch.fields, batch.constants, batch.scalars)
    target = batch.target[:, 0]
    variance = target.double().var((2, 3)) + 1e-7
    bands = (binned_spectral_mse(following, target, 2) / variance.unsqueeze(1)).sqrt()
    expected = bands.mean((0, 2)).tolist()
    assert accuracy.band_errors(model, data) == pytest.approx(expected, rel=2e-3)


def test_wavelet_bands_are_differences_of_block_means(root, monkeypatch):
    monkeypatch.setattr(accuracy, "CURVE_STRIDE", 10**6)
    data = WellDataModule(str(root / MAZE), batch_size=2)
    model = Convolution(data).eval()
    (batch,) = accuracy._some_windows(data)
    with torch.no_grad():
        error = model(batch.fields, batch.constants, batch.scalars) - batch.target[:, 0]
    deviation = (batch.target[:, 0].double().var((2, 3)) + 1e-7).sqrt()
    means = [error]
    for size in (2, 4, 8):
        blocks = torch.nn.functional.avg_pool2d(error, size)
        means.append(torch.nn.functional.interpolate(blocks, scale_factor=size))
    parts = [means[3], *(means[j - 1] - means[j] for j in (3, 2, 1))]
    expected = [(part.square().mean((2, 3)).sqrt() / deviation).mean().item() for part in parts]
    found = accuracy.wavelet_band_errors(model, data)
    assert list(found) == ["coarser than 8 cells", *(f"details of {n} cells" for n in (8, 4, 2))]
    assert list(found.values()) == pytest.approx(expected, rel=2e-3)


def test_tables_say_what_diverged_and_what_is_missing(tmp_path, monkeypatch, load_script):
    page = load_script("accuracy")
    monkeypatch.setattr(sys.modules["accuracy_scores"], "RESULTS", tmp_path)
    assert "Nowhere, among what has been run" in page.losses()

    def write(model, system, one_step, seed=0):
        persistence = {"one_step": 0.5, "rollout": {"1:20": 1.0}, "worst_window": 2.0}
        test = {
            "one_step": one_step,
            "rollout": {"1:20": 0.2},
            "worst_window": 12.0,
            "persistence": persistence,
        }
        result = {"model": model, "system": system, "seed": seed} | (
            {} if one_step is None else {"test": test}
        )
        path = tmp_path / "5min" / model / f"{system}-{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result))

    for seed, score in enumerate((0.1, 0.3)):
        write("WaveLiT", MAZE, score, seed)
    write("WaveLiT", "shear_flow", 0.1)
    write("FNO", MAZE, 0.1)
    write("FNO", "shear_flow", None)
    write("U-Net", MAZE, 0.4)
    page.runs.cache_clear()
    assert f"- {MAZE}, one step: WaveLiT 0.2; FNO 0.1" in page.losses()
    table = page.compared(page.one_step)
    assert f"| {MAZE} | 0.2 | 0.4 | **0.1** | 0.5 |" in table
    assert "| shear_flow | **0.1** |  | ∞ | 0.5 |" in table
    # Ratios are of the one seed that both have, persistence stands beside all of them.
    assert (
        "| **WaveLiT over it, seven systems** |  | 0.25 (1 of 7) | 1.00 (1 of 7) | 0.28 (2 of 7) |"
        in table
    )
    claims = page.claims()
    assert (
        "| one step, best rival of any size | U-Net, FNO | 8 of 8 | 1 of 2 |  | 0.5 | **1.00** (2 "
        "of 7) |" in claims
    )
    assert f"| 0 of 2 |  |  | {MAZE} 12, shear_flow 12 |" in claims
    assert "- U-Net: shear_flow, gray_scott" in page.missing()
    assert f"- WaveLiT, FNO: 3 seeds on {MAZE}, shear_flow" in page.missing()
    assert f"| {MAZE} | WaveLiT | 2 | 0.1 to 0.3 | 0.2 to 0.2 |" in page.seeds()
    assert "| one step | test | 1.00 (1 of 2) |" in page.windows()
    # A rival is beaten with every seed where it has several, none of which, nor of any other rival,
    # is below any of WaveLiT's.
    write("FNO", MAZE, 0.09, 1)
    write("WaveLiT", "shear_flow", 0.12, 1)
    for seed in (0, 1):
        write("FNO", "shear_flow", 0.13, seed)
    page.runs.cache_clear()
    assert "| 8 of 8 | 1 of 2 | 1 of 2 |" in page.claims()
    write("U-Net", "shear_flow", 0.11)
    write("U-Net", "shear_flow", 0.2, 1)
    page.runs.cache_clear()
    assert "| 8 of 8 | 1 of 2 | 0 of 2 |" in page.claims()
    write("WaveLiT", MAZE, None, 2)
    page.runs.cache_clear()
    # One seed of three that diverges does not decide the median, but is told; two do.
    assert f"| {MAZE} | 0.3 |" in page.compared(page.one_step)
    assert f"| {MAZE} | WaveLiT | 3 | 0.1 to ∞ |" in page.seeds()
    assert f"| 0 of 2 |  |  | {MAZE} ∞, shear_flow 12 |" in page.claims()
    write("WaveLiT", MAZE, None, 1)
    page.runs.cache_clear()
    assert f"| {MAZE} | ∞ |" in page.compared(page.one_step)
    # What is above 10 has diverged too, and is left out of ratios.
    write("FNO", "shear_flow", 11.0, 1)
    write("FNO", "shear_flow", 12.0)
    page.runs.cache_clear()
    assert "| **WaveLiT over it, seven systems** |  | ∞ (2 of 7) | ∞ (1 of 7) |" in page.compared(
        page.one_step
    )


def test_best_lr_is_the_geometric_mean_and_skips_what_failed(tmp_path):
    for system, lr, score in (
        (MAZE, 1e-4, 0.1),
        (INCLUSIONS, 1e-4, 0.4),
        (MAZE, 4e-3, 0.01),
        (INCLUSIONS, 4e-3, None),
    ):
        path = Cell(TWIN, system, 0, protocol.LR_MINUTES, lr, "lr").path(tmp_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"valid": {"one_step": score}}))
    assert best_lr(TWIN, tmp_path) == 1e-4


def test_every_twin_is_a_wavelit_that_lacks_something(root):
    data = WellDataModule(str(root / MAZE), batch_size=2)
    whole = build("WaveLiT", data, 0)
    for name, contestant in CONTESTANTS.items():
        if contestant.rival is not None or name == "WaveLiT":
            continue
        twin = build(name, data, 0)
        assert isinstance(twin, WaveLiT)
        changed = twin.config != whole.config
        assert changed or contestant.train, name


def test_unknown_names_are_refused(capsys):
    assert main(["benchmark", "accuracy", "lr", "--models", "Transolver"]) == 2
    assert (
        "unknown model 'Transolver': expected one of WaveLiT, CNextU-Net" in capsys.readouterr().err
    )
