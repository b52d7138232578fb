"""The settings of images that are optimized themselves."""

from __future__ import annotations

from dataclasses import dataclass

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.sources.spec import SourceSpec

STARTS = ("noise", "procedural")


@dataclass(frozen=True)
class InvertedSettings(SourceSpec):
    """Its fields and their checks, for all that works by them."""

    steps: int = 100
    half: int = 0
    shift: float = 0.0625
    flip: bool = True
    lowest: bool = True
    start: str = "noise"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError(f"inverted: steps must be at least 1, got {self.steps}")
        if not 0 <= self.half < self.steps:
            raise UsageError(
                f"inverted: half must be at least 0 and less than steps, which are {self.steps}, got {self.half}"
            )
        if not 0.0 <= self.shift < 1.0:
            raise UsageError(f"inverted: shift must be at least 0 and less than 1, got {self.shift}")
        if self.start not in STARTS:
            raise unknown_name("start of inverted images", self.start, STARTS)
