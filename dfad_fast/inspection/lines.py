"""Do two networks agree between images too, where the decision boundaries run?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfad_fast.ops import l1_discrepancy

STEPS = 11


@dataclass(frozen=True)
class Lines:
    """Both networks along lines between images that the teacher tells apart. NaN where there is no such pair."""

    pairs: int
    lam: list[float]
    agreement: list[float]
    """At each lam, the fraction of lines on which the arg-max answers agree."""
    l1: list[float]
    """At each lam, mean |student - teacher| over lines and classes."""

    @property
    def mean_agreement(self) -> float:
        """The mean of ``agreement`` over lam."""
        return sum(self.agreement) / len(self.agreement)

    @property
    def mean_l1(self) -> float:
        """The mean of ``l1`` over lam."""
        return sum(self.l1) / len(self.l1)


def draw_pairs(answers: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows of images that are answered differently, as two index vectors [P] with P <= N.

    ``answers`` are predicted classes [N]. Each image is paired with one that chance gives it, and is left out
    where that has its own class.
    """
    partner = torch.randperm(len(answers), generator=source).to(answers.device)
    first = (answers != answers[partner]).nonzero().flatten()
    return first, partner[first]


@torch.no_grad()
def compare_on_lines(teacher: nn.Module, student: nn.Module, a: Tensor, b: Tensor, batch_size: int) -> Lines:
    """Agreement and L1 distance of the logits at x = (1 - lam) a + lam b for lam = 0, 0.1, ..., 1.

    ``a`` and ``b`` are images [P, C, H, W], best of different classes, so that every line crosses a boundary of
    the teacher: where the student's answers follow it, its boundaries are near the teacher's. The networks are
    used in the mode that they are in. The virtual interpolation of arXiv 2102.11638 trains on such points.
    """
    lam = torch.linspace(0, 1, STEPS, dtype=torch.float64).tolist()
    if not len(a):
        nothing = [math.nan] * STEPS
        return Lines(0, lam, nothing, nothing)
    agreement, l1 = [0.0] * STEPS, [0.0] * STEPS
    for one, other in zip(a.split(batch_size), b.split(batch_size), strict=True):
        share = len(one) / len(a)
        for step, weight in enumerate(lam):
            x = torch.lerp(one, other, weight)
            t, s = teacher(x), student(x)
            agreement[step] += share * (t.argmax(1) == s.argmax(1)).double().mean().item()
            l1[step] += share * l1_discrepancy(s, t).item()
    return Lines(len(a), lam, agreement, l1)
