"""The settings that decide how a run ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from torch import nn

from dfad_fast.engine.choice import Terms
from dfad_fast.engine.recipe import Recipe
from dfad_fast.methods import Method
from dfad_fast.networks.levers import Levers


@dataclass
class DistillerSettings:
    method: str | Method = "auto"
    generator: str | nn.Module = "auto"
    latent_dim: int = 100
    batch_size: int = 128
    seed: int = 0
    _: KW_ONLY
    recipe: str | Recipe = "auto"
    taps_teacher: Sequence[str] | None = None
    taps_student: Sequence[str] | None = None
    speed: str | Levers = "auto"
    student_terms: Terms | None = None
    generator_terms: Terms | None = None
    student_ema: float | None = None
    replay: int = 0
    generator_ema: float | None = None
    sync_batch_norm: bool = False
