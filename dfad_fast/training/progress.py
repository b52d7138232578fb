"""What ``fit`` tells its ``progress``."""

from __future__ import annotations

from typing import Any, Protocol

from dfad_fast.runs.events import Callback, Recorded, Stepped


class Progress(Protocol):
    """What ``fit`` tells of a run while it lasts. A method ``tell(text)``, where there is one, gets lines that say how
    far the scores at the end are."""

    def advance(self, iteration: int) -> None:
        """One more iteration is done. Called often: must be cheap."""

    def log(self, record: dict[str, Any]) -> None:
        """A record of metrics.jsonl was written."""


class ToldProgress(Callback):
    """Passes events on to ``progress``."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def stepped(self, event: Stepped) -> None:
        self._progress.advance(event.iteration)

    def recorded(self, event: Recorded) -> None:
        self._progress.log(dict(event.record))

    def told(self, text: str) -> None:
        if tell := getattr(self._progress, "tell", None):
            tell(text)
