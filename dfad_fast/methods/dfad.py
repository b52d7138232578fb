"""DFAD: match the teacher's logits on images that are made to be hard to match (Fang et al. 2019, arXiv 1912.11006)."""

from dfad_fast.methods.method import Method
from dfad_fast.terms import L1, Weighted

DFAD = Method(
    name="dfad",
    source="Fang et al. 2019, arXiv 1912.11006",
    student=(Weighted(1.0, L1()),),
    generator=(Weighted(-1.0, L1()),),
)
