"""The contenders of a race, and a row of results for each."""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.measuring.process import Entry
from benchmarks.measuring.summaries import quartiles
from benchmarks.step.cases import FAITHFUL, Contender, Pair


@dataclasses.dataclass
class Racer(Entry):
    """A contender with one of the allocators."""

    row: Contender = dataclasses.field(kw_only=True)
    allocator: str = dataclasses.field(kw_only=True)
    skipped: bool = False

    @property
    def seconds(self) -> list[float]:
        return [turn.seconds for turn in self.turns.get("step", [])]


def published_loop(racer: Racer, racers: Sequence[Racer]) -> Racer | None:
    """The published loop of the racer's method."""
    for other in racers:
        if (other.row.loop, other.allocator) == (
            "faithful",
            "pinned",
        ) and other.row.method == racer.row.method:
            return other
    return None


def describe(pair: Pair, racer: Racer, racers: Sequence[Racer]) -> dict[str, Any]:
    """The results of a contender. Ratios are medians over rounds, because the turns of a round are close in time."""
    row: dict[str, Any] = {
        "pair": pair.name,
        "contender": racer.contender,
        "allocator": racer.allocator,
        "loop": racer.row.loop,
        "method": racer.row.method,
        "speed": None if racer.row.speed is None else str(racer.row.speed),
        "problem": racer.problem,
        "skipped": racer.skipped,
        "load_average": os.getloadavg()[0],
        **{key: value for key, value in racer.facts.items() if key != "losses"},
    }
    if racer.problem is not None or not racer.seconds:
        return row
    first, median, third = quartiles(racer.seconds)
    row |= {
        "median_seconds": median,
        "first_quartile_seconds": first,
        "third_quartile_seconds": third,
        "runs": len(racer.seconds),
        "seconds": racer.seconds,
        "peak_bytes": racer.turns["step"][-1].peak_bytes,
        "page_faults": statistics.median(turn.faults for turn in racer.turns["step"]),
        "images_per_second": row["images"] / median,
    }
    if published := _rival(FAITHFUL, racer.allocator, racers):
        row["speedup"] = _median_ratio(published, racer)
    if plain := _rival(racer.row.against, racer.allocator, racers):
        row["cost_of_method"] = _median_ratio(racer, plain) * plain.facts["images"] / racer.facts["images"]
    return row


def _rival(name: str | None, allocator: str, racers: Sequence[Racer]) -> Racer | None:
    for other in racers:
        if (
            other.contender == name
            and other.allocator == allocator
            and other.problem is None
            and other.seconds
        ):
            return other
    return None


def _median_ratio(above: Racer, below: Racer) -> float:
    return statistics.median(a / b for a, b in zip(above.seconds, below.seconds, strict=False))
