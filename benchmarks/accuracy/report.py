"""Tables of a study: mean and deviation over seeds, and differences to the baseline seed by seed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

from benchmarks.accuracy.study import Records, Study
from benchmarks.measuring.summaries import spread
from benchmarks.measuring.tables import Sheet

_COSTS = {
    "seconds_distill": "seconds",
    "cpu_seconds": "CPU seconds",
    "generated_images": "images",
    "teacher_passes": "through the teacher",
    "student_passes": "through the student",
    "queries": "queries",
}


def sheets(study: Study, records: Records) -> list[Sheet]:
    """One table per data set."""
    return [_sheet(study, records, data) for data in study.data]


def confidence(values: Sequence[float]) -> tuple[float, float] | None:
    """Mean and half-width of its 95 % confidence interval by Student's t; None for fewer than two values."""
    if len(values) < 2:
        return None
    error = statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values), float(stats.t.ppf(0.975, len(values) - 1)) * error


def _sheet(study: Study, records: Records, data: str) -> Sheet:
    found = {
        arm: {
            seed: {**record["summary"], "cpu_seconds": record.get("cpu_seconds")}
            for seed, record in study.found(records, data, arm).items()
        }
        for arm in study.arms
    }
    base = found[study.baseline] if study.baseline else None
    runs_of_all = [run for runs in found.values() for run in runs.values()]
    # A black box is asked about no test image.
    known = {run["teacher_accuracy"] for run in runs_of_all if run["teacher_accuracy"] is not None}
    teachers = sorted(f"{100 * accuracy:.2f}" for accuracy in known)
    columns = [
        "arm",
        "seeds",
        "final %",
        "best %",
        "agreement %",
        "share of the teacher's %",
        "worst share %",
    ]
    if study.baseline:
        columns.append(f"final minus {study.baseline}'s (95 %)")
    columns += _COSTS.values()
    lines = [_line(arm, runs, base) for arm, runs in found.items() if runs]
    title = f"{data}: teacher {' or '.join(teachers)} %" if teachers else data
    return Sheet(title, tuple(columns), tuple(lines))


def _line(
    arm: str, runs: Mapping[int, Mapping[str, Any]], base: Mapping[int, Mapping[str, Any]] | None
) -> tuple[str, ...]:
    rows = list(runs.values())
    shares = [
        100 * row["student_accuracy_final"] / row["teacher_accuracy"]
        for row in rows
        if row["teacher_accuracy"]
    ]
    cells = [arm, str(len(rows))]
    cells += [
        _percent([row[name] for row in rows if row[name] is not None])
        for name in ("student_accuracy_final", "student_accuracy_best", "agreement_final")
    ]
    cells += [f"{statistics.mean(shares):.2f}", f"{min(shares):.2f}"] if shares else ["-", "-"]
    if base is not None:
        cells.append(_difference(runs, base))
    cells += [_mean([row.get(name) for row in rows]) for name in _COSTS]
    return tuple(cells)


def _percent(fractions: Sequence[float]) -> str:
    return spread(fractions) if len(fractions) > 1 else f"{100 * fractions[0]:.2f}" if fractions else "-"


def _mean(costs: Sequence[float | None]) -> str:
    """Over the runs that have this cost; a dash if none has."""
    known = [cost for cost in costs if cost is not None]
    return f"{statistics.mean(known):,.0f}" if known else "-"


def _difference(runs: Mapping[int, Mapping[str, Any]], base: Mapping[int, Mapping[str, Any]]) -> str:
    """The difference over the seeds that both have."""
    if runs is base:
        return "-"
    final = "student_accuracy_final"
    paired = [100 * (runs[seed][final] - base[seed][final]) for seed in runs if seed in base]
    found = confidence(paired)
    if found is None:
        return f"{paired[0]:+.2f}" if paired else "-"
    mean, half = found
    return f"{mean:+.2f} ± {half:.2f}"
