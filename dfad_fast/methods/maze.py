"""MAZE: a generator against a black box, whose gradient is estimated, and a student that replays old images."""

from dfad_fast.methods.method import Method
from dfad_fast.terms import KL, Weighted

# Finite differences estimate the gradient through the teacher only; the gradient through the student is exact. The
# published optimizers are set for 30 million queries; the recipe is this library's.
MAZE = Method(
    name="maze",
    source="Kariyappa et al. 2021, arXiv 2005.03161",
    student=(Weighted(1.0, KL()),),
    generator=(Weighted(-1.0, KL()),),
    student_mode="eval",
    batches="replayed(estimated(directions=10), steps=10)",
)
