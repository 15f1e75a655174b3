"""Curves of a run that was killed go on."""

import pytest

from wavelit.errors import WavelitError
from wavelit.training.logs import csv_logger

HEAD = "samples,step,train_loss\n"


@pytest.mark.parametrize("torn", ["", "12", "12,3,", "12,3,0.1", '"12'])
def test_half_a_line_that_a_kill_left_is_dropped(torn, tmp_path):
    path = tmp_path / "logs" / "metrics.csv"
    path.parent.mkdir()
    path.write_text(f"{HEAD}4,1,0.5\n8,2,0.4\n{torn}")
    csv_logger(tmp_path, 3)
    assert path.read_text().split() == [HEAD.strip(), "4,1,0.5", "8,2,0.4"]
    assert [each.name for each in path.parent.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("torn", ["8", "8,2,0.412,2,0.3", ",,", "8,two,0.4"])
def test_a_damaged_line_in_the_middle_is_left_out(torn, tmp_path):
    """A run whose curves are damaged goes on all the same."""
    path = tmp_path / "logs" / "metrics.csv"
    path.parent.mkdir()
    path.write_text(f"{HEAD}4,1,0.5\n{torn}\n12,3,0.3\n")
    with pytest.warns(UserWarning, match=r"metrics\.csv is damaged: 1 of 3 rows are left out"):
        csv_logger(tmp_path, 4)
    assert path.read_text().split() == [HEAD.strip(), "4,1,0.5", "12,3,0.3"]


def test_curves_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "logs" / "metrics.csv"
    path.parent.mkdir()
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(WavelitError, match=r"metrics\.csv is damaged.*remove it to go on"):
        csv_logger(tmp_path, 4)
