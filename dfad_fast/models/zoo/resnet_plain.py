"""The CIFAR residual networks of He et al. 2016 (arXiv 1512.03385) as published: shortcuts without parameters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfad_fast.models.zoo.initial import initialize_for_relu
from dfad_fast.models.zoo.resnet import BasicBlock
from dfad_fast.models.zoo.stages import residual_stages


class PaddedShortcut(nn.Module):
    """Option A of the paper: every second pixel, with missing channels filled by zeros on both sides."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        before = (channels_out - channels_in) // 2
        self.padding = (0, 0, 0, 0, before, channels_out - channels_in - before)

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, channels_in, H, W] to [B, channels_out, H / stride, W / stride], rounded up."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.padding)


class PaddedBlock(BasicBlock):
    """The basic block with a :class:`PaddedShortcut` if stride or width change."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__(channels_in, channels_out, stride, PaddedShortcut)


class PlainResNet(nn.Module):
    """Three stages of ``blocks`` blocks each, of ``widths`` channels; each stage after the first halves the side.

    Its module names are those of an implementation with widely used weights: conv1, bn1, layer1 to layer3, linear (Y.
    Idelbayev, akamaster/pytorch_resnet_cifar10).

    Maps images [B, C, H, W] of any side to logits [B, classes].
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        blocks: int,
        widths: tuple[int, int, int] = (16, 32, 64),
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(image_shape[0], widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        stages = residual_stages(PaddedBlock, [blocks] * 3, widths, widths[0])
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(widths[-1], classes)
        initialize_for_relu(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W]."""
        features = self.relu(self.bn1(self.conv1(images)))
        features = self.layer3(self.layer2(self.layer1(features)))
        return self.linear(torch.mean(features, dim=(2, 3)))
