"""The table of ``run.py methods``."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.measuring.summaries import spread

_COSTS = ("generated_images", "teacher_passes", "student_passes")


def _line(name: str, rows: list[dict[str, Any]], accuracy: str) -> str:
    worst = min(row[f"{accuracy}_final"] / row["teacher_accuracy"] for row in rows)
    cells = [
        spread([row[f"{accuracy}_final"] for row in rows]),
        spread([row[f"{accuracy}_best"] for row in rows]),
        spread([row["agreement_final"] for row in rows]) if accuracy == "student_accuracy" else "-",
        f"{100 * worst:.2f}",
        f"{statistics.mean(row['seconds_distill'] for row in rows):.0f}",
        *(f"{statistics.mean(row[name] or 0 for row in rows):,.0f}" for name in _COSTS),
    ]
    return f"| {name} | {' | '.join(cells)} |"


def tabulate(runs: dict[str, list[dict[str, Any]]]) -> str:
    """One row per method with mean and deviation over seeds in percent; another one for an averaged student."""
    lines = [
        "| method | final accuracy | best accuracy | agreement | worst final / teacher | seconds | generated images "
        "| images through the teacher | images through the student |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for method, rows in runs.items():
        lines.append(_line(f"`{method}`", rows, "student_accuracy"))
        if "averaged_accuracy_final" in rows[0]:
            lines.append(_line(f"`{method}`, the averaged student", rows, "averaged_accuracy"))
    rows = next(iter(runs.values()))
    first = rows[0]
    lines.append("")
    lines.append(
        f"Teacher {100 * first['teacher_accuracy']:.2f} %, {len(rows)} seeds, mean ± sample deviation, in percent; "
        f"{first['threads']} thread(s) per run on {first['device']}, torch {first['versions']['torch']}."
    )
    return "\n".join(lines)
