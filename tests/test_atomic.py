import os

import pytest

from wavelit.files.atomic import atomic_folder


def test_a_folder_that_cannot_be_replaced_is_as_it_was(tmp_path, monkeypatch):
    """Moved aside, it comes back where the new one cannot take its place."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "old").write_text("old")
    replace = os.replace

    def fail(source, target):
        if target == folder and (source / "new").exists():
            raise PermissionError("busy")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(PermissionError), atomic_folder(folder) as new:
        (new / "new").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["weights", "old"]
