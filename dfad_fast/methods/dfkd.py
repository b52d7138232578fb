"""DFKD by Lopes, Fenu and Starner: images reconstructed from records of a teacher's activations."""

from dfad_fast.methods.method import Method
from dfad_fast.terms import KL, Weighted

# The paper draws each layer's activations independently and optimizes images for them. Here only the last layer's are
# drawn, by class, and the other stages are held to each channel's recorded mean and variance. Steps, rates, weights and
# the temperature are this library's.
DFKD = Method(
    name="dfkd",
    source="Lopes et al. 2017, arXiv 1710.07535",
    student=(Weighted(16.0, KL(temperature=4.0)),),
    generator=(),
    student_steps=20,
    generator_steps=0,
    batches="bank(recorded(draws=classes, layers=0.1), images=8192, prefill=2048)",
)
