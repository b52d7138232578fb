"""The terms of objectives, one file each. A term reads one Probe and returns a scalar."""

from dfad_fast.terms.batch_norm import BatchNormStatistics
from dfad_fast.terms.boundary import ActivationBoundary
from dfad_fast.terms.l1 import L1
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term, Weighted, reads_features, reads_statistics
from dfad_fast.terms.virtual import VirtualInterpolation

__all__ = [
    "L1",
    "ActivationBoundary",
    "BatchNormStatistics",
    "Probe",
    "Term",
    "VirtualInterpolation",
    "Weighted",
    "reads_features",
    "reads_statistics",
]
