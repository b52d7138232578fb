"""KegNet: generators that are trained first, each with a decoder, and then a set of their images."""

from dfad_fast.methods.method import Method
from dfad_fast.terms import KL, Diversity, Label, Reconstruction, Weighted

# The weights are those of SVHN; diversity has 10 for Fashion-MNIST and 0 for MNIST. Each of the published generators
# takes 20,000 steps, and makes 6,400 images; its noise has 10 values. Steps and images are this library's here, for
# images of 8 pixels, and so is the student's recipe: the published student is a teacher whose layers were factorized.
KEGNET = Method(
    name="kegnet",
    source='Yoo et al. 2019, "Knowledge Extraction with No Observable Data", NeurIPS',
    student=(Weighted(1.0, KL()),),
    generator=(Weighted(1.0, Label()), Weighted(1.0, Reconstruction()), Weighted(1.0, Diversity())),
    student_steps=20,
    generator_steps=10,
    student_mode="eval",
    batches="bank(trained_first(steps=100, generators=5), images=8192, new=0)",
    recipe="kegnet",
    iterations=120,
)
