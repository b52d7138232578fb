"""Plot of ``run.py train``: accuracy over seconds of training."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from benchmarks.measuring.results import Results
from benchmarks.train.cases import SHARES


def draw(results: Results, folder: Path) -> list[Path]:
    """One line per contender, the mean over seeds; draws nothing if there are no measurements."""
    rows = [row for row in results["rows"] if "final_accuracies" in row]
    if not rows:
        return []
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    for number, row in enumerate(rows):
        seconds = [list(itertools.accumulate(p["seconds"] for p in curve)) for curve in row["curves"]]
        accuracy = [[100 * p["accuracy"] for p in curve] for curve in row["curves"]]
        # An interrupted seed ends earlier than the others.
        xs, ys = (
            [statistics.mean(values) for values in zip(*of, strict=False)] for of in (seconds, accuracy)
        )
        style = "--" if row["loop"] == "faithful" else "-"
        axes.plot(xs, ys, style, color=f"C{number}", label=row["contender"])
    for share in SHARES:
        axes.axhline(100 * share * rows[0]["teacher_accuracy"], color="0.7", linewidth=0.8)
    axes.set(xlabel="seconds of training", ylabel="test accuracy, %", title=results["job"]["dataset"])
    axes.legend(fontsize=8, loc="lower right")
    file = folder / "accuracy.png"
    figure.savefig(file, dpi=110)
    plt.close(figure)
    return [file]
