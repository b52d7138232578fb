"""How strongly images excite the teacher's last features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dfad_fast.precision import at_least_float32
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term


@dataclass(frozen=True)
class ActivationMagnitude(Term):
    """Mean activation of the teacher's last stage; real images excite its features, so generators maximize it.

    From DAFL (Chen et al. 2019, arXiv 1904.01186), which takes the features before the classifier. Here it is the
    deepest tapped stage, even if the student has no match for it.
    """

    name: ClassVar[str] = "activation"
    reads_student: ClassVar[bool] = False
    reads_last_stage: ClassVar[bool] = True

    def __call__(self, probe: Probe) -> Tensor:
        assert probe.last_stage is not None
        return at_least_float32(probe.last_stage).relu().mean()
