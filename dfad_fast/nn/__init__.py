"""The ops of :mod:`dfad_fast.ops` as modules."""

from dfad_fast.nn.losses import BoundaryHingeLoss, L1Discrepancy
from dfad_fast.nn.mixup import Mixup

__all__ = ["BoundaryHingeLoss", "L1Discrepancy", "Mixup"]
