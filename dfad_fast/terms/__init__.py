"""The terms of objectives, one file each. A term reads one Probe and returns a scalar.

A new term is a file here and an import below: ``TERMS`` lists every imported term in this order.
"""

# isort: skip_file
from dfad_fast.terms.expression import parse_terms as parse_terms
from dfad_fast.terms.probe import Probe as Probe
from dfad_fast.terms.term import Term as Term
from dfad_fast.terms.term import Weighted as Weighted
from dfad_fast.terms.term import create_module as create_module
from dfad_fast.terms.term import reads_attention as reads_attention
from dfad_fast.terms.term import reads_contrast as reads_contrast
from dfad_fast.terms.term import reads_features as reads_features
from dfad_fast.terms.term import reads_last_stage as reads_last_stage
from dfad_fast.terms.term import reads_statistics as reads_statistics
from dfad_fast.terms.term import reads_student as reads_student
from dfad_fast.terms.term import weigh as weigh

from dfad_fast.terms.l1 import L1 as L1
from dfad_fast.terms.l1 import LogL1 as LogL1
from dfad_fast.terms.kl import KL as KL
from dfad_fast.terms.js import JS as JS
from dfad_fast.terms.hard_label import HardLabel as HardLabel
from dfad_fast.terms.disagreement import Disagreement as Disagreement
from dfad_fast.terms.boundary import ActivationBoundary as ActivationBoundary
from dfad_fast.terms.crossing import BoundaryCrossing as BoundaryCrossing
from dfad_fast.terms.virtual import VirtualInterpolation as VirtualInterpolation
from dfad_fast.terms.manifold import ManifoldMixup as ManifoldMixup
from dfad_fast.terms.attention import AttentionTransfer as AttentionTransfer
from dfad_fast.terms.hint import Hint as Hint
from dfad_fast.terms.factor import FactorTransfer as FactorTransfer
from dfad_fast.terms.margin_relu import MarginReLU as MarginReLU
from dfad_fast.terms.batch_norm import BatchNormStatistics as BatchNormStatistics
from dfad_fast.terms.batch_norm_kl import BatchNormKL as BatchNormKL
from dfad_fast.terms.patch_entropy import PatchEntropy as PatchEntropy
from dfad_fast.terms.entropy import OneHot as OneHot
from dfad_fast.terms.label import Label as Label
from dfad_fast.terms.contrast import Contrast as Contrast
from dfad_fast.terms.decoding import Reconstruction as Reconstruction
from dfad_fast.terms.decoding import Diversity as Diversity
from dfad_fast.terms.entropy import Entropy as Entropy
from dfad_fast.terms.entropy import ClassBalance as ClassBalance
from dfad_fast.terms.activation import ActivationMagnitude as ActivationMagnitude
from dfad_fast.terms.image_prior import TotalVariation as TotalVariation
from dfad_fast.terms.image_prior import ImageNorm as ImageNorm

TERMS: dict[str, type[Term]] = {
    value.name: value
    for value in list(globals().values())
    if isinstance(value, type) and issubclass(value, Term) and value is not Term
}
