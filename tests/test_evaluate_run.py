"""A run folder that is judged: what its files must hold, and what another dataset is told."""

import json
import shutil

import h5py
import pytest

from runs import wave_dataset, whole_run  # noqa: F401, as fixtures
from wavelit.data.datamodule import WellDataModule
from wavelit.errors import WavelitError
from wavelit.evaluation.evaluate_run import _places, evaluate_run
from wavelit.evaluation.opened_run import trained_on
from wavelit.evaluation.pictures import file_part

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("undrawn")]

FACTS = {
    "fields": ["a"],
    "constant fields": [],
    "scalars": [],
    "time steps": [0.1, 0.2],
    "resolution": [8, 8],
}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{}", "'fields', a list of names, got None"),
        (json.dumps({**FACTS, "fields": None}), "'fields'"),
        (json.dumps({**FACTS, "fields": "a"}), "'fields'"),
        (json.dumps({**FACTS, "scalars": [1]}), "'scalars'"),
        (json.dumps({**FACTS, "time steps": [0.1]}), "'time steps', a list of two numbers"),
        (json.dumps({**FACTS, "time steps": "x"}), "'time steps'"),
        (json.dumps({**FACTS, "resolution": [8.5]}), "'resolution', a list of whole numbers"),
        ("", "cannot be read"),
        ("\x00", "cannot be read"),
    ],
)
def test_a_file_of_the_run_that_is_none_is_named(content, named, tmp_path):
    (tmp_path / "fields.json").write_text(content)
    with pytest.raises(WavelitError, match=rf"fields\.json.*{named}") as caught:
        trained_on(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_older_runs_know_less(tmp_path):
    facts = {
        name: value for name, value in FACTS.items() if name not in ("time steps", "resolution")
    }
    (tmp_path / "fields.json").write_text(json.dumps(facts))
    assert trained_on(tmp_path) == facts


@pytest.mark.parametrize("name", ["../x", "a\\b", "\x1b[31m", "\udcff", "n" * 4000, ""])
def test_a_folders_name_stays_one_part_of_a_files(name, tmp_path):
    part = file_part(name)
    assert "/" not in part
    assert len(part) <= 80
    (tmp_path / f"evaluation-{part}.json").write_text("{}")


def test_two_names_never_share_a_file():
    names = ["a/b", "a_b", "a:b", "a\\b", "n" * 90, "n" * 91]
    assert file_part("a_b") == "a_b"
    assert len({file_part(name) for name in names}) == len(names)


def test_another_resolution_is_told(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    facts = json.loads((folder / "fields.json").read_text())
    (folder / "fields.json").write_text(json.dumps({**facts, "resolution": [32, 16]}))
    with pytest.warns(
        UserWarning, match="has the resolution 16 x 16; the run was trained on 32 x 16"
    ):
        evaluate_run(folder, device="cpu")


@pytest.mark.parametrize("end", [1e300, None])
def test_positions_that_cannot_be_written_are_left_out_of_a_rollout(end, dataset, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(dataset, folder)
    for path in (folder / "data" / "valid").iterdir():
        with h5py.File(path, "a") as file:
            line = file["dimensions/x"]
            line = line[()].astype("f8")
            line[-1] = line[-1] if end is None else end
            attributes = dict(file["dimensions/x"].attrs)
            del file["dimensions/x"]
            file["dimensions/x"] = line
            file["dimensions/x"].attrs.update(attributes)
    trajectories = WellDataModule(str(folder)).trajectories("valid").dataset
    _, coordinates = _places(trajectories, 0)
    assert (coordinates is None) == (end is not None)
