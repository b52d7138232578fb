"""Differences between two runs of the same benchmark that noise does not explain.

What is compared is this library's time in proportion to that of contenders which are no part of it and took turns with
it, so that a slower machine is no slower library. Instruction counts repeat, and are compared as they are.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console

from benchmarks.contenders import OURS
from benchmarks.measure import CEILINGS
from benchmarks.report import heats
from benchmarks.results import Results
from benchmarks.tables import Sheet

DEVIATIONS = 3.0
ENOUGH_ROUNDS = 5  # for quartiles; of fewer the deviation counts
ENOUGH_OTHERS = 8  # to tell from them how much a process differs from the next
UNLUCKY = 0.95  # share of processes that are apart by less than their luck explains
ACCURACY_STEP = 0.01  # smallest difference of mean accuracy that counts
COUNTS_THRESHOLD = 0.1  # of the threshold for times


class Unlike(Exception):
    """Two files that cannot be compared; the text says why."""


@dataclass(frozen=True)
class Measurement:
    """Something of ours round by round, and beside it what is not ours and ran in the same rounds."""

    name: tuple[str, str]
    rounds: Sequence[float]
    controls: dict[str, Sequence[float]] = field(default_factory=dict)
    processes: Sequence[float] = ()  # medians of those that ours ran in at once
    kin: str = ""  # what measurements share whose processes are as lucky as each other

    def relative(self, controls: Sequence[str]) -> list[float]:
        """Logarithms of ours over the geometric mean of ``controls``, by round."""
        columns = [self.rounds, *(self.controls[name] for name in controls)]
        logs = [[math.log(value) for value in row] for row in zip(*columns, strict=False)]
        return [row[0] - (statistics.mean(row[1:]) if controls else 0.0) for row in logs]

    @property
    def apart(self) -> float | None:
        """How far two processes of ours are from each other, as a logarithm; None of one."""
        if len(self.processes) != 2:
            return None
        return abs(math.log(self.processes[0] / self.processes[1]))


@dataclass(frozen=True)
class Change:
    """A difference between two runs that noise does not explain; above 1 the second run is slower."""

    name: tuple[str, str]
    ratio: float
    noise: float


@dataclass(frozen=True)
class AccuracyChange:
    """A difference of mean accuracy over seeds beyond its error, as fractions."""

    name: str
    before: float
    after: float
    error: float


@dataclass(frozen=True)
class Comparison:
    """What changed in dfad_fast from one run to another.

    ``lost`` was measured in the first and not in the second; ``drift`` is what the others' times were multiplied by.
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


def measurements(results: Results) -> Iterator[Measurement]:
    """Whatever is ours in a file."""
    if results["kind"] == "ops":
        yield from _of_ops(results)
    elif results["kind"] == "instructions":
        for row in results["rows"]:
            yield Measurement((row["case"], row["mode"]), [row["instructions"]])
    else:
        yield from _of_loops(results)


def _of_ops(results: Results) -> Iterator[Measurement]:
    for heat in heats(results):
        if ours := heat.rows.get(OURS):
            controls = {
                name: row["round_medians_seconds"]
                for name, row in heat.rows.items()
                if name not in (OURS, *CEILINGS)
            }
            mode = heat.mode if heat.allocator == "pinned" else f"{heat.mode}, allocator as it comes"
            processes = ours.get("process_medians_seconds", ())  # older files have one process
            yield Measurement(
                (heat.case, mode), ours["round_medians_seconds"], controls, processes, ours["op"]
            )


def _of_loops(results: Results) -> Iterator[Measurement]:
    """Of whole iterations: the trainer's beside the published loop's."""
    rows = [row for row in results["rows"] if row.get("seconds")]
    for row in rows:
        if row["loop"] != "faithful":
            race = [row[key] for key in ("pair", "race", "allocator")]
            controls = {
                other["contender"]: other["seconds"]
                for other in rows
                if other["loop"] == "faithful"
                and [other[key] for key in ("pair", "race", "allocator")] == race
            }
            yield Measurement((row["contender"], ", ".join(race)), row["seconds"], controls)


def _spread(rounds: Sequence[float]) -> float:
    """The deviation of a round."""
    if len(rounds) < 2:
        return math.inf
    if len(rounds) < ENOUGH_ROUNDS:
        return statistics.stdev(rounds)
    first, _, third = statistics.quantiles(rounds, n=4, method="inclusive")
    return (third - first) / 1.349


@dataclass(frozen=True)
class _Difference:
    """Logarithms: of ours, of the controls' own, and the deviation that rounds and controls let expect."""

    name: tuple[str, str]
    kin: str
    ours: float
    controls: float
    deviation: float


def _difference(before: Measurement, after: Measurement) -> _Difference:
    controls = sorted(set(before.controls) & set(after.controls))
    old, new = before.relative(controls), after.relative(controls)
    moved = [
        math.log(statistics.median(after.controls[name]) / statistics.median(before.controls[name]))
        for name in controls
    ]
    deviation = math.hypot(
        _spread(old), _spread(new), statistics.pstdev(moved) if moved else 0.0
    )  # controls that moved apart show what a process's luck does
    return _Difference(
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


def _luck(before: Results, after: Results) -> float:
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


def _own_luck(measured: Iterable[Measurement]) -> dict[str, float]:
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
    """Of a normal distribution with as far a tail."""
    tail = sorted(distances)[math.ceil(UNLUCKY * len(distances)) - 1]
    return tail / statistics.NormalDist().inv_cdf((1 + UNLUCKY) / 2)


def compare(before: Results, after: Results, threshold: float = 0.1) -> Comparison:
    """Changes that exceed ``threshold`` (instructions: a tenth of it) and three deviations.

    The deviation is that of the rounds, of the controls among themselves, and of processes of the same program: others'
    and, in the comparison of ops, our own.
    """
    if before["kind"] != after["kind"]:
        raise Unlike(f"one file is of {before['kind']}, the other of {after['kind']}: compare two of a kind")
    counts = before["kind"] == "instructions"
    old = {m.name: m for m in measurements(before)}
    new = {m.name: m for m in measurements(after)}
    found = [_difference(old[name], m) for name, m in new.items() if name in old]
    if not found:
        raise Unlike("the files have no measurement in common: compare runs of the same command")
    # A file that was cut short, or of fewer cases, lacks some by its nature; one that is whole lost them.
    lost = tuple(name for name in old if name not in new) if after["complete"] else ()
    luck = _luck(before, after)
    own_luck = _own_luck([*old.values(), *new.values()])
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
            yield f"the {what} differ: what is compared is not the same work"
    if single := [
        m.name for m in measurements(after) if len(m.rounds) < 2 and after["kind"] != "instructions"
    ]:
        yield f"measured only once, which tells nothing: {', '.join(name for name, _ in single)}"
    for name in ("cpu", "cores", "device"):
        if before["machine"][name] != after["machine"][name]:
            yield f"{name} differs: {before['machine'][name]} and {after['machine'][name]}"
    if before["settings"]["threads"] != after["settings"]["threads"]:
        yield f"threads differ: {before['settings']['threads']} and {after['settings']['threads']}"
    if before["machine"]["versions"]["torch"] != after["machine"]["versions"]["torch"]:
        yield "versions of torch differ, and with them the contenders that changes are measured against"
    controls = {m.name: set(m.controls) for m in measurements(before)}
    alone = [m.name for m in measurements(after) if not controls.get(m.name, set()) & set(m.controls)]
    if alone and after["kind"] != "instructions":
        names = ", ".join(dict.fromkeys(name for name, _ in alone))
        yield f"nothing that is no part of dfad_fast ran beside these, so a slower machine counts: {names}"


def print_comparison(found: Comparison, console: Console) -> None:
    for warning in found.warnings:
        console.print(f"note: {warning}")
    drift = (
        ""
        if found.kind == "instructions"
        else f"; the contenders that are no part of dfad_fast took {found.drift:.2f}x their earlier time (median), "
        "which is taken out"
    )
    console.print(f"{found.compared} measurements compared{drift}.")
    for name, where in found.lost:
        console.print(f"lost: {name}, {where} was measured in the first run and not in the second")
    if not found.changes and not found.accuracies and not found.lost:
        console.print("no difference beyond noise")
    noun = "instructions" if found.kind == "instructions" else "time"
    if found.changes:
        lines = tuple(
            (
                *c.name,
                f"{c.ratio:.3g}x the {noun}" if c.ratio > 1 else f"1/{1 / c.ratio:.3g} of the {noun}",
                f"{c.noise:.0%}",
            )
            for c in found.changes
        )
        console.print(Sheet("Differences beyond noise", ("what", "how", OURS, "noise"), lines).drawn())
    if found.accuracies:
        rows = tuple(
            (a.name, f"{100 * a.before:.2f} %", f"{100 * a.after:.2f} %", f"{100 * a.error:.2f} %")
            for a in found.accuracies
        )
        columns = ("contender", "before", "after", "standard error")
        console.print(Sheet("Final accuracy beyond noise", columns, rows).drawn())
