"""Datasets from the hub, which a stand-in plays: sizes before anything is fetched, room on the
disk, files that are whole.
"""

import shutil
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError

import wavelit.data.download as module
from wavelit.cli.program import main
from wavelit.data.download import find_download
from wavelit.errors import WavelitError

FILES = {
    "README.md": 10,
    "stats.yaml": 7,
    "data/train/b.hdf5": 300,
    "data/train/a.hdf5": 200,
    "data/train/a.json": 5,
    "data/valid/a.hdf5": 40,
    "data/test/a.h5": 50,
}


@pytest.fixture
def hub(monkeypatch):
    """What it was asked for; `cut` is taken from the end of each file that it sends."""
    asked = SimpleNamespace(patterns=[], cut=0)

    class Api:
        def dataset_info(self, name, timeout, files_metadata):
            assert (name, files_metadata) == ("polymathic-ai/waves", True)
            assert timeout > 0
            found = [SimpleNamespace(rfilename=name, size=size) for name, size in FILES.items()]
            return SimpleNamespace(siblings=found)

    def fetch(name, repo_type, local_dir, allow_patterns, max_workers):
        assert (name, repo_type) == ("polymathic-ai/waves", "dataset")
        asked.patterns.append(allow_patterns)
        for file in allow_patterns:
            path = local_dir / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"0" * max(0, FILES[file] - asked.cut))

    monkeypatch.setattr(module, "HfApi", Api)
    monkeypatch.setattr(module, "snapshot_download", fetch)
    return asked


def test_the_size_is_said_first_and_what_is_there_stays(hub, tmp_path, capsys):
    words = ["data", "download", "waves", "--to", str(tmp_path)]
    assert main([*words, "--sizes"]) == 0
    said = capsys.readouterr().out
    assert "waves: 5.97e-07 GB in 4 files (2 train, 1 valid, 1 test)" in said
    assert not hub.patterns
    assert not (tmp_path / "waves").exists()
    assert main([*words, "--files", "1"]) == 0
    assert hub.patterns == [
        ["data/test/a.h5", "data/train/a.hdf5", "data/valid/a.hdf5", "stats.yaml"]
    ]
    assert "wavelit data check" in capsys.readouterr().out
    assert main(words) == 0
    assert hub.patterns[1:] == [["data/train/b.hdf5"]]
    assert main(words) == 0
    assert len(hub.patterns) == 2, "nothing is fetched twice"


def test_a_file_that_is_cut_is_named_and_fetched_again(hub, tmp_path):
    asked = find_download("waves", tmp_path, ["valid"])
    hub.cut = 1
    with pytest.raises(WavelitError, match=r"has \d+ of \d+ bytes: run the same command again"):
        asked.run()
    hub.cut = 0
    assert asked.run() == tmp_path / "waves"
    assert not asked.missing


def test_a_full_disk_is_told_before_anything_is_fetched(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(WavelitError, match=r"has room for 1e-07 GB.*hf://datasets/polymathic-ai"):
        find_download("waves", tmp_path).run()
    assert not hub.patterns


def test_mistakes_are_named(hub, tmp_path, monkeypatch):
    with pytest.raises(WavelitError, match="unknown split val: of train"):
        find_download("waves", tmp_path, ["val"])
    with pytest.raises(WavelitError, match="files"):
        find_download("waves", tmp_path, files=0)
    monkeypatch.delitem(FILES, "data/test/a.h5")
    with pytest.raises(WavelitError, match="no files in data/test"):
        find_download("waves", tmp_path)

    class Silent:
        def dataset_info(self, *args, **options):
            raise self.error

    monkeypatch.setattr(module, "HfApi", Silent)
    for error in (ConnectionError("refused\n"), HFValidationError("no such name")):
        Silent.error = error
        with pytest.raises(
            WavelitError, match=r"waves cannot be had from the hub: (refused|no such)"
        ):
            find_download("waves", tmp_path)


def test_a_client_without_network_is_one_line(tmp_path, monkeypatch):
    """The hub's own client, towards a port where nobody listens."""
    monkeypatch.setattr(module, "HfApi", lambda: HfApi(endpoint="http://127.0.0.1:9"))
    with pytest.raises(WavelitError, match="waves cannot be had from the hub"):
        find_download("waves", tmp_path)
