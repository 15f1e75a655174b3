"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from wavelit.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    if not keep_freed_memory():
        sys.exit("refused")
size = 16 * 2**20
# The first few allocations still find no room that fits.
for _ in range(12):
    torch.empty(size).fill_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.empty(size).fill_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=False
    )
    if run.stderr.strip() == "refused":
        pytest.skip("this C library does not take the setting")
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


@pytest.mark.long
@pytest.mark.slow
def test_kept_memory_is_not_fetched_again():
    assert page_faults("keep") < 0.1 * page_faults("return")
