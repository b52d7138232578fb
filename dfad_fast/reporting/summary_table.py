"""The table that is printed at the end of a run."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from dfad_fast.engine.best import BY_AGREEMENT
from dfad_fast.runs import layout
from dfad_fast.runs.summary import Summary
from dfad_fast.wording import counted, percent


def print_summary(console: Console, summary: Summary, folder: Path) -> None:
    """Prints the table, the cost of the run, and where its files are."""
    console.print(_table(summary))
    images, seconds = counted(summary.generated_images, "generated image"), summary.seconds_distill
    threads = counted(summary.threads, "thread")
    several = summary.processes is not None and summary.processes > 1
    each = f" in each of {summary.processes} processes" if several else ""
    free = "" if summary.data_free is False else "; no real image was used for it"
    console.print(
        f"{counted(summary.iterations, 'iteration')}, {images}{_passes(summary)}, {seconds:.0f} s of "
        f"distillation on {summary.device} with {threads}{each}{free}.",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"Everything is in {folder}:", highlight=False, soft_wrap=True, markup=False)
    for name, what in _files(summary):
        if (folder / name).is_file():
            console.print(f"  {name:<28} {what}", highlight=False, soft_wrap=True)


def _table(summary: Summary) -> Table:
    table = Table(title=f"{summary.method}, seed {summary.seed}", title_justify="left")
    table.add_column("")
    table.add_column("teacher", justify="right")
    table.add_column("student", justify="right")
    ratio = summary.size_ratio
    table.add_row(
        "parameters",
        "-" if summary.teacher_parameters is None else f"{summary.teacher_parameters:,}",
        f"{summary.student_parameters:,}" + ("" if ratio is None else f" ({100 * ratio:.0f} %)"),
    )
    if summary.queries is not None:
        table.add_row("images sent to the black box", f"{summary.queries:,} ({summary.teacher_answers})", "")
    if summary.student_accuracy_final is not None:
        table.add_row(
            "test accuracy, final", percent(summary.teacher_accuracy), percent(summary.student_accuracy_final)
        )
        kept = summary.keeps_most_accurate
        highest = "best (chosen on them)" if kept else "highest at an evaluation, not kept"
        table.add_row(f"test accuracy, {highest}", "", percent(summary.student_accuracy_best))
        if summary.student_accuracy_deviation is not None:
            moved = f"± {100 * summary.student_accuracy_deviation:.2f}"
            table.add_row("test accuracy, deviation in the last third", "", moved)
        if summary.averaged_accuracy_final is not None:
            final, best = summary.averaged_accuracy_final, summary.averaged_accuracy_best
            table.add_row("test accuracy of the averaged student, final", "", percent(final))
            table.add_row("test accuracy of the averaged student, best", "", percent(best))
        table.add_row("agreement, test images", "", percent(summary.agreement_final))
    start = summary.student_start
    if start.get("agreement") is not None:
        table.add_row(
            f"agreement before the first step, {start['images']:,} drawn images",
            "",
            percent(start["agreement"]),
        )
    table.add_row("agreement, held-out generated images", "", percent(summary.agreement_generated))
    table.add_row("discrepancy, held-out generated images", "", _decimal(summary.discrepancy_generated))
    table.add_row("classes of these images", _classes_seen(summary), "")
    best_student = summary.best_student
    if best_student and best_student.by == BY_AGREEMENT:
        table.add_row(
            f"agreement of the best student (iteration {best_student.iteration})",
            "",
            percent(best_student.value),
        )
        if best_student.accuracy is not None:
            table.add_row("its test accuracy", "", percent(best_student.accuracy))
    for stage, value in summary.sign_agreement_generated.items():
        table.add_row(f"sign agreement, {stage}", "", percent(value))
    return table


def _files(summary: Summary) -> list[tuple[str, str]]:
    """The files that a run may write, with descriptions."""
    files = [(layout.STUDENT, "the student's weights")]
    if summary.averaged_accuracy_final is not None:
        files.append((layout.AVERAGED, "the averaged student's"))
    if best := summary.best_student:
        files.append((layout.BEST, f"the best one's, iteration {best.iteration} by {best.by}"))
    return [
        *files,
        (layout.SAMPLES, "generated images with both networks' labels"),
        (layout.CURVES, "accuracy, agreement and losses over the run"),
        (layout.REPORT, "the whole run on one page, for a browser"),
        (layout.SUMMARY, "this table and more, as JSON"),
        (layout.CONFIG, "every setting, and how to repeat the run"),
    ]


def _passes(summary: Summary) -> str:
    if summary.teacher_passes is None or summary.student_passes is None:
        return ""
    asked, shown = summary.teacher_passes, summary.student_passes
    return f" ({asked:,} images through the teacher and {shown:,} through the student)"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _classes_seen(summary: Summary) -> str:
    """Such as "9 of 10 (effectively 7.8)"."""
    if summary.classes_generated is None or summary.effective_classes_generated is None:
        return "-"
    effective = summary.effective_classes_generated
    return f"{summary.classes_generated} of {summary.classes} (effectively {effective:.1f})"
