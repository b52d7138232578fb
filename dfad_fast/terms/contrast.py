"""Contrastive learning, by which images become different from each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dfad_fast.distributed import differentiable, processes
from dfad_fast.errors import UsageError
from dfad_fast.precision import at_least_float32
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term


@dataclass(frozen=True)
class Contrast(Term):
    """Makes images differ from each other and from earlier ones: a crop must identify its image among all others.

    Cross-entropy of the similarities between an image's crop and all whole images, divided by ``temperature``; the
    right answer is the image itself. It is the sum of the mean over the batch's images and the mean over earlier ones
    (contrastive model inversion, Fang et al. 2021, arXiv 2105.08584, section 3.2). No gradient goes through the whole
    images. For the generator's table, with a source that keeps earlier images' features. It reads features at batch
    norm layers, so the teacher must have them.

    Raises UsageError for a temperature that is not positive.
    """

    temperature: float = 0.1
    name: ClassVar[str] = "contrast"
    reads_student: ClassVar[bool] = False
    reads_statistics: ClassVar[bool] = True
    reads_contrast: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UsageError(f"contrast: temperature must be > 0, got {self.temperature}")

    def __call__(self, probe: Probe) -> Tensor:
        assert probe.contrast is not None
        crops, wholes = (at_least_float32(x) for x in probe.contrast)
        own = len(probe.images)
        of_batch = differentiable.gather(wholes[:own].detach())
        others = torch.cat([of_batch, wholes[own:].detach()])
        similarity = crops @ others.T / self.temperature
        first = processes.rank() * own
        right = torch.arange(len(crops), device=crops.device)
        right = torch.where(right < own, right + first, right + len(of_batch) - own)
        costs = F.cross_entropy(similarity, right, reduction="none")
        former = costs[own:]
        return costs[:own].mean() + (former.mean() if len(former) else 0.0)
