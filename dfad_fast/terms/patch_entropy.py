"""Diversity of the patches in a vision transformer's attention."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dfad_fast.distributed import differentiable
from dfad_fast.errors import UsageError
from dfad_fast.precision import at_least_float32
from dfad_fast.settings import refuse_no_number
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term

_FLOOR = 1e-4  # of the density, so that its logarithm is finite


@dataclass(frozen=True)
class PatchEntropy(Term):
    r"""How diverse the similarities between an image's patches are: for a generator's table, with a negative weight.

    The mean over the teacher's attention modules and over images of the differential entropy
    :math:`-\int p(s) \log p(s)\,ds` of the cosine similarities :math:`s` between all pairs of patches. The density
    :math:`p` is a kernel estimate with Gaussians of deviation ``bandwidth``, and the integral goes by the trapezoidal
    rule over ``points`` places between the least and the largest similarity of the batch (PSAQ-ViT, Li et al. 2022,
    arXiv 2203.02250; with the published code's values as defaults). In real images a foreground differs from its
    background, and the similarities spread; in noise all patches are alike.

    Here a patch is what the attention module returns for it, behind its projection; in the published code it is the
    mean over heads before that. There the entropies of all modules are added.

    Raises UsageError for ``bandwidth`` that is not positive, and for fewer than 2 ``points``.
    """

    bandwidth: float = 0.01
    points: int = 10
    name: ClassVar[str] = "patch_entropy"
    reads_student: ClassVar[bool] = False
    reads_attention: ClassVar[bool] = True

    def __post_init__(self) -> None:
        refuse_no_number("patch_entropy: bandwidth", self.bandwidth, whole=False)
        refuse_no_number("patch_entropy: points", self.points, whole=True)
        if not self.bandwidth > 0:
            raise UsageError(f"patch_entropy: bandwidth must be > 0, got {self.bandwidth}")
        if self.points < 2:
            raise UsageError(f"patch_entropy: points must be at least 2, got {self.points}")

    def __call__(self, probe: Probe) -> Tensor:
        # Half precision would round away differences as small as the bandwidth.
        with torch.autocast(probe.images.device.type, enabled=False):
            entropies = [self._entropy(_similarities(tokens)) for tokens in probe.attention]
        return torch.stack(entropies).mean()

    def _entropy(self, similarities: Tensor) -> Tensor:
        """The mean entropy of the rows of similarities [B, N]."""
        ends = torch.stack(similarities.detach().aminmax())
        least, largest = differentiable.gather(ends[None]).unbind(1)
        parts = torch.linspace(0.0, 1.0, self.points, dtype=ends.dtype, device=ends.device)
        places = torch.lerp(least.amin(), largest.amax(), parts)
        distances = (places[:, None] - similarities[:, None, :]) / self.bandwidth
        kernels = torch.exp(-0.5 * distances.square()) / (self.bandwidth * math.sqrt(2.0 * math.pi))
        density = kernels.mean(2) + _FLOOR
        return torch.trapezoid(-density * density.log(), places, dim=1).mean()


def _similarities(tokens: Tensor) -> Tensor:
    """The cosine similarities [B, N N] of all pairs of patches of tokens [B, C, H, W], a patch with itself included."""
    patches = F.normalize(at_least_float32(tokens).flatten(2), dim=1)
    return (patches.transpose(1, 2) @ patches).flatten(1)
