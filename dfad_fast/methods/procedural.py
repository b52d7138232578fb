"""A bank of images drawn once by rules: trains no generator and reads only the teacher's answers."""

from dfad_fast.methods.method import Method
from dfad_fast.terms import L1, Weighted

PROCEDURAL = Method(
    name="procedural",
    source="this library's own; Baradad et al. 2021, arXiv 2106.05963, learn features from such images",
    student=(Weighted(1.0, L1()),),
    generator=(),
    generator_steps=0,
    batches="bank(procedural, new=0, balance=True)",
    recipe="sgd-drawn",
)
