"""A partial L2 distance of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dfad_fast.distributed import differentiable, processes
from dfad_fast.precision import at_least_float32
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term


def negative_means(features: Tensor) -> Tensor:
    """The mean of each channel's values below 0, or 0 if it has none: [B, C, ...] -> [C]."""
    dims = [d for d in range(features.dim()) if d != 1]
    negative = features.clamp(max=0)
    total, number = differentiable.mean(torch.stack([negative.sum(dims), (features < 0).sum(dims)]))
    # These are means over processes, so a single value may count less than 1.
    return total / number.clamp(min=1 / processes.count())


@dataclass(frozen=True)
class MarginReLU(Term):
    """The feature loss of "A Comprehensive Overhaul of Feature Distillation": a partial L2 distance.

    Mean over stages. The target is ``max(t, m)``, with the teacher's pre-activations ``t`` and the mean ``m`` of a
    channel's negative values. The loss is 0 if the target is not positive and the student is below it, otherwise ``(s -
    target)^2``, averaged over elements (Heo et al. 2019, arXiv 1904.01866; here ``m`` comes from the batch, which needs
    no batch norm layer).
    """

    name: ClassVar[str] = "margin_relu"
    reads_features: ClassVar[bool] = True

    def __call__(self, probe: Probe) -> Tensor:
        distances = []
        for features, answer in zip(probe.student_features, probe.teacher_features, strict=True):
            student, teacher = at_least_float32(features), at_least_float32(answer.detach())
            margin = negative_means(teacher).reshape(1, -1, *[1] * (teacher.dim() - 2))
            target = torch.maximum(teacher, margin)
            free = (student <= target) & (target <= 0)
            distances.append((student - target).square().masked_fill(free, 0.0).mean())
        return torch.stack(distances).mean()
