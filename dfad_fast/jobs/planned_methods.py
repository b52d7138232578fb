"""The method that ``auto`` stands for where the length of the run is given as a time, and its batches.

``docs/guides/methods.md`` has the figures behind the limits.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from dfad_fast.jobs.networks import Pair
from dfad_fast.jobs.settings import DistillSettings
from dfad_fast.methods import Method
from dfad_fast.models.reading.batch_norm import batch_norm_layers

_LEAST_SIDE = 16
"""Pixels, above digits' 8 and below the 28 of Fashion-MNIST."""

_MINUTES_FOR_A_GENERATOR = 5.0
"""On a CPU: between the 2 in which drawn images did best and the 10 in which generated ones did."""

_SMALL_BATCH = 64
"""For drawn images on a CPU, where more steps on fewer images each end higher."""

_PARTS = (
    "source", "student_terms", "generator_terms", "student_steps", "generator", "generator_lr", "generator_ema",
    "recipe", "replay",
)  # fmt: skip
"""What a method is made of. A user who gives some of it builds on ``auto`` as it is without a time."""


@dataclass(frozen=True)
class Plan:
    """A method by its name, and why it is taken, in words.

    ``filling_share`` of the run is the most that may pass before the student is shown its first images. Without a
    ``batch_size`` it is that of the settings.
    """

    method: str | Method
    reason: str
    filling_share: float = 1.0
    batch_size: int | None = None


def planned_methods(
    settings: DistillSettings, pair: Pair, on_cpu: bool, given: Collection[str] = ()
) -> list[Plan]:
    """The first that is quick enough is taken. None where the length of the run is no time, and where ``auto`` stays
    what it is without one. Settings whose names are ``given`` stay as they are."""
    if settings.minutes is None or settings.method != "auto" or _builds_on_auto(settings):
        return []
    if min(pair.image_shape[1:]) < _LEAST_SIDE or not batch_norm_layers(pair.teacher) or pair.classes < 2:
        return []
    minutes = f"{settings.minutes:g} minutes"
    drawn = Plan("procedural", f"{minutes} are too few here for a generator to learn in")
    if on_cpu and settings.minutes < _MINUTES_FOR_A_GENERATOR:
        sized = settings.batch_per_process or "batch_size" in given
        return [drawn if sized else replace(drawn, batch_size=_SMALL_BATCH)]
    generated = Plan("nayer", f"the teacher has batch norm layers, and {minutes} fill a bank of images", 0.5)
    return [generated, drawn]


def _builds_on_auto(settings: DistillSettings) -> bool:
    return any(getattr(settings, name) != getattr(DistillSettings(), name) for name in _PARTS)
