"""What the system counts of this process. None where it does not tell."""

from __future__ import annotations

import os
import subprocess
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


def start_of(process: int) -> str | None:
    """When the process with this number began, in the system's own words; None where there is none.

    "" where the system does not tell: as of other people's processes on some, and of all on Windows.
    """
    if sys.platform == "win32":
        return ""
    if sys.platform == "linux":
        try:
            # Its name, which may hold anything, is in parentheses.
            told = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return "" if _exists(process) else None
        state, ticks_since_boot = told[0], told[19]
        return None if state in (b"Z", b"X") else ticks_since_boot.decode()
    listed = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(process)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},  # so that all processes read the same words
    )
    return listed.stdout.strip() or None


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True  # another user's
    except OSError:
        return False
    return True
