"""The second protocol: which learning rates are tried, what a result must be, that a run that was
cut ends as it would have.
"""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from systems import write_system
from wavelit.benchmarks import entries, second
from wavelit.benchmarks.entries import EVERYONE, FIRST, PAPER, SECOND, Contestant
from wavelit.benchmarks.protocol import train_config
from wavelit.benchmarks.second import best_rate, fingerprint, next_rate, run
from wavelit.cli.program import main
from wavelit.errors import WavelitError
from wavelit.files.plain import read_json
from wavelit.model.config import WaveLiTConfig
from wavelit.training.config import TrainConfig

NAMES = ("waves", "flow")
TWIN = "convolution twin"
RESULTS = Path("results/accuracy2")


def test_a_search_ends_where_the_best_has_worse_neighbours():
    error = {lr: abs(math.log(lr / 2.1e-3)) for lr in (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)}
    tried = {}
    while (lr := next_rate(tried)) is not None:
        tried[lr] = error[lr]
    assert sorted(tried) == [1e-3, 2e-3, 4e-3, 8e-3]
    assert next_rate({8e-3: math.inf, 4e-3: math.inf}) == 2e-3
    # It ends somewhere, even if nothing can be trained.
    tried = {}
    while (lr := next_rate(tried)) is not None:
        tried[lr] = math.inf
    assert len(tried) < 30


def test_the_row_of_the_paper_is_its_preset_and_has_the_four_additions_once():
    def config(preset, changes):
        return WaveLiTConfig.preset(preset, n_fields=1, **changes)

    assert config(FIRST, EVERYONE["paper"].model) == config("paper", {})
    additions = {"detail_dim": 24, "history": "increments", "conserve": True}
    assert config(FIRST, EVERYONE["paper with additions"].model) == config("paper", additions)
    noise = [EVERYONE[name].own("", "train")["noise"] for name in PAPER]
    assert noise == [0.0, 0.06]


def test_a_hash_is_that_of_architecture_and_recipe(monkeypatch):
    assert fingerprint("WaveLiT 0.1") == fingerprint("WaveLiT")
    known = {name: fingerprint(name) for name in SECOND}
    assert len(set(known.values())) == len(SECOND)
    for changed in (
        Contestant({"mixers": "conv:7", "depth": 4}),
        Contestant({"mixers": "conv:7"}, train={"noise": 0.0}),
        Contestant({"mixers": "conv:7"}, batch_size=2),
    ):
        monkeypatch.setitem(entries.EVERYONE, TWIN, changed)
        assert fingerprint(TWIN) != known[TWIN]


def test_the_second_recipe_is_the_default_and_the_first_stays():
    """What is claimed of WaveLiT 0.2 is what `wavelit train` gives; a later default changes no
    committed result.
    """

    def built(name):
        return WaveLiTConfig.preset(FIRST, n_fields=1, **EVERYONE[name].model)

    def recipe(name):
        return train_config(name, steps=1)

    assert built("WaveLiT 0.2") == WaveLiTConfig.preset("nano", n_fields=1)
    lr = best_rate("WaveLiT 0.2", RESULTS)
    assert dataclasses.replace(recipe("WaveLiT 0.2"), lr=lr) == TrainConfig(steps=1)
    for name in ("WaveLiT 0.1", "WaveLiT"):
        assert built(name) == WaveLiTConfig(n_fields=1, num_scales=1, depth=2, detail_dim=24)
        first = recipe(name)
        assert (first.field_loss, first.noise, first.noise_end) == ("mse", 0.06, 1.0)
    paths = sorted(RESULTS.glob("*min/*/*.json"))
    assert paths
    for result in map(read_json, paths):
        assert result["hash"] == fingerprint(result["model"], result["system"])


class Plain:
    """A system without a mask."""

    mask_field = None


@pytest.fixture
def options(tmp_path, monkeypatch):
    for name in NAMES:
        write_system(tmp_path / "data" / name, name, (6, 3, 3), n_steps=40)
    from wavelit.benchmarks import accuracy

    systems = dict.fromkeys(NAMES, Plain())
    monkeypatch.setattr(accuracy, "SYSTEMS", systems)
    monkeypatch.setattr(second, "SYSTEMS", systems)
    monkeypatch.setattr(second, "LR_SYSTEMS", NAMES)
    # A second a sample: two steps a search run.
    monkeypatch.setattr(second, "LR_MINUTES", 0.14)
    output = tmp_path / "results"
    output.mkdir()
    rows = [f"{model},{name},4,1000" for model in SECOND for name in NAMES]
    (output / "rates.csv").write_text("\n".join(["model,system,batch_size,ms_per_sample", *rows]))
    small = {"embed_dim": 16, "num_heads": 2, "detail_dim": 2, "levels": 1}
    for name in (TWIN, second.REFERENCE):
        changed = dataclasses.replace(EVERYONE[name], model={**EVERYONE[name].model, **small})
        monkeypatch.setitem(EVERYONE, name, changed)
    return {
        "models": [TWIN],
        "systems": ["flow"],
        "minutes": 0.2,
        "root": tmp_path / "data",
        "output": output,
        "weights": tmp_path / "runs",
    }


@pytest.mark.slow
def test_stages_run_once_and_their_results_are_known_by_their_hash(options, monkeypatch):
    with pytest.raises(WavelitError, match="search of convolution twin's learning rate has not"):
        list(run(["final"], **options))
    searched = list(run(["lr"], **options))
    (final,) = run(["final"], **options)
    result = read_json(final)
    assert result["hash"] == fingerprint(TWIN)
    assert result["lr"] == best_rate(TWIN, options["output"])
    assert {"valid", "test", "bands", "parameters"} <= result.keys()
    assert all("test" not in read_json(path) for path in searched)
    assert (options["weights"] / "0.2min" / "convolution_twin" / "flow-0" / "weights").is_dir()
    # Elsewhere, by the same rates, it comes out alike.
    output = options["output"]
    elsewhere = {"output": output / "again", "weights": output / "runs", "tuning": output}
    (again,) = run(["final"], **{**options, **elsewhere})
    assert (again != final, read_json(again)["valid"]) == (True, result["valid"])
    with monkeypatch.context() as patch:
        patch.setattr(second, "_train", lambda *_: pytest.fail("run again"))
        assert list(run(["lr", "final"], **options)) == [final]
    changed = Contestant({**EVERYONE[TWIN].model, "depth": 1, "num_exchanges": 1})
    monkeypatch.setitem(EVERYONE, TWIN, changed)
    with pytest.raises(WavelitError, match="another architecture, recipe or budget"):
        list(run(["final"], **options))


@pytest.mark.slow
def test_a_run_without_a_score_is_recorded(options, monkeypatch):
    def diverges(*_):
        raise second.DivergedError("not finite at step 1")

    monkeypatch.setattr(second, "_train", diverges)
    monkeypatch.setattr(second, "best_rate", lambda *_: 1.0)
    (path,) = run(["final"], **options)
    result = json.loads(path.read_text())
    assert (result["failure"], result["valid"]) == ("not finite at step 1", {"one_step": None})


# Killed as the fourth step begins, with a checkpoint of each.
CUT = """
import os, signal
from wavelit.benchmarks import accuracy, second
from wavelit.benchmarks.entries import Contestant
from wavelit.training.module import EmulatorModule
class Plain:
    mask_field = None
second.SYSTEMS = accuracy.SYSTEMS = dict.fromkeys(("waves", "flow"), Plain())
second.best_rate = lambda *_: 0.004
second.EVERYONE["convolution twin"] = Contestant({model!r})
second.CHECKPOINT_MINUTES = 0.07
step = EmulatorModule.training_step
def training_step(self, batch, batch_idx):
    if {cut} and self.global_step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)
EmulatorModule.training_step = training_step
list(second.run(["final"], ["convolution twin"], ["flow"], minutes=0.4, output={output!r},
     root={root!r}, weights={weights!r}))
"""


@pytest.mark.slow
def test_a_run_that_was_cut_ends_as_it_would_have(options, tmp_path):
    def start(cut, weights):
        script = CUT.format(
            cut=cut,
            model=EVERYONE[TWIN].model,
            output=str(options["output"]),
            root=str(options["root"]),
            weights=str(tmp_path / weights),
        )
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=environment, capture_output=True, check=False)

    path = options["output"] / "0.4min" / "convolution_twin" / "flow-0.json"
    assert start(False, "whole").returncode == 0
    whole = read_json(path)
    path.unlink()
    assert start(True, "cut").returncode == -signal.SIGKILL
    assert not path.exists()
    assert start(False, "cut").returncode == 0
    again = read_json(path)
    for part in ("valid", "test", "bands", "samples", "hash"):
        assert again[part] == whole[part]


def test_mistakes_are_named(tmp_path, capsys):
    place = [f"--output={tmp_path}", f"--root={tmp_path}", f"--weights={tmp_path}"]
    for words, message in (
        (["train"], "unknown stage 'train'"),
        (["final", "--models", "Mamba"], "unknown model 'Mamba'"),
        (["final", "--systems", "tides"], "unknown system 'tides'"),
        (["final", "--minutes", "0"], "minutes"),
        (["lr"], "has no rate of WaveLiT 0.1"),
    ):
        assert main(["benchmark", "accuracy2", *words, *place]) == 2
        assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
