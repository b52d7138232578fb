"""DFAD with virtual interpolation: the second of the two additions of arXiv 2102.11638."""

from dfad_fast.methods.method import Method
from dfad_fast.terms import L1, VirtualInterpolation, Weighted

DFAD_VI = Method(
    name="dfad-vi",
    source="Qu et al. 2021, arXiv 2102.11638, without the activation regularizer",
    student=(Weighted(1.0, L1()), Weighted(1.0, VirtualInterpolation())),
    generator=(Weighted(-1.0, L1()),),
)
