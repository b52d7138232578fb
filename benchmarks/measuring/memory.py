"""Memory of the machine and of this process."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path


def memory_available() -> int:
    """Bytes that the system can still give, or a very large number where it does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return sys.maxsize


def release_memory() -> None:
    """Give freed memory back, so that what came before does not count."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes(field: str) -> int:
    """``VmRSS``, what this process holds in memory now, or ``VmHWM``, the most it ever held; 0 off Linux.

    Not getrusage's ru_maxrss: that one is inherited from the process that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)
