"""Plots of ``run.py step``: the time of each part of an iteration, and images per second."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measuring.results import Results
from benchmarks.measuring.tables import duration
from dfad_fast.profiling.profiling import PARTS


def _figure(panels: int, rows: int) -> tuple[Figure, list[Axes]]:
    """Panels side by side, each with space for ``rows`` bars."""
    figure, axes = plt.subplots(
        1, panels, figsize=(7 * panels, 1.4 + 0.35 * rows), squeeze=False, layout="constrained"
    )
    return figure, list(axes[0])


def _save(figure: Figure, file: Path) -> None:
    figure.savefig(file, dpi=110)
    plt.close(figure)


def breakdown(results: Results, file: Path) -> None:
    """One bar per trainer, divided into the parts of its iteration."""
    rows = results["breakdowns"]
    pairs = list(dict.fromkeys(row["pair"] for row in rows))
    figure, axes = _figure(len(pairs), 2 + len({row["contender"] for row in rows}))
    colors = plt.get_cmap("tab20")  # its colors come in pairs, like forward and backward
    for panel, pair in zip(axes, pairs, strict=True):
        mine = [row for row in rows if row["pair"] == pair]
        names = list(dict.fromkeys(row["contender"] for row in mine))
        left = [0.0] * len(names)
        for number, part in enumerate(PARTS):
            widths = [
                sum(row["seconds"] for row in mine if (row["contender"], row["part"]) == (name, part))
                for name in names
            ]
            if any(widths):
                panel.barh(names, widths, left=left, label=part, color=colors(number))
                left = [a + b for a, b in zip(left, widths, strict=True)]
        panel.invert_yaxis()
        panel.set(title=pair, xlabel="seconds per iteration")
    handles = {
        label: handle
        for panel in axes
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)
    _save(figure, file)


def images(results: Results, file: Path) -> None:
    """One bar per contender, including losing ones, with the races of each pair below each other."""
    rows = [row for row in results["rows"] if "images_per_second" in row]
    pairs = list(dict.fromkeys(row["pair"] for row in rows))
    figure, axes = _figure(len(pairs), max(sum(row["pair"] == pair for row in rows) for pair in pairs))
    for panel, pair in zip(axes, pairs, strict=True):
        mine = [row for row in rows if row["pair"] == pair]
        places = range(len(mine))
        colors = ["0.5" if row["loop"] == "faithful" else "tab:blue" for row in mine]
        bars = panel.barh(places, [row["images_per_second"] for row in mine], color=colors)
        labels = [f"{row['images_per_second']:,.0f} ({duration(row['median_seconds'])})" for row in mine]
        panel.bar_label(bars, labels, padding=2, fontsize=8)
        names = [
            f"{row['race']}: {row['contender']}"
            + (", default allocator" if row["allocator"] == "default" else "")
            for row in mine
        ]
        panel.set_yticks(places, names, fontsize=8)
        panel.invert_yaxis()
        panel.margins(x=0.2)
        panel.set(title=pair, xlabel="generated images/s (time of an iteration); gray: the published loop")
    _save(figure, file)


def draw(results: Results, folder: Path) -> list[Path]:
    """Draws all plots for which there are measurements."""
    plots = []
    if results["breakdowns"]:
        plots.append((breakdown, folder / "breakdown.png"))
    if any("images_per_second" in row for row in results["rows"]):
        plots.append((images, folder / "images.png"))
    for plot, file in plots:
        plot(results, file)
    return [file for _, file in plots]
