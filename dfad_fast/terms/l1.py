"""Mean absolute differences of the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dfad_fast.distributed import differentiable
from dfad_fast.ops import l1_discrepancy
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term


@dataclass(frozen=True)
class L1(Term):
    """The discrepancy: mean over batch and classes of ``|S(x) - T(x)|`` on logits (DFAD, arXiv 1912.11006)."""

    name: ClassVar[str] = "l1"

    def __call__(self, probe: Probe) -> Tensor:
        return l1_discrepancy(probe.student, probe.teacher)

    @property
    def gives_images_apart(self) -> bool:
        return True

    def of_each_image(self, probe: Probe) -> Tensor:
        return l1_discrepancy(probe.student, probe.teacher, "none").mean(1)


@dataclass(frozen=True)
class LogL1(Term):
    """``log(1 + L1)``: as a generator's term with weight -1, its gradient fades as the networks disagree more.

    DFAD's published code uses it for segmentation (arXiv 1912.11006).
    """

    name: ClassVar[str] = "log_l1"

    def __call__(self, probe: Probe) -> Tensor:
        return differentiable.mean(l1_discrepancy(probe.student, probe.teacher)).log1p()
