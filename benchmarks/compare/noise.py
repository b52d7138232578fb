"""How much two runs of the same program differ: from round to round, and from one process to the next."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.compare.measurements import Measurement
from benchmarks.measuring.results import OURS, Results
from benchmarks.ops.heats import heats

ENOUGH_ROUNDS = 5  # for quartiles; of fewer the deviation counts
ENOUGH_OTHERS = 8  # to tell from them how much a process differs from the next
UNLUCKY = 0.95  # share of processes that are apart by less than their luck explains


def _spread(rounds: Sequence[float]) -> float:
    """The deviation of a round."""
    if len(rounds) < 2:
        return math.inf
    if len(rounds) < ENOUGH_ROUNDS:
        return statistics.stdev(rounds)
    first, _, third = statistics.quantiles(rounds, n=4, method="inclusive")
    return (third - first) / 1.349


@dataclass(frozen=True)
class Difference:
    """Logarithms: of ours, of the controls' own, and the deviation that rounds and controls let expect."""

    name: tuple[str, str]
    kin: str
    ours: float
    controls: float
    deviation: float


def difference_between(before: Measurement, after: Measurement) -> Difference:
    controls = sorted(set(before.controls) & set(after.controls))
    old, new = before.relative(controls), after.relative(controls)
    moved = [
        math.log(statistics.median(after.controls[name]) / statistics.median(before.controls[name]))
        for name in controls
    ]
    deviation = math.hypot(
        _spread(old), _spread(new), statistics.pstdev(moved) if moved else 0.0
    )  # controls that moved apart show what a process's luck does
    return Difference(
        after.name,
        after.kin,
        statistics.median(new) - statistics.median(old),
        statistics.mean(moved) if moved else 0.0,
        deviation,
    )


def _others(results: Results) -> dict[tuple[str, ...], float]:
    """Seconds of all that is no part of dfad_fast, ceilings too, with the pinned allocator."""
    if results["kind"] == "ops":
        return {
            (heat.case, heat.mode, heat.allocator, name): statistics.median(row["round_medians_seconds"])
            for heat in heats(results)
            for name, row in heat.rows.items()
            if name != OURS and heat.allocator == "pinned"
        }
    return {
        (row["pair"], row["race"], row["allocator"], row["contender"]): statistics.median(row["seconds"])
        for row in results["rows"]
        if row.get("loop") == "faithful" and row.get("seconds") and row["allocator"] == "pinned"
    }


def luck_of_others(before: Results, after: Results) -> float:
    """The deviation from one process to the next of the same program: of the others, none of which changed.

    A process whose memory lies well is faster in all its rounds, which do not show that; few are lucky, so the tail
    counts.
    """
    old, new = _others(before), _others(after)
    moved = [math.log(new[name] / old[name]) for name in new if name in old]
    if len(moved) < ENOUGH_OTHERS:
        return 0.0
    middle = statistics.median(moved)
    return _deviation_of_the_unlucky([abs(value - middle) for value in moved])


def luck_of_ours(measured: Iterable[Measurement]) -> dict[str, float]:
    """The same of our own processes, two of which ran at once, by kin: the deviation of two runs' difference.

    A run's time is the mean of its two processes', so two runs differ as much as two processes over the square root of
    two, and two processes are apart by the square root of two times a process's deviation.
    """
    distances: dict[str, list[float]] = {}
    for measurement in measured:
        if (apart := measurement.apart) is not None:
            distances.setdefault(measurement.kin, []).append(apart)
    return {kin: _deviation_of_the_unlucky(values) / math.sqrt(2) for kin, values in distances.items()}


def _deviation_of_the_unlucky(distances: Sequence[float]) -> float:
    """That of a normal distribution with as far a tail."""
    tail = sorted(distances)[math.ceil(UNLUCKY * len(distances)) - 1]
    return tail / statistics.NormalDist().inv_cdf((1 + UNLUCKY) / 2)
