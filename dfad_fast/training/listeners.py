"""Who listens to a run: what ``fit`` is given as ``progress``, and all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from dfad_fast.reporting.drawings import Drawings
from dfad_fast.reporting.loggers import Loggers
from dfad_fast.runs.events import Callback, Recorded, Stepped
from dfad_fast.runs.writer import RunWriter


class Progress(Protocol):
    """What ``fit`` tells of a run while it lasts.

    A method ``tell(text)``, where there is one, gets lines that say how far the scores at the end are.
    """

    def advance(self, iteration: int) -> None:
        """One more iteration is done. Called often: must be cheap."""

    def log(self, record: dict[str, Any]) -> None:
        """A record of metrics.jsonl was written."""


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
    writer: RunWriter, loggers: Loggers, progress: Progress | None, callbacks: Sequence[Callback]
) -> list[Callback]:
    """All who listen to a run; pictures are drawn where there is a folder."""
    drawings = [Drawings(writer.folder, loggers)] if writer.folder else []
    told = [ToldProgress(progress)] if progress else []
    return [loggers, *drawings, *told, *callbacks]
