"""Golden answers, computed in float64: in float32 the rounding of another processor moves them
by 1e-3.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent / "golden"
# A rounding error moves them by at most 1e-12 (results/golden.json).
RELATIVE = 1e-9


@contextmanager
def made_in_float64() -> Iterator[None]:
    """Weights and random numbers that are made within are of float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def compare(
    name: str, found: dict[str, list[float]], record_property: Callable[[str, object], None]
) -> None:
    """Compare lists of numbers with those of a file. A missing file is written, and the test
    fails.
    """
    path = FOLDER / f"{name}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        rounded = {
            key: [float(f"{value:.13g}") for value in values] for key, values in found.items()
        }
        path.write_text(json.dumps(rounded, indent=1) + "\n")
        pytest.fail(f"{path} was missing and has been written: look at it and run again")
    golden = json.loads(path.read_text())
    assert found.keys() == golden.keys()
    record_property(
        "deviation", max(deviation(found[key], values) for key, values in golden.items())
    )
    for key, expected in golden.items():
        assert found[key] == pytest.approx(expected, rel=RELATIVE, abs=0), key


def deviation(found: list[float], expected: list[float]) -> float:
    """Largest relative difference."""
    return max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))
