"""The recommended method for teachers with batch norm layers: the paper's, plus their statistics.

Two differences from ``dfad-ar-vi``: the generator is held to the teacher's running statistics, and the label of a
virtual image is the teacher's answer to the mixture instead of the mixture of its answers.
"""

from dfad_fast.methods.method import Method
from dfad_fast.terms import L1, ActivationBoundary, BatchNormStatistics, VirtualInterpolation, Weighted

DFAD_AR_VI_BN = Method(
    name="dfad-ar-vi-bn",
    source="arXiv 2102.11638 with the batch norm statistics of arXiv 1912.08795",
    student=(
        Weighted(1.0, L1()),
        Weighted(0.1, ActivationBoundary(), decay="linear"),
        Weighted(1.0, VirtualInterpolation(labels="teacher")),
    ),
    generator=(Weighted(-1.0, L1()), Weighted(0.2, BatchNormStatistics())),
    student_mode="eval",
)
