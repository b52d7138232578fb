"""Runs the workers, one for each compiler, and puts their counts together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring.machine import ROOT

COMPILERS = ("cuda", "triton")
KEY = ("op", "compiler", "dtype", "layout", "direction")
SECTOR = 32  # bytes
Row = dict[str, Any]


class Unavailable(Exception):
    """Requests cannot be counted here; the text says why."""


def used(row: Row, kind: str) -> float | None:
    """The share of the bytes of the sectors that loads, or stores, touch; None without any."""
    sectors = row.get(f"{kind} sectors", 0)
    return row[f"{kind} bytes"] / (SECTOR * sectors) if sectors else None


def count(compilers: Sequence[str]) -> list[Row]:
    """A row per op, compiler, dtype, layout and direction.

    Raises:
        Unavailable: nvcc or triton is missing, or a kernel failed.
    """
    with tempfile.TemporaryDirectory(prefix="dfad_fast_benchmark_") as scratch:
        return [row for compiler in compilers for row in _of(compiler, Path(scratch, compiler))]


def _of(compiler: str, table: Path) -> list[Row]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.sectors.worker", compiler, str(table)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise Unavailable(f"{compiler}: {lines[-1] if lines else f'exit code {done.returncode}'}")
    rows: list[Row] = json.loads(table.read_text())
    return rows


def beside(rows: list[Row], before: Sequence[Row]) -> None:
    """Give each row the shares that ``before`` has for it."""
    earlier = {tuple(row[name] for name in KEY): row for row in before}
    for row in rows:
        if old := earlier.get(tuple(row[name] for name in KEY)):
            row["before"] = {kind: used(old, kind) for kind in ("load", "store")}
