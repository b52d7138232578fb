"""DeepInversion and its variants: the images themselves are optimized, and the student learns from a bank."""

from dfad_fast.methods.method import Method
from dfad_fast.terms import (
    JS,
    KL,
    L1,
    BatchNormStatistics,
    ImageNorm,
    Label,
    PatchEntropy,
    TotalVariation,
    Weighted,
)

# KL has temperature 3 and weight 3^2. The published images take 2,000 steps at 32 pixels (4,000 at 224 without batch
# norm). This library uses 100, for images of 8 pixels, and 100 student steps for each batch.
_STUDENT = (Weighted(9.0, KL(temperature=3.0)),)
_BATCHES = "bank(inverted(steps=100), images=1024)"
# The weights are those for CIFAR-10, except batch_norm, which is 10 there: with 10, digits did not show their labels'
# classes. For ImageNet the weights of the last three are 1e-4, 1e-5 and 0.01, and the rate is 0.2.
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

# 1 - JS has the gradient of -JS. The student must learn something before images can compete with it.
ADI = _inversion(
    "adi", "Yin et al. 2020, arXiv 1912.08795", (*_PRIORS, Weighted(-10.0, JS(), decay="after_warmup"))
)

_WITHOUT_BATCH_NORM = (Weighted(1.0, Label()), Weighted(1e-4, TotalVariation()))

TV_INVERSION = _inversion(
    "tv-inversion",
    "this library, by the priors of Yin et al. 2020, arXiv 1912.08795",
    _WITHOUT_BATCH_NORM,
)

# The published code has the sum over the blocks, with weight 1, where the term has their mean. It holds the total
# variation of 32 images to a random target with weight 0.05, and takes 1,000 steps of Adam at 0.2 with a first beta of
# 0.5. The images were made to calibrate a quantized network: the student and its bank are those of deepinversion.
PSAQ = _inversion(
    "psaq",
    "Li et al. 2022, arXiv 2203.02250",
    (*_WITHOUT_BATCH_NORM, Weighted(-1.0, PatchEntropy())),
)

# For teachers without batch norm. On Fashion-MNIST (LeNet-5 -> half, student started from the teacher, 2,000 steps of
# Adam) drawings alone reached 74.8 %, half of them inverted 78.7 to 80.3 %: with 8 or 20 steps, and with images kept in
# range or not.
PROCEDURAL_INVERSION = Method(
    name="procedural-inversion",
    source="this library's own, of procedural and tv-inversion",
    student=(Weighted(1.0, L1()),),
    generator=(Weighted(1.0, Label()), Weighted(1e-3, TotalVariation())),
    batches=(
        "bank(0.5*procedural + 0.5*inverted(steps=8, shift=0.0, flip=False, lowest=False, start=procedural), "
        "new=0, balance=True)"
    ),
    recipe="adam-inversion",
)
