"""Connectors: the student's features mapped to the teacher's width; trained with the student, then thrown away."""

from __future__ import annotations

from torch import nn

from dfad_fast.models.taps import Tap


def create_connector(student: Tap, teacher: Tap) -> nn.Module:
    """The identity where widths agree; else a 1x1 convolution (a linear layer for flat features) and a batch norm.

    Neither has a bias before the batch norm (Heo et al. 2019, arXiv 1811.03233).
    """
    narrow, wide = student.shape[0], teacher.shape[0]
    if narrow == wide:
        return nn.Identity()
    if len(student.shape) == 3:
        return nn.Sequential(nn.Conv2d(narrow, wide, 1, bias=False), nn.BatchNorm2d(wide))
    return nn.Sequential(nn.Linear(narrow, wide, bias=False), nn.BatchNorm1d(wide))
