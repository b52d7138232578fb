"""Progress of a running job: a live bar on a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
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


class _Speed:
    """The rate, and the time until the student learns or the run ends, from the iterations of the same kind so far."""

    def __init__(self, iterations: int, images_per_iteration: int) -> None:
        self._iterations = iterations
        self._images = images_per_iteration
        self._first: tuple[int, float] | None = None
        self._waited = False

    def after(self, iteration: int, waiting: int, now: float) -> str:
        """Empty after the first iteration of a kind, which is slower."""
        if self._first is None or self._waited != (waiting > 0):
            self._first = (iteration, now)
            self._waited = waiting > 0
        done, seconds = iteration - self._first[0], now - self._first[1]
        if not done or not seconds:
            return ""
        left = (waiting or self._iterations - iteration) * seconds / done
        until = "until the student learns" if waiting else "left"
        return f"{_rate(done, self._images, seconds)}, {clock(left)} {until}"


class BarProgress:
    """A live bar with losses, agreement, images per second and the remaining time."""

    def __init__(self, bar: Bar, task: Any, speed: _Speed) -> None:
        self._bar = bar
        self._task = task
        self._speed = speed

    def advance(self, iteration: int, waiting: int = 0) -> None:
        """Iteration ``iteration`` is done; the student sees no images in the next ``waiting`` ones."""
        speed = self._speed.after(iteration, waiting, time.monotonic())
        self._bar.update(self._task, completed=iteration, speed=speed)

    def log(self, record: dict[str, Any]) -> None:
        self._bar.update(self._task, values=_values(record))

    def tell(self, text: str) -> None:
        self._bar.update(self._task, values=text)


class LineProgress:
    """A line with the same values at the start, every few seconds, and at the end."""

    def __init__(self, console: Console, iterations: int, images_per_iteration: int) -> None:
        self._console = console
        self._iterations = iterations
        self._values = ""
        self._said = self._began = time.monotonic()
        self._speed = _Speed(iterations, images_per_iteration)
        of = f" of {counted(images_per_iteration, 'image')}" if images_per_iteration else ""
        self._say(f"{counted(iterations, 'iteration')}{of}")

    def advance(self, iteration: int, waiting: int = 0) -> None:
        """Iteration ``iteration`` is done; the student sees no images in the next ``waiting`` ones."""
        now = time.monotonic()
        speed = self._speed.after(iteration, waiting, now)
        if iteration == self._iterations or now - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = now
            told = (f"{iteration}/{self._iterations}", clock(now - self._began), speed, self._values)
            self._say("  ".join(part for part in told if part))

    def log(self, record: dict[str, Any]) -> None:
        self._values = _values(record)

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
        TextColumn("{task.fields[speed]}"),
    )
    with _BarOverValues(*columns, console=console, refresh_per_second=4) as bar:
        task = bar.add_task("distill", total=iterations, values="", speed="")
        yield BarProgress(bar, task, _Speed(iterations, images_per_iteration))


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
