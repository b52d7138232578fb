"""Tables of a study: mean and deviation over seeds, and differences to the baseline seed by seed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

from benchmarks.accuracy.study import Records, Study
from benchmarks.measuring.summaries import spread
from benchmarks.measuring.tables import Sheet

_COSTS = ("seconds_distill", "generated_images", "teacher_passes", "student_passes")


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
        arm: {seed: record["summary"] for seed, record in study.found(records, data, arm).items()}
        for arm in study.arms
    }
    base = found[study.baseline] if study.baseline else None
    teachers = {f"{100 * run['teacher_accuracy']:.2f}" for runs in found.values() for run in runs.values()}
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
    columns += ["seconds", "images", "through the teacher", "through the student"]
    lines = [_line(arm, runs, base) for arm, runs in found.items() if runs]
    return Sheet(f"{data}: teacher {' or '.join(sorted(teachers))} %", tuple(columns), tuple(lines))


def _line(
    arm: str, runs: Mapping[int, Mapping[str, Any]], base: Mapping[int, Mapping[str, Any]] | None
) -> tuple[str, ...]:
    rows = list(runs.values())
    shares = [100 * row["student_accuracy_final"] / row["teacher_accuracy"] for row in rows]
    cells = [arm, str(len(rows))]
    cells += [
        spread([row[name] for row in rows]) if len(rows) > 1 else f"{100 * rows[0][name]:.2f}"
        for name in ("student_accuracy_final", "student_accuracy_best", "agreement_final")
    ]
    cells += [f"{statistics.mean(shares):.2f}", f"{min(shares):.2f}"]
    if base is not None:
        cells.append(_difference(runs, base))
    cells += [f"{statistics.mean(row[name] or 0 for row in rows):,.0f}" for name in _COSTS]
    return tuple(cells)


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
