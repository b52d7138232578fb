"""The table of ``run.py processes``."""

from __future__ import annotations

from typing import Any

from benchmarks.measuring.tables import Sheet, size
from benchmarks.step.cases import PAIRS


def sheet(pair: str, method: str, rows: list[dict[str, Any]]) -> Sheet:
    def line(row: dict[str, Any]) -> tuple[str, ...]:
        said = row["said"]
        others = sum(said.get(name, 0) for name in ("all_reduce", "all_gather", "all_to_all_single"))
        calls = sum(count for name, count in said.items() if name.endswith("calls"))
        several = row["processes"] > 1
        return (
            row["name"],
            f"{row['images'] / row['seconds']:,.0f}",
            f"{rows[0]['seconds'] / row['seconds']:.2f}",
            size(said.get("gradients", 0)) if several else "-",
            size(others) if several else "-",
            str(calls) if several else "-",
        )

    columns = ("processes", "images/s", "x one thread", "gradients", "other bytes", "collectives")
    return Sheet(
        f"{PAIRS[pair].teacher} -> {PAIRS[pair].student}, {method}: per iteration",
        columns,
        tuple(map(line, rows)),
    )
