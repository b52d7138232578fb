"""What commands print."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from dfad_fast.reporting.console import Console

_SECONDS_BETWEEN_LINES = 5.0
_LOG = logging.getLogger("dfad_fast")


def open_console(quiet: bool = False) -> Console:
    """The console of the current command. It prints the package's log until the command ends."""
    from dfad_fast.reporting.console import Console

    # Only the first of several processes prints.
    console = Console(quiet=quiet or int(os.environ.get("RANK", "0")) > 0)
    click.get_current_context().with_resource(_printing_log(console))
    return console


def say(console: Console, text: str) -> None:
    """Prints ``text`` unchanged as one line."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


class _Printing(logging.Handler):
    """Prints each message unchanged as one line."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        say(self._console, record.getMessage())


@contextmanager
def _printing_log(console: Console) -> Iterator[None]:
    """Inside the block only ``console`` prints the package's log."""
    printing = _Printing(console)
    level, propagate = _LOG.level, _LOG.propagate
    _LOG.addHandler(printing)
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False
    try:
        yield
    finally:
        _LOG.removeHandler(printing)
        _LOG.setLevel(level)
        _LOG.propagate = propagate


class TeacherBar:
    """Progress of a teacher's training: on a terminal one line that is updated, elsewhere a line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Any = None
        self._said = 0.0

    def __enter__(self) -> Callable[[int, float], None]:
        return self._show

    def _show(self, epoch: int, loss: float) -> None:
        text = f"teacher: epoch {epoch}, loss {loss:.4f}"
        if not self._console.is_terminal:
            if time.monotonic() - self._said >= _SECONDS_BETWEEN_LINES:
                self._said = time.monotonic()
                self._console.print(text, highlight=False)
            return
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        self._status.update(text)

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()
