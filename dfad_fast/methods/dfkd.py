"""DFKD: images that a teacher's activation records are made of again, by Lopes, Fenu and Starner."""

from dfad_fast.methods.method import Method
from dfad_fast.terms import KL, Weighted

# The paper draws each layer's activations by themselves and optimizes images for them. Here the last layer's are drawn,
# by class, and the other stages are held to the recorded mean and variance of each channel. Steps, rates and weights
# are this library's, and so is the temperature.
DFKD = Method(
    name="dfkd",
    source="Lopes et al. 2017, arXiv 1710.07535",
    student=(Weighted(16.0, KL(temperature=4.0)),),
    generator=(),
    student_steps=20,
    generator_steps=0,
    batches="bank(recorded(draws=classes, layers=0.1), images=8192, prefill=2048)",
)
