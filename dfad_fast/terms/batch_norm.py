"""Distances of batch statistics from the teacher's running ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dfad_fast.errors import UsageError
from dfad_fast.models.reading.batch_norm import LayerStatistics
from dfad_fast.ops.batch_norm_statistics import distance
from dfad_fast.terms.probe import Probe
from dfad_fast.terms.term import Term


def recorded(probe: Probe) -> list[LayerStatistics]:
    """The statistics of the teacher's batch norm layers; raises UsageError if none of them ran."""
    if not probe.statistics:
        raise UsageError(
            "none of the teacher's batch norm layers ran on the generated images: choose method 'dfad-ar'"
        )
    return probe.statistics


@dataclass(frozen=True)
class BatchNormStatistics(Term):
    """Holds generated images to the data's statistics, which the frozen teacher's batch norm layers recorded.

    Sum over layers of the L2 distances between the batch's and the running mean, and between the batch's and
    the running variance (DeepInversion, Yin et al. 2020, arXiv 1912.08795). Raises UsageError if no such layer ran.
    """

    name: ClassVar[str] = "batch_norm"
    reads_student: ClassVar[bool] = False
    reads_statistics: ClassVar[bool] = True

    def __call__(self, probe: Probe) -> Tensor:
        layers = recorded(probe)
        made = torch.stack((torch.cat([x.mean for x in layers]), torch.cat([x.variance for x in layers])))
        real = [torch.cat([x.running_mean for x in layers]), torch.cat([x.running_variance for x in layers])]
        return distance(made, torch.stack(real), [len(x.mean) for x in layers])
