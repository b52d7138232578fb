"""Mixup as a module that draws its own lambda and permutation."""

from __future__ import annotations

import math

import torch
from torch import nn

from dfad_fast.ops import mixup, virtual_batch
from dfad_fast.private_torch import standard_gamma


class Mixup(nn.Module):
    r""":func:`dfad_fast.ops.mixup` with a random weight and a random permutation.

    The weight is :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)`. Both are drawn on the CPU, so that a seed gives
    the same mixtures on every device. A second tensor is mixed the same way (:func:`dfad_fast.ops.virtual_batch`). In
    eval mode the inputs pass through unchanged. Source: Zhang et al. 2018, arXiv 1710.09412.

    Args:
        alpha: parameter of the Beta distribution, positive; 1 is uniform.
        per_sample: draw one lambda per sample instead of one per batch.

    Raises:
        ValueError: alpha is not finite or not positive.
    """

    def __init__(self, alpha: float = 1.0, per_sample: bool = False) -> None:
        super().__init__()
        if not (math.isfinite(alpha) and alpha > 0):
            raise ValueError(f"Mixup: alpha must be finite and positive, got {alpha:g}")
        self.alpha = alpha
        self.per_sample = per_sample

    def forward(
        self, x: torch.Tensor, y: torch.Tensor | None = None, generator: torch.Generator | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Mix x, and y by the same lambda and permutation.

        Args:
            x: [B, ...]; float64, float32, float16 or bfloat16.
            y: [B, ...], such as the teacher's outputs for x, on the same device, or None.
            generator: CPU generator for lambda and permutation; None for PyTorch's default.

        Returns:
            The mixture of x, or the mixtures of x and y, in the shapes and dtypes of the inputs.

        Raises:
            TypeError, ValueError: as :func:`dfad_fast.ops.virtual_batch`.
        """
        if not self.training:
            return x if y is None else (x, y)
        batch = x.shape[0]
        lam = self._draw_lam(batch, generator)
        if self.per_sample:
            lam = lam.to(x.device)
        perm = torch.randperm(batch, generator=generator, device="cpu").to(x.device)
        return mixup(x, lam, perm) if y is None else virtual_batch(x, y, lam, perm)

    def _draw_lam(self, batch: int, generator: torch.Generator | None) -> torch.Tensor:
        # For independent X, Y ~ Gamma(a), X / (X + Y) ~ Beta(a, a).
        shape = (2, batch) if self.per_sample else (2,)
        alphas = torch.full(shape, self.alpha, dtype=torch.float64, device="cpu")
        first, second = standard_gamma(alphas, generator)
        # For tiny alpha both may underflow to 0. The limit of Beta(a, a) is then an end of the interval.
        return torch.nan_to_num(first / (first + second), nan=1.0)

    def extra_repr(self) -> str:
        """The settings, as ``print`` shows them."""
        return f"alpha={self.alpha}, per_sample={self.per_sample}"
