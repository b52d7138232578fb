"""Constraints of weights: a mask, or two or three values in each output channel with straight-through gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_THRESHOLD = 0.7


class Masked(nn.Module):
    """A parametrization of a weight by its product with ``mask``, of the same shape."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight, 0 where the mask is."""
        return weight * self.mask


class FewValues(nn.Module):
    """A parametrization of a weight [out, ...] by few values.

    The gradient passes where the weight itself is between -1 and 1, as in XNOR-Net (Rastegari et al. 2016, arXiv
    1603.05279).
    """

    bits: int
    """Bits per weight in a compact form."""

    def few(self, weight: Tensor) -> Tensor:
        """The values [out, ...] for a weight [out, ...]."""
        raise NotImplementedError(f"{type(self).__name__} has to implement few(weight)")

    def forward(self, weight: Tensor) -> Tensor:
        """The values [out, ...], with the straight-through gradient."""
        passed = weight.clamp(-1.0, 1.0)
        straight_through = passed - passed.detach()  # 0, so that the values are exact
        return self.few(weight).detach() + straight_through


class Binary(FewValues):
    """``a sign(w)``, with ``a`` the mean of ``|w|`` over each output channel (arXiv 1603.05279)."""

    bits = 1

    def few(self, weight: Tensor) -> Tensor:
        """The values [out, ...] for a weight [out, ...]."""
        scale = weight.abs().flatten(1).mean(1).view(-1, *[1] * (weight.dim() - 1))
        return torch.where(weight >= 0, scale, -scale)


class Ternary(FewValues):
    """``a sign(w)`` where ``|w|`` is more than 0.7 of its mean over each output channel, and 0 elsewhere.

    ``a`` is the mean of those ``|w|`` (ternary weight networks, Li et al. 2016, arXiv 1605.04711).
    """

    bits = 2

    def few(self, weight: Tensor) -> Tensor:
        """The values [out, ...] for a weight [out, ...]."""
        size = weight.abs().flatten(1)
        large = size > _THRESHOLD * size.mean(1, keepdim=True)
        scale = (size * large).sum(1, keepdim=True) / large.sum(1, keepdim=True).clamp_min(1)
        return (scale * large).view_as(weight) * weight.sign()
