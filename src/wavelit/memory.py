"""Let glibc keep the memory that tensors free, instead of handing it back to the system and fetching it anew.

Arrays above the allocator's threshold (at most 32 MB) are mapped afresh for every operation, and the kernel clears each page on
its first touch: at 512 x 512 points that was a third of a prediction's time, for any model. docs/performance.md has figures.
"""

from __future__ import annotations

import ctypes
import platform

__all__ = ["keep_freed_memory"]

# Parameters of mallopt(3), and the largest value its int takes.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make this process's allocator keep what is freed for its own use; the command line does so.

    The process then holds its peak until it ends. A library should not decide that for a program that imports it, so
    nothing here is called on import.

    Returns:
        Whether it took effect: it needs glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST) and mallopt(M_TRIM_THRESHOLD, LARGEST))
