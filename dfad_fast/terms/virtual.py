from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.ops import l1_discrepancy
from dfad_fast.terms.mixing import interpolated_l1, mix
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term

Labels = Literal["mixed", "teacher"]
Distance = Literal["l1", "softmax-mse"]


@dataclass(frozen=True)
class VirtualInterpolation(Term):
    """Virtual samples between generated images: mean ``|S(x~) - y~|`` with ``x~ = lam x + (1-lam) x[perm]``.

    ``labels="mixed"`` is the paper's form, ``y~ = lam T(x) + (1-lam) T(x[perm])`` (arXiv 2102.11638);
    ``labels="teacher"`` runs the teacher for ``y~ = T(x~)``. ``lam ~ Beta(alpha, alpha)``, one per image, or one per
    batch with ``per_image=False``. ``distance`` is ``l1`` on logits or, as in interpolation consistency training (Verma
    et al. 2019, arXiv 1903.03825), ``softmax-mse``. The mixture goes through the student as a separate batch, or in one
    batch with the images.
    """

    alpha: float = 1.0
    labels: Labels = "mixed"
    per_image: bool = True
    distance: Distance = "l1"
    name: ClassVar[str] = "virtual"

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise UsageError(f"virtual interpolation: alpha must be > 0, got {self.alpha}")
        if self.labels not in {"mixed", "teacher"}:
            raise unknown_name("kind of virtual label", self.labels, ["mixed", "teacher"])
        if self.distance not in {"l1", "softmax-mse"}:
            raise unknown_name("distance of virtual answers", self.distance, ["l1", "softmax-mse"])

    @property
    def asks_teacher(self) -> bool:
        return self.labels == "teacher"

    def draw(self, rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
        lam = np.asarray(rng.beta(self.alpha, self.alpha, size=batch if self.per_image else ()))
        return lam, rng.permutation(batch)

    def virtual_images(self, images: Tensor, draws: tuple[Tensor, ...]) -> Tensor:
        lam, perm = draws
        return mix(images, lam, perm)

    def __call__(self, probe: Probe) -> Tensor:
        assert probe.virtual_images is not None
        assert probe.virtual_student is not None
        if self.labels == "teacher":
            labels = probe.ask_teacher(probe.virtual_images)
        else:
            lam, perm = probe.draws
            if self.distance == "l1":
                return interpolated_l1(probe.virtual_student, probe.teacher, lam, perm)
            labels = mix(probe.teacher, lam, perm)
        if self.distance == "l1":
            return l1_discrepancy(probe.virtual_student, labels)
        return F.mse_loss(probe.virtual_student.softmax(1), labels.softmax(1))
