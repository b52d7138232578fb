"""Virtual interpolation of hidden states."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from torch import Tensor

from dfad_fast.errors import UsageError
from dfad_fast.terms.mixing import interpolated_l1, mix
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term


@dataclass(frozen=True)
class ManifoldMixup(Term):
    """Virtual interpolation inside the student: mixes hidden states at ``stage``, and the teacher's answers equally.

    ``mean |S_after(lam h + (1-lam) h[perm]) - (lam T(x) + (1-lam) T(x[perm]))|`` where ``h`` is the output of the
    student's submodule called ``stage`` and ``lam ~ Beta(alpha, alpha)``, one per image (Verma et al. 2019, arXiv
    1806.05236, with alpha = 2). The paper mixes labels, with one lam per batch, and draws a stage each time; here give
    one term per stage. The student runs one more time for it. In text, quote the stage: ``manifold(stage='layer2.0')``.
    The stage must run once in a forward pass, outside parts that checkpoint their activations.

    Raises UsageError for ``alpha`` that is not positive.
    """

    stage: str = ""
    alpha: float = 2.0
    name: ClassVar[str] = "manifold"

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise UsageError(f"manifold: alpha must be > 0, got {self.alpha}")

    @property
    def student_stage(self) -> str:
        return self.stage

    def draw(self, rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
        return rng.beta(self.alpha, self.alpha, size=batch), rng.permutation(batch)

    def __call__(self, probe: Probe) -> Tensor:
        assert probe.ask_student is not None
        lam, perm = probe.draws
        answers = probe.ask_student(probe.images, self.stage, partial(mix, lam=lam, perm=perm))
        return interpolated_l1(answers, probe.teacher, lam, perm)
