"""A table of weighted terms as one loss."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dfad_fast.sources.source import Losses
from dfad_fast.terms import Probe, Weighted


def weigh(
    rows: Sequence[Weighted], probes: Sequence[Probe], weights: Sequence[float | Tensor], phase: str
) -> tuple[Tensor, Losses]:
    """The weighted sum of the rows, and each row's term by itself, named ``phase/term``."""
    total = probes[0].teacher.new_zeros(())
    losses: Losses = {}
    for row, probe, weight in zip(rows, probes, weights, strict=True):
        loss = row.term(probe)
        total = total + weight * loss
        name = f"{phase}/{row.term.name}"
        losses[f"{name}_{len(losses) + 1}" if name in losses else name] = loss.detach()
    return total, losses
