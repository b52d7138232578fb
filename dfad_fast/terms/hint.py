"""Regression of features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from dfad_fast.precision import at_least_float32
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term, check_stage


@dataclass(frozen=True)
class Hint(Term):
    """Regresses the student's features on the teacher's: mean squared error at one stage; -1 is the last.

    From FitNets (Romero et al. 2015, arXiv 1412.6550), whose hint is a middle layer; here it reads pre-activations.
    ``check`` raises UsageError for a stage that does not exist.
    """

    stage: int = -1
    name: ClassVar[str] = "hint"
    reads_features: ClassVar[bool] = True

    def check(self, stages: Sequence[Sequence[int]]) -> None:
        check_stage(self, self.stage, stages)

    def __call__(self, probe: Probe) -> Tensor:
        student, teacher = probe.student_features[self.stage], probe.teacher_features[self.stage]
        return F.mse_loss(at_least_float32(student), at_least_float32(teacher.detach()))
