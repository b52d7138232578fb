"""The settings of a generator that restarts for each batch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, get_args

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.sources.restarted.weights import Initial
from dfad_fast.sources.spec import SourceSpec

Restart = Literal["meta", "whole", "first", "none"]


@dataclass(frozen=True)
class RestartedSettings(SourceSpec):
    """The fields and their checks."""

    steps: int = 10
    restart: Restart = "meta"
    every: int = 1
    weights: Initial = "uniform"
    lowest: bool = True
    lr_noise: float = 0.01
    memory: float = 0.9
    shift: float = 0.125
    flip: bool = True
    vectors: str = ""
    features: int = 0
    compared: int = 4096

    def __post_init__(self) -> None:
        for name, value, known in (
            ("restart", self.restart, get_args(Restart)),
            ("kind of weights", self.weights, get_args(Initial)),
        ):
            if value not in known:
                raise unknown_name(name, value, known)
        for name, least in (("steps", 1), ("every", 1), ("compared", 1), ("features", 0), ("lr_noise", 0)):
            if not getattr(self, name) >= least:
                raise UsageError(f"restarted: {name} must be at least {least}, got {getattr(self, name)}")
        for name in ("memory", "shift"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise UsageError(
                    f"restarted: {name} must be at least 0 and less than 1, got {getattr(self, name)}"
                )
        if self.every != 1 and self.restart not in ("whole", "first"):
            raise UsageError(f"restarted: every is for restart=whole and first, got restart={self.restart}")
        if self.vectors not in ("", "random"):  # absolute, so that a run resumed from another folder finds it
            object.__setattr__(self, "vectors", os.path.abspath(os.path.expanduser(self.vectors)))
