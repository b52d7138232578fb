"""The activation regularizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from torch import Tensor

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.ops import boundary_hinge_loss
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import DECAYS, Decay, Term

Stages = Literal["mean", "published"]
_STAGES = ("mean", "published")


@dataclass(frozen=True)
class ActivationBoundary(Term):
    """The activation regularizer: switches the student's hidden neurons on and off where the teacher's are.

    Mean over stages of the mean over elements of ``relu(margin + s)^2`` where the teacher's pre-activation is <= 0,
    otherwise ``relu(margin - s)^2`` (Heo et al. 2019, arXiv 1811.03233; in this use, arXiv 2102.11638). It is not 0 for
    a perfect student, because pre-activations inside the margin still cost. So its weight should decay.

    ``stages`` says how the stages are weighted. ``mean`` weights them equally. ``published``, as in Heo et al.'s code,
    takes each stage's sum over elements, divided by the batch size, times 1, 1/2, 1/4 ... from the deepest on.
    ``margins`` is the margin's schedule over the run, with the names of a weight's schedules: with ``linear`` the
    margin falls to 0, where a perfect student costs nothing.

    Raises UsageError for a margin below 0 or NaN, and for unknown words.
    """

    margin: float = 1.0
    stages: Stages = "mean"
    margins: Decay = "constant"
    name: ClassVar[str] = "boundary"
    reads_features: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.margin >= 0:
            raise UsageError(f"boundary: margin must be >= 0, got {self.margin}")
        if self.stages not in _STAGES:
            raise unknown_name("way to count stages", self.stages, _STAGES)
        if self.margins not in get_args(Decay):
            raise unknown_name("schedule of margins", self.margins, get_args(Decay))

    @property
    def reads_progress(self) -> bool:
        return self.margins != "constant"

    def _weights(self, features: list[Tensor]) -> list[float]:
        """The weight of each stage's mean over elements."""
        if self.stages == "mean":
            return [1.0 / len(features)] * len(features)
        depths = range(len(features) - 1, -1, -1)
        return [f.numel() / f.shape[0] * 0.5**depth for f, depth in zip(features, depths, strict=True)]

    def __call__(self, probe: Probe) -> Tensor:
        return boundary_hinge_loss(
            probe.student_features,
            [features.detach() for features in probe.teacher_features],
            margin=self.margin * DECAYS[self.margins](probe.progress),
            weights=self._weights(probe.student_features),
        )
