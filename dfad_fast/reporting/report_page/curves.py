"""A run's curves: the student's quality, the terms, the learning rates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dfad_fast.reporting.report_page.charts import Line, chart
from dfad_fast.reporting.report_page.numbers import count, percent
from dfad_fast.runs.record import Record, is_number

_QUALITY = {
    "student_accuracy": ("student's accuracy", ""),
    "averaged_accuracy": ("averaged student's accuracy", ""),
    "agreement": ("agreement", ""),
    "agreement_generated": ("agreement, held-out generated images", ""),
    "agreement_batch": ("agreement on the generated batch", "faint"),
}
_CLASSES = {
    "classes_generated": ("classes that the teacher sees in them", ""),
    "effective_classes_generated": ("their effective number", ""),
}
_RATES = {"student_lr": ("student", ""), "generator_lr": ("generator", "")}


def curves(record: Record) -> list[dict[str, Any]]:
    """The charts for which the record has metrics."""
    history = [kept for kept in record.history if "generated_images" in kept]
    notes = {
        kept[
            "generated_images"
        ]: f"iteration {count(kept['iteration'])}, {count(kept['generated_images'])} images"
        for kept in history
    }

    def lines(named: dict[str, tuple[str, str]]) -> list[Line]:
        found = []
        for key, (name, style) in named.items():
            points = [(kept["generated_images"], kept[key]) for kept in history if key in kept]
            found.append(Line(name, points, style))
        return found

    quality = lines(_QUALITY)
    accuracy = record.summary.teacher_accuracy if record.summary else None
    if accuracy is not None and is_number(accuracy) and history:
        ends = [history[0]["generated_images"], history[-1]["generated_images"]]
        quality.append(Line("teacher's accuracy", [(end, float(accuracy)) for end in ends], "dotted"))
    if len([line for line in quality if line.points]) == 1:
        quality = [replace(line, style="") for line in quality]
    terms = list(dict.fromkeys(key for kept in history for key in kept if "/" in key))
    discrepancy = lines({"discrepancy_generated": ("discrepancy", "")})
    charts = [
        chart("Accuracy and agreement", "generated images", quality, percent, notes=notes),
        chart("Classes of held-out generated images", "generated images", lines(_CLASSES), notes=notes),
        chart(
            "Discrepancy on held-out generated images",
            "generated images",
            discrepancy,
            logarithmic=True,
            notes=notes,
        ),
    ]
    for network in ("student", "generator"):
        named = {key: (key.partition("/")[2], "") for key in terms if key.startswith(f"{network}/")}
        title = f"The {network}'s terms, unweighted"
        charts.append(chart(title, "generated images", lines(named), logarithmic=True, notes=notes))
    charts.append(chart("Learning rates", "generated images", lines(_RATES), logarithmic=True, notes=notes))
    return [drawn for drawn in charts if drawn]
