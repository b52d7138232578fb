"""Mixup as a module that draws its own lambda and permutation."""

from __future__ import annotations

import math

import torch
from torch import nn

from dfad_fast.ops import mixup, virtual_batch
from dfad_fast.private_torch import standard_gamma


class Mixup(nn.Module):
    r""":func:`dfad_fast.ops.mixup` with a random weight and a random permutation.

    The weight is :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)`. Both are drawn on the CPU, so that a seed
    gives the same mixtures on every device. Given a second tensor, it is mixed alike
    (:func:`dfad_fast.ops.virtual_batch`). In eval mode the inputs pass through unchanged.

    Args:
        alpha: parameter of the Beta distribution, positive; 1 is uniform.
        per_sample: draw one lambda per sample instead of one per batch.
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
        """The mixture of ``x`` [B, ...], and of ``y`` alike. ``generator`` is torch's default on the CPU, if None."""
        if not self.training:
            return x if y is None else (x, y)
        batch = x.shape[0]
        lam = self._draw_lam(batch, generator)
        if self.per_sample:
            lam = lam.to(x.device)
        perm = torch.randperm(batch, generator=generator, device="cpu").to(x.device)
        return mixup(x, lam, perm) if y is None else virtual_batch(x, y, lam, perm)

    def _draw_lam(self, batch: int, generator: torch.Generator | None) -> torch.Tensor:
        # Beta(a, a) is the share of one of two Gamma(a) variables.
        shape = (2, batch) if self.per_sample else (2,)
        alphas = torch.full(shape, self.alpha, dtype=torch.float64, device="cpu")
        first, second = standard_gamma(alphas, generator)
        # For tiny alpha both may underflow to 0; the limit of Beta(a, a) is then an end of the interval.
        return torch.nan_to_num(first / (first + second), nan=1.0)

    def extra_repr(self) -> str:
        """The settings, as ``print`` shows them."""
        return f"alpha={self.alpha}, per_sample={self.per_sample}"
