"""The machine and software of a measurement, for its records."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from dfad_fast import backends
from dfad_fast.environment import device_name, versions

ROOT = Path(__file__).resolve().parents[2]


def _output(*command: str) -> str | None:
    """The output of a command; None if it is missing or fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def revision() -> str | None:
    """The git revision, such as "17b6088", or "17b6088-dirty" if files have uncommitted changes."""
    return _output("git", "describe", "--always", "--dirty")


def cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def caches() -> dict[str, str]:
    """Sizes of the first core's caches, if Linux reports them."""
    sizes = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        sizes[f"L{level} {kind.lower()}"] = size
    return sizes


def huge_pages() -> str | None:
    """Linux's setting for transparent huge pages, such as "madvise". It changes the number of page faults."""
    try:
        text = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return None
    return text.partition("[")[2].partition("]")[0] or None


def describe(device: str) -> dict[str, Any]:
    """The machine and the software, as plain data."""
    compiler = _output(os.environ.get("CXX", "c++").split()[0], "--version")
    revision = _output("git", "rev-parse", "HEAD")
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "caches": caches(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "huge_pages": huge_pages(),
        "load_average": list(os.getloadavg()),
        "system": platform.platform(),
        "libc": " ".join(platform.libc_ver()),
        "compiler": compiler.splitlines()[0] if compiler else None,
        "device": device_name(torch.device(device)),
        "versions": versions(),
        "backend": dict(zip(("name", "reason"), backends.choice(device), strict=True)),
        "git_revision": revision,
        "git_changes": bool(_output("git", "status", "--porcelain")) if revision else None,
    }
