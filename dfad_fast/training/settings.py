"""The settings of a run in Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from dfad_fast.engine.settings import DistillerSettings


@dataclass
class RunSettings(DistillerSettings):
    out: str | Path | None = None
    _: KW_ONLY
    image_mean: Sequence[float] | None = None
    image_std: Sequence[float] | None = None
    keep_checkpoints: int = 2
    checkpoint_seconds: float = 60.0
    checkpoint_iterations: int | None = None
    log: Sequence[str] = ()
