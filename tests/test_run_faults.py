"""What a run survives: kills at named places, damaged files, full disks, other data, other
processes, foreign environments.
"""

import json
import os
import re
import shutil
import signal
import warnings
from pathlib import Path

import pytest
import torch

from runs import (  # noqa: F401, as fixtures
    ONE_THREAD,
    RECIPE,
    SMALL,
    differences,
    run_script,
    same_weights,
    train,
    wave_dataset,
    whole_run,
)
from wavelit import (
    TrainConfig,
    TrainerConfig,
    WaveLiT,
    WavelitError,
    WellDataModule,
    build_model,
    fit,
    resume,
)
from wavelit.cli.program import main
from wavelit.data.joint import JointDataModule
from wavelit.data.writing.write import write_dataset
from wavelit.files.owner import owned
from wavelit.training.joint import JointModule, JointTrainConfig
from wavelit.training.joint_run import build_joint, fit_joint
from wavelit.training.module import EmulatorModule, learning_rate_factor
from wavelit.training.trainer import check_trainer
from waves import plane_waves

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("undrawn")]

# Trains as the tests do, and kills itself at the n-th call of a function of the system that a
# checkpoint's writing makes.
KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import runs
call, left = os.{name}, [{nth}]
def killing(*args, **kwargs):
    place = str(args[0]) if args else ""
    if {part!r} in place or {part!r} == "":
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return call(*args, **kwargs)
os.{name} = killing
runs.train({data!r}, {folder!r})
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "part", "nth"),
    [
        # Moving last.ckpt aside; giving a checkpoint its name; flushing it; the weights' folder;
        # before any checkpoint.
        ("replace", "/last.ckpt", 3),
        ("replace", "checkpoints/.last.ckpt", 5),
        ("fsync", "", 14),
        ("replace", ".weights.", 1),
        ("replace", "config.yaml", 1),
    ],
)
@pytest.mark.slow
def test_a_run_killed_while_it_writes_ends_like_an_uninterrupted_one(
    name, part, nth, dataset, run, tmp_path
):
    folder = tmp_path / "killed"
    script = KILLED.format(
        tests=str(Path(__file__).parent),
        name=name,
        part=part,
        nth=nth,
        data=str(dataset),
        folder=str(folder),
    )
    done = run_script(script)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not (folder / "weights").exists()
    if any((folder / "checkpoints").glob("*.ckpt")):
        resume(folder)
    else:
        train(str(dataset), str(folder))
    assert same_weights(folder, run)
    assert not [
        path for path in folder.rglob("*") if path.name.endswith((".tmp", ".lock", ".owner"))
    ]


@pytest.mark.long
def test_checkpoints_need_no_temporary_folder(dataset, run, tmp_path):
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import runs\n"
    # Set after the imports, some of which make a file there.
    script += "import os, tempfile; tempfile.tempdir = os.environ['TMPDIR'] = "
    script += f"{str(tmp_path / 'nowhere')!r}\n"
    done = run_script(script + f"runs.train({str(dataset)!r}, {str(tmp_path / 'run')!r})")
    assert done.returncode == 0, done.stderr.decode()
    assert same_weights(tmp_path / "run", run)


@pytest.mark.parametrize("spoilt", ["last", "best", "last and best", "last missing"])
def test_a_damaged_checkpoint_is_passed_over(spoilt, run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "weights")
    for name in ("last", "best"):
        path = folder / "checkpoints" / f"{name}.ckpt"
        if name in spoilt and "missing" not in spoilt:
            path.write_bytes(path.read_bytes()[:1000])
    if "missing" in spoilt:
        (folder / "checkpoints" / "last.ckpt").unlink()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resume(folder)
    said = " ".join(str(w.message) for w in caught)
    assert ("last.ckpt cannot be read" in said) == (spoilt in ("last", "last and best"))
    assert ("best.ckpt cannot be read" in said) == ("last and best" in spoilt)
    assert same_weights(folder, run)


@pytest.mark.parametrize("trained", [False, True])
def test_a_damaged_record_of_the_environment_stops_nothing(trained, run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    if not trained:
        shutil.rmtree(folder / "weights")
    path = folder / "environment.json"
    path.write_text(path.read_text()[:50])
    with pytest.warns(UserWarning, match=r"environment\.json cannot be read"):
        resume(folder)
    assert same_weights(folder, run)
    assert json.loads(path.read_text())["steps"] > 0


@pytest.mark.parametrize("gone", ["config.json", "model.safetensors", "both", "damaged"])
def test_weights_are_written_anew_where_they_are_not_whole(gone, run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    for name in ("config.json", "model.safetensors"):
        if gone in (name, "both"):
            (folder / "weights" / name).unlink()
    if gone == "damaged":
        (folder / "weights" / "model.safetensors").write_bytes(b"x" * 99)
    resume(folder)
    assert same_weights(folder, run)
    with pytest.raises(WavelitError, match="trained to the end"):
        resume(folder)


@pytest.fixture
def unfinished(run, tmp_path) -> Path:
    folder = tmp_path / "unfinished"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "weights")
    return folder


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("field", "fields"),
        ("walls", "boundary conditions"),
        ("grid", "resolution"),
        ("steps", "windows"),
        ("time", "time steps"),
        ("values", "statistics"),
        ("order", "checksum"),
    ],
)
def test_a_run_goes_on_with_its_own_data_alone(change, named, run, dataset, unfinished, tmp_path):
    waves = plane_waves(10, 12)
    if change == "order":
        waves[[0, 1]] = waves[[1, 0]]
    waves = {"values": waves + 1, "steps": waves[:, :11], "grid": plane_waves(10, 12, side=8)}.get(
        change, waves
    )
    write_dataset(
        tmp_path / "other",
        {"depth" if change == "field" else "height": waves},
        splits={"train": 6, "valid": 2, "test": 2},
        name="plane_waves",
        boundary_conditions=["wall", "wall"] if change == "walls" else ["periodic", "periodic"],
        time=0.5 * torch.arange(waves.shape[1]).numpy() if change == "time" else None,
    )
    text = (unfinished / "config.yaml").read_text()
    (unfinished / "config.yaml").write_text(text.replace(str(dataset), str(tmp_path / "other")))
    with pytest.raises(WavelitError, match=f"is not what .* was trained on, in its .*{named}"):
        resume(unfinished)


def test_one_process_a_folder(dataset, unfinished, tmp_path):
    data = WellDataModule(str(dataset), batch_size=4)
    model = build_model(data, **SMALL)
    new = tmp_path / "new"
    with owned(unfinished, "training"), owned(new, "training"):
        for action in (
            lambda: resume(unfinished),
            lambda: fit(new, data, model, TrainConfig(steps=1), ONE_THREAD),
        ):
            with pytest.raises(
                WavelitError,
                match=f"is in use: process {os.getpid()} on .* has been training there since",
            ):
                action()
        assert {path.name for path in new.iterdir()} == {".wavelit.lock", ".wavelit.owner"}
    fit(new, data, model, TrainConfig(steps=1), ONE_THREAD)
    resume(unfinished)


def test_the_same_command_starts_a_run_again_that_was_killed_before_its_first_checkpoint(
    dataset, run, tmp_path
):
    data = WellDataModule(str(dataset), n_steps_output=3, batch_size=4)
    folder = tmp_path / "killed"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "weights")
    shutil.rmtree(folder / "checkpoints")
    (folder / "notes.txt").write_text("mine")
    train(str(dataset), str(folder))
    assert same_weights(folder, run)
    curves = [(path / "logs" / "metrics.csv").read_text().count("\n") for path in (folder, run)]
    assert curves[0] == curves[1]
    assert (folder / "notes.txt").read_text() == "mine"
    # A first checkpoint that cannot be read is none.
    shutil.rmtree(folder / "weights")
    (folder / "checkpoints" / "previous.ckpt").unlink()
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"PK")
    train(str(dataset), str(folder))
    assert same_weights(folder, run)
    # Nor is a config.yaml that was cut beside the other files of a run anybody else's.
    shutil.rmtree(folder / "weights")
    shutil.rmtree(folder / "checkpoints")
    (folder / "config.yaml").write_text("data: {")
    train(str(dataset), str(folder))
    assert same_weights(folder, run)
    # A config.yaml of something else is nobody's to replace.
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "config.yaml").write_text("title: my pages")
    with pytest.raises(WavelitError, match=r"config\.yaml of something else"):
        fit(tmp_path / "site", data, build_model(data, **SMALL), RECIPE, ONE_THREAD)


@pytest.mark.parametrize("clip", [0, float("inf")])
def test_no_clipping_leaves_gradients_alone(clip, dataset, tmp_path):
    data = WellDataModule(str(dataset), batch_size=4)
    for name, most in (("none", clip), ("large", 1e9)):
        fit(
            tmp_path / name,
            data,
            build_model(data, **SMALL),
            TrainConfig(steps=4, clip=most),
            ONE_THREAD,
        )
    assert same_weights(tmp_path / "none", tmp_path / "large")


def test_a_warm_up_shorter_than_two_steps_is_left_out(dataset, tmp_path):
    assert learning_rate_factor(0.0, TrainConfig(steps=39), 39) == 1.0
    assert learning_rate_factor(0.0, TrainConfig(steps=40), 40) == 0.0
    assert learning_rate_factor(0.0, TrainConfig(minutes=1)) == 0.0
    data = WellDataModule(str(dataset), batch_size=4)
    before = build_model(data, **SMALL)
    after = fit(
        tmp_path / "run", data, build_model(data, **SMALL), TrainConfig(steps=1), ONE_THREAD
    )
    assert not torch.equal(before.skip.weight, after.skip.weight)


def test_a_trained_model_takes_the_statistics_of_new_data(dataset, tmp_path):
    other = write_dataset(
        tmp_path / "other",
        {"height": 40 * plane_waves(10, 12, seed=1) + 7},
        splits={"train": 6, "valid": 2, "test": 2},
        name="other",
        boundary_conditions=["periodic", "periodic"],
    )
    old, new = (WellDataModule(str(path), batch_size=4) for path in (dataset, other))
    due, kept = build_model(new, **SMALL), build_model(old, **SMALL)
    with pytest.warns(UserWarning, match="it takes statistics and calibration of .*other"):
        model = fit(
            tmp_path / "a", new, build_model(old, **SMALL), TrainConfig(steps=1), ONE_THREAD
        )
    for name in (
        "normalizer.mean",
        "normalizer.std",
        "normalizer.delta_std",
        "input_scale",
        "conserved",
    ):
        torch.testing.assert_close(model.state_dict()[name], due.state_dict()[name])
    with pytest.warns(UserWarning, match="keeps the statistics and calibration of other data"):
        model = fit(
            tmp_path / "b", new, kept, TrainConfig(steps=1), ONE_THREAD, keep_statistics=True
        )
    assert torch.equal(model.normalizer.mean, build_model(old, **SMALL).normalizer.mean)
    assert torch.equal(model.input_scale, build_model(old, **SMALL).input_scale)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(tmp_path / "c", old, build_model(old, **SMALL), TrainConfig(steps=1), ONE_THREAD)


def test_a_refusal_of_the_system_is_one_line(dataset, tmp_path, capsys, monkeypatch):
    shutil.copytree(dataset, tmp_path / "copy")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(["data", "check", str(tmp_path / "copy"), "--write-statistics"]) == 2
    error = capsys.readouterr().err
    where = f"{tmp_path}/copy/stats.yaml: No space left on device"
    assert error == f"wavelit: error: {where}: free space there, or choose another folder\n"
    (tmp_path / "file").write_text("")
    assert (
        main(
            [
                "train",
                "--data.path",
                str(dataset),
                "--train.steps",
                "1",
                "--run",
                str(tmp_path / "file" / "x"),
            ]
        )
        == 2
    )
    assert re.search(r"wavelit: error: .*file/x: Not a directory", capsys.readouterr().err)


@pytest.mark.parametrize(
    "options",
    [
        {"devices": 0},
        {"devices": -1},
        {"devices": 1.5},
        {"devices": 10**9},
        {"threads": 0},
        {"threads": 1025},
        {"threads": 10**5},
        {"threads": True},
        {"precision": "16"},
        {"precision": None},
        {"accelerator": 3},
    ],
)
def test_devices_and_threads_have_bounds(options):
    with pytest.raises(WavelitError, match=next(iter(options))):
        TrainerConfig(**options)


@pytest.mark.parametrize("accelerator", ["tpu", "meta", "cuda", "x\n[/red]"])
def test_devices_that_are_not_there_are_named(accelerator):
    with pytest.raises(WavelitError, match="no trainer with accelerator"):
        check_trainer(TrainerConfig(accelerator=accelerator))


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 10**20},
        {"steps": 2.5},
        {"samples": -1},
        {"minutes": 0},
        {"minutes": float("nan")},
        {"steps": 1, "lr": "fast"},
        {"steps": 1, "compile": 2},
        {"steps": "1"},
    ],
)
def test_budgets_have_bounds(options):
    with pytest.raises(WavelitError, match=list(options)[-1]):
        TrainConfig(**options)


def test_a_model_of_a_run_is_its_final_or_its_best_one(run, dataset):
    from wavelit import load_model

    with pytest.raises(WavelitError, match="unknown weights 'x': expected one of final, best"):
        load_model(run, "x")
    assert isinstance(load_model(run, "best"), WaveLiT)


def test_a_model_that_became_infinite_is_not_called_trained(dataset, tmp_path, monkeypatch):
    from wavelit.training import run as run_module

    data = WellDataModule(str(dataset), batch_size=4)
    model = build_model(data, **SMALL)

    def spoil(trainer, module, **_):
        torch.nn.init.constant_(model.head.weight, float("inf"))

    monkeypatch.setattr(run_module.pl.Trainer, "fit", spoil)
    with pytest.raises(WavelitError, match=r"head\.weight is not finite"):
        fit(tmp_path / "run", data, model, TrainConfig(steps=1), ONE_THREAD)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("raised", "recipe", "told", "not_told"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            {},
            "--data.batch_size 2 --train.accumulate 2, --train.activation_checkpointing true, a",
            "bf16",
        ),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough"),
            {"activation_checkpointing": True},
            "--data.batch_size 2 --train.accumulate 2, a smaller --model.preset",
            "checkpointing",
        ),
    ],
)
def test_out_of_memory_says_what_takes_less(
    raised, recipe, told, not_told, dataset, tmp_path, monkeypatch
):
    def fail(*_, **__):
        raise raised

    monkeypatch.setattr(EmulatorModule, "training_step", fail)
    data = WellDataModule(str(dataset), batch_size=4)
    with pytest.raises(WavelitError, match="out of memory at step 0: try ") as caught:
        fit(
            tmp_path / "run",
            data,
            build_model(data, **SMALL),
            TrainConfig(steps=3, **recipe),
            ONE_THREAD,
        )
    assert told in str(caught.value)
    assert not_told not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("batch_size", "told"), [(4, "--data.batch_size 2, "), (1, "try --train")])
def test_out_of_memory_of_several_systems_halves_the_batch_of_each(
    batch_size, told, dataset, tmp_path, monkeypatch
):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(JointModule, "training_step", fail)
    several = {name: WellDataModule(str(dataset), batch_size=batch_size) for name in "abc"}
    data = JointDataModule(several)
    recipe = JointTrainConfig(steps=3)
    with pytest.raises(WavelitError, match="out of memory at step 0: ") as caught:
        fit_joint(tmp_path / "run", data, build_joint(data, embed_dim=16, num_heads=2), recipe)
    assert told in str(caught.value)
