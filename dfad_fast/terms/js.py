"""Jensen-Shannon divergence of the answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dfad_fast.errors import UsageError
from dfad_fast.precision import at_least_float32, finite_log_softmax
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term


@dataclass(frozen=True)
class JS(Term):
    """Jensen-Shannon divergence of the softened answers, averaged over the batch; between 0 and log 2.

    ``(KL(p, m) + KL(q, m)) / 2`` with ``m = (p + q) / 2``: Adaptive DeepInversion's measure of disagreement, at
    temperature 3 (Yin et al. 2020, arXiv 1912.08795, whose generator-side term is 1 - JS).

    Raises UsageError for a temperature that is not positive.
    """

    temperature: float = 3.0
    name: ClassVar[str] = "js"

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UsageError(f"js: temperature must be > 0, got {self.temperature}")

    def __call__(self, probe: Probe) -> Tensor:
        log_p, log_q = (
            finite_log_softmax(at_least_float32(x) / self.temperature) for x in (probe.teacher, probe.student)
        )
        log_m = torch.logaddexp(log_p, log_q) - math.log(2.0)
        from_middle = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
        return 0.5 * from_middle.sum(1).mean()
