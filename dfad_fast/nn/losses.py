"""Losses as modules that hold only an op's settings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from dfad_fast.ops import (
    PackedSigns,
    boundary_hinge_loss,
    interpolated_l1,
    kl_discrepancy,
    l1_discrepancy,
)


class BoundaryHingeLoss(nn.Module):
    """:func:`dfad_fast.ops.boundary_hinge_loss` with its settings.

    Args:
        margin: distance from the boundary below which the student is penalized; finite and not negative.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        weights: one factor per stage; only for lists of features.
    """

    def __init__(
        self, margin: float = 1.0, reduction: str = "mean", weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.margin = margin
        self.reduction = reduction
        self.weights = None if weights is None else tuple(weights)

    def forward(
        self,
        student: torch.Tensor | Sequence[torch.Tensor],
        teacher: torch.Tensor | PackedSigns | Sequence[torch.Tensor | PackedSigns],
    ) -> torch.Tensor:
        """Arguments, result and errors as for :func:`dfad_fast.ops.boundary_hinge_loss`."""
        return boundary_hinge_loss(student, teacher, self.margin, self.reduction, self.weights)

    def extra_repr(self) -> str:
        """The settings, as ``print`` shows them."""
        weights = "" if self.weights is None else f", weights={self.weights}"
        return f"margin={self.margin}, reduction={self.reduction!r}{weights}"


class L1Discrepancy(nn.Module):
    """:func:`dfad_fast.ops.l1_discrepancy` with its reduction.

    Args:
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Arguments, result and errors as for :func:`dfad_fast.ops.l1_discrepancy`."""
        return l1_discrepancy(student, teacher, self.reduction)

    def extra_repr(self) -> str:
        """The settings, as ``print`` shows them."""
        return f"reduction={self.reduction!r}"


class KLDiscrepancy(nn.Module):
    """:func:`dfad_fast.ops.kl_discrepancy` with its settings.

    Args:
        temperature: divisor of the logits; finite and positive.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
    """

    def __init__(self, temperature: float = 1.0, reduction: str = "mean") -> None:
        super().__init__()
        self.temperature = temperature
        self.reduction = reduction

    def forward(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Arguments, result and errors as for :func:`dfad_fast.ops.kl_discrepancy`."""
        return kl_discrepancy(student, teacher, self.temperature, self.reduction)

    def extra_repr(self) -> str:
        """The settings, as ``print`` shows them."""
        return f"temperature={self.temperature}, reduction={self.reduction!r}"


class InterpolatedL1(nn.Module):
    """:func:`dfad_fast.ops.interpolated_l1` with its reduction.

    Args:
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(
        self, student: torch.Tensor, teacher: torch.Tensor, lam: float | torch.Tensor, perm: torch.Tensor
    ) -> torch.Tensor:
        """Arguments, result and errors as for :func:`dfad_fast.ops.interpolated_l1`."""
        return interpolated_l1(student, teacher, lam, perm, self.reduction)

    def extra_repr(self) -> str:
        """The settings, as ``print`` shows them."""
        return f"reduction={self.reduction!r}"
