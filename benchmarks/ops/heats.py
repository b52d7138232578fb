"""The rows of an ops run, grouped by race."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from benchmarks.measuring.results import OURS, Results

Row = dict[str, Any]


@dataclass(frozen=True)
class Heat:
    """One case in one mode with one allocator: the rows of all contenders that finished."""

    case: str
    mode: str
    allocator: str
    rows: dict[str, Row]

    def speedup(self, contender: str) -> float | None:
        """Another contender's time over ours: the median over rounds, because a round's turns are close in time. None
        if either is missing."""
        ours, other = self.rows.get(OURS), self.rows.get(contender)
        if ours is None or other is None:
            return None
        pairs = zip(other["round_medians_seconds"], ours["round_medians_seconds"], strict=False)
        return statistics.median(b / a for b, a in pairs)

    def fastest(self, kind: str) -> str | None:
        """The fastest contender of a kind, ``eager`` or ``compile``."""
        names = [name for name in self.rows if name.startswith(kind)]
        return min(names, key=lambda name: self.rows[name]["median_seconds"], default=None)


def heats(results: Results) -> list[Heat]:
    grouped: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in results["rows"]:
        grouped.setdefault((row["case"], row["mode"], row["allocator"]), {})[row["contender"]] = row
    return [Heat(*key, rows) for key, rows in grouped.items()]
