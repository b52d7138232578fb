"""Connectors map the student's features to the teacher's width; they are trained with the student, then discarded."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfad_fast.models.reading.taps import Tap

_FEW = 16  # channels


class SwappingBatchNorm2d(nn.BatchNorm2d):
    """torch's layer, but faster on the CPU for few channels.

    torch's kernel works along the channels if they are innermost: for 6 channels this takes five times as long as
    changing the layout and back.
    """

    def forward(self, x: Tensor) -> Tensor:
        """As torch's layer does, with the output in the input's memory layout."""
        innermost = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        if x.device.type != "cpu" or x.shape[1] >= _FEW or not innermost:
            return super().forward(x)
        return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)


def create_connector(student: Tap, teacher: Tap) -> nn.Module:
    """The identity if widths agree, otherwise a 1x1 convolution (a linear layer for flat features) and a batch norm.

    The layer before the batch norm has no bias (Heo et al. 2019, arXiv 1811.03233).
    """
    narrow, wide = student.shape[0], teacher.shape[0]
    if narrow == wide:
        return nn.Identity()
    if len(student.shape) == 3:
        return nn.Sequential(nn.Conv2d(narrow, wide, 1, bias=False), SwappingBatchNorm2d(wide))
    return nn.Sequential(nn.Linear(narrow, wide, bias=False), nn.BatchNorm1d(wide))
