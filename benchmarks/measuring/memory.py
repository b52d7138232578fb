"""Memory of the machine and of this process."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path


def memory_available() -> int:
    """Bytes of available memory, or a very large number if the system does not report it."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return sys.maxsize


def release_memory() -> None:
    """Return freed memory to the system, so that earlier use does not count."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes(field: str) -> int:
    """``VmRSS``, this process's current resident memory, or ``VmHWM``, its peak, in bytes; 0 if not on Linux.

    getrusage's ru_maxrss is not used, because a process inherits it from its parent.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)
