"""Disagreement of the activation boundaries, for a generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dfad_fast.errors import UsageError
from dfad_fast.precision import at_least_float32
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term


@dataclass(frozen=True)
class BoundaryCrossing(Term):
    """How far the student's neurons are beyond the teacher's boundaries, bounded so that generators can use it.

    Mean over stages of the mean over elements of how far ``s`` is beyond 0 on the side opposite the teacher's ``t``,
    clipped at ``margin``: between 0 and ``margin``. With a negative weight the generator looks for images on which the
    activation boundaries differ; a negated boundary term would go to infinity there. This form is this library's.

    Raises UsageError for a margin that is not positive.
    """

    margin: float = 1.0
    name: ClassVar[str] = "crossing"
    reads_features: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.margin > 0:
            raise UsageError(f"crossing: margin must be > 0, got {self.margin}")

    def __call__(self, probe: Probe) -> Tensor:
        distances = []
        for features, teacher in zip(probe.student_features, probe.teacher_features, strict=True):
            student = at_least_float32(features)
            beyond = torch.where(teacher > 0, -student, student)
            distances.append(beyond.clamp(0.0, self.margin).mean())
        return torch.stack(distances).mean()
