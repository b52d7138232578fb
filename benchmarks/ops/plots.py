"""Plots of a run: speed-up over size, bandwidth compared with its ceilings, memory."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.measuring.results import OURS
from benchmarks.measuring.tables import size
from benchmarks.ops.contenders import CEILINGS
from benchmarks.ops.heats import Heat, heats
from benchmarks.ops.registry import BOTH, INFERENCE

MARKERS = {"float32": "o", "bfloat16": "^", "float16": "s", "float64": "D"}


def _timed(results: dict[str, Any]) -> list[Heat]:
    """The heats to draw: forward and backward together, or forward if the op has no backward."""
    pinned = [h for h in heats(results) if h.allocator == "pinned" and OURS in h.rows]
    with_backward = {h.case for h in pinned if h.mode == BOTH}
    return [h for h in pinned if h.mode == (BOTH if h.case in with_backward else INFERENCE)]


def _op(heat: Heat) -> str:
    return heat.rows[OURS]["op"]


def _speed_axes(axes: Axes, op: str, group: Sequence[Heat]) -> None:
    for kind, color in (("eager", "tab:blue"), ("compile", "tab:orange")):
        for dtype, marker in MARKERS.items():
            points = []
            for heat in group:
                rival = heat.fastest(kind)
                ratio = heat.speedup(rival) if rival else None
                if ratio is not None and heat.rows[OURS]["dtype"] == dtype:
                    points.append((heat.rows[OURS]["elements"], ratio))
            if points:
                axes.plot(
                    *zip(*sorted(points), strict=True), marker, color=color, label=f"best {kind}, {dtype}"
                )
    axes.axhline(1, color="0.4", linewidth=1)
    axes.set(title=op, xlabel="elements", ylabel="time / dfad_fast's", xscale="log")
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda value, position: f"{value:g}x")
    axes.grid(alpha=0.3)


def speedup(results: dict[str, Any], file: Path) -> None:
    """One panel per op; dfad_fast is faster above the line."""
    groups: dict[str, list[Heat]] = {}
    for heat in _timed(results):
        groups.setdefault(_op(heat), []).append(heat)
    columns = min(4, len(groups))
    rows = -(-len(groups) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4 * columns, 3.2 * rows + 0.6), squeeze=False, layout="constrained"
    )
    for panel, (op, group) in zip(axes.flat, groups.items(), strict=False):
        _speed_axes(panel, op, group)
    for panel in axes.flat[len(groups) :]:
        panel.set_visible(False)
    # One common legend for all panels.
    shown = {
        label: line
        for panel in axes.flat
        for line, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=len(shown), fontsize=8)
    figure.savefig(file, dpi=110, bbox_inches="tight")
    plt.close(figure)


def roofline(results: dict[str, Any], file: Path) -> None:
    """The bandwidth of dfad_fast in minimum bytes, with the bandwidth of copying and reading the same bytes."""
    drawn = _timed(results)
    figure, axes = plt.subplots(figsize=(8, 5))
    for ceiling, style in zip(CEILINGS, ("-", "--"), strict=True):
        found: dict[int, list[float]] = {}
        for heat in drawn:
            if row := heat.rows.get(ceiling):
                found.setdefault(row["minimum_bytes"], []).append(row["gigabytes_per_second"])
        points = sorted((count, statistics.median(rates)) for count, rates in found.items())
        if points:
            axes.plot(
                *zip(*points, strict=True),
                style,
                color="0.5",
                marker=".",
                label=f"{ceiling} of the same bytes",
            )
    for index, op in enumerate(dict.fromkeys(_op(h) for h in drawn)):
        for dtype, marker in MARKERS.items():
            rows = [h.rows[OURS] for h in drawn if _op(h) == op and h.rows[OURS]["dtype"] == dtype]
            rows = [r for r in rows if r["minimum_bytes"]]
            if rows:
                points = [(r["minimum_bytes"], r["gigabytes_per_second"]) for r in rows]
                label = f"{op}, {dtype}"
                axes.plot(*zip(*points, strict=True), marker, color=f"C{index}", label=label)
    axes.set(xlabel="minimum bytes", ylabel="GB/s", xscale="log", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(file, dpi=110, bbox_inches="tight")
    plt.close(figure)


def memory(results: dict[str, Any], file: Path) -> None:
    """Peak memory of forward and backward beyond the inputs, for large cases in float32."""
    float32 = {
        row["case"] for row in results["rows"] if row["dtype"] == "float32" and row["elements"] >= 2**16
    }
    peaks: dict[str, dict[str, int]] = {}
    for c in results["contestants"]:
        if c["allocator"] == "pinned" and c["case"] in float32 and c.get("peak_bytes"):
            peaks.setdefault(c["case"], {})[c["contender"]] = c["peak_bytes"]
    names = list(dict.fromkeys(name for case in peaks.values() for name in case))
    figure, axes = plt.subplots(figsize=(9, 1 + 0.6 * len(peaks)))
    height = 0.8 / max(1, len(names))
    for i, name in enumerate(names):
        places = [(row + i * height, case[name]) for row, case in enumerate(peaks.values()) if name in case]
        axes.barh([p for p, _ in places], [count for _, count in places], height, label=name)
        for place, count in places:
            axes.text(count, place, f" {size(count)}", va="center", fontsize=6)
    axes.set_yticks([row + 0.3 for row in range(len(peaks))], list(peaks), fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="bytes", xscale="log")
    if peaks:
        axes.legend(fontsize=7)
    figure.savefig(file, dpi=110, bbox_inches="tight")
    plt.close(figure)


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Draws all plots for which there are measurements."""
    if not _timed(results):
        return []
    plots = {"speedup.png": speedup, "roofline.png": roofline, "memory.png": memory}
    for name, plot in plots.items():
        plot(results, folder / name)
    return [folder / name for name in plots]
