"""The parts of `wavelit benchmark speed` on tiny sizes: their rows, and what they assert on the
way.
"""

from __future__ import annotations

import pytest

from wavelit.benchmarks import reader, speed, startup, transforms
from wavelit.errors import WavelitError


def require_rows(rows: list[dict], keys: set[str], positive: set[str]) -> None:
    assert rows
    for row in rows:
        assert set(row) == keys
        assert all(row[key] > 0 for key in positive)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_reader_compares_equal_samples():
    rows = reader._rows(8, n_trajectories=2, n_steps=7, n_windows=8, rounds=1)
    numbers = {"wavelit_samples_per_second", "the_well_samples_per_second", "ratio"}
    require_rows(rows, {"grid", "case", *numbers}, numbers)
    assert [row["case"] for row in rows][:2] == ["files", "files, channels last"]


def test_transforms():
    rows = transforms._rows((2, 3, 16, 16), rounds=1)
    ratios = {"ptwt_over_wavelit", "wavelit_over_copy_bound", "wavelit_over_clone_bound"}
    times = {"wavelit_ms", "ptwt_ms"}
    bounds = {"copy_bound_ms", "clone_bound_ms"}
    require_rows(
        rows, {"case", "wavelet", "shape", "levels", *ratios, *times, *bounds}, ratios | times
    )
    assert {(row["case"], row["wavelet"]) for row in rows} == {
        (case, wavelet) for case in ("transform", "tokens") for wavelet in ("haar", "bior2.2")
    }


@pytest.mark.long
@pytest.mark.slow
def test_startup():
    rows = startup._rows(1)
    require_rows(rows, {"case", "seconds", "smallest", "largest", "processes"}, {"processes"})
    assert rows[0]["case"] == "wavelit --help"
    assert rows[0]["seconds"] > 0


def test_an_unknown_part_is_named():
    with pytest.raises(
        WavelitError, match="unknown part 'nonsense': expected one of reader, transforms"
    ):
        speed.run(["nonsense"])
