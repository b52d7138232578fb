"""The table and the files of ``run.py instructions``."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from benchmarks.measuring.results import Results, write
from benchmarks.measuring.tables import Sheet

COLUMNS = ("case", "mode", "contender", "elements", "instructions", "instructions_per_element")


def sheet(results: Results) -> Sheet:
    lines = tuple(
        (row["case"], row["mode"], f"{row['instructions']:,}", f"{row['instructions_per_element']:.2f}")
        for row in results["rows"]
    )
    return Sheet(
        "Instructions per call, including dispatch", ("kernel", "", "instructions", "per element"), lines
    )


def print_report(results: Results, console: Console) -> None:
    console.print(sheet(results).drawn())
    console.print("AVX-512 kernels are not counted, because valgrind emulates a processor without it.")


def save(results: Results, folder: Path) -> list[Path]:
    """Writes the run as JSON, CSV and Markdown; returns the files."""
    return write(results, COLUMNS, sheet(results).markdown(), folder)
