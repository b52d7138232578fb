"""What the system counts of this process. None where it does not tell."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_resident_bytes() -> int | None:
    """The most memory that this process has held so far."""
    if sys.platform == "win32":
        return None
    if sys.platform == "linux":
        # getrusage's counts what the process that started this one held, too.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def page_faults() -> int | None:
    """So far, those that were served from memory and those that were read from disk."""
    if sys.platform == "win32":
        return None
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt + usage.ru_majflt
