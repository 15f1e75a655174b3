"""`generate` under adversity: bounds of its arguments, damaged leftovers, a second process, a
sudden end.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from wavelit.data.pocketwell import generate, generate_one
from wavelit.data.pocketwell.build import RECORD, _interrupted_later, plan
from wavelit.data.pocketwell.registry import SYSTEMS
from wavelit.data.pocketwell.system import SIZES
from wavelit.errors import WavelitError
from wavelit.files.owner import owned

pytestmark = pytest.mark.long

SYSTEM = "shear_flow"


def tiny(root, **options):
    return generate(SYSTEM, "tiny", root=root, processes=2, progress=False, **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("made"))


def content(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix in (".hdf5", ".yaml")
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"processes": 10**6}, "processes must be a whole number from 1 to .*, not 1000000"),
        ({"processes": 0}, "processes must"),
        ({"processes": -1}, "processes must"),
        ({"processes": 2.0}, "processes must"),
        ({"processes": True}, "processes must"),
        ({"processes": "2"}, "processes must"),
        ({"seed": -1}, "seed must be a whole number from 0 to 9223372036854775807, not -1"),
        ({"seed": 2**63}, "seed must"),
        ({"seed": 0.5}, "seed must"),
        ({"seed": True}, "seed must"),
        ({"seed": None}, "seed must"),
        ({"system": ["shear_flow"]}, "unknown system .*: expected one of "),
        ({"system": None}, "unknown system None: "),
        ({"system": "a\nb"}, "unknown system 'a.*nb': "),
        ({"size": 3}, "unknown size 3: expected one of tiny, small, large"),
        ({"size": {}}, "unknown size {}: "),
        ({"root": None}, "root: expected a path, got None"),
        ({"root": ""}, "root: expected a path"),
        ({"root": 5}, "root: expected a path, got 5"),
        ({"root": __file__}, r"test_generate\.py is no folder"),
        ({"root": Path(__file__) / "a"}, r"test_generate\.py is no folder"),
    ],
)
def test_arguments_out_of_bounds(tmp_path, changes, message):
    with pytest.raises(WavelitError, match=message) as caught:
        generate(
            **{"system": SYSTEM, "size": "tiny", "root": tmp_path, "progress": False, **changes}
        )
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_one_trajectory_is_of_a_split_with_a_folder(tmp_path):
    with pytest.raises(WavelitError, match="unknown split 'train': expected valid or test"):
        generate_one(SYSTEM, tmp_path, "tiny", "train")
    with pytest.raises(WavelitError, match=r"test_generate\.py is no folder"):
        generate_one(SYSTEM, __file__, "tiny")


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"null", b"{}", b"3", b'{"seed": 0}', b"\xff\xfe", b"{", b"[" * 10**5]
)
def test_a_damaged_record_is_named(tmp_path, text):
    path = tmp_path / "tiny" / SYSTEM / RECORD
    path.parent.mkdir(parents=True)
    path.write_bytes(text)
    with pytest.raises(WavelitError, match=r"pocketwell\.json is damaged.* force=True") as caught:
        tiny(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_strange_record_is_of_another_dataset(tmp_path):
    path = tmp_path / "tiny" / SYSTEM / RECORD
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"seed": "a\nb", "version": None}))
    with pytest.raises(WavelitError, match=r"holds seed 'a\\nb' of version None"):
        tiny(tmp_path)


def test_damaged_parts_are_computed_anew(made, tmp_path):
    spec = SYSTEMS[SYSTEM]
    parts = tmp_path / "tiny" / SYSTEM / f"parts-seed0-version{spec.version}"
    parts.mkdir(parents=True)
    first, second, third, fourth, fifth, *_ = [
        batch.part for batch in plan(spec, SIZES["tiny"], parts)
    ]
    np.savez(first, **{"field/tracer": np.zeros((1, 2, 3))})
    first.write_bytes(first.read_bytes()[:200])
    second.write_bytes(b"")
    third.write_bytes(b"PK\x03\x04" + bytes(100))
    np.savez(fourth, tracer=np.zeros((1, 2, 3)))
    np.savez(fifth, **{"field/tracer": np.zeros((7, 2, 3))})
    # What a kill leaves under a temporary name is in nobody's way.
    for place in (parts, parts.parent / "data" / "train"):
        place.mkdir(parents=True, exist_ok=True)
        (place / ".half.hdf5.1-2.tmp").write_bytes(b"x")
    assert content(tiny(tmp_path)) == content(made)
    assert list(tmp_path.rglob(".*.tmp")) == []


def test_nothing_but_the_dataset_stays(made):
    assert {path.name for path in made.iterdir()} == {"data", "stats.yaml", RECORD}


def test_a_folder_has_one_owner(made, tmp_path):
    folder = tmp_path / "tiny" / SYSTEM
    here = rf"is in use: process {os.getpid()} .* has been generating there since .*; wait for it"
    with owned(folder, "generating"):
        with pytest.raises(WavelitError, match=here):
            tiny(tmp_path)
        with pytest.raises(WavelitError, match=here):
            tiny(tmp_path, force=True)
        with pytest.raises(WavelitError, match=here):
            generate_one(SYSTEM, folder, "tiny")
    assert list(folder.iterdir()) == []
    # What is complete needs no owner.
    with owned(made, "training"):
        assert tiny(made.parents[1]) == made
    assert (made / RECORD).exists()


def test_force_removes_what_is_there(made, tmp_path):
    folder = tmp_path / "tiny" / SYSTEM
    (folder / "data" / "train").mkdir(parents=True)
    (folder / "data" / "train" / "other.hdf5").touch()
    (folder / RECORD).write_text("[]")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (folder / "link").symlink_to(elsewhere)
    assert content(tiny(tmp_path, force=True)) == content(made)
    assert (elsewhere / "kept").exists()


def descendants(pid):
    children = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                # After the name, which may hold anything: state, parent.
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(folder.name))
    found, due = [], [pid]
    while due:
        below = children.get(due.pop(), [])
        found += below
        due += below
    return found


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.slow
def test_no_process_outlives_its_parent(tmp_path, number):
    command = [sys.executable, "-m", "wavelit", "data", "generate", SYSTEM]
    options = ["--size", "large", "--root", str(tmp_path), "--processes", "2"]
    parent = subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL)
    try:
        # The tracker of resources, the fork server and its two workers.
        assert wait(lambda: len(descendants(parent.pid)) >= 4, 60)
        # Past their start, in the middle of a batch.
        time.sleep(3)
        below = descendants(parent.pid)
        assert len(below) >= 4
    finally:
        parent.send_signal(number)
        parent.wait()
    assert wait(lambda: not any(runs(pid) for pid in below), 10)


def test_an_interrupt_waits_for_workers_to_start():
    done = []
    with pytest.raises(KeyboardInterrupt), _interrupted_later():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        done.append(1)
    assert done == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
