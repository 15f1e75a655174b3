"""Let glibc keep the memory that tensors free, instead of handing it back to the system and
fetching it anew.

Arrays above the allocator's threshold (at most 32 MB) are mapped afresh for every operation, and
the kernel clears each page on its first touch: at 512 x 512 points that was a third of a
prediction's time, for WaveLiT and for CNextU-Net (docs/performance.md).
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

    The process then holds on to what it has taken. A library should not decide that for a program
    that imports it, so nothing here is called on import.

    Returns:
        Whether it took effect: it needs glibc, whose releases before 2.35 refuse thresholds above
            32 MB.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    trimmed, mapped = mallopt(M_TRIM_THRESHOLD, LARGEST), mallopt(M_MMAP_THRESHOLD, LARGEST)
    return bool(trimmed and mapped)
