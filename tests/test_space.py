"""Files that find no room: an ordinary error, and nothing left behind; with room, HDF5's own
bytes.
"""

import errno
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from wavelit.data.writing import well_file
from wavelit.data.writing.write import write_well
from wavelit.files import space

SIDES = ["open", "wall"]
# HDF5 ended the process after a refused write, so each limit has a process of its own.
LIMITED = """
import resource, sys
import numpy as np
from wavelit.data.writing.write import write_dataset
from wavelit.errors import system_error

field = np.random.default_rng(0).normal(size=(6, 5, 32, 32))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    write_dataset(
        sys.argv[1], {"u": field}, splits={"train": 4, "valid": 1, "test": 1}, name="toy",
        boundary_conditions=["open", "wall"],
    )
except OSError as error:
    print(error.errno, error.filename, system_error(error), sep="|")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process")
@pytest.mark.parametrize("limit", [0, 3000, 20_000, 80_000])
def test_a_refused_write_is_an_error_that_names_the_file(tmp_path, limit):
    folder = tmp_path / "toy"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, folder, str(limit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    number, name, line = done.stdout.strip().split("|")
    assert (int(number), name) == (errno.EFBIG, str(folder / "data" / "train" / "toy.hdf5"))
    assert "toy.hdf5: File too large" in line
    assert list(tmp_path.iterdir()) == []


def test_the_bytes_are_those_of_a_file_without_reserve(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for shape in ((3, 4, 4, 5), (2, 6, 33, 17), (1, 1, 2, 2)):
        fields = {
            "a": rng.normal(size=shape),
            "b": rng.normal(size=(*shape, 2)),
            "c": rng.normal(size=(*shape, 2, 2)),
        }
        options = {
            "name": "toy",
            "boundary_conditions": SIDES,
            "scalars": {f"s{i}": i for i in range(40)},
        }
        reserved = write_well(tmp_path / "a.hdf5", fields, **options)
        with monkeypatch.context() as patch:
            patch.setattr(
                well_file, "hdf5_file", lambda path, size: h5py.File(path, "w", libver="earliest")
            )
            plain = write_well(tmp_path / "b.hdf5", fields, **options)
        assert reserved.read_bytes() == plain.read_bytes()


@pytest.mark.parametrize("refused", [None, errno.EOPNOTSUPP])
def test_room_is_taken_where_the_system_has_no_call_for_it(tmp_path, monkeypatch, refused):
    if refused is None:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    else:

        def refuse(*arguments):
            raise OSError(refused, "no such call")

        monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    space.reserve(path, 2 * space.CHUNK + 5)
    assert path.stat().st_size == 2 * space.CHUNK + 5
    assert path.read_bytes()[:4] == b"abc\0"
