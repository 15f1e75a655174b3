"""Nothing that a file names or holds is executed: configurations, checkpoints, weights, run
folders of strangers.
"""

import json
import os
import pickle
import re
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from runs import wave_dataset, whole_run  # noqa: F401, as fixtures
from wavelit import WaveLiT, WavelitError, WellDataModule
from wavelit.cli.program import main
from wavelit.evaluation.evaluate_run import evaluate_run
from wavelit.model.config import WaveLiTConfig
from wavelit.training.checkpoint_files import load_checkpoint, newest_checkpoint
from wavelit.training.run import resume
from wavelit.training.run_folder import DATA_ENTRIES, load_model, load_settings


class Payload:
    """A pickle that makes a file where it is loaded."""

    def __init__(self, flag) -> None:
        self.flag = str(flag)

    def __reduce__(self):
        return os.mkdir, (self.flag,)


def entries() -> list[str]:
    """All options of `wavelit train` with a dot in their names."""
    import dataclasses
    import inspect

    from wavelit import TrainConfig, TrainerConfig, WellDataModule

    data = [f"data.{name}" for name in inspect.signature(WellDataModule).parameters]
    groups = {"train": TrainConfig, "trainer": TrainerConfig, "model": WaveLiTConfig}
    return [
        *data,
        *(f"{g}.{f.name}" for g, kind in groups.items() for f in dataclasses.fields(kind)),
    ]


@pytest.mark.parametrize("nested", ["path alone", "call", "in a mapping"])
@pytest.mark.parametrize(
    "entry", [*entries(), "data", "train", "trainer", "model", "run", "seed", "model.preset"]
)
def test_no_entry_of_a_configuration_is_called(
    entry, nested, dataset, tmp_path, capsys, monkeypatch
):
    flag = tmp_path / "flag"
    call = {"class_path": "os.mkdir", "init_args": {"path": str(flag)}}
    content: dict = {"data": {"path": str(tmp_path / "none")}, "train": {"steps": 1}}
    group, _, name = entry.partition(".")
    value = {"path alone": {"class_path": "os.mkdir"}, "call": call, "in a mapping": {"a": call}}[
        nested
    ]
    if name:
        content.setdefault(group, {})[name] = value
    else:
        content[group] = value
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(content))
    status = main(["train", "--config", str(tmp_path / "c.yaml"), "--run", str(tmp_path / "run")])
    assert status == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "Importing" not in err
    assert entry == "data.storage_options" or entry in err
    assert not flag.exists()


def test_a_group_of_options_is_no_option(tmp_path, capsys):
    for group in ("train", "data", "model", "trainer"):
        assert main(["train", f"--{group}", '{"class_path": "os.mkdir"}']) == 2
        assert main(["train", f"--{group}={tmp_path}/x.yaml"]) == 2
        assert f"--{group} is a group of options" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.mkdir [{flag}]",
        "data: !!python/object/apply:os.mkdir [{flag}]",
        "a: &a [x, x]\nb: &b [*a, *a]\n"
        + "".join(f"c{i}: &c{i} [{', '.join(['*b'] * 9)}]\n" for i in range(3)) * 9,
        "a: &a [*a]",
    ],
)
def test_a_configuration_is_plain_yaml(text, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(text.format(flag=tmp_path / "flag"))
    assert main(["train", "--config", str(tmp_path / "c.yaml")]) == 2
    assert main(["train", f"--config={tmp_path / 'c.yaml'}"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "flag").exists()


def test_storage_options_are_plain_data(tmp_path, capsys):
    path = str(tmp_path / "none")
    assert (
        main(["train", "--data.path", path, "--data.storage_options", "[1]", "--train.steps", "1"])
        == 2
    )
    assert "--data.storage_options: invalid mapping value" in capsys.readouterr().err
    assert (
        main(
            [
                "train",
                "--data.path",
                path,
                "--data.storage_options",
                "{anon: true}",
                "--train.steps",
                "1",
            ]
        )
        == 2
    )
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["pickle", "archive"])
def test_no_checkpoint_is_executed(kind, run, tmp_path):
    folder, flag = tmp_path / "copy", tmp_path / "flag"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "weights")
    for name in ("best.ckpt", "last.ckpt", "previous.ckpt"):
        path = folder / "checkpoints" / name
        if kind == "pickle":
            path.write_bytes(pickle.dumps(Payload(flag)))
        else:
            state = torch.load(path, weights_only=True)
            torch.save({**state, "callbacks": Payload(flag)}, path)
        with pytest.raises(WavelitError, match=re.escape(f"{path} cannot be read as a checkpoint")):
            load_checkpoint(path)
    with pytest.raises(WavelitError, match=r"last\.ckpt cannot be read"):
        resume(folder)
    with pytest.raises(WavelitError, match=r"best\.ckpt cannot be read"):
        evaluate_run(folder, weights="best", device="cpu")
    assert not flag.exists()


def test_flipped_bits_of_a_checkpoint_are_noticed(run, tmp_path):
    data = bytearray((run / "checkpoints" / "last.ckpt").read_bytes())
    for place in range(len(data) // 30, len(data), len(data) // 30):
        spoilt = data.copy()
        spoilt[place] ^= 0xFF
        (tmp_path / "last.ckpt").write_bytes(spoilt)
        try:
            state = load_checkpoint(tmp_path / "last.ckpt")
        except WavelitError:
            continue
        # Room between the entries is nobody's.
        whole = load_checkpoint(run / "checkpoints" / "last.ckpt")
        assert all(torch.equal(state["state_dict"][k], v) for k, v in whole["state_dict"].items())


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("state_dict", []),
        ("state_dict", {"model.x": 1}),
        ("global_step", "1"),
        ("loops", None),
        ("random_state", 3),
        ("stability", [1]),
    ],
)
def test_a_checkpoint_of_another_content_is_refused(entry, value, run, tmp_path):
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save({**state, entry: value}, tmp_path / "last.ckpt")
    with pytest.raises(WavelitError, match=entry):
        newest_checkpoint(tmp_path)
    torch.save([1, 2], tmp_path / "last.ckpt")
    with pytest.raises(WavelitError, match="it holds a list"):
        newest_checkpoint(tmp_path)


def test_a_checkpoint_that_cannot_be_restored_is_one_line(run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "weights")
    path = folder / "checkpoints" / "previous.ckpt"
    state = torch.load(path, weights_only=True)
    for name in ("last.ckpt", "previous.ckpt"):
        torch.save(
            {**state, "optimizer_states": [{"state": {0: 3}, "param_groups": 7}]},
            path.with_name(name),
        )
    with pytest.raises(WavelitError, match=r"last\.ckpt cannot be resumed from"):
        resume(folder)


def test_flipped_bits_of_weights_are_noticed(tmp_path):
    WaveLiT(WaveLiTConfig.preset("nano", n_fields=1, embed_dim=8)).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    data = path.read_bytes()
    for place in range(0, len(data), len(data) // 40):
        spoilt = bytearray(data)
        spoilt[place] ^= 0x10
        path.write_bytes(spoilt)
        with pytest.raises(WavelitError, match=r"model\.safetensors cannot be"):
            WaveLiT.from_pretrained(tmp_path)
    path.write_bytes(data)
    assert WaveLiT.from_pretrained(tmp_path).n_parameters > 0


def test_weights_that_are_not_finite_are_refused_and_never_called_trained(run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    weights = load_file(folder / "weights" / "model.safetensors")
    weights["head.weight"][0, 0] = float("nan")
    save_file(weights, folder / "weights" / "model.safetensors")
    config = json.loads((folder / "weights" / "config.json").read_text())
    # As an older version wrote it, without a checksum.
    del config["weights_sha256"], config["wavelit_version"]
    (folder / "weights" / "config.json").write_text(json.dumps(config))
    with pytest.raises(WavelitError, match=r"head\.weight is not finite"):
        load_model(folder)


@pytest.mark.parametrize(
    ("entry", "value", "expected"),
    [
        ("rope_base", 100.0, r"of version 9\.9: unknown entry 'rope_base'"),
        ("embed_dim", "many", "embed_dim must be a whole number, not 'many'"),
        ("embed_dim", 10**12, "embed_dim must be at least 1 and at most"),
        ("boundary_conditions", 3, "boundary_conditions must name"),
        ("shared", "yes", "shared must be true or false"),
        ("wavelet", 5, "wavelet must be text"),
        ("depth", 200, "has shape"),
    ],
)
def test_an_entry_that_this_version_does_not_know_is_refused(entry, value, expected, tmp_path):
    WaveLiT(WaveLiTConfig.preset("nano", n_fields=1, embed_dim=8)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {entry: value, "wavelit_version": "9.9"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WavelitError, match=expected):
        WaveLiT.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "content", [b"[]", b"null", b"{}", b"3", b'"x"', b"\xff\xfe", b"{", b"", b"[" * 100_000]
)
@pytest.mark.parametrize(
    "name", ["config.yaml", "model.json", "fields.json", "weights/config.json"]
)
def test_damaged_files_of_a_run_folder_are_one_line(name, content, run, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    (folder / name).write_bytes(content)
    if name != "weights/config.json":
        shutil.rmtree(folder / "weights")
        status = main(["train", "--resume", str(folder)])
    else:
        status = main(["evaluate", str(folder)])
    err = capsys.readouterr().err
    # What older versions did not write is not compared.
    assert status == (0 if name == "fields.json" and content == b"{}" else 2), err
    assert "Traceback" not in err
    assert status == 0 or os.path.basename(name) in err


def test_settings_of_data_are_those_of_the_data_module():
    import inspect

    assert set(inspect.signature(WellDataModule).parameters) == DATA_ENTRIES


def test_entries_of_settings_are_checked(run, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    whole = yaml.safe_load((run / "config.yaml").read_text())
    for spoilt in (
        {**whole, "extra": 1},
        {k: v for k, v in whole.items() if k != "seed"},
        {**whole, "seed": True},
        {**whole, "data": {**whole["data"], "format": "x"}},
        {**whole, "data": {**whole["data"], "path": None}},
        {**whole, "train": []},
    ):
        (folder / "config.yaml").write_text(yaml.safe_dump(spoilt))
        with pytest.raises(WavelitError, match=r"config\.yaml"):
            load_settings(folder)
