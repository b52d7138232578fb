"""Distance of the answers, limited to images on which the networks agree about the class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from torch import Tensor

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.ops import kl_discrepancy
from dfad_fast.precision import at_least_float32
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term

Measure = Literal["kl", "l1"]


@dataclass(frozen=True)
class Disagreement(Term):
    """How far apart the answers are on images to which both networks give the same class; other images count 0.

    Mean over the whole batch of KL(T, S), or of the mean over classes of ``|S(x) - T(x)|``. With a negative weight the
    generator looks for images that are hard for the student but still show the requested class: an image that the
    networks already classify differently adds no gradient. From contrastive model inversion (Fang et al. 2021, arXiv
    2105.08584). Its successors FastDFKD (arXiv 2112.06253) and NAYER (arXiv 2310.00258) use it too, with ``kl`` at
    temperature 1. ``temperature`` is that of ``kl``; ``l1`` compares logits.

    Raises UsageError for an unknown measure, or a temperature that is not positive.
    """

    measure: Measure = "kl"
    temperature: float = 1.0
    name: ClassVar[str] = "disagreement"

    def __post_init__(self) -> None:
        if self.measure not in get_args(Measure):
            raise unknown_name("measure of disagreement", self.measure, get_args(Measure))
        if not self.temperature > 0:
            raise UsageError(f"disagreement: temperature must be > 0, got {self.temperature}")

    def __call__(self, probe: Probe) -> Tensor:
        same = probe.student.argmax(1) == probe.teacher.argmax(1)
        if self.measure == "kl":
            apart = kl_discrepancy(probe.student, probe.teacher, self.temperature, "none")
        else:
            apart = (at_least_float32(probe.student) - at_least_float32(probe.teacher)).abs().mean(1)
        return (apart * same).mean()
