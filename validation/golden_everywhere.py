"""Golden and bit-exact tests under other instruction sets, oneDNN on and off, one and two threads,
other versions of torch.

    python validation/golden_everywhere.py results/golden.json [PYTHON ...] [--exact]

One run of the golden tests for each setting and PYTHON (default: this one), or of the exact ones
too, whose source compares for equality or to 1e-12 and closer; the record keeps what it holds of
other settings. For processors that this machine is not, noise stands in: in one more run of the
golden tests every rounded result of an operator in float64 is moved by up to four units in its last
place, forward and backward.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GOLDEN = r"\bcompare\("
EXACT = (
    r"torch\.equal|array_equal|tol=0, [ar]tol=0|digests\(|differences\(|tobytes|== "
    r"accuracy\.|(rel|abs|tol)=1e-1[2-9]|" + GOLDEN
)
# These train half in a process of their own, which knows nothing of `pytest_configure` here.
OWN_PROCESS = ("test_a_killed_run_ends_like_an_uninterrupted_one",)
ULPS = 4


def pytest_configure() -> None:
    """Apply the setting in the environment; this file is the plugin of the runs that it starts."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.set_num_threads = lambda n: None
    torch.backends.mkldnn.set_flags(os.environ["EVERYWHERE_ONEDNN"] == "on")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    pattern = re.compile(os.environ["EVERYWHERE_TESTS"])
    one_process = os.environ["EVERYWHERE_ONEDNN"] == "on" and os.environ["OMP_NUM_THREADS"] == "1"
    items[:] = [
        item
        for item in items
        if pattern.search(inspect.getsource(item.function))
        and (one_process or item.originalname not in OWN_PROCESS)
    ]


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function):
    if not int(os.environ["EVERYWHERE_ULPS"]):
        return (yield)
    with _noise(int(os.environ["EVERYWHERE_ULPS"])):
        return (yield)


def _noise(ulps: int):
    """A mode under which what an operator computes in float64 is off by up to `ulps` units in
    the last place.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_map

    generator = torch.Generator().manual_seed(0)
    # What is drawn, moved about or whole rounds nowhere.
    exact = (
        "view|reshape|copy|clone|detach|empty|zeros|ones|full|rand|normal|uniform|arange|cat|slice|select|permute|transpose"
        "|expand|alias|split|narrow|index_select|gather|unfold|pad|strided|fill|eye|lift|scalar|where|sign|abs|neg|squeeze"
        "|stack|repeat|aten.t.|clamp|round|floor|ceil|remainder|set_|zero_"
    )
    kept = re.compile(exact)

    def move(value):
        if isinstance(value, torch.Tensor) and value.dtype == torch.float64:
            units = torch.randint(
                -ulps, ulps + 1, value.shape, generator=generator, dtype=torch.float64
            )
            value.mul_(1 + units * torch.finfo(torch.float64).eps)
        return value

    class Noise(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            return result if kept.search(str(function)) else tree_map(move, result)

    return Noise()


def run(python: str, capability: str, onednn: str, threads: int, ulps: int, tests: str) -> dict:
    """One setting: how many tests passed, which failed, the largest relative deviation from each
    golden file.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("src", "validation")),
            "ATEN_CPU_CAPABILITY": capability,
            "OMP_NUM_THREADS": str(threads),
            # Threads that spin while they wait starve each other on a busy machine.
            "OMP_WAIT_POLICY": "passive",
            "EVERYWHERE_ONEDNN": onednn,
            "EVERYWHERE_ULPS": str(ulps),
            "EVERYWHERE_TESTS": tests,
        }
        files = sorted(
            path
            for path in (ROOT / "tests").glob("test_*.py")
            if re.search(tests, path.read_text())
        )
        words = [
            python,
            "-m",
            "pytest",
            "-p",
            "golden_everywhere",
            "-m",
            "not cuda",
            f"--junitxml={report}",
        ]
        words += ["-o", "junit_family=xunit1", "-p", "no:cacheprovider", *files]
        subprocess.run(words, env=environment, cwd=ROOT, check=False, stdout=sys.stderr)
        suite = ET.parse(report).getroot().find("testsuite")
    version = subprocess.run(
        [python, "-c", "import torch; print(torch.__version__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    cases = suite.findall("testcase")
    failed = [
        case.get("name")
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    deviations = {
        case.get("name"): float(f"{float(item.get('value')):.2g}")
        for case in cases
        for item in case.iter("property")
        if item.get("name") == "deviation"
    }
    return {
        "torch": version.stdout.strip(),
        "capability": capability,
        "onednn": onednn,
        "threads": threads,
        "ulps": ulps,
        "exact": tests == EXACT,
        "tests": len(cases),
        "failed": failed,
        "deviation": deviations,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("record", type=Path)
    parser.add_argument("pythons", nargs="*", default=[sys.executable])
    parser.add_argument("--exact", action="store_true", help="the exact tests too")
    options = parser.parse_args()
    avx512 = "avx512bw" in Path("/proc/cpuinfo").read_text(encoding="utf8")
    settings = list(
        itertools.product(["default", "avx2", *["avx512"] * avx512], ("on", "off"), (1, 2), (0,))
    )
    if not options.exact:
        settings.append(("avx2", "on", 1, ULPS))
    for python, setting in itertools.product(options.pythons, settings):
        row = run(python, *setting, EXACT if options.exact else GOLDEN)
        print(json.dumps(row), flush=True)
        add(options.record, row)


def add(path: Path, row: dict) -> None:
    """Put a row into the record, in the place of one of the same setting and tests."""
    from wavelit.benchmarks.timing import environment

    keys = ("torch", "capability", "onednn", "threads", "ulps", "exact")
    rows = json.loads(path.read_text(encoding="utf8"))["settings"] if path.exists() else []
    rows = [old for old in rows if [old[key] for key in keys] != [row[key] for key in keys]] + [row]
    facts = environment()
    record = {
        "command": "validation/golden_everywhere.py",
        "cpu": facts["cpu"],
        "commit": facts["commit"],
        "largest_deviation": max(d for row in rows for d in row["deviation"].values()),
        "settings": sorted(rows, key=lambda row: [row[key] for key in keys]),
    }
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
