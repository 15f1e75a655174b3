"""Freed memory stays with the process."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from wavelit.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
size = 16 * 2**20
# The first few allocations still find no room that fits.
for _ in range(12):
    torch.empty(size).fill_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.empty(size).fill_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_kept_memory_is_not_fetched_again():
    faults = {
        mode: int(
            subprocess.run(
                [sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True
            ).stdout
        )
        for mode in ("keep", "return")
    }
    assert faults["keep"] < 0.1 * faults["return"]
