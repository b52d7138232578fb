"""Instruction counts of the C++ kernels, by valgrind's callgrind. They do not depend on the machine's load."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.instructions.worker import REPEATS
from benchmarks.measuring.machine import ROOT
from benchmarks.measuring.results import OURS, Results, begin
from benchmarks.measuring.settings import Settings

PROGRAMS = ("valgrind", "callgrind_control")
MODULE = "benchmarks.instructions.worker"
SECONDS = 600  # timeout


class Unavailable(Exception):
    """Instructions cannot be counted here; the message says why."""


def run() -> Results:
    """Results as plain data."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise Unavailable(f"counting instructions needs {' and '.join(missing)} (Debian: package valgrind)")
    if not torch._C._valgrind_supported_platform():
        raise Unavailable("this build of torch has no support for valgrind")
    if find_spec("dfad_fast._C") is None:
        raise Unavailable("the C++ kernels are not built: python -m dfad_fast.info says why")
    results = begin("instructions", Settings(threads=1))
    with tempfile.TemporaryDirectory(prefix="dfad_fast_benchmark_") as scratch:
        table = Path(scratch, "table.json")
        _under_callgrind(Path(scratch, "counts"), ["-m", MODULE, str(table)])
        rows = json.loads(table.read_text())
        counts = [_total(Path(scratch, f"counts.{i + 1}")) for i in range(REPEATS * len(rows))]
    for i, row in enumerate(rows):
        # The minimum, because first calls also fill caches, which is not part of a kernel.
        fewest = min(counts[REPEATS * i : REPEATS * (i + 1)])
        results["rows"].append(
            {
                "case": row["case"],
                "mode": f"{row['direction']}, {row['tier']}",
                "contender": OURS,
                "elements": row["elements"],
                "instructions": fewest,
                "instructions_per_element": fewest / row["elements"],
            }
        )
    results["complete"] = True
    return results


def _under_callgrind(counts: Path, arguments: Sequence[str]) -> None:
    command = [
        "valgrind", "--tool=callgrind", "--instr-atstart=no", "--collect-atstart=no",
        f"--callgrind-out-file={counts}", sys.executable, *arguments,
    ]  # fmt: skip
    # Makes random draws and hash orders reproducible.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"valgrind did not finish within {SECONDS} s") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line and not line.startswith("==")]
        raise Unavailable(f"under valgrind: {lines[-1] if lines else f'exit code {done.returncode}'}")


def _total(dump: Path) -> int:
    for line in dump.read_text().splitlines():
        if line.startswith("totals:"):
            return int(line.split()[1])
    raise Unavailable(f"{dump.name}, written by callgrind, contains no total")
