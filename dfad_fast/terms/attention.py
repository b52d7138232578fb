"""Comparison of where the networks look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from dfad_fast.errors import UsageError
from dfad_fast.precision import at_least_float32
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term


def attention_map(features: Tensor) -> Tensor:
    """Pre-activations [B, C, H, W] -> [B, H * W]: mean over channels of squared activations, scaled to L2 norm 1."""
    activations = at_least_float32(features).relu()
    return F.normalize(activations.square().mean(1).flatten(1), dim=1)


@dataclass(frozen=True)
class AttentionTransfer(Term):
    """Compares where the networks look: sum over stages of the mean squared difference of their attention maps.

    Zagoruyko and Komodakis 2017, arXiv 1612.03928; ZSKT's student uses it with weight 250 (arXiv 1905.09768). It skips
    stages without positions ([B, C]), which have no map. ``check`` raises UsageError if no other stage is left.
    """

    name: ClassVar[str] = "attention"
    reads_features: ClassVar[bool] = True

    def check(self, stages: Sequence[Sequence[int]]) -> None:
        if not any(len(shape) == 3 for shape in stages):
            raise UsageError("attention: none of the matching stages has positions [C, H, W]")

    def __call__(self, probe: Probe) -> Tensor:
        maps = [
            F.mse_loss(attention_map(student), attention_map(teacher.detach()))
            for student, teacher in zip(probe.student_features, probe.teacher_features, strict=True)
            if student.dim() == 4
        ]
        return sum(maps[1:], maps[0])
