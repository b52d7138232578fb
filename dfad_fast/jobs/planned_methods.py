"""The method that ``auto`` stands for if the length of the run is given as a time, and its batches.

``docs/guides/methods.md`` has the measurements behind the limits.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from dfad_fast.jobs.networks import Pair
from dfad_fast.jobs.settings import DistillSettings
from dfad_fast.methods import Method
from dfad_fast.models.reading.batch_norm import batch_norm_layers

_LEAST_SIDE = 16
"""Pixels, above digits' 8 and below the 28 of Fashion-MNIST."""

_MINUTES_FOR_A_GENERATOR = 5.0
"""On a CPU: with 2 minutes procedural images did best, with 10 minutes generated ones."""

_SMALL_BATCH = 64
"""For drawn images on a CPU, where more steps on fewer images each end higher."""

_PARTS = (
    "source", "student_terms", "generator_terms", "student_steps", "generator", "generator_lr", "generator_ema",
    "recipe", "replay",
)  # fmt: skip
"""The parts of a method. If the user sets one, ``auto`` means the same as without a time."""


@dataclass(frozen=True)
class Plan:
    """A method, and why it is used, in words.

    At most the fraction ``filling_share`` of the run may pass before the student sees its first images. Without a
    ``batch_size`` the settings' is used.
    """

    method: str | Method
    reason: str
    filling_share: float = 1.0
    batch_size: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that it changes."""
        sized = {"batch_size": self.batch_size} if self.batch_size else {}
        return {"method": self.method, **sized}


def planned_methods(
    settings: DistillSettings, pair: Pair, on_cpu: bool, given: Collection[str] = ()
) -> list[Plan]:
    """Candidate plans; the first that is fast enough is used. Empty if the length of the run is not given as a time, or
    if ``auto`` does not depend on it. No plan changes settings whose names are in ``given``."""
    if settings.minutes is None or settings.method != "auto" or _builds_on_auto(settings):
        return []
    if min(pair.image_shape[1:]) < _LEAST_SIDE or not batch_norm_layers(pair.teacher) or pair.classes < 2:
        return []
    minutes = f"{settings.minutes:g} minutes"
    drawn = Plan("procedural", f"a generator has too little time to learn in {minutes} here")
    if on_cpu and settings.minutes < _MINUTES_FOR_A_GENERATOR:
        sized = settings.batch_per_process or "batch_size" in given
        return [drawn if sized else replace(drawn, batch_size=_SMALL_BATCH)]
    generated = Plan(
        "nayer", f"the teacher has batch norm layers, and {minutes} are enough to fill a bank", 0.5
    )
    return [generated, drawn]


def _builds_on_auto(settings: DistillSettings) -> bool:
    return any(getattr(settings, name) != getattr(DistillSettings(), name) for name in _PARTS)
