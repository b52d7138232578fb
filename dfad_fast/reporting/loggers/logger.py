"""What a logger is, and what it begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np


@dataclass(frozen=True)
class Start:
    """The run at the moment its loggers are opened: at its beginning, or where it is resumed."""

    folder: Path
    iteration: int
    config: Mapping[str, Any]
    """All of config.yaml."""
    history: Sequence[Mapping[str, Any]]
    """The records so far."""


class Logger:
    """Takes what a run tells. It may raise anything: it is closed then, and the run goes on without it, see Loggers."""

    package: ClassVar[str | None] = None
    """What pip calls the package it needs."""
    module: ClassVar[str | None] = None
    """What is imported of it, if it is not called as the package is."""

    def __init__(self, start: Start) -> None:
        """Only opens it: what fails from then on can be closed."""
        raise NotImplementedError

    def begin(self, start: Start) -> None:
        """Comes before all others: the settings, and the records so far where they are not there from before."""

    def record(self, record: Mapping[str, Any]) -> None:
        """One record of metrics.jsonl."""

    def images(self, iteration: int, grid: np.ndarray) -> None:
        """Generated images in one picture, uint8 [H, W, 1 or 3]."""

    def summary(self, summary: Mapping[str, Any]) -> None:
        """What came out, as in summary.json."""

    def close(self, failed: bool) -> None:
        """No more will come. ``failed``: the run ended by an error."""
