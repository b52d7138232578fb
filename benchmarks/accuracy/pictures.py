"""Accuracy over its cost, one picture per data set of a study."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.accuracy.study import Records, Study

_AXES = {
    "generated_images": "generated images",
    "seconds": "seconds",
    "teacher_passes": "images through the teacher",
    "student_passes": "images through the student",
}


_LINES = ("solid", "dashed", "dotted")
_COLORS = 10
"""In matplotlib's cycle. Further arms have other lines, so that no two look alike."""


def draw(study: Study, records: Records, data: str, path: Path) -> None:
    """Draws the mean over seeds, and a band from the lowest to the highest seed."""
    figure = Figure(figsize=(14, 8), layout="constrained")
    for axes, (cost, label) in zip(figure.subplots(2, 2).flat, _AXES.items(), strict=True):
        for k, arm in enumerate(study.arms):
            found = study.found(records, data, arm)
            points = _points([record["curve"] for record in found.values()], cost)
            if not points:
                continue
            places, means, lowest, highest = zip(*points, strict=True)
            look = {"color": f"C{k % _COLORS}", "linestyle": _LINES[k // _COLORS % len(_LINES)]}
            axes.plot(places, means, label=arm, **look)
            axes.fill_between(places, lowest, highest, color=look["color"], alpha=0.08, linewidth=0)
        axes.set_xlabel(label)
        axes.set_ylabel("test accuracy, %")
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper")
    figure.suptitle(data)
    figure.savefig(path, dpi=120)


def _points(curves: list[list[dict[str, Any]]], cost: str) -> list[tuple[float, float, float, float]]:
    """Mean cost, and mean, lowest and highest accuracy, for each evaluation that exists for all seeds."""
    points = []
    for records in zip(*curves, strict=False):
        if all(cost in record for record in records):
            accuracies = [100 * record["student_accuracy"] for record in records]
            place = statistics.mean(record[cost] for record in records)
            points.append((place, statistics.mean(accuracies), min(accuracies), max(accuracies)))
    return points
