"""DFQ: adversarial images with the data's statistics and confident, balanced classes; warms up the generator."""

from dfad_fast.methods.method import Method
from dfad_fast.terms import KL, BatchNormKL, ClassBalance, Entropy, Weighted

# The weights and the length of the warm-up are this library's: the available sources do not give them.
DFQ = Method(
    name="dfq",
    source="Choi et al. 2020, arXiv 2005.04136",
    student=(Weighted(1.0, KL()),),
    generator=(
        Weighted(-1.0, KL()),
        Weighted(0.01, BatchNormKL()),
        Weighted(1.0, Entropy()),
        Weighted(1.0, ClassBalance()),
    ),
    student_steps=10,
    warm_up=0.05,
    recipe="dfq",
)
