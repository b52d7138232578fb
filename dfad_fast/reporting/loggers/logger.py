"""The interface of a logger, and the state with which it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np


@dataclass(frozen=True)
class Start:
    """The run at the moment when its loggers are opened: at its start, or when it is resumed."""

    folder: Path
    iteration: int
    config: Mapping[str, Any]
    """All of config.yaml."""
    history: Sequence[Mapping[str, Any]]
    """The records so far."""


class Logger:
    """Receives a run's records. It may raise any exception: it is then closed, and the run continues without it."""

    package: ClassVar[str | None] = None
    """The pip name of the package that it needs."""
    module: ClassVar[str | None] = None
    """The module to import, if its name differs from the package's."""

    def __init__(self, start: Start) -> None:
        """Only opens the logger. If a later call fails, the logger can be closed."""
        raise NotImplementedError

    def begin(self, start: Start) -> None:
        """Called first, to log the settings, and the records so far if this logger does not have them yet."""

    def record(self, record: Mapping[str, Any]) -> None:
        """One record of metrics.jsonl."""

    def images(self, iteration: int, grid: np.ndarray) -> None:
        """Generated images in one picture, uint8 [H, W, 1 or 3]."""

    def summary(self, summary: Mapping[str, Any]) -> None:
        """The results, as in summary.json."""

    def close(self, failed: bool) -> None:
        """Called last. ``failed``: whether the run ended with an error."""
