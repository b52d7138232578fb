"""The ops of :mod:`dfad_fast.ops` as modules."""

from dfad_fast.nn.batch_norm import BatchNormAct
from dfad_fast.nn.losses import BoundaryHingeLoss, InterpolatedL1, KLDiscrepancy, L1Discrepancy
from dfad_fast.nn.mixup import Mixup

__all__ = ["BatchNormAct", "BoundaryHingeLoss", "InterpolatedL1", "KLDiscrepancy", "L1Discrepancy", "Mixup"]
