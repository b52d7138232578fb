"""DeepInversion and what followed from it: images are optimized themselves, and the student learns from a bank."""

from dfad_fast.methods.method import Method
from dfad_fast.terms import JS, KL, BatchNormStatistics, ImageNorm, Label, TotalVariation, Weighted

# KL has the temperature 3, and 3^2 as its weight. The published images take 2,000 steps at 32 pixels (without batch
# norm 4,000 at 224); 100 are this library's, for images of 8 pixels, and so are the 100 student's steps for each batch.
_STUDENT = (Weighted(9.0, KL(temperature=3.0)),)
_BATCHES = "bank(inverted(steps=100), images=1024)"
# As for CIFAR-10, but for batch_norm, which is 10 there: digits then did not become what their labels ask for. For
# ImageNet the weights of the last three are 1e-4, 1e-5 and 0.01, and the rate is 0.2.
_PRIORS = (
    Weighted(1.0, Label()),
    Weighted(2.5e-5, TotalVariation()),
    Weighted(3e-8, ImageNorm()),
    Weighted(1.0, BatchNormStatistics()),
)


def _inversion(name: str, source: str, generator: tuple[Weighted, ...]) -> Method:
    return Method(
        name=name,
        source=source,
        student=_STUDENT,
        generator=generator,
        student_steps=100,
        student_mode="eval",
        batches=_BATCHES,
        recipe="inversion",
        iterations=12,
    )


DEEPINVERSION = _inversion("deepinversion", "Yin et al. 2020, arXiv 1912.08795", _PRIORS)

# 1 - JS has the gradient of -JS. The student has to know something before it can be competed with.
ADI = _inversion(
    "adi", "Yin et al. 2020, arXiv 1912.08795", (*_PRIORS, Weighted(-10.0, JS(), decay="after_warmup"))
)

TV_INVERSION = _inversion(
    "tv-inversion",
    "this library, by the priors of Yin et al. 2020, arXiv 1912.08795",
    (Weighted(1.0, Label()), Weighted(1e-4, TotalVariation())),
)
