"""DFAD with the activation regularizer: the first of the two additions of arXiv 2102.11638."""

from dfad_fast.methods.method import Method
from dfad_fast.terms import L1, ActivationBoundary, Weighted

DFAD_AR = Method(
    name="dfad-ar",
    source="Qu et al. 2021, arXiv 2102.11638, without virtual interpolation",
    student=(Weighted(1.0, L1()), Weighted(0.1, ActivationBoundary(), decay="linear")),
    generator=(Weighted(-1.0, L1()),),
)
