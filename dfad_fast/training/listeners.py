"""The callbacks of a run: the ``progress`` argument of ``fit``, and all others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from dfad_fast.reporting.drawings import Drawings
from dfad_fast.reporting.loggers import Loggers
from dfad_fast.runs.events import Callback, Recorded, Stepped
from dfad_fast.runs.telling import as_callbacks
from dfad_fast.runs.writer import RunWriter


class Progress(Protocol):
    """What ``fit`` reports during a run.

    An optional method ``tell(text)`` receives lines about the progress of the final scores.
    """

    def advance(self, iteration: int) -> None:
        """Called after every iteration, so it must be cheap."""

    def log(self, record: dict[str, Any]) -> None:
        """Called after a record was written to metrics.jsonl."""


class ToldProgress(Callback):
    """Passes events on to ``progress``."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def stepped(self, event: Stepped) -> None:
        """An iteration is done."""
        self._progress.advance(event.iteration)

    def recorded(self, event: Recorded) -> None:
        """A record was written."""
        self._progress.log(dict(event.record))

    def told(self, text: str) -> None:
        """The scores at the end have come so far."""
        if tell := getattr(self._progress, "tell", None):
            tell(text)


def listeners_of(
    writer: RunWriter, loggers: Loggers, progress: Progress | None, callbacks: Iterable[Callback]
) -> list[Callback]:
    """All callbacks of a run. Pictures are drawn only if there is a folder.

    Raises UsageError for a callback of another class, or with async functions.
    """
    given = as_callbacks(callbacks)
    drawings = [Drawings(writer.folder, loggers)] if writer.folder else []
    told = [ToldProgress(progress)] if progress else []
    return [loggers, *drawings, *told, *given]
