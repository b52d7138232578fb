"""The table of ``run.py bank``."""

from __future__ import annotations

from typing import Any

from benchmarks.bank.cases import Case
from benchmarks.measuring.tables import Sheet, duration


def sheet(case: Case, rows: list[dict[str, Any]]) -> Sheet:
    def line(row: dict[str, Any]) -> tuple[str, ...]:
        return (
            row["contender"],
            duration(row["seconds"]),
            f"{1 / row['seconds']:.2f}",
            _times(row["times_fresh"]),
            _times(row["times_alone"]),
            f"{row['asked']:.2f}",
        )

    columns = (
        "source of images",
        "student step",
        "steps/s",
        "x fresh",
        "x fresh, no generator's step",
        "teacher passes per image",
    )
    title = f"{case.pair.label}: {case.images:,} images in a bank, {case.views} views of each"
    return Sheet(title, columns, tuple(map(line, rows)))


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"
