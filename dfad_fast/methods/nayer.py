"""NAYER: fixed class vectors go through noisy layers that are redrawn for each batch."""

from dfad_fast.methods.method import Method
from dfad_fast.terms import KL, BatchNormStatistics, Disagreement, Label, Weighted

# The numbers are those for CIFAR-10; CIFAR-100 takes 40 steps. The published vectors are a language model's embeddings
# of the class names: vectors=FILE. The paper makes 200 batches before the student starts; here it is the number of
# images that FastDFKD makes.
NAYER = Method(
    name="nayer",
    source="Tran et al. 2024, arXiv 2310.00258",
    student=(Weighted(400.0, KL(temperature=20.0)),),
    generator=(
        Weighted(10.0, BatchNormStatistics()),
        Weighted(0.5, Label()),
        Weighted(-1.33, Disagreement(), decay="after_warmup"),
    ),
    student_steps=400,
    student_mode="eval",
    batches=(
        "bank(restarted(steps=30, restart=whole, every=10, lr_noise=0, vectors=random), images=65536, prefill=5120)"
    ),
    recipe="nayer",
)
