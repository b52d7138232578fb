"""Noise between two runs of the same program: between rounds, and between processes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.compare.measurements import Measurement
from benchmarks.measuring.results import OURS, Results
from benchmarks.ops.heats import heats

ENOUGH_ROUNDS = 5  # minimum for quartiles; with fewer rounds the standard deviation is used
ENOUGH_OTHERS = 8  # minimum number of baseline contenders to estimate the deviation between processes
UNLUCKY = 0.95  # quantile of the distances between processes from which the deviation is estimated


def _spread(rounds: Sequence[float]) -> float:
    """The standard deviation of a round."""
    if len(rounds) < 2:
        return math.inf
    if len(rounds) < ENOUGH_ROUNDS:
        return statistics.stdev(rounds)
    first, _, third = statistics.quantiles(rounds, n=4, method="inclusive")
    return (third - first) / 1.349


@dataclass(frozen=True)
class Difference:
    """Logarithms: our relative change, the controls' change, and the deviation expected from rounds and controls."""

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
    )  # different changes of the controls show how much processes vary
    return Difference(
        after.name,
        after.kin,
        statistics.median(new) - statistics.median(old),
        statistics.mean(moved) if moved else 0.0,
        deviation,
    )


def _others(results: Results) -> dict[tuple[str, ...], float]:
    """Seconds of all baseline contenders and ceilings, with the pinned allocator."""
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
    """The deviation between processes of the same program, from the baseline contenders, which did not change.

    A process with a lucky memory layout is faster in all its rounds, so rounds do not show this deviation. Such luck is
    rare, so the tail of the distribution is used.
    """
    old, new = _others(before), _others(after)
    moved = [math.log(new[name] / old[name]) for name in new if name in old]
    if len(moved) < ENOUGH_OTHERS:
        return 0.0
    middle = statistics.median(moved)
    return _deviation_of_the_unlucky([abs(value - middle) for value in moved])


def luck_of_ours(measured: Iterable[Measurement]) -> dict[str, float]:
    """The deviation of the difference between two runs by kin, from our own pairs of processes that ran at once.

    Two processes differ by the square root of two times the deviation of one process. A run's time is the mean of its
    two processes, so two runs differ by the difference of two processes over the square root of two.
    """
    distances: dict[str, list[float]] = {}
    for measurement in measured:
        if (apart := measurement.apart) is not None:
            distances.setdefault(measurement.kin, []).append(apart)
    return {kin: _deviation_of_the_unlucky(values) / math.sqrt(2) for kin, values in distances.items()}


def _deviation_of_the_unlucky(distances: Sequence[float]) -> float:
    """The deviation of a normal distribution with the same tail."""
    tail = sorted(distances)[math.ceil(UNLUCKY * len(distances)) - 1]
    return tail / statistics.NormalDist().inv_cdf((1 + UNLUCKY) / 2)
