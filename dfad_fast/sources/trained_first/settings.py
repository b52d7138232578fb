"""The settings of generators that are trained first."""

from __future__ import annotations

from dataclasses import dataclass

from dfad_fast.errors import UsageError
from dfad_fast.sources.spec import SourceSpec


@dataclass(frozen=True)
class TrainedFirstSettings(SourceSpec):
    """Its fields and their checks, for all that works by them."""

    steps: int = 100
    generators: int = 5

    def __post_init__(self) -> None:
        for name in ("steps", "generators"):
            if getattr(self, name) < 1:
                raise UsageError(f"trained_first: {name} must be at least 1, got {getattr(self, name)}")
