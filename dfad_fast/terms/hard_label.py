"""Cross-entropy with the teacher's class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from dfad_fast.precision import at_least_float32
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term


@dataclass(frozen=True)
class HardLabel(Term):
    """Cross-entropy of the student's answers with the teacher's class, in nats.

    Mean over the batch of ``-log softmax(S(x))[argmax T(x)]``. It reads only the class of the teacher's answer, which
    is all that some black boxes give.
    """

    name: ClassVar[str] = "cross_entropy"

    def __call__(self, probe: Probe) -> Tensor:
        return self.of_each_image(probe).mean()

    @property
    def gives_images_apart(self) -> bool:
        return True

    def of_each_image(self, probe: Probe) -> Tensor:
        return F.cross_entropy(at_least_float32(probe.student), probe.teacher.argmax(1), reduction="none")
