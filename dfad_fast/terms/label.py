"""Cross-entropy with the classes that images were requested for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from dfad_fast.precision import at_least_float32
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term


@dataclass(frozen=True)
class Label(Term):
    """Cross-entropy, in nats, of the teacher's answers with the classes that the images were requested for.

    A conditional generator or a source requests them. The term makes the generator produce each class as often as
    requested; it is KegNet's classification loss (Yoo et al. 2019, NeurIPS). For the generator's table only.
    """

    name: ClassVar[str] = "label"
    reads_student: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = True

    def __call__(self, probe: Probe) -> Tensor:
        assert probe.labels is not None
        return F.cross_entropy(at_least_float32(probe.teacher), probe.labels)
