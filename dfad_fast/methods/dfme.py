"""DFME: a generator against a black box, whose gradient is estimated; logits are recovered from probabilities."""

from dfad_fast.methods.method import Method
from dfad_fast.terms import L1, Weighted

# L1 is the mean over classes here and the sum in the paper. The published optimizers are set for 20 million queries;
# the recipe is this library's.
DFME = Method(
    name="dfme",
    source="Truong et al. 2021, arXiv 2011.14779",
    student=(Weighted(1.0, L1()),),
    generator=(Weighted(-1.0, L1()),),
    student_mode="eval",
    batches="estimated(directions=1, exact_student=False)",
)
