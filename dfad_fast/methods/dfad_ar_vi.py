"""The method of arXiv 2102.11638: DFAD with the activation regularizer and virtual interpolation."""

from dfad_fast.methods.method import Method
from dfad_fast.terms import L1, ActivationBoundary, VirtualInterpolation, Weighted

DFAD_AR_VI = Method(
    name="dfad-ar-vi",
    source="Qu et al. 2021, arXiv 2102.11638",
    student=(
        Weighted(1.0, L1()),
        Weighted(0.1, ActivationBoundary(), decay="linear"),
        Weighted(1.0, VirtualInterpolation()),
    ),
    generator=(Weighted(-1.0, L1()),),
)
