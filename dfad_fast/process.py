"""What the system reports about processes. Figures are None if it does not report them."""

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
        # getrusage's figure includes what the parent process held.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def page_faults() -> int | None:
    """Page faults so far: those served from memory plus those read from disk."""
    if sys.platform == "win32":
        return None
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt + usage.ru_majflt


def start_of(process: int) -> str | None:
    """When the process with this id started, in the system's own format; None if there is no such process.

    "" if the system does not say: on some systems for other users' processes, on Windows for all.
    """
    if sys.platform == "win32":
        return ""
    if sys.platform == "linux":
        try:
            # The name, which may contain anything, is in parentheses.
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
        env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},  # so that all processes read the same text
    )
    return listed.stdout.strip() or None


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True  # another user's process
    except OSError:
        return False
    return True
