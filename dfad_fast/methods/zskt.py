"""ZSKT: a generator looks for images on which the student's probabilities differ; attention is matched too."""

from dfad_fast.methods.method import Method
from dfad_fast.terms import KL, AttentionTransfer, Weighted

ZSKT = Method(
    name="zskt",
    source="Micaelli and Storkey 2019, arXiv 1905.09768",
    student=(Weighted(1.0, KL(reduction="mean")), Weighted(250.0, AttentionTransfer())),
    generator=(Weighted(-1.0, KL(reduction="mean")),),
    student_steps=10,
    batches="same_noise",
    clip_norm=5.0,
    recipe="zskt",
)
