from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dfad_fast.ops import boundary_hinge_loss
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term


@dataclass(frozen=True)
class ActivationBoundary(Term):
    """The activation regulariser: the student's hidden neurons on and off where the teacher's are.

    Mean over stages of the mean over elements of ``relu(margin + s)^2`` where the teacher's pre-activation is
    <= 0, else ``relu(margin - s)^2`` (Heo et al. 2019, arXiv 1811.03233; in this use, arXiv 2102.11638).
    Not 0 for a perfect student: pre-activations inside the margin still cost. So its weight should decay.
    """

    margin: float = 1.0
    name: ClassVar[str] = "boundary"
    reads_features: ClassVar[bool] = True

    def __call__(self, probe: Probe) -> Tensor:
        stages = len(probe.student_features)
        return boundary_hinge_loss(
            probe.student_features,
            [features.detach() for features in probe.teacher_features],
            margin=self.margin,
            weights=[1.0 / stages] * stages,
        )
