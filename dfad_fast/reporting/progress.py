"""What a person sees of a run: a live bar on a terminal, a line now and then elsewhere, a table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from dfad_fast.engine.best import BY_AGREEMENT
from dfad_fast.runs import layout
from dfad_fast.wording import clock, counted

_SECONDS_BETWEEN_LINES = 5.0


class _BarOverValues(Bar):
    """A bar with the latest values on a line of their own below it."""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            yield Text(task.fields["values"], style="dim", overflow="ellipsis", no_wrap=True)


class BarProgress:
    """A live bar with losses, agreement, images per second and the time left."""

    def __init__(self, bar: Bar, task: Any, images_per_iteration: int) -> None:
        self._bar = bar
        self._task = task
        self._images = images_per_iteration
        self._first: tuple[int, float] | None = None

    def advance(self, iteration: int) -> None:
        now = time.perf_counter()
        if self._first is None:
            self._first = (iteration, now)
        done, seconds = iteration - self._first[0], now - self._first[1]
        rate = f"{done * self._images / seconds:,.0f} img/s" if done else ""
        self._bar.update(self._task, completed=iteration, rate=rate)

    def log(self, record: dict[str, Any]) -> None:
        self._bar.update(self._task, values=_values(record))

    def tell(self, text: str) -> None:
        self._bar.update(self._task, values=text)


class LineProgress:
    """A line of the same values at the beginning, every few seconds, and at the end."""

    def __init__(self, console: Console, iterations: int, images_per_iteration: int) -> None:
        self._console = console
        self._iterations = iterations
        self._images = images_per_iteration
        self._values = ""
        self._said = self._began = time.monotonic()
        self._first: tuple[int, float] | None = None
        self._say(f"{counted(iterations, 'iteration')} of {counted(images_per_iteration, 'image')}")

    def advance(self, iteration: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = (iteration, now)
        if iteration == self._iterations or now - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = now
            self._say(
                f"{iteration}/{self._iterations}  {clock(now - self._began)}{self._speed(iteration, now)}  "
                f"{self._values}".rstrip()
            )

    def log(self, record: dict[str, Any]) -> None:
        self._values = _values(record)

    def _speed(self, iteration: int, now: float) -> str:
        """Once there was an iteration after the first, which is slower than others."""
        assert self._first is not None
        done, seconds = iteration - self._first[0], now - self._first[1]
        if not done or not seconds:
            return ""
        left = (self._iterations - iteration) * seconds / done
        return f"  {done * self._images / seconds:,.0f} img/s, {clock(left)} left"

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def tell(self, text: str) -> None:
        now = time.monotonic()
        if now - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = now
            self._console.print(text, highlight=False, soft_wrap=True)


@contextmanager
def show_progress(
    console: Console, iterations: int, images_per_iteration: int
) -> Iterator[BarProgress | LineProgress]:
    """The form of progress that suits ``console``."""
    if not console.is_terminal:
        yield LineProgress(console, iterations, images_per_iteration)
        return
    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
    )
    with _BarOverValues(*columns, console=console, refresh_per_second=4) as bar:
        task = bar.add_task("distill", total=iterations, values="", rate="")
        yield BarProgress(bar, task, images_per_iteration)


def _values(record: dict[str, Any]) -> str:
    parts = []
    if "agreement_batch" in record:
        parts.append(f"agreement {100 * record['agreement_batch']:.1f} %")
    if "agreement_generated" in record:
        classes = record["classes_generated"]
        kinds = "class" if classes == 1 else "classes"
        parts.append(f"held-out {100 * record['agreement_generated']:.1f} % in {classes} {kinds}")
    if "student_accuracy" in record:
        parts.append(f"accuracy {100 * record['student_accuracy']:.2f} %")
    parts += [f"{name} {value:.4g}" for name, value in record.items() if "/" in name]
    return "  ".join(parts)


def print_summary(console: Console, summary: dict[str, Any], folder: Path) -> None:
    """The table that ends a run, and where everything is."""
    table = Table(title=f"{summary['method']}, seed {summary['seed']}", title_justify="left")
    table.add_column("")
    table.add_column("teacher", justify="right")
    table.add_column("student", justify="right")
    ratio = summary["student_parameters"] / summary["teacher_parameters"]
    table.add_row(
        "parameters",
        f"{summary['teacher_parameters']:,}",
        f"{summary['student_parameters']:,} ({100 * ratio:.0f} %)",
    )
    if summary["teacher_accuracy"] is not None:
        table.add_row(
            "test accuracy, final",
            percent(summary["teacher_accuracy"]),
            percent(summary["student_accuracy_final"]),
        )
        table.add_row("test accuracy, best (chosen on them)", "", percent(summary["student_accuracy_best"]))
        if "averaged_accuracy_final" in summary:
            for which in ("final", "best"):
                accuracy = percent(summary[f"averaged_accuracy_{which}"])
                table.add_row(f"test accuracy of the averaged student, {which}", "", accuracy)
        table.add_row("agreement, test images", "", percent(summary["agreement_final"]))
    table.add_row("agreement, held-out generated images", "", percent(summary["agreement_generated"]))
    table.add_row("discrepancy, held-out generated images", "", decimal(summary["discrepancy_generated"]))
    table.add_row("classes of these images", classes_seen(summary), "")
    best = summary["best_student"]
    if best and best["by"] == BY_AGREEMENT:
        table.add_row(
            f"agreement of the best student (iteration {best['iteration']})",
            "",
            percent(best["value"]),
        )
    for stage, value in summary["sign_agreement_generated"].items():
        table.add_row(f"sign agreement, {stage}", "", percent(value))
    console.print(table)
    images, seconds = summary["generated_images"], summary["seconds_distill"]
    threads = counted(summary["threads"], "thread")
    each = f" in each of {summary['processes']} processes" if summary["processes"] > 1 else ""
    console.print(
        f"{counted(summary['iterations'], 'iteration')}, {counted(images, 'generated image')}, {seconds:.0f} s of "
        f"distillation on {summary['device']} with {threads}{each}; no real image was used for it.",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"Everything is in {folder}:", highlight=False, soft_wrap=True, markup=False)
    averaged = "averaged_accuracy_final" in summary
    for name, what in (
        (layout.STUDENT, "the student's weights"),
        *([(layout.AVERAGED, "the averaged student's")] if averaged else []),
        *([(layout.BEST, f"the best one's, iteration {best['iteration']} by {best['by']}")] if best else []),
        (layout.SAMPLES, "generated images with both networks' labels"),
        (layout.CURVES, "accuracy, agreement and losses over the run"),
        (layout.REPORT, "all of it on one page, for a browser"),
        (layout.SUMMARY, "this table and more, for programs"),
        (layout.CONFIG, "every setting, and how to repeat the run"),
    ):
        if (folder / name).is_file():
            console.print(f"  {name:<28} {what}", highlight=False, soft_wrap=True)


def percent(fraction: float | None) -> str:
    """Such as "98.67 %"; a dash for None, what could not be measured."""
    return "-" if fraction is None else f"{100 * fraction:.2f} %"


def decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def classes_seen(summary: dict[str, Any]) -> str:
    """Such as "9 of 10 (effectively 7.8)"."""
    if summary["classes_generated"] is None:
        return "-"
    effective = summary["effective_classes_generated"]
    return f"{summary['classes_generated']} of {summary['classes']} (effectively {effective:.1f})"
