"""Divergences of batch statistics from the teacher's running ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dfad_fast.terms.batch_norm import recorded
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term


@dataclass(frozen=True)
class BatchNormKL(Term):
    """Divergence of the batch's normal distribution from the data's, at each of the teacher's batch norm layers.

    Sum over layers and channels of ``((mean' - mean)^2 + variance') / (2 variance) - log(deviation' / deviation) -
    1/2``, where the prime marks generated images (DFQ: Choi et al. 2020, arXiv 2005.04136). ``eps`` is added to
    variances. Raises UsageError if no batch norm layer ran.
    """

    eps: float = 1e-5
    name: ClassVar[str] = "batch_norm_kl"
    reads_student: ClassVar[bool] = False
    reads_statistics: ClassVar[bool] = True

    def __call__(self, probe: Probe) -> Tensor:
        divergences = []
        for layer in recorded(probe):
            made, real = layer.variance + self.eps, layer.running_variance + self.eps
            distance = (layer.mean - layer.running_mean).square() + made
            divergences.append((0.5 * (distance / real - (made / real).log() - 1)).sum())
        return torch.stack(divergences).sum()
