"""The settings of images that are optimized to be as a record says."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.settings import RATE
from dfad_fast.sources.recorded.record import Record, read_record
from dfad_fast.sources.recorded.targets import DRAWS
from dfad_fast.sources.spec import SourceSpec


@dataclass(frozen=True)
class RecordedSettings(SourceSpec):
    """Its fields and their checks, for all that works by them."""

    path: str = ""
    draws: str = "clusters"
    layers: float = 0.0
    steps: int = 100
    lr: float = 0.1
    smooth: float = 0.1

    def __post_init__(self) -> None:
        if self.draws not in DRAWS:
            raise unknown_name("way to draw from a record", self.draws, DRAWS)
        if self.steps < 1:
            raise UsageError(f"recorded: steps must be at least 1, got {self.steps}")
        RATE.refuse("recorded: lr", self.lr)
        for name in ("layers", "smooth"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"recorded: {name} must be at least 0 and finite, got {getattr(self, name)}")
        if self.path:  # whole, so that a run that is resumed from elsewhere finds it
            object.__setattr__(self, "path", os.path.abspath(os.path.expanduser(self.path)))

    @property
    def paths(self) -> tuple[str, ...]:
        return ("path",)

    def read(self) -> Record:
        """Raises UsageError where there is no record."""
        if not self.path:
            named = replace(self, path="FILE")
            raise UsageError(
                f'recorded needs the file that dfad-fast record wrote: --source "bank({named})", with the settings of '
                "the bank that you want"
            )
        return read_record(self.path)
