"""The terminal output of an export."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from dfad_fast.exporting.compressing import Compression
from dfad_fast.exporting.measuring import MOST_RUNS
from dfad_fast.exporting.result import Export, Variant
from dfad_fast.runs.layout import EXPORT_RECORD
from dfad_fast.wording import counted, percent

_WIDE = 110


def print_export(console: Console, export: Export) -> None:
    """Prints a row for the student and each of its files, then what the columns mean and where the files are."""
    student = export.variants[0]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("")
    for column in ("size", "difference", "agreement", "accuracy"):
        table.add_column(column, justify="right", no_wrap=True)
    for batch in student.latency:
        table.add_column(f"batch {batch}", justify="right", no_wrap=True)
    for variant in export.variants:
        table.add_row(
            variant.name,
            f"{variant.bytes / 1024:,.1f} KiB",
            "" if variant is student else f"{variant.max_difference:.2g}",
            "" if variant is student else percent(variant.agreement),
            _accuracy(variant, student),
            *(_time(latency.milliseconds) for latency in variant.latency.values()),
        )
    if not console.is_terminal:
        console.width = max(console.width, _WIDE)
    console.print(table)
    for line in _notes(export):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _accuracy(variant: Variant, student: Variant) -> str:
    if variant.accuracy is None or student.accuracy is None:
        return "-"
    change = 100 * (variant.accuracy - student.accuracy)
    return percent(variant.accuracy) + (f" ({change:+.2f})" if change else "")


def _notes(export: Export) -> list[str]:
    kind = f"{export.dataset} test" if export.images == "real" else "generated"
    notes = [
        f"difference: largest difference of a logit from the PyTorch student's, on {export.compared} {kind} images; "
        f"its logits go up to {export.largest_logit:.3g}; float files may differ by {export.allowed_difference:.2g}",
        f"time: the median of up to {MOST_RUNS} runs, {counted(export.threads, 'thread')}, {export.device}",
    ]
    if export.no_test_set:
        notes.append(f"no accuracy: {export.no_test_set}")
    if export.calibration_images is not None:
        notes.append(
            f"int8: calibrated on {export.calibration_images} generated images; its difference is not limited"
        )
    if export.compression:
        notes += _compression(export.compression)
    for variant in export.variants:
        if variant.path:
            notes.append(f"{variant.name}: {variant.path}")
    return [*notes, f"the same as JSON: {export.variants[1].path}{EXPORT_RECORD}"]


def _compression(made: Compression) -> list[str]:
    told = {
        "before": made.before,
        f"{made.how}": made.untuned,
        f"after {counted(made.steps, 'step')} on {made.images:,} images": made.after,
    }
    lines = []
    for what in made.before:
        name = "agreement with the teacher" if what == "agreement" else what
        lines.append(
            f"{name}: " + ", ".join(f"{percent(values[what])} {when}" for when, values in told.items())
        )
    zeros = f", {made.zeros:,} of them 0" if made.zeros else ""
    return [
        *lines,
        f"{made.how}: {made.weights:,} weights{zeros}; a compact encoding would take {made.packed_bytes / 1024:,.1f} "
        f"instead of {made.bytes / 1024:,.1f} KiB, but these files do not use one",
    ]


def _time(milliseconds: float) -> str:
    return f"{milliseconds:.3g} ms" if milliseconds < 999.5 else f"{milliseconds / 1000:.3g} s"
