"""MobileNetV2 for small images (Sandler et al. 2018, arXiv 1801.04381)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dfad_fast.models.zoo.initial import initialize_for_relu

# Table 2: expansion, channels, blocks, stride of the first block. The strides of the stem and of the second row are 1
# instead of 2, so that 32 pixels end at 4 and not at 1.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM, _HEAD = 32, 1280


class InvertedResidual(nn.Module):
    """A 1x1 expansion, a depthwise 3x3 convolution and a linear 1x1 projection; added to an input of equal shape."""

    def __init__(self, channels_in: int, channels_out: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.adds = stride == 1 and channels_in == channels_out
        self.expand: nn.Module = _convolution(channels_in, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _convolution(wide, wide, 3, stride, groups=wide)
        self.project = nn.Sequential(
            nn.Conv2d(wide, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, channels_in, H, W] to [B, channels_out, H / stride, W / stride], rounded up."""
        out = self.project(self.depthwise(self.expand(x)))
        return x + out if self.adds else out


class MobileNetV2(nn.Module):
    """Inverted residuals with linear outputs, then a 1x1 convolution to 1280 channels.

    A stage ends in a projection without an activation; its output is the stage's feature.

    Maps images [B, C, H, W] of any side to logits [B, classes].
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.stem = _convolution(image_shape[0], _STEM, 3)
        blocks = []
        channels = _STEM
        for expansion, width, depth, stride in _STAGES:
            for block in range(depth):
                blocks.append(InvertedResidual(channels, width, expansion, stride if block == 0 else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.head = _convolution(channels, _HEAD, 1)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(_HEAD, classes)
        initialize_for_relu(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W]."""
        features = self.head(self.blocks(self.stem(images)))
        return self.classifier(self.dropout(torch.mean(features, dim=(2, 3))))


def _convolution(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU6(),
    )
