"""Kullback-Leibler divergence of the answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.ops import kl_discrepancy
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term

Direction = Literal["forward", "reverse"]
Reduction = Literal["batchmean", "mean"]
_DIRECTIONS, _REDUCTIONS = ("forward", "reverse"), ("batchmean", "mean")


@dataclass(frozen=True)
class KL(Term):
    """Divergence of the softened answers: ``forward`` KL(T, S), as in knowledge distillation, ``reverse`` KL(S, T).

    ``reduction`` is ``batchmean``, the mean over the batch of sums over classes, or ``mean``, the mean over batch and
    classes, as in ZSKT's published code (Micaelli and Storkey 2019, arXiv 1905.09768). There is no factor temperature^2
    (Hinton et al. 2015, arXiv 1503.02531): the row's weight must include it.

    Raises UsageError for a temperature that is not positive, and for unknown words.
    """

    temperature: float = 1.0
    direction: Direction = "forward"
    reduction: Reduction = "batchmean"
    name: ClassVar[str] = "kl"

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UsageError(f"kl: temperature must be > 0, got {self.temperature}")
        if self.direction not in _DIRECTIONS:
            raise unknown_name("direction of kl", self.direction, _DIRECTIONS)
        if self.reduction not in _REDUCTIONS:
            raise unknown_name("reduction of kl", self.reduction, _REDUCTIONS)

    def __call__(self, probe: Probe) -> Tensor:
        return self._divergence(probe, "mean")

    @property
    def gives_images_apart(self) -> bool:
        return True

    def of_each_image(self, probe: Probe) -> Tensor:
        return self._divergence(probe, "none")

    def _divergence(self, probe: Probe, over_images: str) -> Tensor:
        pair = (probe.student, probe.teacher)
        answer, target = pair if self.direction == "forward" else pair[::-1]
        divergence = kl_discrepancy(answer, target, self.temperature, over_images)
        return divergence / probe.student.shape[1] if self.reduction == "mean" else divergence
