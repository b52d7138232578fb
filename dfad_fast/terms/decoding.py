"""Images that tell of the noise that they were made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dfad_fast.distributed import differentiable
from dfad_fast.precision import at_least_float32
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term

_MOST_AT_ONCE = 2**30


@dataclass(frozen=True)
class Reconstruction(Term):
    """Mean squared difference between the noise and what a decoder reads from the images made of it.

    From KegNet (Yoo et al. 2019, NeurIPS). For the generator's table, with a source whose generators have decoders.
    """

    name: ClassVar[str] = "reconstruction"
    reads_student: ClassVar[bool] = False
    reads_decoded: ClassVar[bool] = True

    def __call__(self, probe: Probe) -> Tensor:
        assert probe.decoded is not None
        noise, found = probe.decoded
        return F.mse_loss(at_least_float32(found), at_least_float32(noise))


@dataclass(frozen=True)
class Diversity(Term):
    r"""How alike the images of different noise are, between 0 and 1: minimized, different noise makes different images.

    :math:`\exp(-\frac{1}{B^2} \sum_{i,j} d_z(i, j) \, d_x(i, j))`, with the mean squared difference :math:`d_z` of two
    images' noise and the mean absolute difference :math:`d_x` of the images (KegNet, Yoo et al. 2019, NeurIPS; the
    means are those of its published code). For the generator's table, with a source whose generators have decoders.
    """

    name: ClassVar[str] = "diversity"
    reads_student: ClassVar[bool] = False
    reads_decoded: ClassVar[bool] = True

    def __call__(self, probe: Probe) -> Tensor:
        assert probe.decoded is not None
        noise, images = (
            differentiable.gather(at_least_float32(x).flatten(1)) for x in (probe.decoded[0], probe.images)
        )
        # By differences and not by products: images that are nearly the same are what this is about.
        of_noise = torch.cdist(noise, noise, compute_mode="donot_use_mm_for_euclid_dist").square()
        # A few rows at a time: the gradient takes memory for rows * images * pixels numbers on a GPU.
        rows = max(1, _MOST_AT_ONCE // max(1, images.numel()))
        of_images = torch.cat([torch.cdist(part, images, p=1.0) for part in images.split(rows)])
        return torch.exp(-(of_noise / noise.shape[1] * of_images / images.shape[1]).mean())
