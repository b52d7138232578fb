"""DAFL: confidently classified images, balanced over classes; generator and student step together."""

import math

from dfad_fast.methods.method import Method
from dfad_fast.terms import KL, ActivationMagnitude, ClassBalance, OneHot, Weighted

# The weights are those for CIFAR-10, with a base-10 logarithm in the balance. The published optimizers are set for 2000
# epochs there; the recipe is this library's.
DAFL = Method(
    name="dafl",
    source="Chen et al. 2019, arXiv 1904.01186",
    student=(Weighted(1.0, KL()),),
    generator=(
        Weighted(0.05, OneHot()),
        Weighted(5.0 / math.log(10.0), ClassBalance()),
        Weighted(-0.01, ActivationMagnitude()),
    ),
    student_steps=1,
    batches="generators_batch",
)
