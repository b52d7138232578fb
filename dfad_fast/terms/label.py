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
    """Cross-entropy of the teacher's answers with the images' labels, which a conditional generator received or a
    source requested.

    It makes the generator produce each class as often as requested, as in KegNet (Yoo et al. 2019, NeurIPS) without its
    decoder and diversity loss. For the generator's table only.
    """

    name: ClassVar[str] = "label"
    reads_student: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = True

    def __call__(self, probe: Probe) -> Tensor:
        assert probe.labels is not None
        return F.cross_entropy(at_least_float32(probe.teacher), probe.labels)
