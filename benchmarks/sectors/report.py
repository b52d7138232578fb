"""The table of ``run.py sectors``."""

from __future__ import annotations

from typing import Any

from benchmarks.measuring.tables import Sheet
from benchmarks.sectors.counting import KEY, Row, used

NOTE = (
    "Used: the share of the bytes in the 32-byte sectors that the requests of a warp touch, all loads and all stores "
    "of a call together. Requests: loads and stores of more than one element. Single: those where all lanes access "
    "the same element; they count for nothing in the shares. An arrow leads from an earlier revision."
)


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _cell(row: Row, kind: str) -> str:
    now = _share(used(row, kind))
    before: dict[str, Any] | None = row.get("before")
    return now if before is None else f"{_share(before[kind])} → {now}" if now else ""


def sheet(rows: list[Row]) -> Sheet:
    lines = tuple(
        (
            *(row[name] for name in KEY),
            _cell(row, "load"),
            _cell(row, "store"),
            str(row.get("load requests", 0) + row.get("store requests", 0)),
            str(row.get("single", 0)),
        )
        for row in rows
    )
    return Sheet(
        "Sectors of memory that requests use", (*KEY, "loads use", "stores use", "requests", "single"), lines
    )
