"""The commands of docs/transfer.md take the committed results for those that they would make."""

import re
import shlex
from pathlib import Path

import pytest

from wavelit.benchmarks import few_cells, joint_cells, transfer, tuned_cells
from wavelit.benchmarks.protocol import THE_EIGHT
from wavelit.cli.program import main

UNSEEN = ("acoustic_scattering_inclusions", "euler_multi_quadrants_periodicBC", "ostia_monthly")
# Those that time something, or read the test split.
OTHERS = ("cost", "rates", "test")


def commands() -> list[str]:
    """Those of the page whose results are there, with what they are run with."""
    block = Path("docs/transfer.md").read_text().split("```bash\n")[1].split("```")[0]
    block = block.replace("\\\n", " ")
    (narrow,) = re.findall(r'narrow="([^"]*)"', block)
    lines = [line for line in block.splitlines() if line.startswith("wavelit transfer ")]
    return [
        line.split("#")[0].replace("$narrow", " ".join(narrow.split()))
        for line in lines
        if line.split()[2] not in OTHERS
    ]


@pytest.mark.parametrize("command", commands())
def test_results_are_of_their_command(command, tmp_path, monkeypatch, capsys):
    for system in (*THE_EIGHT, *UNSEEN):
        (tmp_path / system).mkdir()
    for module, name in ((joint_cells, "_run"), (few_cells, "_run"), (tuned_cells, "_scores")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("it would run"))
    # Threads are those of the tests.
    monkeypatch.setattr(transfer, "set_up", lambda: None)
    main([*shlex.split(command)[1:], "--root", str(tmp_path)])
    shown = capsys.readouterr().out.splitlines()
    assert shown
    assert all(Path(path).is_file() for path in shown)
