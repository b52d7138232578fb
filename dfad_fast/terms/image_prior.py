"""Priors of natural images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dfad_fast.distributed import differentiable
from dfad_fast.precision import at_least_float32
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term


@dataclass(frozen=True)
class TotalVariation(Term):
    """Sum of the L2 norms, over the whole batch, of differences between neighbors: right, below, both diagonals.

    DeepInversion's smoothness prior (Yin et al. 2020, arXiv 1912.08795; there with weight 2.5e-5).
    """

    name: ClassVar[str] = "total_variation"
    reads_student: ClassVar[bool] = False

    def __call__(self, probe: Probe) -> Tensor:
        x = at_least_float32(probe.images)
        differences = (
            x[..., 1:] - x[..., :-1],
            x[..., 1:, :] - x[..., :-1, :],
            x[..., 1:, 1:] - x[..., :-1, :-1],
            x[..., 1:, :-1] - x[..., :-1, 1:],
        )
        norms = torch.stack([torch.linalg.vector_norm(d) for d in differences])
        return torch.linalg.vector_norm(differentiable.gather(norms[None]), dim=0).sum()


@dataclass(frozen=True)
class ImageNorm(Term):
    """Mean over the batch of the images' L2 norms (DeepInversion, arXiv 1912.08795)."""

    name: ClassVar[str] = "image_norm"
    reads_student: ClassVar[bool] = False

    def __call__(self, probe: Probe) -> Tensor:
        return torch.linalg.vector_norm(at_least_float32(probe.images).flatten(1), dim=1).mean()
