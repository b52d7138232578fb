"""What the teacher's answers to generated images should be: confident for each image, balanced over all classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from dfad_fast.distributed import differentiable
from dfad_fast.precision import at_least_float32, finite_log_softmax
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term


@dataclass(frozen=True)
class OneHot(Term):
    """Cross-entropy of the teacher's answer with its own arg-max class (DAFL: arXiv 1904.01186)."""

    name: ClassVar[str] = "one_hot"
    reads_student: ClassVar[bool] = False

    def __call__(self, probe: Probe) -> Tensor:
        logits = at_least_float32(probe.teacher)
        return F.cross_entropy(logits, logits.argmax(1))


@dataclass(frozen=True)
class Entropy(Term):
    """Mean entropy of the teacher's answers, in nats: small if they are confident (DFQ: arXiv 2005.04136)."""

    name: ClassVar[str] = "entropy"
    reads_student: ClassVar[bool] = False

    def __call__(self, probe: Probe) -> Tensor:
        log_p = finite_log_softmax(probe.teacher)
        return -(log_p.exp() * log_p).sum(1).mean()


@dataclass(frozen=True)
class ClassBalance(Term):
    """Negative entropy, in nats, of the teacher's mean answer: lowest if all classes are equally frequent.

    The information entropy loss of DAFL (Chen et al. 2019, arXiv 1904.01186; its code uses base 10, which is this times
    0.434) and DFQ (Choi et al. 2020, arXiv 2005.04136).
    """

    name: ClassVar[str] = "balance"
    reads_student: ClassVar[bool] = False

    def __call__(self, probe: Probe) -> Tensor:
        # Logarithms throughout keep the gradient finite if a class's probability underflows in the whole batch.
        log_p = finite_log_softmax(probe.teacher)
        log_means = differentiable.gather(log_p.logsumexp(0)[None] - math.log(len(log_p)))
        log_mean = log_means.logsumexp(0) - math.log(len(log_means))
        return (log_mean.exp() * log_mean).sum()
