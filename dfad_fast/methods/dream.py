"""Dream Distillation: images of features drawn around the centroids of each class's clusters."""

from dfad_fast.methods.method import Method
from dfad_fast.terms import KL, Weighted

# Steps, rates, the smoothness weight and the temperature are this library's.
DREAM = Method(
    name="dream",
    source="Bhardwaj et al. 2019, arXiv 1905.07072",
    student=(Weighted(16.0, KL(temperature=4.0)),),
    generator=(),
    student_steps=20,
    generator_steps=0,
    batches="bank(recorded, images=8192, prefill=2048)",
)
