"""Virtual interpolation of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from dfad_fast.errors import UsageError, unknown_name
from dfad_fast.ops import l1_discrepancy
from dfad_fast.settings import RATE, refuse_no_number
from dfad_fast.terms.mixing import interpolated_l1, mix
from dfad_fast.terms.mixing_policy import MixingPolicy
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term

Labels = Literal["mixed", "teacher"]
Distance = Literal["l1", "softmax-mse"]
Policy = Literal["beta", "learned"]

_OF_BETA = ("alpha", "per_image")
_OF_LEARNED = ("intrusion", "policy_lr")


@dataclass(frozen=True)
class VirtualInterpolation(Term):
    """Virtual samples between generated images: mean ``|S(x~) - y~|`` with ``x~ = lam x + (1-lam) x[perm]``.

    ``labels="mixed"`` is the paper's form, ``y~ = lam T(x) + (1-lam) T(x[perm])`` (arXiv 2102.11638);
    ``labels="teacher"`` runs the teacher for ``y~ = T(x~)``. ``lam ~ Beta(alpha, alpha)``, one per image, or one per
    batch with ``per_image=False``. ``distance`` is ``l1`` on logits or, as in interpolation consistency training (Verma
    et al. 2019, arXiv 1903.03825), ``softmax-mse``. The mixture goes through the student as a separate batch, or in one
    batch with the images.

    ``policy="learned"`` is AdaMixUp (Guo et al. 2019, arXiv 1809.02499, published code): ``lam`` is uniform on an
    interval ``[a, a + d]`` that a policy network chooses for each pair of images, with ``(a, d, 1 - a - d)`` by a
    softmax. ``intrusion`` weighs a second part of the loss, by which a discriminator tells mixtures from the batch's
    images, see :class:`~dfad_fast.terms.mixing_policy.MixingPolicy`. Both networks are trained by Adam at ``policy_lr``
    in the student's steps; the policy minimizes this part and, with mixed labels, the student's too. Labels of the
    teacher fit any mixture, so with them the policy learns from the discriminator alone. The paper's mixtures are of
    two or more images, and the published code mixes half of the real images and compares the mixtures with all; here
    they are of two, and the whole batch is both mixed and compared.

    Raises UsageError for ``alpha`` that is not positive, a weight or rate out of range, unknown words, and settings
    that do nothing with the ``policy``.
    """

    alpha: float = 1.0
    labels: Labels = "mixed"
    per_image: bool = True
    distance: Distance = "l1"
    policy: Policy = "beta"
    intrusion: float = 1.0
    policy_lr: float = 1e-3
    name: ClassVar[str] = "virtual"

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise UsageError(f"virtual interpolation: alpha must be > 0, got {self.alpha}")
        if self.labels not in {"mixed", "teacher"}:
            raise unknown_name("kind of virtual label", self.labels, ["mixed", "teacher"])
        if self.distance not in {"l1", "softmax-mse"}:
            raise unknown_name("distance of virtual answers", self.distance, ["l1", "softmax-mse"])
        if self.policy not in {"beta", "learned"}:
            raise unknown_name("mixing policy", self.policy, ["beta", "learned"])
        for name in _OF_LEARNED:
            refuse_no_number(f"virtual: {name}", getattr(self, name), whole=False)
            RATE.refuse(f"virtual: {name}", getattr(self, name))
        for name in _OF_BETA if self.policy == "learned" else _OF_LEARNED:
            if getattr(self, name) != getattr(type(self), name):
                raise UsageError(f"virtual: {name} does nothing with policy={self.policy}: leave it out")

    def __repr__(self) -> str:
        # What can be learned is left out where nothing is, as in the records of runs from before there was a policy.
        left_out = () if self.policy == "learned" else ("policy", *_OF_LEARNED)
        shown = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.name not in left_out]
        return f"{type(self).__name__}({', '.join(shown)})"

    @property
    def asks_teacher(self) -> bool:
        return self.labels == "teacher"

    @property
    def module_lr(self) -> float | None:
        return self.policy_lr if self.policy == "learned" else None

    def module(self, stages: Sequence[Sequence[int]], image_shape: tuple[int, int, int]) -> nn.Module | None:
        return MixingPolicy(image_shape[0]) if self.policy == "learned" else None

    def draw(self, rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
        if self.policy == "learned":
            return rng.random(batch), rng.permutation(batch)
        lam = np.asarray(rng.beta(self.alpha, self.alpha, size=batch if self.per_image else ()))
        return lam, rng.permutation(batch)

    def prepare(
        self, images: Tensor, draws: tuple[Tensor, ...], module: nn.Module | None
    ) -> tuple[Tensor, ...]:
        if not isinstance(module, MixingPolicy):
            return draws
        uniform, perm = draws
        return module.coefficients(images, uniform, perm), perm

    def virtual_images(self, images: Tensor, draws: tuple[Tensor, ...]) -> Tensor:
        lam, perm = draws
        return mix(images, lam.detach() if self.labels == "teacher" else lam, perm)

    def __call__(self, probe: Probe) -> Tensor:
        discrepancy = self._discrepancy(probe)
        if not isinstance(probe.module, MixingPolicy):
            return discrepancy
        mixtures = mix(probe.images, *probe.draws)
        return discrepancy + self.intrusion * probe.module.intrusion(probe.images, mixtures)

    def _discrepancy(self, probe: Probe) -> Tensor:
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
