"""The method that ``auto`` stands for if the length of the run is given as a time, and its batches.

``docs/evidence.md`` has the measurements behind the limits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dfad_fast.jobs.networks import Pair, student_name
from dfad_fast.jobs.settings import DistillSettings
from dfad_fast.methods import Method
from dfad_fast.models import NETWORKS
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

    At most the fraction ``filling_share`` of the run may pass before the student sees its first images. ``others`` are
    further settings to change.
    """

    method: str | Method
    reason: str
    filling_share: float = 1.0
    others: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that it changes."""
        return {"method": self.method, **self.others}


def planned_methods(
    settings: DistillSettings, pair: Pair, on_cpu: bool, given: Collection[str] = ()
) -> list[Plan]:
    """Candidate plans; the first that is fast enough is used.

    Empty if the length of the run is not given as a time, or if ``auto`` does not depend on it. No plan changes
    settings whose names are in ``given``.
    """
    if settings.minutes is None or settings.method != "auto" or _builds_on_auto(settings):
        return []
    if min(pair.image_shape[1:]) < _LEAST_SIDE or pair.classes < 2:
        return []
    minutes = f"{settings.minutes:g} minutes"
    small = {} if settings.batch_per_process or not on_cpu else {"batch_size": _SMALL_BATCH}
    if not batch_norm_layers(pair.teacher):
        start = {"student_init": "teacher"} if _starts_from_teacher(settings, pair) else {}
        others = _open({**small, **start}, given)
        reason = "no batch norm layers can be read in the teacher, whose statistics a generator would match"
        return [
            Plan("procedural-inversion", reason, 0.5, others),
            Plan("procedural", f"{minutes} are too short to invert images here", others=others),
        ]
    drawn = Plan("procedural", f"a generator has too little time to learn in {minutes} here")
    if on_cpu and settings.minutes < _MINUTES_FOR_A_GENERATOR:
        return [replace(drawn, others=_open(small, given))]
    generated = Plan(
        "nayer", f"the teacher has batch norm layers, and {minutes} are enough to fill a bank", 0.5
    )
    return [generated, drawn]


def _open(others: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in others.items() if name not in given}


def _starts_from_teacher(settings: DistillSettings, pair: Pair) -> bool:
    """Whether the student is a new network of the teacher's class, nowhere wider than the teacher.

    Without batch norm layers its weights do not show that it is new, so that ``auto`` would leave it as it is.
    """
    if student_name(settings) not in NETWORKS or type(pair.student) is not type(pair.teacher):
        return False
    of, to = ([p.shape for p in network.parameters()] for network in (pair.teacher, pair.student))
    return len(of) == len(to) and all(
        len(wide) == len(narrow) and all(a >= b for a, b in zip(wide, narrow, strict=True))
        for wide, narrow in zip(of, to, strict=True)
    )


def _builds_on_auto(settings: DistillSettings) -> bool:
    return any(getattr(settings, name) != getattr(DistillSettings(), name) for name in _PARTS)
