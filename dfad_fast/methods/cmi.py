"""CMI, contrastive model inversion: a new generator for each batch; its images must differ from all earlier ones."""

from dfad_fast.methods.method import Method
from dfad_fast.terms import KL, BatchNormStatistics, Contrast, Disagreement, Label, Weighted

CMI = Method(
    name="cmi",
    source="Fang et al. 2021, arXiv 2105.08584",
    student=(Weighted(400.0, KL(temperature=20.0)),),
    generator=(
        Weighted(1.0, BatchNormStatistics()),
        Weighted(0.5, Label()),
        Weighted(-0.5, Disagreement()),
        Weighted(0.8, Contrast()),
    ),
    student_steps=400,
    student_mode="eval",
    batches=(
        "bank(restarted(steps=200, restart=whole, weights=normal, lr_noise=0.001, memory=0, features=40960), "
        "images=65536)"
    ),
    recipe="cmi",
)
