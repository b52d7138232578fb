"""Progress of a running job: a live bar on a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from dfad_fast.wording import clock, counted

_SECONDS_BETWEEN_LINES = 5.0


class _BarOverValues(Bar):
    """A bar with the latest values on a separate line below it."""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            yield Text(task.fields["values"], style="dim", overflow="ellipsis", no_wrap=True)


class BarProgress:
    """A live bar with losses, agreement, images per second and the remaining time."""

    def __init__(self, bar: Bar, task: Any, images_per_iteration: int) -> None:
        self._bar = bar
        self._task = task
        self._images = images_per_iteration
        self._first: tuple[int, float] | None = None

    def advance(self, iteration: int, waiting: int = 0) -> None:
        """Iteration ``iteration`` is done; the student sees no images in the next ``waiting`` ones."""
        now = time.perf_counter()
        if self._first is None:
            self._first = (iteration, now)
        done, seconds = iteration - self._first[0], now - self._first[1]
        rate = _rate(done, self._images, seconds) if done else ""
        if waiting:
            rate += f", {counted(waiting, 'iteration')} until the student learns"
        self._bar.update(self._task, completed=iteration, rate=rate)

    def log(self, record: dict[str, Any]) -> None:
        self._bar.update(self._task, values=_values(record))

    def tell(self, text: str) -> None:
        self._bar.update(self._task, values=text)


class LineProgress:
    """A line with the same values at the start, every few seconds, and at the end."""

    def __init__(self, console: Console, iterations: int, images_per_iteration: int) -> None:
        self._console = console
        self._iterations = iterations
        self._images = images_per_iteration
        self._values = ""
        self._said = self._began = time.monotonic()
        self._first: tuple[int, float] | None = None
        self._waited = False
        of = f" of {counted(images_per_iteration, 'image')}" if images_per_iteration else ""
        self._say(f"{counted(iterations, 'iteration')}{of}")

    def advance(self, iteration: int, waiting: int = 0) -> None:
        """Iteration ``iteration`` is done; the student sees no images in the next ``waiting`` ones."""
        now = time.monotonic()
        if self._first is None or (self._waited and not waiting):
            self._first = (iteration, now)  # iterations with the student take another time
        self._waited = waiting > 0
        if iteration == self._iterations or now - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = now
            self._say(
                f"{iteration}/{self._iterations}  {clock(now - self._began)}"
                f"{self._throughput(iteration, now, waiting)}  "
                f"{self._values}".rstrip()
            )

    def log(self, record: dict[str, Any]) -> None:
        self._values = _values(record)

    def _throughput(self, iteration: int, now: float, waiting: int) -> str:
        """Empty until the second iteration, because the first one is slower."""
        assert self._first is not None
        done, seconds = iteration - self._first[0], now - self._first[1]
        if not done or not seconds:
            return ""
        left = (waiting or self._iterations - iteration) * seconds / done
        until = "until the student learns" if waiting else "left"
        return f"  {_rate(done, self._images, seconds)}, {clock(left)} {until}"

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
    """The kind of progress that suits ``console``."""
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


def _rate(iterations: int, images: int, seconds: float) -> str:
    """The rate in generated images, or in iterations if they generate none."""
    if images:
        return f"{iterations * images / seconds:,.0f} img/s"
    if iterations < seconds:
        return f"{seconds / iterations:,.1f} s/it"
    return f"{iterations / seconds:,.1f} it/s"


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
