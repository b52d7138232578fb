"""FastDFKD: a generator with learned initial weights makes a batch of images in 2, 5 or 10 steps; keeps all images."""

from dfad_fast.methods.method import Method
from dfad_fast.terms import KL, BatchNormStatistics, Disagreement, Label, Weighted

# The weights are those for ResNet-34 and ResNet-18. KL has temperature 20 and weight 20^2. The published code also
# resets the first layer once, after 120 rounds; this one does not.
_STUDENT = (Weighted(400.0, KL(temperature=20.0)),)
_GENERATOR = (
    Weighted(10.0, BatchNormStatistics()),
    Weighted(0.5, Label()),
    Weighted(-1.33, Disagreement(), decay="after_warmup"),
)


def _fast(steps: int, lr_noise: float) -> Method:
    return Method(
        name=f"fast-{steps}",
        source="Fang et al. 2022, arXiv 2112.06253",
        student=_STUDENT,
        generator=_GENERATOR,
        student_steps=400,
        student_mode="eval",
        batches=f"bank(restarted(steps={steps}, lr_noise={lr_noise}), images=65536, prefill=5120)",
        recipe=f"fast-{steps}",
    )


FAST_2 = _fast(2, lr_noise=0.015)
FAST_5 = _fast(5, lr_noise=0.01)
FAST_10 = _fast(10, lr_noise=0.01)
