"""The terms of objectives, one file each. A term reads one Probe and returns a scalar."""

from dfad_fast.terms.activation import ActivationMagnitude
from dfad_fast.terms.attention import AttentionTransfer
from dfad_fast.terms.batch_norm import BatchNormStatistics
from dfad_fast.terms.batch_norm_kl import BatchNormKL
from dfad_fast.terms.boundary import ActivationBoundary
from dfad_fast.terms.crossing import BoundaryCrossing
from dfad_fast.terms.entropy import ClassBalance, Entropy, OneHot
from dfad_fast.terms.expression import parse_terms
from dfad_fast.terms.factor import FactorTransfer
from dfad_fast.terms.hint import Hint
from dfad_fast.terms.image_prior import ImageNorm, TotalVariation
from dfad_fast.terms.js import JS
from dfad_fast.terms.kl import KL
from dfad_fast.terms.l1 import L1, LogL1
from dfad_fast.terms.label import Label
from dfad_fast.terms.manifold import ManifoldMixup
from dfad_fast.terms.margin_relu import MarginReLU
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import (
    Term,
    Weighted,
    reads_features,
    reads_last_stage,
    reads_statistics,
    reads_student,
)
from dfad_fast.terms.virtual import VirtualInterpolation

TERMS: dict[str, type[Term]] = {
    term.name: term
    for term in (
        L1, LogL1, KL, JS, ActivationBoundary, BoundaryCrossing, VirtualInterpolation, ManifoldMixup,
        AttentionTransfer, Hint, FactorTransfer, MarginReLU,
        BatchNormStatistics, BatchNormKL, OneHot, Label, Entropy, ClassBalance, ActivationMagnitude, TotalVariation,
        ImageNorm,
    )
}  # fmt: skip

__all__ = [
    "JS",
    "KL",
    "L1",
    "TERMS",
    "ActivationBoundary",
    "ActivationMagnitude",
    "AttentionTransfer",
    "BatchNormKL",
    "BatchNormStatistics",
    "BoundaryCrossing",
    "ClassBalance",
    "Entropy",
    "FactorTransfer",
    "Hint",
    "ImageNorm",
    "Label",
    "LogL1",
    "ManifoldMixup",
    "MarginReLU",
    "OneHot",
    "Probe",
    "Term",
    "TotalVariation",
    "VirtualInterpolation",
    "Weighted",
    "parse_terms",
    "reads_features",
    "reads_last_stage",
    "reads_statistics",
    "reads_student",
]
