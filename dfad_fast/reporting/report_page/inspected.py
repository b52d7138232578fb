"""The results of ``dfad-fast inspect``, if it was run."""

from __future__ import annotations

from typing import Any

from dfad_fast.reporting.report_page.charts import Line, chart
from dfad_fast.reporting.report_page.numbers import count, decimal, percent
from dfad_fast.runs.record import Record, is_number


def inspection(record: Record) -> dict[str, Any] | None:
    """What ``dfad-fast inspect`` measured, for the template; None if it has not run."""
    data = record.inspection
    if not data:
        return None
    images = f"{data['dataset']} test images" if data["images"] == "real" else "generated images"
    return {
        "iteration": count(data.get("best_iteration") or data["iteration"]),
        "images": f"{count(data['compared'])} {images}",
        "rows": _networks(data),
        "stages": [
            {
                "teacher": stage["teacher"],
                "student": stage["student"],
                "cka": decimal(stage["cka"]),
                "signs": percent(stage["sign_agreement"]),
            }
            for stage in data["stages"]
        ],
        "charts": [drawn for drawn in (_reliability(data), _lines(data)) if drawn],
        "classes": _classes(data),
        "missing": list(data["missing"]),
    }


def _networks(data: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of (name, teacher's value, student's value)."""
    rows = []
    both = [data["teacher"], data["student"]]
    labeled = data.get("labeled", data.get("labelled"))  # older versions wrote "labelled"
    if all(both):
        accuracy, error = (
            [percent(network["accuracy"]) for network in both],
            [percent(network["calibration"]["error"]) for network in both],
        )
        rows.append((f"Accuracy, {count(labeled)} {data['dataset']} test images", *accuracy))
        rows.append(("Expected calibration error", *error))
    rows.append(("Agreement", "", percent(data["agreement"])))
    lines = data["lines"]
    if lines["pairs"]:
        rows.append((f"Agreement on {count(lines['pairs'])} lines", "", percent(lines["mean_agreement"])))
        rows.append(("L1 distance of the logits on these lines", "", decimal(lines["mean_l1"])))
    if data["balance"]:
        entropy = decimal(data["balance"]["entropy"])
        rows.append(
            (f"Classes of {count(data['generated'])} generated images, entropy (1: even)", entropy, "")
        )
    return [tuple(row) for row in rows]  # type: ignore[misc]


def _reliability(data: dict[str, Any]) -> dict[str, Any] | None:
    lines = [
        Line(
            which,
            [
                (sure, right)
                for sure, right in zip(
                    data[which]["calibration"]["confidence"],
                    data[which]["calibration"]["accuracy"],
                    strict=True,
                )
                if is_number(sure) and is_number(right)
            ],
        )
        for which in ("teacher", "student")
        if data[which]
    ]
    if not any(line.points for line in lines):
        return None
    start = min(point for line in lines for xy in line.points for point in xy)
    lines.append(Line("perfect calibration", [(start, start), (1.0, 1.0)], "dotted"))
    return chart("Calibration: accuracy by confidence", "confidence", lines, percent, last=False)


def _lines(data: dict[str, Any]) -> dict[str, Any] | None:
    on = data["lines"]
    points = [(lam, value) for lam, value in zip(on["lam"], on["agreement"], strict=True) if is_number(value)]
    agreement = [Line("agreement", points)]
    return chart("Agreement between images", "from one image to the other", agreement, percent, last=False)


def _classes(data: dict[str, Any]) -> list[dict[str, Any]]:
    """How often the teacher predicts each class for generated images; ``share`` is relative to the most frequent."""
    counts = data["balance"]["counts"] if data["balance"] else []
    return [
        {"label": label, "count": count(number), "share": round(100 * number / max(1, *counts), 1)}
        for label, number in enumerate(counts)
    ]
