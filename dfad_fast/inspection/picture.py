"""An inspection as one picture: stages, calibration, lines, classes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from dfad_fast.inspection.inspecting import Inspection
from dfad_fast.inspection.table import compared_images, title

_TEACHER, _STUDENT = "tab:blue", "tab:orange"
_ALIKE, _APART, _SIGNS = "tab:purple", "tab:green", "tab:pink"
_SHOWN_CLASSES = 20
_ROOM_FOR_LEGEND = 1.28
_FIFTHS = [0, 0.2, 0.4, 0.6, 0.8, 1]


def draw_inspection(path: Path, inspection: Inspection) -> None:
    """Writes the four panels; one that could not be measured says so."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    (stages, reliability), (lines, classes) = figure.subplots(2, 2)
    _draw_stages(stages, inspection)
    _draw_reliability(reliability, inspection)
    _draw_lines(lines, inspection)
    _draw_classes(classes, inspection)
    figure.suptitle(title(inspection), fontsize=11)
    figure.savefig(path, dpi=110)


def _draw_stages(axis: Any, inspection: Inspection) -> None:
    axis.set_title(f"Features, stage by stage ({compared_images(inspection)})", fontsize=10)
    if not inspection.stages:
        return _say_nothing(axis, "no stage of the student matches one of the teacher")
    cka = [stage.cka for stage in inspection.stages]
    signs = [stage.sign_agreement for stage in inspection.stages]
    for offset, name, color, values in (
        (-0.2, "linear CKA", _ALIKE, cka),
        (0.2, "sign agreement", _SIGNS, signs),
    ):
        places = [i + offset for i in range(len(values))]
        known = [(x, y) for x, y in zip(places, values, strict=True) if y is not None and math.isfinite(y)]
        if known:
            bars = axis.bar(*zip(*known, strict=True), width=0.38, label=name, color=color)
            axis.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
    names = [stage.teacher for stage in inspection.stages]
    axis.set_xticks(range(len(names)), names, fontsize=8, rotation=0 if len(names) <= 3 else 20)
    axis.set_xlim(-0.6, len(names) - 0.4)
    axis.set_ylim(top=_ROOM_FOR_LEGEND)
    axis.set_yticks(_FIFTHS)
    axis.legend(fontsize=8, loc="upper center", ncols=2)


def _draw_reliability(axis: Any, inspection: Inspection) -> None:
    axis.set_title("Calibration: does confidence match accuracy?", fontsize=10)
    if inspection.teacher is None or inspection.student is None:
        return _say_nothing(axis, "no labeled test images")
    axis.plot([0, 1], [0, 1], color="gray", linestyle=":", linewidth=1, label="perfectly calibrated")
    for name, network, color in (
        ("teacher", inspection.teacher, _TEACHER),
        ("student", inspection.student, _STUDENT),
    ):
        held = network.calibration
        points = [
            point
            for point in zip(held.confidence, held.accuracy, held.counts, strict=True)
            if point[2]  # a bin that is empty has no mean
        ]
        x, y, counts = zip(*points, strict=True)
        label = f"{name}: error {100 * held.error:.1f} %, accuracy {100 * network.accuracy:.1f} %"
        axis.plot(x, y, color=color, linewidth=1, label=label)
        axis.scatter(x, y, s=[12 + 240 * n / sum(counts) for n in counts], color=color, alpha=0.6)
    bins = inspection.teacher.calibration.bins
    axis.set_xlabel(
        f"confidence ({inspection.labeled} {inspection.dataset} test images, {bins} bins; dots' area: images)",
        fontsize=9,
    )
    axis.set(ylabel="accuracy", xlim=(0, 1.04), ylim=(-0.04, _ROOM_FOR_LEGEND + 0.1))
    axis.set_yticks(_FIFTHS)
    axis.legend(fontsize=8, loc="upper left")


def _draw_lines(axis: Any, inspection: Inspection) -> None:
    lines = inspection.lines
    axis.set_title(f"On {lines.pairs} lines between images of different classes", fontsize=10)
    if not lines.pairs:
        return _say_nothing(axis, "the teacher puts all images into one class")
    axis.set(xlabel="position on the line, from one image (0) to the other (1)", ylim=(0, 105))
    axis.set_ylabel("agreement of the answers, %", color=_ALIKE)
    axis.plot(lines.lam, [100 * x for x in lines.agreement], color=_ALIKE, marker="o", markersize=4)
    axis.grid(alpha=0.3)
    distance = axis.twinx()
    distance.plot(lines.lam, lines.l1, color=_APART, marker="s", markersize=4, linestyle="--")
    distance.set_ylabel("mean L1 distance of the logits", color=_APART)
    distance.set_ylim(bottom=0, top=1.3 * max(lines.l1) or 1)


def _draw_classes(axis: Any, inspection: Inspection) -> None:
    axis.set_title("Generated images by the teacher's class", fontsize=10)
    if inspection.balance is None:
        return _say_nothing(axis, "no generator is saved")
    counts = inspection.balance.counts
    axis.bar(range(len(counts)), counts, color=_TEACHER, alpha=0.8)
    even = inspection.generated / len(counts)
    axis.axhline(even, color="gray", linestyle=":", linewidth=1, label="as many of each")
    if len(counts) <= _SHOWN_CLASSES:
        axis.set_xticks(range(len(counts)))
    entropy = f"normalized entropy {inspection.balance.entropy:.3f}"
    axis.set(
        xlabel=f"class ({entropy})",
        ylabel=f"images of {inspection.generated}",
        ylim=(0, 1.15 * max(*counts, even)),
    )
    axis.legend(fontsize=8, loc="upper right")


def _say_nothing(axis: Any, why: str) -> None:
    axis.text(0.5, 0.5, f"not measured:\n{why}", ha="center", va="center", transform=axis.transAxes)
    axis.set_xticks([])
    axis.set_yticks([])
