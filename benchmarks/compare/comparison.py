"""Differences between two runs of the same benchmark that noise does not explain.

The comparison uses this library's time relative to baseline contenders, which are not part of it and took turns with
it. So a slower machine does not count as a slower library. Instruction counts are reproducible and compared directly.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from benchmarks.compare.measurements import measurements
from benchmarks.compare.noise import difference_between, luck_of_others, luck_of_ours
from benchmarks.measuring.results import Results

DEVIATIONS = 3.0
ACCURACY_STEP = 0.01  # smallest difference of mean accuracy that counts
COUNTS_THRESHOLD = 0.1  # share of the threshold for times


class Unlike(Exception):
    """The two files cannot be compared; the message says why."""


@dataclass(frozen=True)
class Change:
    """A difference between two runs that noise does not explain; a ratio above 1 means that the second is slower."""

    name: tuple[str, str]
    ratio: float
    noise: float


@dataclass(frozen=True)
class AccuracyChange:
    """A difference of the mean accuracy over seeds that exceeds its error, as fractions."""

    name: str
    before: float
    after: float
    error: float


@dataclass(frozen=True)
class Comparison:
    """The changes of dfad_fast between two runs.

    ``lost`` measurements exist only in the first run; ``drift`` is the factor by which the baseline contenders' times
    changed.
    """

    kind: str
    compared: int
    changes: tuple[Change, ...]
    accuracies: tuple[AccuracyChange, ...]
    lost: tuple[tuple[str, str], ...]
    drift: float
    warnings: tuple[str, ...]

    @property
    def regressions(self) -> list[Change | AccuracyChange | tuple[str, str]]:
        slower = [change for change in self.changes if change.ratio > 1]
        return [*self.lost, *slower, *(change for change in self.accuracies if change.after < change.before)]


def compare(before: Results, after: Results, threshold: float = 0.1) -> Comparison:
    """Changes that exceed ``threshold`` (instructions: a tenth of it) and three deviations.

    The deviation combines that between rounds, between controls, and between processes of the same program. Such
    processes are the baseline contenders', and for ops also our own.
    """
    if before["kind"] != after["kind"]:
        raise Unlike(
            f"one file is of {before['kind']}, the other of {after['kind']}: both must be of the same kind"
        )
    counts = before["kind"] == "instructions"
    old = {m.name: m for m in measurements(before)}
    new = {m.name: m for m in measurements(after)}
    found = [difference_between(old[name], m) for name, m in new.items() if name in old]
    if not found:
        raise Unlike("the files have no measurement in common: compare runs of the same command")
    # An interrupted run naturally lacks some measurements; a complete run lost them.
    lost = tuple(name for name in old if name not in new) if after["complete"] else ()
    luck = luck_of_others(before, after)
    own_luck = luck_of_ours([*old.values(), *new.values()])
    changes = []
    for difference in found:
        noise = (
            0.0
            if counts
            else DEVIATIONS * math.hypot(difference.deviation, luck, own_luck.get(difference.kin, 0.0))
        )
        least = math.log1p(threshold * (COUNTS_THRESHOLD if counts else 1.0))
        if abs(difference.ours) > max(least, noise):
            changes.append(Change(difference.name, math.exp(difference.ours), noise))
    changes.sort(key=lambda change: -abs(math.log(change.ratio)))
    drift = math.exp(statistics.median(d.controls for d in found))
    accuracies = tuple(_accuracies(before, after))
    return Comparison(
        before["kind"], len(found), tuple(changes), accuracies, lost, drift, tuple(_warnings(before, after))
    )


def _accuracies(before: Results, after: Results) -> Iterator[AccuracyChange]:
    old = {(row["pair"], row["contender"]): row for row in before["rows"] if row.get("final_accuracies")}
    for row in after["rows"]:
        earlier = old.get((row.get("pair"), row["contender"])) if row.get("final_accuracies") else None
        if earlier is None:
            continue
        was, now = earlier["final_accuracies"], row["final_accuracies"]
        if min(len(was), len(now)) < 2:
            continue
        error = math.sqrt(sum(statistics.variance(values) / len(values) for values in (was, now)))
        step = statistics.mean(now) - statistics.mean(was)
        if abs(step) > max(ACCURACY_STEP, DEVIATIONS * error):
            yield AccuracyChange(row["contender"], statistics.mean(was), statistics.mean(now), error)


def _warnings(before: Results, after: Results) -> Iterable[str]:
    for when, results in (("first", before), ("second", after)):
        if not results["complete"]:
            yield f"the {when} run was interrupted"
    for name, what in (("job", "runs"), ("pairs", "pairs of networks")):
        if before.get(name) != after.get(name):
            yield f"the {what} differ, so the compared work is not the same"
    if single := [
        m.name for m in measurements(after) if len(m.rounds) < 2 and after["kind"] != "instructions"
    ]:
        yield f"measured only once, so noise is unknown: {', '.join(name for name, _ in single)}"
    for name in ("cpu", "cores", "device"):
        if before["machine"][name] != after["machine"][name]:
            yield f"{name} differs: {before['machine'][name]} and {after['machine'][name]}"
    if before["settings"]["threads"] != after["settings"]["threads"]:
        yield f"threads differ: {before['settings']['threads']} and {after['settings']['threads']}"
    if before["machine"]["versions"]["torch"] != after["machine"]["versions"]["torch"]:
        yield "versions of torch differ, and so do the contenders against which changes are measured"
    controls = {m.name: set(m.controls) for m in measurements(before)}
    alone = [m.name for m in measurements(after) if not controls.get(m.name, set()) & set(m.controls)]
    if alone and after["kind"] != "instructions":
        names = ", ".join(dict.fromkeys(name for name, _ in alone))
        yield f"no baseline contender ran next to these, so a slower machine counts as a change: {names}"
