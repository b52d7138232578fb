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
    """Per channel the mean of the values below 0, and 0 where none is: [B, C, ...] -> [C]."""
    dims = [d for d in range(features.dim()) if d != 1]
    negative = features.clamp(max=0)
    total, number = differentiable.mean(torch.stack([negative.sum(dims), (features < 0).sum(dims)]))
    # Means over processes, so that one value is no longer 1.
    return total / number.clamp(min=1 / processes.count())


@dataclass(frozen=True)
class MarginReLU(Term):
    """Features as the overhaul of feature distillation compares them: mean over stages of a partial L2 distance.

    The target is ``max(t, m)`` of the teacher's pre-activations, ``m`` the mean of a channel's negative values; it
    costs nothing that the student is below a target that is not positive, else ``(s - target)^2``, mean over
    elements (Heo et al. 2019, arXiv 1904.01866; ``m`` is the batch's here, which needs no batch norm layer before it).
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
